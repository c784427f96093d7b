//! Every Kafka request decoder: the first two bytes choose API and version, the rest is the body.
//! What is understood is answered with made-up results, and the response must have its length.
//!
//! Memory: a struct of a few hundred bytes for an element of one byte on the wire, a response of
//! about as much, and 1 MiB of decompressed records.

use bytes::Bytes;
use headwater_kafka::wire::SERVED;
use headwater_kafka::{
    Appended, EpochEnd, ErrorCode, Fetched, FoundOffset, Outcome, Peer, ProducerIdentity, Reply,
    serve,
};

use super::named;
use crate::Target;
use node::{FakeNode, frame};

#[allow(clippy::unwrap_used)] // A test's helpers.
#[path = "../../../../cloud-cluster/kafka/tests/common/mod.rs"]
pub mod node;

const INPUT_BYTES_MAX: usize = 8 << 10;

pub const TARGET: Target = Target {
    name: "kafka_decoders",
    run,
    seeds,
    input_bytes_max: INPUT_BYTES_MAX,
    memory_bytes_max: (24 << 20) + 2_048 * INPUT_BYTES_MAX,
};

fn run(data: &[u8]) {
    let Some(([api, version], body)) = data.split_first_chunk() else {
        return;
    };
    let row = &SERVED[usize::from(*api) % SERVED.len()];
    let versions = (row.max - row.min + 1) as u8;
    let version = row.min + i16::from(version % versions);
    let node = FakeNode::default();
    let outcome = serve(&node, &peer(), frame(row.api, version, body));
    if let Some(reply) = answer(&node, outcome) {
        check(&reply);
    }
}

pub(super) fn peer() -> Peer {
    Peer {
        host: "10.0.0.9".into(),
        listener: "PLAINTEXT".into(),
    }
}

/// The reply with results of every kind; none for a close, acks=0, and group requests, which are
/// answered as refused.
pub(super) fn answer(node: &FakeNode, outcome: Outcome) -> Option<Reply> {
    let refused = ErrorCode::NotLeaderOrFollower;
    Some(match outcome {
        Outcome::Reply(reply) => reply,
        Outcome::Close(_) => return None,
        Outcome::Produce(plan) => {
            let appended = Appended {
                base_offset: 5,
                log_append_time_ms: -1,
                log_start: 0,
            };
            let result = |n: usize| {
                if n % 2 == 0 {
                    Ok(appended)
                } else {
                    Err(refused.into())
                }
            };
            let results = (0..plan.appends.len()).map(result).collect();
            return plan.respond(results).ok().flatten();
        }
        Outcome::Fetch(plan) => {
            let one = |n: usize| match n % 2 {
                0 => Fetched {
                    error: None,
                    high_watermark: 9,
                    log_start: 0,
                    records: vec![Bytes::from_static(b"records")],
                },
                _ => Fetched::failed(refused),
            };
            let fetched: Vec<_> = (0..plan.partitions.len()).map(one).collect();
            plan.is_satisfied(&fetched);
            plan.respond(fetched)
        }
        Outcome::ListOffsets(plan) => {
            let found = FoundOffset {
                offset: 5,
                timestamp: 6,
                leader_epoch: 7,
            };
            let found = (0..plan.asks.len()).map(|n| {
                if n % 2 == 0 {
                    Ok(Some(found))
                } else {
                    Err(refused)
                }
            });
            let found = found.collect();
            plan.respond(found)
        }
        Outcome::Epochs(plan) => {
            let end = EpochEnd {
                leader_epoch: 7,
                end_offset: 5,
            };
            let ends = plan.asks.iter().map(|_| Ok(Some(end))).collect();
            plan.respond(ends)
        }
        Outcome::ProducerId(plan) => plan.respond(Ok(ProducerIdentity { id: 1, epoch: 0 })),
        Outcome::Admin(plan) => {
            let results = plan.proposals.iter().map(|_| Err(refused.into())).collect();
            plan.respond(results)
        }
        Outcome::AutoCreate(plan) => plan.respond(node, &peer()),
        Outcome::Group(plan) => {
            let response = plan.request.refused(ErrorCode::NotCoordinator);
            plan.pending.respond(response)
        }
    })
}

/// A reply that was encoded says its own length; one that could not be is empty and closes.
pub(super) fn check(reply: &Reply) {
    let bytes = reply.to_bytes();
    if let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
    }
}

/// One request of every API at its first and its last version.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for sample in node::requests::samples(1) {
        let row = SERVED.iter().position(|row| row.api == sample.api);
        let row = row.expect("every sample is of a served API");
        let (min, max) = (SERVED[row].min, SERVED[row].max);
        if sample.version == min || sample.version == max {
            let name = format!("{:?}-{}", sample.api, sample.version);
            let head = [row as u8, (sample.version - min) as u8];
            all.push(named(name, [&head[..], &sample.body].concat()));
        }
    }
    // Metadata v1 that asks for 154 GB.
    let metadata = SERVED
        .iter()
        .position(|row| row.api as i16 == 3)
        .expect("it is served");
    all.push(named(
        "154-gigabytes",
        vec![metadata as u8, 1, 0x7f, 0xff, 0xff, 0xff],
    ));
    all
}

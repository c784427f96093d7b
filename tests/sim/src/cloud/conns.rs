//! The tasks around connections: what `headwater-quic` and the Kafka listener do with sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use cloud_cluster::clock::Clock;
use cloud_cluster::kafka::Service;
use cloud_cluster::uplink::Receiver;
use headwater_batch::{BatchView, Decoder, Limits, TopicPartition};
use headwater_kafka::Peer;
use headwater_proto::cloud::Ticket;
use headwater_proto::{
    Channel, CloudConfig, CloudEffect, CloudSession, EdgeName, RejectCode, StreamEntry, StreamKey,
    StreamOutcome,
};
use headwater_quic::server::{Reply, Sink};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::trouble::Fate;
use super::{CloudOut, LinkConn, Out, Trouble};
use crate::kafka::consumer::KafkaConn;
use crate::now::Ms;
use crate::payload::{Id, id_of_record};

type Answer = (Ticket, Option<StreamOutcome>);

/// The node's receiver, behind what is wrong with it.
pub(super) struct Troubled {
    pub sink: Arc<Receiver>,
    pub trouble: Trouble,
    pub epoch: Instant,
}

impl Troubled {
    fn now(&self) -> Ms {
        (Instant::now() - self.epoch).as_millis() as Ms
    }

    fn commit(
        &self,
        ticket: Ticket,
        key: StreamKey,
        entry: StreamEntry,
        answers: &UnboundedSender<Answer>,
    ) {
        let reply = Reply::new(ticket, answers.clone());
        match self.trouble.entry(self.now(), &key.tp, &entry) {
            Fate::Taken => self.sink.commit(key, entry, reply),
            Fate::RefusedForNow => reply.retry(),
            Fate::RefusedForGood => {
                reply.committed(StreamOutcome::Rejected(RejectCode::Unacceptable));
            }
        }
    }
}

/// An entry that the sink has, and the records in it.
struct Handed {
    key: StreamKey,
    batch: Option<Bytes>,
}

/// Answers on their way to the machine, in order within a stream.
#[derive(Default)]
struct UnderWay {
    handed: BTreeMap<Ticket, Handed>,
    decoder: Decoder,
    /// When the last answer of a stream comes.
    last: BTreeMap<TopicPartition, Ms>,
    answers: BTreeMap<(Ms, u64), Answer>,
    count: u64,
}

impl UnderWay {
    fn put(&mut self, troubled: &Troubled, answer: Answer, out: &Out) {
        let Some(Handed { key, batch }) = self.handed.remove(&answer.0) else {
            return;
        };
        if let (Some(StreamOutcome::Append { .. }), Some(batch)) = (&answer.1, &batch) {
            let records = records(batch, &mut self.decoder);
            out.send(CloudOut::Appended(key.clone(), records));
        }
        let tp = key.tp;
        let is_refusal = answer.1.is_none();
        let Some(at) = troubled.trouble.answer(troubled.now(), &tp, is_refusal) else {
            return;
        };
        let last = self.last.entry(tp).or_default();
        *last = at.max(*last);
        self.count += 1;
        self.answers.insert((*last, self.count), answer);
    }

    fn due(&mut self, now: Ms) -> Option<Answer> {
        let first = self.answers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn next(&self) -> Option<Ms> {
        self.answers.keys().next().map(|key| key.0)
    }
}

/// Runs the uplink's machine for one connection, to its end.
pub(super) async fn uplink(
    conn: LinkConn,
    edge: EdgeName,
    mut inbound: UnboundedReceiver<(Channel, Bytes)>,
    troubled: Troubled,
    clock: Clock,
    out: Out,
) {
    let sink = &troubled.sink;
    let mut under_way = UnderWay::default();
    let remote = ([10, 0, 0, 1], 1).into();
    sink.connected(&edge, remote);
    let config = CloudConfig {
        addresses: sink.addresses(),
        ..CloudConfig::default()
    };
    let mut machine =
        CloudSession::new(config, edge.clone(), clock.monotonic_ms(), clock.wall_ms());
    let (answers_in, mut answers) = mpsc::unbounded_channel();
    loop {
        while let Some(effect) = machine.poll_effect() {
            match effect {
                CloudEffect::Send { bytes, .. } => out.send(CloudOut::Uplink(conn, bytes)),
                CloudEffect::Commit { ticket, key, entry } => {
                    let handed = Handed {
                        key: key.clone(),
                        batch: entry.batch().cloned(),
                    };
                    under_way.handed.insert(ticket, handed);
                    troubled.commit(ticket, key, entry, &answers_in);
                }
                CloudEffect::Alarm { key, kind } => {
                    out.send(CloudOut::Alarm(format!("{kind:?}")));
                    sink.alarm(key, kind);
                }
                CloudEffect::Close { reason } => {
                    sink.disconnected(&edge, "closed");
                    return out.send(CloudOut::UplinkClosed(conn, reason.to_string()));
                }
            }
        }
        let now = clock.monotonic_ms();
        if let Some((ticket, outcome)) = under_way.due(troubled.now()) {
            match outcome {
                Some(outcome) => {
                    out.send(CloudOut::Outcome(outcome.clone()));
                    machine.committed(now, ticket, outcome);
                }
                None => machine.retry(now, ticket),
            }
            continue;
        }
        let late = under_way.next().map(|at| at.saturating_sub(troubled.now()));
        let timer = machine.deadline().map(|at| at.saturating_sub(now));
        let due = [late, timer].into_iter().flatten().min();
        tokio::select! {
            biased;
            Some(answer) = answers.recv() => under_way.put(&troubled, answer, &out),
            received = inbound.recv() => match received {
                Some((channel, bytes)) => machine.bytes(clock.monotonic_ms(), channel, bytes),
                None => return sink.disconnected(&edge, "gone"),
            },
            () = sleep_or_never(due) => machine.timer(clock.monotonic_ms()),
        }
    }
}

/// Offsets and attempts of a batch.
fn records(batch: &[u8], decoder: &mut Decoder) -> Vec<(i64, Id)> {
    let limits = Limits::UPLINK;
    let Ok(batch) = BatchView::parse(batch, &limits) else {
        return Vec::new();
    };
    let Ok(all) = batch.records(decoder, &limits) else {
        return Vec::new();
    };
    let ids = all.filter_map(|record| {
        let record = record.ok()?;
        Some((record.offset.0, id_of_record(&record)?))
    });
    ids.collect()
}

async fn sleep_or_never(ms: Option<u64>) {
    match ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

/// Serves a Kafka client's requests, one after the other.
pub(super) async fn kafka(
    conn: KafkaConn,
    mut inbound: UnboundedReceiver<Bytes>,
    service: Service,
    out: Out,
) {
    let peer = Peer {
        host: "client".into(),
        listener: "kafka".into(),
    };
    while let Some(frame) = inbound.recv().await {
        match service.request(&peer, frame).await {
            Ok(Some(reply)) => {
                let mut bytes = reply.to_bytes();
                let length = bytes.get_i32();
                assert_eq!(length as usize, bytes.len(), "a reply is one frame");
                out.send(CloudOut::Kafka(conn, bytes));
            }
            Ok(None) => {}
            Err(reason) => return out.send(CloudOut::KafkaClosed(conn, reason.to_string())),
        }
    }
}

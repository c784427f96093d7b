//! The tasks around connections: what `headwater-quic` and the Kafka listener do with sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use cloud_cluster::clock::Clock;
use cloud_cluster::kafka::Service;
use cloud_cluster::uplink::Receiver;
use headwater_kafka::Peer;
use headwater_proto::{Channel, CloudConfig, CloudEffect, CloudSession, EdgeName};
use headwater_quic::server::{Reply, Sink};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{CloudOut, LinkConn, Out};
use crate::kafka::consumer::KafkaConn;

/// Runs the uplink's machine for one connection, to its end.
pub(super) async fn uplink(
    conn: LinkConn,
    edge: EdgeName,
    mut inbound: UnboundedReceiver<(Channel, Bytes)>,
    sink: Arc<Receiver>,
    clock: Clock,
    out: Out,
) {
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
                    sink.commit(key, entry, Reply::new(ticket, answers_in.clone()));
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
        let due = machine.deadline().map(|at| at.saturating_sub(now));
        tokio::select! {
            biased;
            Some((ticket, outcome)) = answers.recv() => {
                let now = clock.monotonic_ms();
                match outcome {
                    Some(outcome) => {
                        out.send(CloudOut::Outcome(outcome.clone()));
                        machine.committed(now, ticket, outcome);
                    }
                    None => machine.retry(now, ticket),
                }
            }
            received = inbound.recv() => match received {
                Some((channel, bytes)) => machine.bytes(clock.monotonic_ms(), channel, bytes),
                None => return sink.disconnected(&edge, "gone"),
            },
            () = sleep_or_never(due) => machine.timer(clock.monotonic_ms()),
        }
    }
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

//! What an operator sees of an edge partition's streams, and does to one (U2).

use headwater_batch::TopicPartition;
use headwater_proto::cloud::Ticket;
use headwater_proto::{EdgeName, Incarnation, StreamEntry, StreamKey};
use headwater_quic::server::{Reply, Sink};
use tokio::sync::mpsc;

use super::{Cloud, CloudOut, State};

/// A stream as `edge ls` shows it.
pub struct Held {
    pub incarnation: Incarnation,
    pub last_at_ms: i64,
}

impl Cloud {
    /// `None` while the node is off.
    pub fn streams_of(&self, edge: &EdgeName, tp: &TopicPartition) -> Option<Vec<Held>> {
        let State::Up(parts) = &self.state else {
            return None;
        };
        let shards = &parts.machine.shards;
        let held = shards.data().find_map(|id| {
            let shard = shards.read(id);
            let streams = shard.streams_of(edge, tp)?.streams().iter();
            let held = streams.map(|stream| Held {
                incarnation: stream.incarnation,
                last_at_ms: stream.last_at_ms,
            });
            Some(held.collect())
        });
        Some(held.unwrap_or_default())
    }

    /// Places taken of the edge partition that takes the most. `None` while the node is off.
    pub fn most_streams(&self) -> Option<usize> {
        let State::Up(parts) = &self.state else {
            return None;
        };
        let shards = &parts.machine.shards;
        let most = shards.data().filter_map(|id| {
            let shard = shards.read(id);
            shard.streams().map(|(_, _, of)| of.streams().len()).max()
        });
        most.max()
    }

    /// Asks the node; it answers with [`CloudOut::Retired`], if at all.
    pub fn retire(&mut self, key: StreamKey) {
        let State::Up(parts) = &self.state else {
            return;
        };
        let (sink, at_ms) = (parts.receiver.clone(), parts.clock.wall_ms());
        let (answers, mut answer) = mpsc::unbounded_channel();
        let out = self.out();
        self.keep(async move {
            let incarnation = key.incarnation;
            let reply = Reply::new(Ticket(0), answers);
            sink.commit(key, StreamEntry::Retire { at_ms }, reply);
            if let Some((_, Some(outcome))) = answer.recv().await {
                out.send(CloudOut::Retired(incarnation, outcome));
            }
        });
    }
}

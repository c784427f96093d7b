//! Edges known by name, and where their partitions are pinned. Lives in the metadata shard.

use headwater_batch::TopicPartition;
use headwater_proto::keep_pin;
use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::outcome::{Outcome, Refusal};
use crate::state::Shard;

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub added_ms: i64,
    /// Set once and for ever: a revoked name is not used again, since certificates with it exist.
    pub revoked_ms: Option<i64>,
    /// It came after the state was lost (see [`Doubt`](crate::Doubt)): there is nothing of it that
    /// the cloud could have forgotten.
    pub is_newcomer: bool,
}

/// The cloud partition that one edge partition writes to (rule U6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub partition: u32,
}

impl Shard {
    pub(crate) fn add_edge(&mut self, name: &str, at_ms: i64) -> Outcome {
        if let Some(edge) = self.edges.get(name) {
            return match edge.revoked_ms {
                Some(_) => Outcome::Refused(Refusal::EdgeRevoked),
                None => Outcome::Done,
            };
        }
        let edge = Edge {
            added_ms: at_ms,
            revoked_ms: None,
            is_newcomer: self.doubt.is_some(),
        };
        self.edges.insert(name.to_owned(), edge);
        self.touch(Key::Edge(name.to_owned()));
        Outcome::Done
    }

    /// A name that was never added is revoked as well: its bundle may have been made offline.
    pub(crate) fn revoke_edge(&mut self, name: &str, at_ms: i64) -> Outcome {
        let edge = self.edges.entry(name.to_owned()).or_insert(Edge {
            added_ms: at_ms,
            revoked_ms: None,
            is_newcomer: false,
        });
        edge.revoked_ms.get_or_insert(at_ms);
        self.touch(Key::Edge(name.to_owned()));
        Outcome::Done
    }

    /// The first pin stays: a later, different wish gets the old answer.
    pub(crate) fn pin(&mut self, edge: &str, source: &TopicPartition, partition: u32) -> Outcome {
        let place = (edge.to_owned(), source.clone());
        let pinned = self.pins.get(&place).map(|pin| pin.partition);
        let partition = keep_pin(pinned, partition);
        if pinned == Some(partition) {
            return Outcome::Pinned(partition);
        }
        self.pins.insert(place, Pin { partition });
        self.touch(Key::Pin(edge.to_owned(), source.clone()));
        Outcome::Pinned(partition)
    }
}

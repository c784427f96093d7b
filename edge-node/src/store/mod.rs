//! The store thread: it alone owns the log.
//!
//! ```text
//! broker thread --Append--> store thread --CommitJob--> sync thread (write + fdatasync)
//!        ^                    |  ^  packs, seals, checkpoints      |
//!        +------Durable-------+  +-----------Committed------------+
//! ```
//! While the sync thread waits for the medium, the store thread stages what comes in, and that is the
//! next group. Where others keep coming a group also waits for them (`log.commit_gather_ms`).
//!
//! A checkpoint needs the broker's state after exactly the ops that are staged. So the store
//! thread stages nothing more, commits what is staged, reports it durable and asks; the broker
//! answers with its changes, and what came in meanwhile is staged after the checkpoint.
//!
//! A failed write or fsync ends the node (rule J6): [`FromStore::Failed`].

mod held;
mod requests;
mod running;
mod showing;
mod staging;
mod sync;
mod view;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::mpsc as blocking;

use headwater_batch::{Offset, TopicPartition};
use headwater_log::store::Gap;
use headwater_mqtt::{Append, Refusal, Token};
use headwater_quic::client::Fork;
use tokio::sync::mpsc;

pub use crate::pulse::Probe;
pub use running::Running;
pub use sync::CommitRunner;
pub use view::{COMMIT_BUCKETS_US, Counters, LogView, PartitionView};
pub use worker::{CHECKPOINTS, Opened, Settings, Worker, open, sled_checkpoints};

/// Changed keys of the broker's durable state; `None` removes.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Answers once what was asked is durable.
pub type Answer = blocking::SyncSender<Result<(), String>>;

/// What the store thread is asked to do.
pub enum ToStore {
    /// Route and stage these, in order. `arrived_ms` is the wall clock of their arrival.
    Append {
        /// The frames.
        appends: Vec<Append>,
        /// Timestamp of their records.
        arrived_ms: i64,
        /// How many [`FromStore::Refused`] the broker knew of when it made them.
        refusals_seen: u64,
    },
    /// The answer to [`FromStore::WantCheckpoint`].
    Checkpoint(Changes),
    /// From the sync thread.
    Committed(headwater_log::store::CommitDone),
    /// The cloud has everything below the offset.
    Acked(TopicPartition, Offset),
    /// The uplink is up or down.
    Link(bool),
    /// Give a partition a new incarnation (U1).
    Fork(Fork, Answer),
    /// Offsets are gone (U4).
    Gap(TopicPartition, Gap, Answer),
    /// Goes on to the broker as [`FromStore::Probe`].
    Probe(Probe),
    /// Commit everything, take a last checkpoint with these changes, end.
    Stop(Changes),
}

/// What the broker thread hears.
#[derive(Debug)]
pub enum FromStore {
    /// Everything up to this token is durable.
    Durable(Token),
    /// Not written.
    Refused(Token, Refusal),
    /// Answer with [`ToStore::Checkpoint`].
    WantCheckpoint,
    /// To be answered: somebody wants to know whether both threads still turn.
    Probe(Probe),
    /// The log cannot promise anything any more; the node must end.
    Failed(String),
}

/// A handle to the store thread. Cheap to clone.
#[derive(Clone)]
pub struct StoreHandle {
    sender: blocking::Sender<ToStore>,
}

impl StoreHandle {
    /// The handle and the two ends for the worker and the broker.
    pub fn channel() -> (StoreHandle, blocking::Receiver<ToStore>) {
        let (sender, receiver) = blocking::channel();
        (StoreHandle { sender }, receiver)
    }

    /// Sends; a store thread that has ended needs nothing more.
    pub fn send(&self, message: ToStore) {
        let _ = self.sender.send(message);
    }

    /// Sends a request; the answer comes once it is durable.
    pub fn ask(&self, request: impl FnOnce(Answer) -> ToStore) -> Asked {
        let (answer, answered) = blocking::sync_channel(1);
        self.send(request(answer));
        Asked(answered)
    }
}

/// A request to the store that is under way.
pub struct Asked(blocking::Receiver<Result<(), String>>);

impl Asked {
    /// Blocks until it is durable. Not for async code.
    pub fn wait(self) -> Result<(), String> {
        let answer = self.0.recv();
        answer.unwrap_or_else(|_| Err(Asked::stopped()))
    }

    /// The answer if it is there; it is given once.
    pub fn poll(&self) -> Option<Result<(), String>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(blocking::TryRecvError::Empty) => None,
            Err(blocking::TryRecvError::Disconnected) => Some(Err(Asked::stopped())),
        }
    }

    fn stopped() -> String {
        "the store has stopped".to_owned()
    }
}

/// The broker's end.
pub type FromStoreReceiver = mpsc::UnboundedReceiver<FromStore>;

//! The log of all shards, behind a trait: entries go in, what applying them came to comes out.
//!
//! # Contract
//! - An entry takes its place in its shard's order before [`ShardLog::propose`] returns. Two
//!   proposals for one shard from one task are applied in the order they were made.
//! - [`Pending::outcome`] is answered once the entry is durable *and* applied, never before.
//! - [`ProposeError::Full`] and [`ProposeError::TooLarge`] mean that nothing was written (C5);
//!   [`ProposeError::Stopped`] means that the outcome is not known.
//!
//! [`local`] implements it on one journal of this node. Raft will implement it on the same frames.

pub mod frames;
pub mod local;
mod mirror;
mod recover;
pub(crate) mod replay;
pub mod results;
#[cfg(test)]
mod tests;
mod writer;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use headwater_shard::{Entry, Outcome};
use thiserror::Error;
use tokio::sync::oneshot;

pub use local::{LocalLog, LocalLogConfig, Medium, Reserve};
pub(crate) use recover::Remains;
pub use recover::{RecoverError, Recovery};
pub use writer::{Asked, Writer};

/// Names a shard of this cluster. The metadata shard comes after the data shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

/// Why an entry has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Nothing was written. It may be tried again when space was freed.
    #[error("no room: {0}")]
    Full(&'static str),
    #[error("an entry of {bytes} bytes; at most {max} are taken")]
    TooLarge { bytes: usize, max: usize },
    /// The node stops. The entry may or may not have become durable.
    #[error("the shard log has stopped")]
    Stopped,
}

/// An entry that has its place and waits to be durable and applied.
#[derive(Debug)]
pub struct Pending(pub(crate) oneshot::Receiver<Result<Outcome, ProposeError>>);

impl Pending {
    pub async fn outcome(self) -> Result<Outcome, ProposeError> {
        self.0.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

/// What [`ShardLog::propose`] returns.
pub type Proposed<'a> = Pin<Box<dyn Future<Output = Result<Pending, ProposeError>> + Send + 'a>>;

/// The log of all shards.
pub trait ShardLog: std::fmt::Debug + Send + Sync + 'static {
    /// Waits for room in the queue, then gives the entry its place.
    fn propose(&self, shard: ShardId, entry: Entry, batch: Bytes) -> Proposed<'_>;
}

/// Proposes and waits for the outcome.
pub async fn commit(
    log: &dyn ShardLog,
    shard: ShardId,
    entry: Entry,
    batch: Bytes,
) -> Result<Outcome, ProposeError> {
    log.propose(shard, entry, batch).await?.outcome().await
}

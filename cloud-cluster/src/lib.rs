//! The cloud's binary as a library: one node that takes edges' streams and speaks Kafka.
//!
//! ```text
//! Kafka Produce ─┐                                           ┌─> hot batches ─> Fetch
//!                ├─> ShardLog ─> journal, fsync ─> Machine ──┤
//! uplink DATA  ──┘   (shardlog)                  (apply)     └─> Sealer ─> cold segments ─> Fetch
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`shardlog`] | the trait that entries go through, and its form on one local journal |
//! | [`machine`], [`shards`], [`hot`] | applied state and the newest batches, for readers |
//! | [`cold`], [`retention`] | sealing into an object store, reading from it, deleting |
//! | [`topics`] | creating and deleting topics over several shards |
//! | [`kafka`], [`uplink`], [`admin`] | the three listeners |
//! | [`node`], [`config`] | putting it all together |
//!
//! `edge-node` is not known here, nor is this crate there; both stand on the crates in `uplink/`.

pub mod admin;
mod batches;
pub mod cli;
pub mod clock;
pub mod cold;
pub mod config;
pub mod hot;
pub mod kafka;
pub mod machine;
pub mod node;
pub mod retention;
pub mod shardlog;
pub mod shards;
pub mod topics;
pub mod uplink;

pub use config::{Config, ConfigError};
pub use node::{Node, NodeError, run};

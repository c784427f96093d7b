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
//! | [`core`] | the node without its listeners: what a simulator drives |
//! | [`clock`], [`tasks`] | time and random numbers, handed in; tasks that end together |
//! | [`shardlog`] | the trait that entries go through, and its form on one local journal |
//! | [`machine`], [`shards`], [`hot`] | applied state and the newest batches, for readers |
//! | [`cold`], [`retention`] | sealing into an object store, reading from it, deleting |
//! | [`rebuild`] | starting when the state is lost with all its copies |
//! | [`registry`] | edges that have a bundle, in a file beside the CA |
//! | [`topics`] | creating and deleting topics over several shards |
//! | [`kafka`], [`uplink`], [`admin`] | the three listeners |
//! | [`node`], [`config`] | putting it all together |
//!
//! # Driving a node from a simulator
//! One thread, tokio's clock paused, everything from one seed:
//! ```text
//! let clock  = Clock::new(Arc::new(Simulated::new(seed, wall_ms)));
//! let cold   = Arc::new(ColdStore::of(Arc::new(object_store::memory::InMemory::new())));
//! let medium = Medium::files(Arc::new(sim_disk));
//! let (core, writer) = Core::open(config, &medium, cold, clock)?;   // runs inline
//! let writer  = tokio::spawn(writer.serve());                       // or next() and round()
//! let view    = View { topics: core.machine.topics.clone(), .. };
//! let running = core.start(view).await?;
//! running.receiver                  // headwater_quic::server::Sink, with Reply::new
//! running.service.request(peer, frame).await                        // one Kafka request
//! running.retention(), running.sealing.run() or .sealer.round()     // loops, or single rounds
//! running.abort(); writer.abort(); drop(running); sim_disk.crash(..)   // power cut
//! ```
//!
//! `edge-node` is not known here, nor is this crate there; both stand on the crates in `uplink/`.

pub mod admin;
mod batches;
pub mod cli;
pub mod clock;
pub mod cold;
pub mod config;
pub mod core;
pub mod hot;
pub mod kafka;
pub mod machine;
pub mod node;
pub mod rebuild;
pub mod registry;
pub mod retention;
pub mod shardlog;
pub mod shards;
pub mod tasks;
pub mod topics;
pub mod uplink;

pub use config::{Config, ConfigError};
pub use node::{Node, NodeError, run};

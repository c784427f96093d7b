//! The gateway: an MQTT broker on a durable log that is mirrored to the cloud.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | settings: TOML in, checked values out |
//! | [`node`] | a running node: its threads, start and stop |
//! | [`core`] | what a node is without threads and sockets; also what a simulation drives |
//! | [`access`] | who clients are and what they may do: passwords and access rules |
//! | [`broker`] | listeners and connections around the MQTT machine |
//! | [`tls`] | certificates of a listener, and the users that those of clients name |
//! | [`routes`] | from an MQTT message to a record |
//! | [`store`] | the store thread: journal, group commit, packing |
//! | [`mirror`] | the log as the uplink sees it |
//! | [`status`], [`metrics`], [`health`], [`http`] | what the node says about itself |
//! | [`control`], [`taps`], [`logging`] | who may ask more of it; messages as they arrive; its log lines |
//! | [`pulse`], [`notify`] | whether its threads still turn, and what the service manager hears of it |
//! | [`clock`], [`lock`], [`memory`] | monotonic time over restarts; one node per directory; the allocator's manners |
//!
//! What is absent: this crate does not know Kafka's protocol, nor anything of the cloud but
//! `uplink/`'s crates.

pub mod access;
pub mod broker;
pub mod clock;
pub mod config;
pub mod control;
pub mod core;
pub mod health;
pub mod http;
pub mod lock;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod mirror;
pub mod node;
pub mod notify;
pub mod pulse;
pub mod random;
pub mod routes;
pub mod status;
pub mod store;
pub mod taps;
pub mod tls;

pub use config::Config;
pub use node::{Node, NodeError, run};

//! The log of Headwater: what both ends of the uplink store their data with.
//!
//! Layers, lowest first. Each stands on the ones above it in this list and on nothing else:
//!
//! | module | what it is |
//! |---|---|
//! | [`disk`] | files behind a trait: the real ones, and a simulated disk that loses power |
//! | [`journal`] | one ordered, checksummed, append-only sequence of preallocated files |
//! | [`checkpoint`] | state derived from the journal, two generations, in sled or in a file |
//! | [`durable`] | journal and checkpoints together: recovery, group commit, trimming |
//! | [`segment`] | one segment in Kafka's three files: making, scanning, looking up |
//! | [`partition`] | a partition's segments: appending, rolling, reading, deleting |
//! | [`pack`] | synced records gather until they make a good batch |
//! | [`retention`] | which segments may go |
//! | [`store`] | all of it together: the edge's log |
//! | [`inspect`] | looking at a data directory offline, without writing to it |
//!
//! No clock, no random number, no thread and no async runtime live here: times and seeds are
//! passed in, and the one slow step, [`durable::CommitJob::run`], runs wherever the owner likes.
//!
//! The formats are drawn in `FORMAT.md`, which is normative.

pub mod checkpoint;
pub mod disk;
pub mod durable;
pub mod error;
pub mod inspect;
pub mod journal;
pub mod pack;
pub mod partition;
pub mod retention;
pub mod segment;
pub mod store;

pub use disk::{Disk, DiskFile, RealDisk, SimDisk};
pub use durable::{Durable, DurableConfig, Position, Recovered};
pub use error::{ErrorKind, LogError};

//! One partition: its segments on disk, appending, rolling, reading, deleting.
//!
//! ```text
//! <data directory>/<topic>-<partition>/
//!     00000000000000000000.log .index .timeindex     sealed: synced, never written again
//!     00000000000000018213.log .index .timeindex     active: appended, synced now and then
//! ```
//! Invariants:
//! - Only the last segment may hold bytes that are not synced: rolling syncs what it seals.
//! - Inside a segment offsets follow on without a hole. A hole starts a new segment.
//! - The last segment is never deleted, so the directory itself remembers the next offset.
//!
//! Recovery walks over the unsynced tail of the last segment and nothing else; sealed segments
//! are opened when they are read. A hole, or a batch whose CRC is wrong, shows when it is read.

mod log;
mod reader;
mod recover;
mod seek;
mod shared;

pub(crate) use log::{PartitionLog, Synced, list_segments};
pub use reader::{PartitionReader, ReadError};
pub(crate) use recover::{Known, open};
pub(crate) use shared::Shared;

//! One partition: its segments on disk, appending, rolling, reading, deleting.

mod reader;

pub use reader::{PartitionReader, ReadError};

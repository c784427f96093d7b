//! Kafka's RecordBatch v2 (magic 2), and nothing else: what edge, link, cloud and consumer share.
//!
//! A batch is built and compressed once, on the device. From then on it is only read through
//! [`BatchView`], and [`stamp`]ed in the two fields that Kafka keeps outside the CRC, so the
//! CRC-32C written by the edge is the one that the last consumer checks.
//! The layout is in `FORMAT.md`, which is normative; a test holds this crate to it.
//!
//! What this crate promises:
//! - Bytes from outside never panic, and never make it reserve more memory than [`Limits`] says:
//!   every length is checked before it is believed.
//! - Nothing allocates per record while a batch is read: records borrow from the batch, or from
//!   the [`Decoder`]'s buffer when the batch is compressed.
//! - [`slice`](slice()) keeps offsets, timestamps, keys, values and headers exactly.
//!
//! What is absent: no clock, no I/O, no topics' configuration, and no codec besides zstd. The
//! cloud hands in gzip, snappy and lz4 through [`Decompress`].
//!
//! ```
//! use headwater_batch::*;
//! let mut builder = BatchBuilder::new(Offset(40), Level::Zstd(3));
//! builder.push(&NewRecord::new(1_763_800_000_000, "temp-07", "21.43"))?;
//! let bytes = builder.finish();
//!
//! let limits = Limits::UPLINK;
//! let batch = BatchView::parse(&bytes, &limits)?;
//! batch.verify_crc()?;
//! let mut decoder = Decoder::new();
//! for record in batch.records(&mut decoder, &limits)? {
//!     let record = record?;
//!     assert_eq!((record.offset, record.value), (Offset(40), Some(&b"21.43"[..])));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
pub mod codec;
mod digest;
mod error;
mod header;
pub mod layout;
mod limits;
mod offset;
mod partitioner;
mod record;
mod records;
mod rng;
mod slice;
mod stamp;
mod topic;
mod varint;
mod view;

pub use builder::{BatchBuilder, PushError};
pub use codec::{Compression, Decoder, Decompress, Encoder, Level};
pub use digest::digest;
pub use error::{BatchError, ErrorKind};
pub use header::{Attributes, Header, TimestampType};
pub use layout::{BATCH_BYTES_MAX, HEADER_BYTES, LENGTH_PREFIX_BYTES};
pub use limits::Limits;
pub use offset::Offset;
pub use partitioner::{murmur2, partition_for};
pub use record::{HeaderRef, Headers, HeadersIter, NewHeader, NewRecord, Record};
pub use records::Records;
pub use rng::SplitMix64;
pub use slice::{Slicer, slice};
pub use stamp::{set_log_append_time, stamp};
pub use topic::{PARTITION_MAX, TOPIC_NAME_BYTES_MAX, TopicError, TopicName, TopicPartition};
pub use view::{BatchView, Batches, RecordsSummary, batches};

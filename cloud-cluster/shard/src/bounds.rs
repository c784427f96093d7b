//! What limits each table of a shard, and what happens at the limit.

/// Batches remembered per producer and partition; an older duplicate is answered as such without
/// its offset (Kafka keeps the same number).
pub const PRODUCER_BATCHES: usize = 5;

/// Producers remembered per partition. At the bound the one that has been silent longest, by the
/// times in entries, is forgotten; it may then only go on from sequence 0: with a new id or epoch.
pub const PRODUCERS_PER_PARTITION: usize = 4096;

/// Partitions of one topic. More are refused.
pub const PARTITIONS_PER_TOPIC: u32 = 10_000;

/// Topics of a cluster. More are refused.
pub const TOPICS: usize = 100_000;

/// Bytes of metadata a consumer may store beside an offset. More are refused.
pub const OFFSET_METADATA_BYTES: usize = 4096;

/// Consumer groups of one shard. More are refused.
pub const GROUPS: usize = 100_000;

/// Ledger entries of one shard. From here on the gaps of each stream are folded into one line, so
/// that the ledger has at most this and [`LEDGER_FOLD_EVERY`] lines, or as many as there are streams.
pub const LEDGER_ENTRIES: usize = 65_536;

/// A full ledger is folded once for so many new lines.
pub const LEDGER_FOLD_EVERY: u64 = 1024;

/// Bytes of one encoded entry without its batch. A longer one is not decoded.
pub const ENTRY_HEAD_BYTES: usize = 4 << 20;

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

/// Ledger entries of one shard. At the bound neighbours of one stream are merged as always; a new
/// entry that cannot be merged takes the place of the oldest, and [`crate::Shard::ledger_dropped`]
/// counts it.
pub const LEDGER_ENTRIES: usize = 65_536;

/// Ranges of lost records that one shard remembers. At the bound the first by name goes.
pub const LOST_RANGES: usize = 65_536;

/// Bytes of one encoded entry without its batch. A longer one is not decoded.
pub const ENTRY_HEAD_BYTES: usize = 4 << 20;

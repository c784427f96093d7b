//! Every bound of the protocol, as PROTOCOL.md states it; a test compares the two.

use crate::Ms;

/// First byte of every frame.
pub const FRAME_VERSION: u8 = 1;
/// Version, body length, tail length, sequence number, CRC-32.
pub const FRAME_HEADER_BYTES: usize = 17;
/// A frame's postcard body.
pub const FRAME_BODY_BYTES_MAX: usize = 64 * 1024;
/// A frame's raw tail: one encoded batch (U5).
pub const FRAME_TAIL_BYTES_MAX: usize = headwater_batch::BATCH_BYTES_MAX;
pub const EDGE_NAME_BYTES_MAX: usize = 64;
/// Boot pairs that the cloud keeps per stream (U1).
pub const BOOTS_KEPT_MAX: usize = 8;
/// Boot spans in one ANNOUNCE; a longer history keeps its first and its last half.
pub const SPANS_MAX: usize = 512;
/// Boot pairs in one DATA or GAP; a batch is sliced so as not to hold more.
pub const LINEAGE_MAX: usize = 64;
/// Incarnations of one edge partition (U2).
pub const INCARNATIONS_MAX: usize = 16;
/// Incarnations of one edge partition that the operator retired and that must never come back.
pub const RETIRED_MAX: usize = 256;
/// Partitions of an edge's topic.
pub const PARTITIONS_MAX: u32 = 10_000;
/// Streams of one connection.
pub const STREAMS_MAX: usize = 4096;
/// Data lanes of one connection: QUIC's uni streams.
pub const LANES_MAX: usize = 64;
/// Edge: bytes sent and not acknowledged, over all streams.
pub const WINDOW_BYTES: usize = 4 << 20;
/// Edge: the same, per stream. One batch may always be in flight.
pub const STREAM_WINDOW_BYTES: usize = 2 << 20;
/// Edge: what one read asks of the log.
pub const READ_BYTES: usize = 512 << 10;
/// Cloud: bytes handed to the sink and not answered, per connection; beyond it RETRY.
pub const PENDING_BYTES_MAX: usize = 16 << 20;
/// Edge: without an ACK for so long while bytes are in flight, RESYNC (U3).
pub const RESYNC_MS: Ms = 10_000;
/// Edge: nothing at all heard for so long while bytes are in flight, reconnect.
pub const SILENT_MS: Ms = 30_000;
/// Cloud: a commit unanswered for so long is an unsure outcome: RESYNC (U3).
pub const COMMIT_MS: Ms = 5_000;
/// Cloud: the pause that RETRY asks for.
pub const RETRY_MS: Ms = 200;
/// Edge: reconnect at the latest so long after the last try, while the network is up.
pub const BACKOFF_MS_MAX: Ms = 2_000;
pub const BACKOFF_MS_MIN: Ms = 50;
/// Edge: a fenced stream is announced again after a pause that grows up to this.
pub const REANNOUNCE_MS_MAX: Ms = 30_000;
/// Two incarnations heard within this time are both live (U2).
pub const LIVE_MS: Ms = 300_000;

//! How large a batch may be before it is refused.

use crate::layout::{BATCH_BYTES_MAX, HEADER_BYTES, RECORD_BYTES_MIN};

/// Bounds on one batch. At a bound the answer is an error of kind
/// [`TooLarge`](crate::ErrorKind::TooLarge), before any memory is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The encoded batch with its header.
    pub batch_bytes_max: usize,
    /// The records once decompressed: also what decompression may reserve.
    pub records_bytes_max: usize,
    /// Records in one batch.
    pub records_max: usize,
}

impl Limits {
    /// Edge and uplink.
    ///
    /// Invariant: `records_bytes_max` plus the header fits `batch_bytes_max`, so whatever was
    /// accepted once can be stored uncompressed if it must be: a slice of a batch always travels.
    pub const UPLINK: Limits = Limits::new(BATCH_BYTES_MAX);

    /// Bounds that keep the invariant of [`Limits::UPLINK`] for another batch size.
    pub const fn new(batch_bytes_max: usize) -> Limits {
        let records_bytes_max = batch_bytes_max.saturating_sub(HEADER_BYTES);
        Limits {
            batch_bytes_max,
            records_bytes_max,
            records_max: records_bytes_max / RECORD_BYTES_MIN,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::UPLINK
    }
}

//! A look at batches that this node stored itself.

use headwater_batch::{Header, Limits};
use headwater_log::segment::BatchMeta;

/// No bound: what is stored was checked against one when it came in.
pub(crate) const ANY_SIZE: Limits = Limits::new(i32::MAX as usize);

/// The header at the front of `bytes`, which may end early or go on behind the batch. `None` if it
/// is too short or no header.
pub(crate) fn peek(bytes: &[u8]) -> Option<BatchMeta> {
    Header::parse(bytes, &ANY_SIZE)
        .ok()
        .as_ref()
        .map(BatchMeta::from)
}

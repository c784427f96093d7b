//! Memory of fetched records on their way to clients.
//!
//! A client that asks for all there is and then reads nothing holds its reply until it is cut off.
//! One reply may be large, and there may be thousands of clients. So all replies together share
//! [`REPLIES_BYTES_MAX`]: each read is granted at most an eighth of what is left, but
//! [`GRANT_BYTES_MIN`] in any case, and one whole batch always goes (a consumer must get on).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use headwater_kafka::Fetched;

/// See the module's docs.
pub const REPLIES_BYTES_MAX: usize = 256 << 20;
/// See the module's docs.
pub const GRANT_BYTES_MIN: usize = 16 << 10;

/// What replies hold. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<AtomicUsize>);

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    held: Arc<AtomicUsize>,
    pub(super) bytes: usize,
}

impl Budget {
    /// What of `wanted` may be read now.
    pub(super) fn take(&self, wanted: usize) -> Share {
        let left = REPLIES_BYTES_MAX.saturating_sub(self.0.load(Ordering::Relaxed));
        let bytes = wanted.min((left / 8).max(GRANT_BYTES_MIN));
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Share {
            held: self.0.clone(),
            bytes,
        }
    }
}

impl Share {
    /// Ties the share to the records that were read: it lives as long as their bytes.
    pub(super) fn tie(mut self, fetched: &mut [Fetched]) {
        let read = fetched.iter().map(Fetched::byte_len).sum();
        self.held.fetch_add(read, Ordering::Relaxed);
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = read;
        let last = fetched.iter_mut().rev().find_map(|f| f.records.last_mut());
        if let Some(last) = last {
            let bytes = std::mem::take(last);
            *last = Bytes::from_owner(Held {
                bytes,
                _share: self,
            });
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_nobody_reads_leave_less_for_the_next() {
        let budget = Budget::default();
        let one = |n: usize| Fetched {
            error: None,
            high_watermark: 0,
            log_start: 0,
            records: vec![Bytes::from(vec![0; n])],
        };
        let mut held = Vec::new();
        for _ in 0..200 {
            let share = budget.take(usize::MAX);
            let mut fetched = vec![one(share.bytes.min(32 << 20))];
            share.tie(&mut fetched);
            held.push(fetched);
        }
        let all = budget.0.load(Ordering::Relaxed);
        assert!(all <= REPLIES_BYTES_MAX + 200 * GRANT_BYTES_MIN, "{all}");
        held.clear();
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
        drop(budget.take(5));
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}

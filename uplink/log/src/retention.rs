//! Which segments may go: by age, by size, and when the budget is used up.
//!
//! Ages count on a clock that only runs while the store does and is kept across restarts (J9): a
//! gateway boots in 1970, so the wall clock would delete everything the moment it is set.

use headwater_batch::Offset;

/// A sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub base: Offset,
    /// Where the next segment begins.
    pub end: Offset,
    pub bytes: u64,
    /// When it was sealed, on the persisted clock in ms.
    pub stamp: u64,
}

/// What a partition may keep.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Nothing at or above is deleted: the cloud does not have it.
    pub acked: Offset,
    pub age_ms: Option<u64>,
    /// Of all its segments, the active one included.
    pub bytes: Option<u64>,
}

/// The offset below which age and size allow deletion; `None` if nothing may go. `candidates` are
/// the sealed segments in order, `active_bytes` what follows them, `clock` the time now.
pub fn expired(
    candidates: &[Candidate],
    active_bytes: u64,
    keep: Keep,
    clock: u64,
) -> Option<Offset> {
    let mut held: u64 = active_bytes + candidates.iter().map(|c| c.bytes).sum::<u64>();
    let mut start = None;
    for candidate in candidates {
        let old = keep
            .age_ms
            .is_some_and(|age| clock.saturating_sub(candidate.stamp) > age);
        let large = keep.bytes.is_some_and(|bytes| held > bytes);
        if candidate.end > keep.acked || !(old || large) {
            break;
        }
        held -= candidate.bytes;
        start = Some(candidate.end);
    }
    start
}

/// The partition whose first sealed segment goes next when the budget is used up: the oldest that
/// is acked, else (`unsent`) the oldest. Each item is a partition's number, its first sealed
/// segment and its acked offset.
pub fn victim(
    firsts: impl Iterator<Item = (usize, Candidate, Offset)>,
    unsent: bool,
) -> Option<(usize, Candidate)> {
    firsts
        .filter(|(_, first, acked)| unsent || first.end <= *acked)
        .min_by_key(|(number, first, acked)| (first.end > *acked, first.stamp, *number))
        .map(|(number, first, _)| (number, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(base: i64, stamp: u64) -> Candidate {
        Candidate {
            base: Offset(base),
            end: Offset(base + 10),
            bytes: 100,
            stamp,
        }
    }

    fn keep(acked: i64, age_ms: Option<u64>, bytes: Option<u64>) -> Keep {
        Keep {
            acked: Offset(acked),
            age_ms,
            bytes,
        }
    }

    #[test]
    fn age_takes_acked_segments_only() {
        let segments = [segment(0, 0), segment(10, 50), segment(20, 60)];
        assert_eq!(
            expired(&segments, 0, keep(30, Some(100), None), 155),
            Some(Offset(20))
        );
        assert_eq!(
            expired(&segments, 0, keep(15, Some(100), None), 900),
            Some(Offset(10))
        );
        assert_eq!(expired(&segments, 0, keep(9, Some(100), None), 900), None);
        assert_eq!(expired(&segments, 0, keep(30, None, None), 900), None);
    }

    #[test]
    fn size_counts_the_active_segment() {
        let segments = [segment(0, 0), segment(10, 0), segment(20, 0)];
        assert_eq!(
            expired(&segments, 50, keep(30, None, Some(250)), 0),
            Some(Offset(10))
        );
        assert_eq!(expired(&segments, 50, keep(30, None, Some(350)), 0), None);
        assert_eq!(
            expired(&segments, 50, keep(30, None, Some(0)), 0),
            Some(Offset(30))
        );
    }

    #[test]
    fn the_budget_takes_acked_segments_first_and_the_oldest_of_them() {
        let firsts = || {
            let all = [
                (0, segment(0, 5), 0),
                (1, segment(0, 9), 10),
                (2, segment(0, 7), 10),
            ];
            all.into_iter().map(|(n, s, acked)| (n, s, Offset(acked)))
        };
        assert_eq!(victim(firsts(), false).map(|v| v.0), Some(2));
        assert_eq!(victim(firsts(), true).map(|v| v.0), Some(2));
        assert_eq!(victim(firsts().take(1), false), None);
        assert_eq!(victim(firsts().take(1), true).map(|v| v.0), Some(0));
    }
}

//! A record's position in its partition.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The position of a record in its partition, from 0.
///
/// Arithmetic is checked: an offset that came from outside may stand at the end of the range.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    pub const ZERO: Offset = Offset(0);
    pub const MAX: Offset = Offset(i64::MAX);

    /// The offset after this one. Stays at the end of the range, which no partition reaches.
    #[must_use]
    pub const fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }

    /// This offset moved by `records`; `None` when it leaves `0..=i64::MAX`.
    #[must_use]
    pub const fn checked_add(self, records: i64) -> Option<Offset> {
        match self.0.checked_add(records) {
            Some(sum) if sum >= 0 => Some(Offset(sum)),
            _ => None,
        }
    }

    /// Records from `earlier` to this one; `None` if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Offset) -> Option<u64> {
        match self.0.checked_sub(earlier.0) {
            Some(distance) if distance >= 0 => Some(distance as u64),
            _ => None,
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Offset> for i64 {
    fn from(offset: Offset) -> i64 {
        offset.0
    }
}

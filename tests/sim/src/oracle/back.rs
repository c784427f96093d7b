//! The cloud goes back to a copy of itself: what clients had read since may be read anew, elsewhere,
//! or, where the edge no longer has it, not at all; and then it is told.

use std::collections::BTreeMap;

use super::{Oracle, Part};
use crate::kafka::requests::Place;
use crate::payload::Id;

/// What was read by some moment.
pub struct Known {
    parts: BTreeMap<Place, Part>,
    found: BTreeMap<Id, (Place, i64)>,
}

impl Oracle {
    /// What is known now, for the day when the cloud is as it is now.
    pub fn known(&self) -> Known {
        Known {
            parts: self.parts.clone(),
            found: self.found.clone(),
        }
    }

    /// The cloud is as it was when `known` was known.
    pub fn restored(&mut self, known: Known) {
        self.went_back = true;
        self.parts = known.parts;
        self.found = known.found;
        self.stored.cloud_went_back();
    }
}

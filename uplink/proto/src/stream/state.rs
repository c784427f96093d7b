//! The state that outlives everything: small, plain, never reset.

use headwater_batch::Offset;
use serde::{Deserialize, Serialize};

use super::{StreamEntry, StreamOutcome};
use crate::rules::{self, Rule};
use crate::{BootStart, Epoch, Incarnation, LastRecord};

/// Dedup state of one incarnation of one edge partition. About 50 bytes as postcard with one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    pub incarnation: Incarnation,
    /// Where it began: 0, or the fork from its parent.
    pub origin: Offset,
    /// The next offset it wants. Never falls.
    pub next: Offset,
    pub epoch: Epoch,
    /// The last record stored; it lies before `next`, further when a GAP came after it.
    pub last: Option<LastRecord>,
    /// The last 8, oldest first.
    pub boots: Vec<BootStart>,
    /// `boots` reaches back to `origin`: none was dropped.
    pub boots_complete: bool,
    /// When it was last heard, by the proposers' clocks (ms since 1970).
    pub last_at_ms: i64,
}

/// All incarnations of one edge partition. `Default` is an edge partition never seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeStreams {
    pub(super) streams: Vec<StreamState>,
    /// As they were when they were retired: what they stored stays stored, and a copy of the card may
    /// bring it again under another incarnation.
    pub(super) retired: Vec<StreamState>,
}

impl EdgeStreams {
    /// Applies one committed entry for `incarnation`. Pure; the caller stores self and what the
    /// outcome asks for (batch, ledger line) in one atomic step.
    pub fn apply(&mut self, incarnation: Incarnation, entry: &StreamEntry) -> StreamOutcome {
        super::apply::apply(self, incarnation, entry)
    }

    /// For `edge ls`.
    pub fn streams(&self) -> &[StreamState] {
        &self.streams
    }

    pub fn retired(&self) -> &[StreamState] {
        &self.retired
    }

    pub(super) fn is_retired(&self, incarnation: Incarnation) -> bool {
        self.retired.iter().any(|s| s.incarnation == incarnation)
    }

    pub fn stream(&self, incarnation: Incarnation) -> Option<&StreamState> {
        self.streams.iter().find(|s| s.incarnation == incarnation)
    }

    /// One that was just seen to be there.
    pub(super) fn known(&mut self, incarnation: Incarnation) -> &mut StreamState {
        let mut streams = self.streams.iter_mut();
        let found = streams.find(|s| s.incarnation == incarnation);
        found.expect("the caller looked it up")
    }

    /// All that store or stored records of this edge partition, except one.
    pub(super) fn others(&self, than: Incarnation) -> impl Iterator<Item = &StreamState> {
        let retired = match rules::on(Rule::RetiredCompared) {
            true => &self.retired[..],
            false => &[],
        };
        let all = self.streams.iter().chain(retired);
        all.filter(move |s| s.incarnation != than)
    }
}

//! The state that outlives everything: small, plain, never reset.

use headwater_batch::Offset;
use serde::{Deserialize, Serialize};

use super::{SessionEntry, StreamEntry, StreamOutcome};
use crate::bounds::BOOTS_KEPT_MAX;
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

    /// Takes the edge's own word on where it stands, where this side lost its state and the operator
    /// said so: below what it knows as acknowledged nothing is sent again. Never moves back.
    pub fn trust(&mut self, incarnation: Incarnation, session: &SessionEntry) {
        let acked = session.acked.max(session.origin);
        let spans = &session.spans;
        // The newest boot below that is what both sides have in common, or else the oldest known.
        let below = spans.partition_point(|span| span.start < acked).max(1);
        let boots = spans.iter().take(below).map(|span| BootStart {
            boot: span.boot,
            start: span.start,
        });
        let state = match self
            .streams
            .iter()
            .position(|s| s.incarnation == incarnation)
        {
            Some(at) if self.streams[at].next >= acked => return,
            Some(at) => &mut self.streams[at],
            None if self.is_retired(incarnation) => return,
            None => {
                self.streams.push(StreamState {
                    incarnation,
                    origin: session.origin,
                    next: acked,
                    epoch: Epoch(0),
                    last: None,
                    boots: Vec::new(),
                    boots_complete: false,
                    last_at_ms: session.at_ms,
                });
                self.streams.last_mut().expect("pushed above")
            }
        };
        state.next = acked;
        state.last = None;
        state.boots = boots.collect();
        let over = state.boots.len().saturating_sub(BOOTS_KEPT_MAX);
        state.boots.drain(..over);
        state.boots_complete = false;
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

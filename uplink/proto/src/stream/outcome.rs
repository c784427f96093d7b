//! What applying an entry came to.

use headwater_batch::Offset;
use serde::{Deserialize, Serialize};

use crate::{
    AlarmKind, Epoch, GapReason, LastRecord, Parent, QuarantineReason, RefuseReason, RejectCode,
};

/// The answer to one entry. The state machine acts on `Append`, `Ledger` and `Opened::forked`; the
/// rest it only hands back to the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamOutcome {
    /// SESSION(epoch) is applied: WELCOME may go out.
    Opened(Opened),
    /// Append the entry's batch to the partition, all of it. `next` is the stream's new next.
    Append {
        next: Offset,
    },
    /// Nothing to do: it is there already. ACK `next`.
    Duplicate {
        next: Offset,
    },
    /// Above `next`, or across it (the edge slices): nothing stored.
    OutOfOrder {
        next: Offset,
    },
    /// Write this into the loss ledger. `next` is the stream's new next.
    Ledger {
        gap: GapRecord,
        next: Offset,
    },
    /// Answer to a probe.
    Position {
        next: Offset,
    },
    /// A later session of this stream exists (U3).
    Fenced {
        by: Epoch,
    },
    /// The logs part at `fork`: the edge takes a new incarnation (U1).
    Diverged {
        fork: Offset,
        next: Offset,
    },
    Quarantine(QuarantineReason),
    Refused(RefuseReason),
    Retired,
    /// The sink itself will never take this batch. Not given by `EdgeStreams`.
    Rejected(RejectCode),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub epoch: Epoch,
    pub next: Offset,
    /// The last record stored, for the edge to compare with its own.
    pub last: Option<LastRecord>,
    /// First session of a forked incarnation: the ledger names parent and fork.
    pub forked: Option<Parent>,
    pub alarm: Option<AlarmKind>,
}

/// One line of the loss ledger: records `[from, to)` of this stream will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRecord {
    pub from: Offset,
    pub to: Offset,
    pub reason: GapReason,
}

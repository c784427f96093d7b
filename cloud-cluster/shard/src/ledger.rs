//! The loss ledger: what an edge said it could not deliver, and where its history split.

use headwater_proto::stream::GapRecord;
use headwater_proto::{Parent, QuarantineReason, StreamKey};
use serde::{Deserialize, Serialize};

use crate::bounds::LEDGER_ENTRIES;
use crate::key::Key;
use crate::state::Shard;

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    pub at_ms: i64,
    pub stream: StreamKey,
    pub loss: Loss,
}

/// What happened to a stream. Offsets are the edge's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// The edge will never send these records, and said why.
    Gap(GapRecord),
    /// The edge's history left its parent's at `fork` and goes on as this incarnation.
    Fork(Parent),
    /// Two histories that cannot both be true; the stream is set aside until somebody looks.
    Quarantine(QuarantineReason),
}

impl Shard {
    /// Enters a loss, merging a gap that continues the newest one of the same stream and reason.
    pub(crate) fn enter_ledger(&mut self, entry: LedgerEntry) -> u64 {
        if let Some(number) = self.merge_into_newest(&entry) {
            return number;
        }
        if self.ledger.len() >= LEDGER_ENTRIES {
            if let Some((oldest, _)) = self.ledger.pop_first() {
                self.head.ledger_dropped += 1;
                self.touch(Key::Ledger(oldest));
            }
        }
        let number = self.head.ledger_next;
        self.head.ledger_next += 1;
        self.ledger.insert(number, entry);
        self.touch(Key::Ledger(number));
        number
    }

    fn merge_into_newest(&mut self, entry: &LedgerEntry) -> Option<u64> {
        let (number, newest) = self.ledger.iter_mut().next_back()?;
        let number = *number;
        if newest.stream != entry.stream {
            return None;
        }
        match (&mut newest.loss, &entry.loss) {
            (Loss::Gap(old), Loss::Gap(new)) if old.to == new.from && old.reason == new.reason => {
                old.to = new.to;
            }
            // An edge that is set aside asks again and again; one line is enough.
            (Loss::Quarantine(old), Loss::Quarantine(new)) if old == new => {}
            _ => return None,
        }
        newest.at_ms = entry.at_ms;
        self.touch(Key::Ledger(number));
        Some(number)
    }
}

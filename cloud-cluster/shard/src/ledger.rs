//! The loss ledger: what an edge said it could not deliver, and where its history split.
//!
//! No line of a loss is ever dropped. What bounds the table: alarms of one edge partition and reason
//! are one line, however often they come and whatever comes between; a gap that continues the newest
//! one of its stream makes that one longer; and in a ledger of [`LEDGER_ENTRIES`] lines the gaps of
//! each stream are folded into one line, which keeps their count and the range they lie in.

use std::collections::BTreeMap;

use headwater_batch::Offset;
use headwater_proto::stream::GapRecord;
use headwater_proto::{Parent, QuarantineReason, StreamKey};
use serde::{Deserialize, Serialize};

use crate::bounds::{LEDGER_ENTRIES, LEDGER_FOLD_EVERY};
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
    /// Several gaps of one stream, folded: `records` within `[from, to)` will never be sent.
    Gaps {
        from: Offset,
        to: Offset,
        records: u64,
        lines: u64,
    },
    /// No loss: the state was lost and the operator trusted the edge. Its records `[from, to)` were
    /// there by then and not known as acknowledged, so each of them may stand in the topic twice.
    Repeat { from: Offset, to: Offset },
}

impl Loss {
    /// (from, to, records, lines) of gaps.
    fn gaps(&self) -> Option<(Offset, Offset, u64, u64)> {
        match self {
            Loss::Gap(gap) => Some((gap.from, gap.to, gap.to.since(gap.from).unwrap_or(0), 1)),
            Loss::Gaps {
                from,
                to,
                records,
                lines,
            } => Some((*from, *to, *records, *lines)),
            Loss::Fork(_) | Loss::Quarantine(_) | Loss::Repeat { .. } => None,
        }
    }
}

impl Shard {
    /// Enters a loss, on a line that is there already where that says the same.
    pub(crate) fn enter_ledger(&mut self, entry: LedgerEntry) -> u64 {
        if let Some(number) = self.merge(&entry) {
            self.touch(Key::Ledger(number));
            return number;
        }
        let number = self.head.ledger_next;
        if self.ledger.len() >= LEDGER_ENTRIES && number % LEDGER_FOLD_EVERY == 0 {
            self.fold_ledger();
        }
        self.head.ledger_next += 1;
        self.put_in_ledger(number, entry);
        self.touch(Key::Ledger(number));
        number
    }

    fn merge(&mut self, entry: &LedgerEntry) -> Option<u64> {
        let place = (entry.stream.edge.clone(), entry.stream.tp.clone());
        let numbers = self.ledger_of.get(&place)?.iter().rev();
        for number in numbers {
            let line = self.ledger.get_mut(number)?;
            let is_same = line.stream == entry.stream;
            match (&mut line.loss, &entry.loss) {
                // Only the newest may be continued.
                (Loss::Gap(old), Loss::Gap(new)) if is_same => {
                    if old.to != new.from || old.reason != new.reason {
                        return None;
                    }
                    old.to = new.to;
                }
                (Loss::Gaps { .. }, Loss::Gap(_)) if is_same => return None,
                // One that is set aside asks again and again, also under other incarnations.
                (Loss::Quarantine(old), Loss::Quarantine(new)) if old == new => {
                    line.stream = entry.stream.clone();
                }
                (old, new) if is_same && old == new => {}
                _ => continue,
            }
            line.at_ms = entry.at_ms;
            return Some(*number);
        }
        None
    }

    /// One line for all gaps of each stream. Where no stream has two, the ledger grows: by a line
    /// for each stream at most.
    fn fold_ledger(&mut self) {
        let mut of: BTreeMap<StreamKey, Vec<u64>> = BTreeMap::new();
        for (number, line) in &self.ledger {
            if line.loss.gaps().is_some() {
                of.entry(line.stream.clone()).or_default().push(*number);
            }
        }
        for numbers in of.into_values().filter(|numbers| numbers.len() > 1) {
            self.fold(&numbers);
        }
    }

    fn fold(&mut self, numbers: &[u64]) {
        let mut folded: Option<(LedgerEntry, (Offset, Offset, u64, u64))> = None;
        for number in numbers {
            let Some(line) = self.take_from_ledger(*number) else {
                continue;
            };
            self.touch(Key::Ledger(*number));
            let Some(new) = line.loss.gaps() else {
                continue;
            };
            let sum = match &folded {
                None => new,
                Some((_, old)) => (
                    old.0.min(new.0),
                    old.1.max(new.1),
                    old.2.saturating_add(new.2),
                    old.3 + new.3,
                ),
            };
            folded = Some((line, sum));
        }
        if let (Some((mut line, (from, to, records, lines))), Some(number)) =
            (folded, numbers.last())
        {
            line.loss = Loss::Gaps {
                from,
                to,
                records,
                lines,
            };
            self.put_in_ledger(*number, line);
        }
    }

    pub(crate) fn put_in_ledger(&mut self, number: u64, line: LedgerEntry) {
        self.take_from_ledger(number);
        let place = (line.stream.edge.clone(), line.stream.tp.clone());
        self.ledger_of.entry(place).or_default().insert(number);
        self.ledger.insert(number, line);
    }

    pub(crate) fn take_from_ledger(&mut self, number: u64) -> Option<LedgerEntry> {
        let line = self.ledger.remove(&number)?;
        let place = (line.stream.edge.clone(), line.stream.tp.clone());
        if let Some(of) = self.ledger_of.get_mut(&place) {
            of.remove(&number);
            if of.is_empty() {
                self.ledger_of.remove(&place);
            }
        }
        Some(line)
    }
}

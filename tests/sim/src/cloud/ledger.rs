//! What the node's loss ledger says.

use headwater_shard::Loss;

use super::{Cloud, State};
use crate::oracle::{Gone, Ledger, Why};

impl Cloud {
    /// The gaps of every stream. `None` while it is off.
    pub fn ledger(&self) -> Option<Ledger> {
        let State::Up(parts) = &self.state else {
            return None;
        };
        let mut ledger = Ledger::new();
        let shards = &parts.machine.shards;
        for id in shards.data() {
            for (_, entry) in shards.read(id).ledger() {
                match &entry.loss {
                    Loss::Gap(gap) => ledger.entry(entry.stream.clone()).or_default().push(Gone {
                        from: gap.from.0,
                        to: gap.to.0,
                        why: Why::from(gap.reason),
                    }),
                    Loss::Gaps { .. } => unreachable!("no world fills a ledger"),
                    Loss::Fork(_) | Loss::Quarantine(_) | Loss::Repeat { .. } => {}
                }
            }
        }
        Some(ledger)
    }
}

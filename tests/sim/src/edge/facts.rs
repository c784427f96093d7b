//! What the world is told of the log, for its counts and traces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use edge_node::store::Counters;
use headwater_batch::TopicPartition;
use headwater_log::store::{Gap, Store};

use super::Output;
use super::sealed::Sealed;

type Counter = fn(&Counters) -> &AtomicU64;

const COUNTED: [(&str, Counter); 4] = [
    ("checkpoint", |c| &c.checkpoints),
    ("refused full", |c| &c.refused_full),
    ("refused for good", |c| &c.refused_invalid),
    ("unrouted", |c| &c.unrouted),
];

pub(super) struct Facts {
    counters: Arc<Counters>,
    seen: [u64; COUNTED.len()],
    gaps: BTreeMap<TopicPartition, Vec<Gap>>,
    sealed: Sealed,
}

impl Facts {
    pub(super) fn new(counters: Arc<Counters>) -> Facts {
        Facts {
            counters,
            seen: [0; COUNTED.len()],
            gaps: BTreeMap::new(),
            sealed: Sealed::default(),
        }
    }

    /// Tells what is new.
    pub(super) fn look(&mut self, log: &Store, out: &mut impl Extend<Output>) {
        for ((what, counter), seen) in COUNTED.into_iter().zip(&mut self.seen) {
            let count = counter(&self.counters).load(Relaxed);
            let detail = String::new;
            out.extend((*seen..count).map(|_| Output::Note {
                what,
                detail: detail(),
            }));
            *seen = count;
        }
        for tp in log.partitions() {
            let gaps = log.gaps(&tp);
            if gaps.is_empty() {
                continue;
            }
            let known = self.gaps.entry(tp.clone()).or_default();
            for gap in gaps.iter().filter(|gap| !known.contains(gap)) {
                let (tp, gap) = (tp.clone(), *gap);
                let detail = format!("{tp} [{}, {}) {:?}", gap.from, gap.to, gap.reason);
                let what = "gap";
                out.extend([Output::Note { what, detail }, Output::Gap { tp, gap }]);
            }
            *known = gaps;
        }
        self.sealed.look(log, out);
    }
}

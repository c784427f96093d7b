//! The oracle: what consumers and subscribers read, held against what publishers know.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::attempt::Attempt;
use super::follow::Found;

/// Faults of one kind that are named; the rest is counted.
const NAMED_MAX: usize = 10;

/// What publishers know, all together.
#[derive(Debug, Default, Clone)]
pub struct Known {
    /// Acknowledged, sorted.
    pub acked: Vec<Attempt>,
    /// Sent, and nobody knows; sorted.
    pub unknown: Vec<Attempt>,
    /// Deletions of retained messages: acknowledged, and unknown ones. They carry no id.
    pub deletes: (u64, u64),
    /// Publishers at QoS 2: each attempt of theirs is delivered once to a subscriber at QoS 2.
    pub exactly_once: Vec<u16>,
    /// Publishers with more than one topic: order holds within each of so many.
    pub topics: HashMap<u16, u32>,
    /// Those with wills, which are second attempts on a topic of their own.
    pub with_wills: Vec<u16>,
}

/// One topic of one publisher: its number among them, and whether it is the wills'.
pub type Lane = (u16, u32, bool);

/// Everything that is wrong, one line each.
#[derive(Debug, Default)]
pub struct Faults(BTreeMap<&'static str, Vec<String>>);

impl Faults {
    pub fn add(&mut self, kind: &'static str, what: String) {
        self.0.entry(kind).or_default().push(what);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, kind: &str) -> usize {
        self.0.get(kind).map_or(0, Vec::len)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, faults) in &self.0 {
            writeln!(f, "{} {kind}:", faults.len())?;
            for fault in faults.iter().take(NAMED_MAX) {
                writeln!(f, "  {fault}")?;
            }
        }
        Ok(())
    }
}

impl Known {
    pub fn sort(&mut self) {
        self.acked.sort_unstable();
        self.unknown.sort_unstable();
    }

    fn is_acked(&self, attempt: Attempt) -> bool {
        self.acked.binary_search(&attempt).is_ok()
    }

    fn was_sent(&self, attempt: Attempt) -> bool {
        self.is_acked(attempt) || self.unknown.binary_search(&attempt).is_ok()
    }

    pub fn lane(&self, attempt: Attempt) -> Lane {
        let publisher = attempt.publisher();
        let topics = self.topics.get(&publisher).copied().unwrap_or(1);
        let is_will = attempt.nth() > 0 && self.with_wills.contains(&publisher);
        (publisher, attempt.message() % topics, is_will)
    }

    /// First attempts of one publisher on one topic stand in the order of sending.
    fn disorder(&self, who: &str, read: impl Iterator<Item = Attempt>, faults: &mut Faults) {
        let mut newest: HashMap<Lane, u32> = HashMap::new();
        for attempt in read.filter(|attempt| attempt.nth() == 0) {
            let before = newest.insert(self.lane(attempt), attempt.message());
            if let Some(before) = before.filter(|before| *before >= attempt.message()) {
                let what = format!("{who}: {attempt} after message {before}");
                faults.add("out of order", what);
            }
        }
    }

    /// The topic: each acknowledged attempt stands once, unless the ledger names as many as are
    /// missing, and what was refused or never sent does not stand. The answer is how many are missing
    /// by leave of the ledger.
    pub fn stored(&self, found: &[Vec<Found>], ledger: u64, faults: &mut Faults) -> u64 {
        for (partition, read) in found.iter().enumerate() {
            let who = format!("partition {partition}");
            self.disorder(&who, read.iter().copied().flatten(), faults);
        }
        let all = found.iter().flatten();
        let deletes = all.clone().filter(|found| found.is_none()).count() as u64;
        let (sure, maybe) = self.deletes;
        if deletes > sure + maybe || deletes + ledger < sure {
            let what = format!("{deletes} where {sure} to {} were due", sure + maybe);
            faults.add("deletions of retained messages", what);
        }
        let mut sorted: Vec<Attempt> = all.copied().flatten().collect();
        sorted.sort_unstable();
        for pair in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
            faults.add("stored twice", pair[0].to_string());
        }
        for attempt in sorted.iter().filter(|attempt| !self.was_sent(**attempt)) {
            faults.add("stored without being sent, or refused", attempt.to_string());
        }
        let gone = |attempt: &&Attempt| sorted.binary_search(attempt).is_err();
        let missing: Vec<&Attempt> = self.acked.iter().filter(gone).collect();
        if missing.len() as u64 > ledger {
            for attempt in &missing {
                faults.add("acknowledged and not stored", attempt.to_string());
            }
        }
        missing.len() as u64
    }

    /// A subscriber: it got everything that was acknowledged and begun after its SUBACK, but what a
    /// queue dropped. The answer is how many it missed.
    pub fn delivered(&self, due: &Due<'_>, faults: &mut Faults) -> u64 {
        let who = due.who;
        let mut sorted = due.delivered.to_vec();
        sorted.sort_unstable();
        let mut firsts = std::collections::HashSet::new();
        let firsts = due.delivered.iter().copied().filter(|a| firsts.insert(*a));
        self.disorder_of(due, firsts, faults);
        let once = |attempt: &Attempt| {
            due.at_most_once
                || (due.exactly_once && self.exactly_once.contains(&attempt.publisher()))
        };
        for pair in sorted.windows(2) {
            if pair[0] == pair[1] && once(&pair[0]) {
                faults.add("delivered twice", format!("{who}: {}", pair[0]));
            }
        }
        sorted.dedup();
        for attempt in sorted.iter().filter(|attempt| !self.was_sent(**attempt)) {
            let what = format!("{who}: {attempt}");
            faults.add("delivered without being sent, or refused", what);
        }
        if due.at_most_once {
            return 0;
        }
        let is_due = |attempt: &&Attempt| {
            let publisher = attempt.publisher();
            let since = due.since.get(usize::from(publisher)).copied();
            (due.wants)(publisher) && since.is_some_and(|since| attempt.message() >= since)
        };
        let missing = self.acked.iter().filter(is_due);
        let missing = missing.filter(|attempt| sorted.binary_search(attempt).is_err());
        let missing: Vec<&Attempt> = missing.collect();
        if missing.len() as u64 > due.dropped {
            let dropped = due.dropped;
            for attempt in &missing {
                let what = format!("{who}: {attempt} (of {}, dropped {dropped})", missing.len());
                faults.add("acknowledged and not delivered", what);
            }
        }
        missing.len() as u64
    }

    fn disorder_of(
        &self,
        due: &Due<'_>,
        firsts: impl Iterator<Item = Attempt>,
        faults: &mut Faults,
    ) {
        if due.in_order {
            self.disorder(due.who, firsts, faults);
        }
    }
}

/// What a subscriber was to get, and got.
pub struct Due<'a> {
    pub who: &'a str,
    /// In the order of delivery.
    pub delivered: &'a [Attempt],
    /// Whether a publisher's messages are for it.
    pub wants: &'a dyn Fn(u16) -> bool,
    /// By publisher, the first message begun after the SUBACK.
    pub since: &'a [u32],
    pub exactly_once: bool,
    /// A subscription at QoS 0.
    pub at_most_once: bool,
    /// Several members of a shared subscription together have no order.
    pub in_order: bool,
    /// What it may miss, by the counters.
    pub dropped: u64,
}

/// Retained messages, as a new subscriber got them: topics with another message than the last one that
/// was acknowledged.
pub fn retained(
    due: &BTreeMap<String, Option<Attempt>>,
    got: &BTreeMap<String, Attempt>,
    faults: &mut Faults,
) {
    for (topic, due) in due {
        let got = got.get(topic);
        if due.as_ref() != got {
            let what = format!("{topic}: {got:?} where {due:?} was acknowledged last");
            faults.add("retained", what);
        }
    }
    for (topic, got) in got.iter().filter(|(topic, _)| !due.contains_key(*topic)) {
        faults.add("retained", format!("{topic}: {got} where nothing was"));
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

//! The oracle: what consumers read, held against what publishers know.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::payload;
use crate::publisher::Report;

/// Faults of one kind that are named; the rest is counted.
const NAMED_MAX: usize = 20;

/// A record, as a consumer found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    /// See [`payload`].
    pub attempt: String,
}

/// What the oracle counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub acked: usize,
    /// Attempts that were never acknowledged and are there all the same: QoS 1's own doubles.
    pub unacked_present: usize,
    pub resends: u64,
    pub reconnects: u64,
    /// Attempts that the broker refused, which are not there.
    pub refused: u64,
}

/// Everything that is wrong, one line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub missing: Vec<String>,
    pub doubled: Vec<String>,
    /// Never sent, or sent and refused.
    pub strangers: Vec<String>,
    pub disorder: Vec<String>,
}

impl Faults {
    fn is_empty(&self) -> bool {
        self.kinds().iter().all(|(_, faults)| faults.is_empty())
    }

    fn kinds(&self) -> [(&'static str, &Vec<String>); 4] {
        [
            ("missing", &self.missing),
            ("double", &self.doubled),
            ("there without being sent", &self.strangers),
            ("out of order", &self.disorder),
        ]
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, faults) in self.kinds() {
            if faults.is_empty() {
                continue;
            }
            writeln!(f, "{} {kind}:", faults.len())?;
            for fault in faults.iter().take(NAMED_MAX) {
                writeln!(f, "  {fault}")?;
            }
        }
        Ok(())
    }
}

/// `read` lies in offset order of each partition.
pub fn judge(reports: &[Report], read: &[Stored]) -> Result<Verdict, Faults> {
    let mut places: HashMap<&str, Vec<&Stored>> = HashMap::with_capacity(read.len());
    for stored in read {
        places.entry(&stored.attempt).or_default().push(stored);
    }
    let mut faults = Faults {
        doubled: doubled(&places),
        disorder: disorder(read),
        ..Faults::default()
    };
    let mut verdict = Verdict::default();
    for report in reports {
        verdict.resends += report.resends;
        verdict.reconnects += report.reconnects;
        verdict.refused += report.refused;
        for attempt in &report.acked {
            if places.remove(attempt.as_str()).is_none() {
                let fault = format!("{attempt} was acknowledged and is not there");
                faults.missing.push(fault);
            }
            verdict.acked += 1;
        }
        for attempt in &report.unknown {
            let there = places.remove(attempt.as_str());
            verdict.unacked_present += usize::from(there.is_some());
        }
    }
    faults.strangers = places.values().map(|at| stranger(at[0])).collect();
    faults.strangers.sort();
    match faults.is_empty() {
        true => Ok(verdict),
        false => Err(faults),
    }
}

fn stranger(stored: &Stored) -> String {
    let (attempt, place) = (&stored.attempt, place(stored));
    format!("{attempt} was never sent, or refused, and stands {place}")
}

fn place(stored: &Stored) -> String {
    format!("at offset {} of {}", stored.offset, stored.partition)
}

fn doubled(places: &HashMap<&str, Vec<&Stored>>) -> Vec<String> {
    let twice = places.iter().filter(|(_, at)| at.len() > 1);
    let mut doubled: Vec<String> = twice
        .map(|(attempt, at)| {
            let at: Vec<String> = at.iter().map(|stored| place(stored)).collect();
            format!("{attempt} stands {} times: {}", at.len(), at.join(", "))
        })
        .collect();
    doubled.sort();
    doubled
}

/// First attempts of one publisher stand in one partition, in the order of sending.
fn disorder(read: &[Stored]) -> Vec<String> {
    let mut homes: BTreeMap<&str, i32> = BTreeMap::new();
    let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
    let mut faults = Vec::new();
    for stored in read {
        let Some((id, message, nth)) = payload::parts(&stored.attempt) else {
            faults.push(format!("{} is no id of ours", stored.attempt));
            continue;
        };
        if *homes.entry(id).or_insert(stored.partition) != stored.partition {
            let place = place(stored);
            faults.push(format!("{id} stands in more than one partition: {place}"));
        }
        if nth > 0 {
            continue;
        }
        if let Some(before) = newest
            .insert(id, message)
            .filter(|before| *before >= message)
        {
            let place = place(stored);
            faults.push(format!("{id}: message {message} after {before}, {place}"));
        }
    }
    faults
}

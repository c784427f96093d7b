//! What the edge let go of because its log was full, as the cloud's ledger names it, held against what
//! is missing: place by place, not only as many.
//!
//! Kafka has no hole where a range was dropped, so a record's offset at the edge is its offset in Kafka
//! and what is named before it:
//!
//! ```text
//! Kafka      0 1 2 3 4           5 6 7
//! edge       0 1 2 3 4 [5 .. 50) 50 51 52          the ledger names [5, 50)
//! one topic  a   b     ?   ?        e              c and d were dropped: between b and e
//! ```
//! The first attempts on one topic stand in the order of sending, so one that is missing lay between
//! those of its topic that stand before and after it. Where it was acknowledged, the ledger has to name
//! something there. And in each range there have to be as many missing ones as it names: what can be
//! read was not dropped.

use std::collections::HashMap;

use serde_json::Value;

use super::attempt::Attempt;
use super::follow::Found;
use super::judge::{Faults, Known, Lane};
use super::stage::{PARTITIONS, TOPIC};

/// Offsets of the edge, `to` not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    from: u64,
    to: u64,
}

/// What the ledger names, by partition, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named(Vec<Vec<Range>>);

/// Where a record was, if it was anywhere: of one partition, or of all.
struct Window {
    partition: Option<usize>,
    first: u64,
    end: u64,
}

impl Named {
    /// From the rows of the ledger. Everything but a range that the budget took is an error.
    pub fn read(rows: &[Value]) -> Result<Named, String> {
        let mut named = vec![Vec::new(); PARTITIONS as usize];
        for row in rows {
            let range = range(row).ok_or_else(|| format!("a row of another kind: {row}"))?;
            named[range.0].push(range.1);
        }
        for (partition, ranges) in named.iter_mut().enumerate() {
            ranges.sort_unstable();
            if let Some(two) = ranges.windows(2).find(|two| two[0].to > two[1].from) {
                return Err(format!("partition {partition}: named twice: {two:?}"));
            }
        }
        Ok(Named(named))
    }

    /// Records that are named, in all partitions.
    pub fn records(&self) -> u64 {
        (0..self.0.len()).map(|partition| self.of(partition)).sum()
    }

    /// The same, of one partition.
    pub fn of(&self, partition: usize) -> u64 {
        let ranges = self.0.get(partition).into_iter().flatten();
        ranges.map(|range| range.to - range.from).sum()
    }

    /// The edge's offsets of the first `count` records of a partition in Kafka.
    fn places(&self, partition: usize, count: usize) -> Vec<u64> {
        let mut ranges = self.0.get(partition).into_iter().flatten().peekable();
        let mut place = 0;
        let next = |_| {
            while let Some(range) = ranges.next_if(|range| range.from <= place) {
                place += range.to - range.from;
            }
            place += 1;
            place - 1
        };
        (0..count).map(next).collect()
    }
}

/// Partition and range of one row.
fn range(row: &Value) -> Option<(usize, Range)> {
    let detail = &row["detail"];
    let is_drop = row["kind"] == "gap" && detail["reason"] == "Budget";
    let name = row["partition"].as_str().filter(|_| is_drop)?;
    let partition = name.strip_prefix(TOPIC)?.strip_prefix('-')?.parse().ok()?;
    let (from, to) = (detail["from"].as_u64()?, detail["to"].as_u64()?);
    (partition < PARTITIONS as usize && from < to).then_some((partition, Range { from, to }))
}

/// Where first attempts of each topic stand: the partition, and by message the edge's offset.
struct Standing {
    lanes: HashMap<Lane, (usize, Vec<(u32, u64)>)>,
}

impl Standing {
    fn of(known: &Known, found: &[Vec<Found>], named: &Named, faults: &mut Faults) -> Standing {
        let mut lanes: HashMap<Lane, (usize, Vec<(u32, u64)>)> = HashMap::new();
        for (partition, read) in found.iter().enumerate() {
            let places = named.places(partition, read.len());
            for (found, place) in read.iter().zip(places) {
                let Some(attempt) = found else {
                    continue;
                };
                let lane = lanes.entry(known.lane(*attempt));
                let (first, all) = lane.or_insert_with(|| (partition, Vec::new()));
                if *first != partition {
                    let what = format!("{attempt}: partition {partition}, and {first} before");
                    faults.add("a topic in two partitions", what);
                }
                if attempt.nth() == 0 {
                    all.push((attempt.message(), place));
                }
            }
        }
        for (_, all) in lanes.values_mut() {
            all.sort_unstable();
        }
        Standing { lanes }
    }

    fn window(&self, known: &Known, attempt: Attempt) -> Window {
        let (mut first, mut end) = (0, u64::MAX);
        let lane = self.lanes.get(&known.lane(attempt));
        if let Some((_, all)) = lane {
            let at = all.partition_point(|(message, _)| *message < attempt.message());
            if let Some((_, place)) = at.checked_sub(1).and_then(|before| all.get(before)) {
                first = place + 1;
            }
            // A later attempt may have come after first ones of messages behind it.
            let after = all[at..].iter().find(|(m, _)| *m > attempt.message());
            if let Some((_, place)) = after.filter(|_| attempt.nth() == 0) {
                end = *place;
            }
        }
        let partition = lane.map(|(partition, _)| *partition);
        Window {
            partition,
            first,
            end,
        }
    }
}

/// How many missing records a range can hold.
#[derive(Default, Clone, Copy)]
struct Count {
    /// Acknowledged ones that can have been in no other range.
    sure: u64,
    /// All that can have been in this one.
    most: u64,
}

impl Known {
    /// Holds each missing attempt against what is named where it was, and the other way round. The
    /// answer is what to print.
    pub fn named(&self, found: &[Vec<Found>], named: &Named, faults: &mut Faults) -> String {
        let standing = Standing::of(self, found, named, faults);
        let mut stored: Vec<Attempt> = found.iter().flatten().copied().flatten().collect();
        stored.sort_unstable();
        let ranges: Vec<(usize, Range)> = (0..named.0.len())
            .flat_map(|partition| named.0[partition].iter().map(move |r| (partition, *r)))
            .collect();
        let mut counts = vec![Count::default(); ranges.len()];
        let acked = self.acked.iter().map(|attempt| (attempt, true));
        let unknown = self.unknown.iter().map(|attempt| (attempt, false));
        let is_missing = |(a, _): &(&Attempt, bool)| stored.binary_search(a).is_err();
        for (attempt, is_acked) in acked.chain(unknown).filter(is_missing) {
            let window = standing.window(self, *attempt);
            let touches = |(partition, range): &(usize, Range)| {
                window.partition.is_none_or(|of| of == *partition)
                    && range.from < window.end
                    && range.to > window.first
            };
            let of = ranges
                .iter()
                .enumerate()
                .filter(|(_, range)| touches(range));
            let of: Vec<usize> = of.map(|(at, _)| at).collect();
            if is_acked && of.is_empty() {
                let Window {
                    partition,
                    first,
                    end,
                } = window;
                let what = format!("{attempt}: partition {partition:?}, between {first} and {end}");
                faults.add("missing where nothing is named", what);
            }
            for at in &of {
                counts[*at].most += 1;
                counts[*at].sure += u64::from(is_acked && of.len() == 1);
            }
        }
        // Nobody knows which of them are missing, nor where.
        let stored_deletes = found.iter().flatten().filter(|f| f.is_none()).count() as u64;
        let deletes = (self.deletes.0 + self.deletes.1).saturating_sub(stored_deletes);
        let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
        let line = format!(
            "{} ranges in the ledger name {}; missing in them {} acknowledged ones, and at most {} in all \
             and {deletes} deletions",
            ranges.len(),
            named.records(),
            sum(|count| count.sure),
            sum(|count| count.most),
        );
        for ((partition, Range { from, to }), count) in ranges.iter().zip(counts) {
            let (least, most, records) = (count.sure, count.most + deletes, to - from);
            if !(least..=most).contains(&records) {
                let what = format!(
                    "partition {partition}, [{from}, {to}): {records} named, {least} to {most} missing"
                );
                faults.add("named and missing differ", what);
            }
        }
        line
    }
}

#[cfg(test)]
#[path = "named_tests.rs"]
mod tests;

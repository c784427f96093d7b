//! Where each attempt lies on its device, offset by offset, and what the ledger says of it.
//!
//! Devices tell what their logs hold as it is sealed, and name their gaps; the cloud's sessions tell
//! what was appended. From both follows, at the end:
//! - LOST: an acknowledged attempt that cannot be read and whose offset no GAP of its stream covers.
//!   One that was never seen in a log (it rotted before) needs a covered offset of its own that nobody
//!   is known to lie at.
//! - LEDGER LIES: a GAP covers what was stored from that very stream.
//! - FALSE ALARM: a GAP that no log has named, or that is named without damage, a full log or a refusal.
//! - REORDERED: records of one stream that stand otherwise than in its log.
//! - MOVED: one edge partition in two partitions of the cloud; RENUMBERED: in one of another number
//!   where both sides have equally many (U6).

use std::collections::{BTreeMap, BTreeSet};

use headwater_batch::TopicPartition;
use headwater_proto::{EdgeName, GapReason, Incarnation, StreamKey};

use super::{Loss, Oracle};
use crate::payload::Id;

/// Records of one stream that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    pub from: i64,
    pub to: i64,
    pub why: Why,
}

/// As the device's log names it, and the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Dropped,
    Corrupt,
    Rejected,
    GivenUp,
}

impl From<GapReason> for Why {
    fn from(reason: GapReason) -> Why {
        match reason {
            GapReason::Budget => Why::Dropped,
            GapReason::Corrupt => Why::Corrupt,
            GapReason::Rejected(_) => Why::Rejected,
            GapReason::GivenUp => Why::GivenUp,
        }
    }
}

/// The GAPs of the cloud's ledger, by stream.
pub type Ledger = BTreeMap<StreamKey, Vec<Gone>>;

type Stream = usize;
/// Why, and the range.
type Named = (Why, i64, i64);

#[derive(Default)]
pub(super) struct Stored {
    numbers: BTreeMap<StreamKey, Stream>,
    streams: Vec<Held>,
    /// Where an attempt was seen to lie.
    places: BTreeMap<Id, BTreeSet<(Stream, i64)>>,
    /// What the logs of an edge partition named.
    named: BTreeMap<(EdgeName, TopicPartition), BTreeSet<Named>>,
    /// Which stream an attempt was appended from.
    source: BTreeMap<Id, (Stream, i64)>,
}

struct Held {
    key: StreamKey,
    /// Copies of a card may hold different ones at one offset.
    ids: BTreeMap<i64, BTreeSet<Id>>,
    appended: BTreeMap<i64, Id>,
}

impl Stored {
    fn number(&mut self, key: &StreamKey) -> Stream {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        self.numbers.insert(key.clone(), self.streams.len());
        self.streams.push(Held {
            key: key.clone(),
            ids: BTreeMap::new(),
            appended: BTreeMap::new(),
        });
        self.streams.len() - 1
    }

    fn hold(&mut self, stream: Stream, offset: i64, id: Id) {
        let ids = &mut self.streams[stream].ids;
        ids.entry(offset).or_default().insert(id);
        self.places.entry(id).or_default().insert((stream, offset));
    }

    /// What was appended is appended no more: the cloud is an older one.
    pub(super) fn cloud_went_back(&mut self) {
        self.source.clear();
        let streams = self.streams.iter_mut();
        streams.for_each(|held| held.appended.clear());
    }

    /// The stream and the offset there that a readable attempt came from, where that is sure.
    fn source(&self, id: Id) -> Option<(Stream, i64)> {
        let sure = |places: &BTreeSet<(Stream, i64)>| match places.len() {
            1 => places.first().copied(),
            _ => None,
        };
        let source = self.source.get(&id).copied();
        source.or_else(|| self.places.get(&id).and_then(sure))
    }
}

impl Oracle {
    /// A log holds these now, and they can be sent.
    pub fn sealed(&mut self, key: &StreamKey, records: &[(i64, Id)]) {
        let stream = self.stored.number(key);
        for (offset, id) in records {
            self.stored.hold(stream, *offset, *id);
        }
    }

    /// A log takes a new incarnation: what lies from there on may be sent under either name.
    pub fn forks(&mut self, parent: &StreamKey, incarnation: Incarnation, since: i64) {
        let child = StreamKey {
            incarnation,
            ..parent.clone()
        };
        let (from, to) = (self.stored.number(parent), self.stored.number(&child));
        let held = self.stored.streams[from].ids.range(since..);
        let held: Vec<(i64, Id)> = held
            .flat_map(|(at, ids)| ids.iter().map(|id| (*at, *id)))
            .collect();
        for (offset, id) in held {
            self.stored.hold(to, offset, id);
        }
    }

    /// What logs of this name were seen to hold from `from` on and below `to`.
    pub fn held(&self, key: &StreamKey, from: i64, to: i64) -> BTreeSet<Id> {
        let number = self.stored.numbers.get(key).copied();
        let held = number.map(|number| self.stored.streams[number].ids.range(from..to));
        held.into_iter()
            .flatten()
            .flat_map(|(_, ids)| ids.iter().copied())
            .collect()
    }

    /// Of those, what such a log has said that it will never send.
    pub fn held_and_gone(&self, key: &StreamKey, from: i64, to: i64) -> BTreeSet<Id> {
        let of = (key.edge.clone(), key.tp.clone());
        let named = self.stored.named.get(&of).into_iter().flatten();
        let parts = named.map(|(_, a, b)| ((*a).max(from), (*b).min(to)));
        parts
            .filter(|(from, to)| from < to)
            .flat_map(|(from, to)| self.held(key, from, to))
            .collect()
    }

    /// What logs of this edge partition held there, under whatever names.
    pub fn held_by_any(&self, edge: &str, tp: &TopicPartition, from: i64, to: i64) -> BTreeSet<Id> {
        let of = |held: &&Held| held.key.edge.as_str() == edge && held.key.tp == *tp;
        let streams = self.stored.streams.iter().filter(of);
        let ids = streams.flat_map(|held| held.ids.range(from..to.max(from)));
        ids.flat_map(|(_, ids)| ids.iter().copied()).collect()
    }

    /// Whether a log was seen to hold it.
    pub fn is_seen(&self, id: Id) -> bool {
        self.stored.places.contains_key(&id)
    }

    /// A log says that these will never be sent.
    pub fn names(&mut self, edge: &EdgeName, tp: &TopicPartition, gone: Gone) {
        let of = (edge.clone(), tp.clone());
        let named = self.stored.named.entry(of).or_default();
        named.insert((gone.why, gone.from, gone.to));
    }

    /// The cloud appended these of a stream.
    pub fn appended(&mut self, key: &StreamKey, records: &[(i64, Id)]) {
        let stream = self.stored.number(key);
        for (offset, id) in records {
            let before = self.stored.streams[stream].appended.insert(*offset, *id);
            self.stored.source.insert(*id, (stream, *offset));
            if let Some(before) = before {
                self.fail(format!(
                    "APPENDED TWICE: {key} at {offset}: {before:?}, then {id:?}"
                ));
            }
        }
    }

    /// Healed and read to the end: does the ledger tell what is missing, and nothing else?
    pub(super) fn check_ledger(&mut self, ledger: &Ledger) {
        for (key, gaps) in ledger {
            let stream = self.stored.number(key);
            for gap in gaps {
                if let Some(lie) = self.lie(stream, gap) {
                    self.fail(format!("LEDGER LIES: {key} {gap:?}: {lie}"));
                }
                if !self.is_named(key, gap) {
                    self.fail(format!(
                        "FALSE ALARM: {key} {gap:?}, which no log has named"
                    ));
                }
            }
        }
    }

    fn lie(&self, stream: Stream, gap: &Gone) -> Option<String> {
        let held = &self.stored.streams[stream];
        if let Some((at, id)) = held.appended.range(gap.from..gap.to).next() {
            return Some(format!("{id:?} at {at} was appended"));
        }
        // An answer may be lost with the node; then what is readable tells.
        let readable = held.ids.range(gap.from..gap.to).find_map(|(at, ids)| {
            let from_here = |id: &&Id| {
                let places = &self.stored.places[*id];
                let gone = |at: &i64| gap.from <= *at && *at < gap.to;
                self.is_found(**id) && places.iter().all(|(of, at)| *of == stream && gone(at))
            };
            ids.iter().find(from_here).map(|id| (*at, *id))
        });
        readable.map(|(at, id)| format!("{id:?} at {at} can be read"))
    }

    fn is_named(&self, key: &StreamKey, gap: &Gone) -> bool {
        let of = (key.edge.clone(), key.tp.clone());
        let Some(named) = self.stored.named.get(&of) else {
            return false;
        };
        let mut at = gap.from;
        let reaches = |at: i64| {
            let covers = |(why, from, to): &&Named| *why == gap.why && *from <= at && at < *to;
            named.iter().filter(covers).map(|(_, _, to)| *to).max()
        };
        while at < gap.to {
            match reaches(at) {
                Some(to) => at = to,
                None => return false,
            }
        }
        true
    }

    /// Whether the ledger covers an offset at which this attempt lay; `None` if it was never seen.
    pub(super) fn is_covered(&self, id: Id, ledger: &Ledger) -> Option<bool> {
        let places = self.stored.places.get(&id)?;
        let covered = places.iter().any(|(stream, at)| {
            let gaps = ledger.get(&self.stored.streams[*stream].key);
            gaps.is_some_and(|gaps| gaps.iter().any(|gap| gap.from <= *at && *at < gap.to))
        });
        Some(covered)
    }

    /// Covered offsets of an edge partition at which nothing was ever seen.
    pub(super) fn unseen(&self, line: &Loss, ledger: &Ledger) -> u64 {
        let mut unseen = 0;
        for (key, gaps) in ledger {
            let of = (&*key.tp.topic, key.tp.partition);
            if key.edge.as_str() != line.0 || of != (&*line.1, line.2) {
                continue;
            }
            let held = self.stored.numbers.get(key);
            let held = held.map(|number| &self.stored.streams[*number].ids);
            for gap in gaps {
                let seen = held.map_or(0, |ids| ids.range(gap.from..gap.to).count());
                unseen += (gap.to - gap.from) as u64 - seen as u64;
            }
        }
        unseen
    }

    /// Where an attempt was seen to lie, for whoever has to find out why.
    pub(super) fn seen(&self, id: Id) -> String {
        let places = self.stored.places.get(&id).into_iter().flatten();
        let places = places.map(|(of, at)| format!("{} at {at}", self.stored.streams[*of].key));
        places.collect::<Vec<_>>().join(", ")
    }

    /// Records of one stream stand in its order, in one partition.
    pub(super) fn check_streams(&mut self) {
        let mut wrong = None;
        let mut partitions: BTreeMap<(EdgeName, TopicPartition), (i32, Id)> = BTreeMap::new();
        for (place, part) in &self.parts {
            let mut last: BTreeMap<Stream, (i64, i64)> = BTreeMap::new();
            for (offset, id) in &part.records {
                // What may stand twice may stand there from another stream.
                let source = self.stored.source(*id);
                let Some((stream, at)) = source.filter(|_| !self.attempts[id].may_repeat) else {
                    continue;
                };
                let key = &self.stored.streams[stream].key;
                if let Some((before, stood)) = last.insert(stream, (at, *offset)) {
                    if before >= at {
                        wrong = Some(format!(
                            "REORDERED: {place:?}: {key} {before} at {stood}, then {at} at {offset}"
                        ));
                    }
                }
                let keeps = self.equal_counts.contains(&place.topic);
                if keeps && place.partition != key.tp.partition as i32 {
                    wrong = Some(format!("RENUMBERED: {key}: {id:?} in {place:?}"));
                }
                let of = (key.edge.clone(), key.tp.clone());
                let (partition, first) = *partitions.entry(of).or_insert((place.partition, *id));
                if partition != place.partition {
                    wrong = Some(format!(
                        "MOVED: {key}: {first:?} in partition {partition}, {id:?} in {place:?}"
                    ));
                }
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }
}

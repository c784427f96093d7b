//! Reading the journal back: entry by entry, and across what rotted.
//!
//! As long as every frame is there, entries are applied again. Where frames are lost, the state after
//! them cannot be computed: from there on the replay is *blind*. It then keeps entries aside, takes
//! rows and places of batches from the frames of results, and sees again at the first results that
//! reach back to the hole, or hold the whole state. What was in the lost frames and in no segment is
//! missing from the hot end afterwards, and is found by that ([`losses`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition, stamp};
use headwater_log::LogError;
use headwater_log::durable::{Frame, Lost};
use headwater_shard::{At, Entry, Shard, decode};

use super::ShardId;
use super::frames::{self, Carried, CarriedHead, KIND_CARRIED, KIND_RESULTS};
use super::results::Results;
use crate::machine::Machine;

/// Replays frames into a machine.
pub(super) struct Replayer<'a> {
    machine: &'a Machine,
    /// Ranges of frames that are lost, and were not reached yet.
    lost: std::vec::IntoIter<std::ops::Range<u64>>,
    next_lost: Option<std::ops::Range<u64>>,
    blind: Option<Blind>,
    was_blind: bool,
    parts: Vec<Results>,
    frames: u64,
    /// After the last frame.
    at: u64,
    /// The highest term that an entry was seen with.
    term: u64,
    orphans: Vec<(CarriedAt, u64)>,
    only_terms: bool,
}

/// What is kept while the state is not known.
#[derive(Default)]
struct Blind {
    /// The first frame that is missing.
    since: u64,
    /// Entries with a batch, by position: not known yet where they went.
    entries: BTreeMap<u64, (TopicPartition, i64, Bytes)>,
    /// Batches with their place.
    carried: Vec<(CarriedAt, u64)>,
}

/// A batch with its place; without a topic id it is taken for the topic of that name.
#[derive(Debug, Clone)]
pub(crate) struct CarriedAt {
    pub tp: TopicPartition,
    pub topic_id: Option<u128>,
    pub epoch: i32,
    pub at_ms: i64,
    pub batch: Bytes,
}

/// How the replay ended.
pub(super) struct Replayed {
    pub frames: u64,
    pub term: u64,
    /// The state jumped somewhere: what the checkpoint holds is not what it was made from.
    pub was_blind: bool,
    /// The state at the end is not known.
    pub is_blind: bool,
    /// Batches whose partitions are not known.
    pub orphans: Vec<(CarriedAt, u64)>,
    /// No entry but the beginnings of terms was met.
    pub only_terms: bool,
}

impl<'a> Replayer<'a> {
    /// `known`: the machine's state is that of the first frame to come.
    pub fn new(machine: &'a Machine, lost: &[Lost], known: bool) -> Replayer<'a> {
        let mut ranges: Vec<_> = lost.iter().map(|l| l.frames.clone()).collect();
        ranges.sort_by_key(|range| range.start);
        let mut lost = ranges.into_iter();
        Replayer {
            machine,
            next_lost: lost.next(),
            lost,
            blind: (!known).then(Blind::default),
            was_blind: !known,
            parts: Vec::new(),
            frames: 0,
            at: 0,
            term: 0,
            orphans: Vec::new(),
            only_terms: true,
        }
    }

    pub fn take(&mut self, frame: Result<Frame, LogError>) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, "journal frames cannot be read");
                return self.close_eyes(self.at);
            }
        };
        let position = frame.position.0;
        self.pass_lost(position);
        self.frames += 1;
        self.at = position + 1;
        let payload = Bytes::from(frame.payload);
        match frame.kind {
            KIND_CARRIED => match frames::carried(&payload) {
                Some(carried) => self.carried(carried, position),
                None => self.unreadable(position, "not a carried batch"),
            },
            KIND_RESULTS => match (&self.blind, frames::of_results(&payload)) {
                (None, _) => {}
                (Some(_), Some(results)) => self.part(results),
                (Some(_), None) => tracing::warn!(position, "results that do not parse"),
            },
            shard => self.entry(ShardId(shard), &payload, position),
        }
    }

    pub fn end(mut self) -> Replayed {
        self.pass_lost(u64::MAX);
        let is_blind = self.blind.is_some();
        let blind = self.blind.take().unwrap_or_default();
        self.orphans.extend(blind.carried);
        // Their partitions may have come later.
        let machine = self.machine;
        self.orphans
            .retain(|(carried, position)| !put_back(machine, carried.clone(), *position));
        Replayed {
            frames: self.frames,
            term: self.term,
            was_blind: self.was_blind,
            is_blind,
            orphans: self.orphans,
            only_terms: self.only_terms,
        }
    }

    fn pass_lost(&mut self, position: u64) {
        while let Some(range) = self.next_lost.take_if(|range| range.start <= position) {
            self.close_eyes(range.start);
            self.next_lost = self.lost.next();
        }
    }

    fn close_eyes(&mut self, since: u64) {
        self.was_blind = true;
        self.parts.clear();
        if self.blind.is_none() {
            self.blind = Some(Blind {
                since,
                ..Blind::default()
            });
        }
    }

    fn unreadable(&mut self, position: u64, what: &str) {
        tracing::error!(position, what, "a journal frame is not understood");
        self.close_eyes(position);
    }

    fn carried(&mut self, carried: Carried, position: u64) {
        let Some(blind) = &mut self.blind else {
            return self.machine.restore(carried, position);
        };
        let CarriedHead {
            tp,
            topic_id,
            epoch,
            at_ms,
        } = carried.head;
        let carried = CarriedAt {
            tp,
            topic_id: Some(topic_id),
            epoch,
            at_ms,
            batch: carried.batch,
        };
        blind.carried.push((carried, position));
    }

    fn entry(&mut self, id: ShardId, payload: &Bytes, position: u64) {
        let is_known = self.machine.shards.ids().any(|known| known == id);
        let read = frames::split(payload).filter(|_| is_known);
        let read = read.and_then(|(at, encoded)| Some((at, decode(&encoded).ok()?)));
        let Some((at, (entry, batch))) = read else {
            return self.unreadable(position, "not an entry of a shard of this node");
        };
        self.term = self.term.max(at.term);
        self.only_terms &= matches!(entry, Entry::NewTerm);
        if self.blind.is_none() {
            let applied = self.machine.shards.read(id).applied();
            if at.index <= applied.index {
                return;
            }
            if follows(applied, at) {
                self.machine.apply(id, at, &entry, &batch, position);
                return;
            }
            let (index, found) = (applied.index, at.index);
            tracing::error!(shard = id.0, position, index, found, "entries are missing");
            self.close_eyes(position);
        }
        let blind = self.blind.as_mut().expect("checked");
        let place = match entry {
            Entry::Produce { tp, at_ms, .. } => Some((tp, at_ms)),
            Entry::Stream { to, at_ms, .. } => Some((to, at_ms)),
            _ => None,
        };
        if let (Some((tp, at_ms)), false) = (place, batch.is_empty()) {
            blind.entries.insert(position, (tp, at_ms, batch));
        }
    }

    /// Results come in parts, one behind the other.
    fn part(&mut self, results: Results) {
        let follows = self
            .parts
            .last()
            .is_some_and(|last| (last.since, last.parts) == (results.since, results.parts));
        if !follows {
            self.parts.clear();
        }
        if results.part as usize != self.parts.len() {
            return self.parts.clear();
        }
        let is_last = results.part + 1 == results.parts;
        self.parts.push(results);
        if is_last {
            let parts = std::mem::take(&mut self.parts);
            self.results(parts);
        }
    }

    fn results(&mut self, parts: Vec<Results>) {
        let Some(blind) = &mut self.blind else { return };
        let (since, is_whole) = (parts[0].since, parts[0].is_whole);
        if is_whole {
            for id in self.machine.shards.ids() {
                *self.machine.shards.write(id) = Shard::new();
            }
        }
        for part in parts {
            for extent in part.extents {
                let Some((tp, at_ms, batch)) = blind.entries.remove(&extent.position) else {
                    continue;
                };
                let mut bytes = batch.to_vec();
                if stamp(&mut bytes, extent.base, extent.epoch).is_ok() {
                    let (topic_id, epoch, batch) = (None, extent.epoch, bytes.into());
                    let carried = CarriedAt {
                        tp,
                        topic_id,
                        epoch,
                        at_ms,
                        batch,
                    };
                    blind.carried.push((carried, extent.position));
                }
            }
            for (row, value) in part.rows {
                load(self.machine, &row, value.as_deref());
            }
        }
        if !is_whole && since > blind.since {
            return;
        }
        let blind = self.blind.take().unwrap_or_default();
        self.machine.open_all();
        self.machine.resync(self.machine.shards.meta());
        for (carried, position) in blind.carried {
            if !put_back(self.machine, carried.clone(), position) {
                self.orphans.push((carried, position));
            }
        }
    }
}

fn follows(applied: At, at: At) -> bool {
    at.index == applied.index + 1 && at.term >= applied.term
}

fn load(machine: &Machine, row: &[u8], value: Option<&[u8]>) {
    let Some((&id, key)) = row.split_first() else {
        return;
    };
    if !machine.shards.ids().any(|known| known.0 == id) {
        return;
    }
    let mut shard = machine.shards.write(ShardId(id));
    let done = match value {
        Some(value) => shard.load(key, value),
        None => shard.unload(key),
    };
    if let Err(error) = done {
        tracing::error!(shard = id, %error, "a row in the journal does not parse");
    }
}

/// Puts a batch back at its place, unless it is cold or gone by now. False: there is no such
/// partition.
pub(crate) fn put_back(machine: &Machine, carried: CarriedAt, position: u64) -> bool {
    let CarriedAt {
        tp,
        topic_id,
        epoch,
        at_ms,
        batch,
    } = carried;
    let id = {
        let shard = machine.shards.read(machine.shards.of(&tp));
        shard.partition(&tp).map(|partition| partition.topic_id)
    };
    let (Some(_), Some(topic_id)) = (id, topic_id.or(id)) else {
        return false;
    };
    let head = CarriedHead {
        tp,
        topic_id,
        epoch,
        at_ms,
    };
    machine.restore(Carried { head, batch }, position);
    true
}

/// Acknowledged records that are neither in a segment of the manifest nor in the journal, nor in the
/// ledger yet.
pub(crate) fn losses(machine: &Machine) -> Vec<Loss> {
    let mut losses = Vec::new();
    for id in machine.shards.data() {
        let shard = machine.shards.read(id);
        for (tp, partition) in shard.partitions() {
            let mut at = partition.start;
            let cold = shard.segments(tp).map(|(base, s)| (base, s.end));
            let log = machine.hot.partition(tp);
            let held = log.map(|log| log.range(at.max(partition.cold_end), partition.next));
            let held = held.unwrap_or_default().into_iter();
            let ends = cold.chain(held.map(|(base, batch)| (base, batch.end)));
            for (base, end) in ends.chain([(partition.next, partition.next)]) {
                let from = shard.lost_end(tp, at);
                if from < base {
                    losses.push(Loss {
                        tp: tp.clone(),
                        topic_id: partition.topic_id,
                        from,
                        to: base,
                    });
                }
                at = at.max(end);
            }
        }
    }
    losses
}

/// A range of records that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub tp: TopicPartition,
    pub topic_id: u128,
    pub from: Offset,
    pub to: Offset,
}

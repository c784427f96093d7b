//! The shard itself: its tables, apply, and the state as keys and values.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headwater_batch::{Offset, TopicName, TopicPartition};
use headwater_proto::{EdgeName, EdgeStreams};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::Digest;
use crate::edges::{Edge, Pin};
use crate::entry::Entry;
use crate::groups::{Committed, Group};
use crate::key::Key;
use crate::ledger::LedgerEntry;
use crate::lost::{Doubt, LostRange};
use crate::outcome::{Applied, Outcome, Refusal};
use crate::partition::Partition;
use crate::producers::Producer;
use crate::segments::Segment;
use crate::topics::Topic;

/// The newest rules this build knows. A shard starts with the rules of version 1.
pub const RULES_VERSION: u32 = 1;

/// Where an entry stands in its shard's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// From 1, without holes.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub index: u64,
    pub term: u64,
    pub rules: u32,
    pub next_producer_id: i64,
    pub ledger_next: u64,
}

/// One shard. See the crate's documentation for what it promises.
#[derive(Debug, Clone)]
pub struct Shard {
    pub(crate) head: Head,
    pub(crate) topics: BTreeMap<TopicName, Topic>,
    pub(crate) edges: BTreeMap<String, Edge>,
    pub(crate) pins: BTreeMap<(String, TopicPartition), Pin>,
    pub(crate) partitions: BTreeMap<TopicPartition, Partition>,
    pub(crate) segments: BTreeMap<TopicPartition, BTreeMap<Offset, Segment>>,
    pub(crate) producers: BTreeMap<TopicPartition, BTreeMap<i64, Producer>>,
    pub(crate) streams: BTreeMap<(EdgeName, TopicPartition), EdgeStreams>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) group_offsets: BTreeMap<String, BTreeMap<TopicPartition, Committed>>,
    pub(crate) ledger: BTreeMap<u64, LedgerEntry>,
    /// Lines of the ledger by edge partition: derived from it.
    pub(crate) ledger_of: BTreeMap<(EdgeName, TopicPartition), BTreeSet<u64>>,
    pub(crate) lost: BTreeMap<(TopicPartition, Offset), LostRange>,
    pub(crate) doubt: Option<Doubt>,
    /// For the next checkpoint.
    dirty: BTreeSet<Key>,
    /// Since [`Shard::touched`] was last asked.
    recent: BTreeSet<Key>,
}

/// The first byte of every row's value. A row of another format is not understood: the meaning of a
/// value changes with a new number here, and what wrote it is then read for as long as it is about.
pub const ROW_FORMAT: u8 = 1;

/// Why stored state was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    #[error("a stored key does not parse")]
    Key,
    #[error("the stored value of {key:?} has format {format}, this build knows {ROW_FORMAT}")]
    Format { key: Box<Key>, format: u8 },
    #[error("the stored value of {0:?} does not parse")]
    Value(Box<Key>),
}

/// A piece of a snapshot, and the key to go on after; `None` at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotChunk {
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub resume_after: Option<Key>,
}

impl Default for Shard {
    fn default() -> Self {
        Self::new()
    }
}

impl Shard {
    /// An empty shard, before its first entry.
    pub fn new() -> Self {
        Self {
            head: Head {
                index: 0,
                term: 0,
                rules: 1,
                next_producer_id: 0,
                ledger_next: 0,
            },
            topics: BTreeMap::new(),
            edges: BTreeMap::new(),
            pins: BTreeMap::new(),
            partitions: BTreeMap::new(),
            segments: BTreeMap::new(),
            producers: BTreeMap::new(),
            streams: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_offsets: BTreeMap::new(),
            ledger: BTreeMap::new(),
            ledger_of: BTreeMap::new(),
            lost: BTreeMap::new(),
            doubt: None,
            dirty: BTreeSet::new(),
            recent: BTreeSet::new(),
        }
    }

    /// Applies the next entry. State and applied position move together.
    ///
    /// # Panics
    /// When `at` is not the next position or the term goes back: the log lost or repeated an entry,
    /// and to go on would be silent divergence.
    pub fn apply(&mut self, at: At, entry: &Entry, batch: &Bytes) -> Applied {
        assert_eq!(
            at.index,
            self.head.index + 1,
            "entries are applied once and in order"
        );
        assert!(at.term >= self.head.term, "terms do not go back");
        self.head.index = at.index;
        self.head.term = at.term;
        self.touch(Key::Head);
        self.dispatch(at, entry, batch)
    }

    fn dispatch(&mut self, at: At, entry: &Entry, batch: &Bytes) -> Applied {
        match entry {
            Entry::OpenPartition {
                tp,
                topic_id,
                epoch_base,
            } => self.open_partition(tp, *topic_id, *epoch_base),
            Entry::ClosePartition { tp, topic_id } => self.close_partition(tp, *topic_id),
            Entry::Produce {
                tp,
                topic_id,
                at_ms,
            } => self.produce(at, tp, *topic_id, batch, *at_ms),
            Entry::Stream {
                to,
                key,
                head,
                at_ms,
            } => self.stream(at, to, key, head, batch, *at_ms),
            Entry::LogStart { tp, start } => self.move_log_start(tp, *start),
            Entry::AddSegment {
                tp,
                topic_id,
                base,
                segment,
            } => self.add_segment(tp, *topic_id, *base, segment),
            Entry::Lost {
                tp,
                topic_id,
                from,
                range,
            } => self.lose(tp, *topic_id, *from, range),
            quiet => Applied::quiet(self.dispatch_quiet(quiet)),
        }
    }

    /// Entries without effects.
    fn dispatch_quiet(&mut self, entry: &Entry) -> Outcome {
        match entry {
            Entry::NewTerm => Outcome::Done,
            Entry::SetRules { version } => self.set_rules(*version),
            Entry::CreateTopic {
                name,
                id,
                partitions,
                config,
                at_ms,
            } => {
                let config = config.iter().cloned().collect();
                let (id, partitions, created_ms) = (*id, *partitions, *at_ms);
                self.create_topic(
                    name,
                    Topic {
                        id,
                        partitions,
                        config,
                        created_ms,
                    },
                )
            }
            Entry::DeleteTopic { name } => self.delete_topic(name),
            Entry::CreatePartitions { name, total } => self.create_partitions(name, *total),
            Entry::AlterConfig { name, changes } => self.alter_config(name, changes),
            Entry::InitProducerId => {
                let id = self.head.next_producer_id;
                self.head.next_producer_id += 1;
                Outcome::ProducerId(id)
            }
            Entry::AddEdge { name, at_ms } => self.add_edge(name, *at_ms),
            Entry::RevokeEdge { name, at_ms } => self.revoke_edge(name, *at_ms),
            Entry::PinStream {
                edge,
                source,
                partition,
            } => self.pin(edge, source, *partition),
            Entry::GroupGeneration {
                group,
                generation,
                protocol_type,
                at_ms,
            } => self.group_generation(group, *generation, protocol_type, *at_ms),
            Entry::CommitOffsets {
                group,
                generation,
                offsets,
                at_ms,
            } => self.commit_offsets(group, *generation, offsets, *at_ms),
            Entry::ForgetTopicOffsets { topic } => self.forget_topic_offsets(topic),
            Entry::DeleteGroup { group } => self.delete_group(group),
            Entry::Restore { rows } => self.restore_rows(rows),
            Entry::TrustStream { edge, source } => self.trust(edge, source, None),
            Entry::Newcomer { edge } => self.newcomer(edge),
            Entry::OpenPartition { .. }
            | Entry::ClosePartition { .. }
            | Entry::Produce { .. }
            | Entry::Stream { .. }
            | Entry::LogStart { .. }
            | Entry::AddSegment { .. }
            | Entry::Lost { .. } => unreachable!("dispatched with their effects"),
        }
    }

    fn set_rules(&mut self, version: u32) -> Outcome {
        if version < self.head.rules || version > RULES_VERSION {
            return Outcome::Refused(Refusal::UnknownRules(version));
        }
        self.head.rules = version;
        Outcome::Done
    }

    pub(crate) fn touch(&mut self, key: Key) {
        self.recent.insert(key.clone());
        self.dirty.insert(key);
    }
}

/// The state as rows: what checkpoints and snapshots are made of.
impl Shard {
    /// The rows that changed since this was last called; `None` where a row is gone.
    pub fn changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty
            .into_iter()
            .map(|key| (key.to_bytes(), self.value(&key)))
            .collect()
    }

    /// About `bytes_max` bytes of rows after `after`, in key order.
    pub fn snapshot(&self, after: Option<&Key>, bytes_max: usize) -> SnapshotChunk {
        let (mut rows, mut bytes, mut resume_after) = (Vec::new(), 0, None);
        for key in self
            .keys()
            .filter(|key| after.is_none_or(|after| key > after))
        {
            if bytes >= bytes_max {
                return SnapshotChunk { rows, resume_after };
            }
            let row = (
                key.to_bytes(),
                self.value(&key).expect("keys() yields present rows"),
            );
            bytes += row.0.len() + row.1.len();
            rows.push(row);
            resume_after = Some(key);
        }
        SnapshotChunk {
            rows,
            resume_after: None,
        }
    }

    /// Puts one stored row back. Rows may come in any order.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let key = Key::from_bytes(key).ok_or(LoadError::Key)?;
        match value.split_first() {
            Some((&ROW_FORMAT, value)) => self
                .insert(&key, value)
                .ok_or_else(|| LoadError::Value(Box::new(key))),
            Some((&format, _)) => Err(LoadError::Format {
                key: Box::new(key),
                format,
            }),
            None => Err(LoadError::Value(Box::new(key))),
        }
    }

    /// Removes a row.
    pub fn unload(&mut self, key: &[u8]) -> Result<(), LoadError> {
        let key = Key::from_bytes(key).ok_or(LoadError::Key)?;
        self.remove(&key);
        Ok(())
    }

    /// The keys that changed since this was last called. For the journal, which stores the results
    /// of applying; [`Shard::changes`] is not affected.
    pub fn touched(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.recent)
    }

    /// A row as it stands; `None`: it is not there.
    pub fn row(&self, key: &Key) -> Option<Vec<u8>> {
        self.value(key)
    }

    /// Marks a row as changed, whether it is there or not.
    pub fn touch_row(&mut self, key: &[u8]) {
        if let Some(key) = Key::from_bytes(key) {
            self.touch(key);
        }
    }

    /// Marks every row as changed: the next checkpoint stores all of them.
    pub fn touch_all(&mut self) {
        let all: Vec<Key> = self.keys().collect();
        all.into_iter().for_each(|key| self.touch(key));
    }

    fn restore_rows(&mut self, rows: &[(Vec<u8>, Option<Vec<u8>>)]) -> Outcome {
        let At { index, term } = self.applied();
        for (key, value) in rows {
            let done = match value {
                Some(value) => self.load(key, value),
                None => self.unload(key),
            };
            if let (Ok(()), Some(key)) = (done, Key::from_bytes(key)) {
                self.touch(key);
            }
        }
        // A row of the head must not move the log.
        (self.head.index, self.head.term) = (index, term);
        Outcome::Done
    }

    /// The same on every replica that applied the same entries.
    pub fn state_hash(&self) -> u64 {
        let mut digest = Digest::new();
        for key in self.keys() {
            digest.field(&key.to_bytes());
            digest.field(&self.value(&key).expect("keys() yields present rows"));
        }
        digest.value()
    }

    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let nested = |tp: &TopicPartition| tp.clone();
        std::iter::once(Key::Head)
            .chain(self.topics.keys().cloned().map(Key::Topic))
            .chain(self.edges.keys().cloned().map(Key::Edge))
            .chain(
                self.pins
                    .keys()
                    .cloned()
                    .map(|(edge, tp)| Key::Pin(edge, tp)),
            )
            .chain(self.partitions.keys().cloned().map(Key::Partition))
            .chain(self.segments.iter().flat_map(move |(tp, of)| {
                of.keys().map(move |base| Key::Segment(nested(tp), *base))
            }))
            .chain(
                self.producers.iter().flat_map(move |(tp, of)| {
                    of.keys().map(move |id| Key::Producer(nested(tp), *id))
                }),
            )
            .chain(
                self.streams
                    .keys()
                    .cloned()
                    .map(|(edge, tp)| Key::Streams(edge, tp)),
            )
            .chain(self.groups.keys().cloned().map(Key::Group))
            .chain(self.group_offsets.iter().flat_map(move |(group, of)| {
                of.keys()
                    .map(move |tp| Key::GroupOffset(group.clone(), tp.clone()))
            }))
            .chain(self.ledger.keys().copied().map(Key::Ledger))
            .chain(
                self.lost
                    .keys()
                    .cloned()
                    .map(|(tp, from)| Key::Lost(tp, from)),
            )
            .chain(self.doubt.iter().map(|_| Key::Doubt))
    }

    fn value(&self, key: &Key) -> Option<Vec<u8>> {
        match key {
            Key::Head => bytes_of(Some(&self.head)),
            Key::Topic(name) => bytes_of(self.topics.get(name)),
            Key::Edge(name) => bytes_of(self.edges.get(name)),
            Key::Pin(edge, tp) => bytes_of(self.pins.get(&(edge.clone(), tp.clone()))),
            Key::Partition(tp) => bytes_of(self.partitions.get(tp)),
            Key::Segment(tp, base) => bytes_of(self.segments.get(tp).and_then(|of| of.get(base))),
            Key::Producer(tp, id) => bytes_of(self.producers.get(tp).and_then(|of| of.get(id))),
            Key::Streams(edge, tp) => bytes_of(self.streams.get(&(edge.clone(), tp.clone()))),
            Key::Group(group) => bytes_of(self.groups.get(group)),
            Key::GroupOffset(group, tp) => {
                bytes_of(self.group_offsets.get(group).and_then(|of| of.get(tp)))
            }
            Key::Ledger(number) => bytes_of(self.ledger.get(number)),
            Key::Lost(tp, from) => bytes_of(self.lost.get(&(tp.clone(), *from))),
            Key::Doubt => bytes_of(self.doubt.as_ref()),
        }
    }

    fn insert(&mut self, key: &Key, value: &[u8]) -> Option<()> {
        match key.clone() {
            Key::Head => self.head = of_bytes(value)?,
            Key::Topic(name) => put(&mut self.topics, name, value)?,
            Key::Edge(name) => put(&mut self.edges, name, value)?,
            Key::Pin(edge, tp) => put(&mut self.pins, (edge, tp), value)?,
            Key::Partition(tp) => put(&mut self.partitions, tp, value)?,
            Key::Segment(tp, base) => put(self.segments.entry(tp).or_default(), base, value)?,
            Key::Producer(tp, id) => put(self.producers.entry(tp).or_default(), id, value)?,
            Key::Streams(edge, tp) => put(&mut self.streams, (edge, tp), value)?,
            Key::Group(group) => put(&mut self.groups, group, value)?,
            Key::GroupOffset(group, tp) => {
                put(self.group_offsets.entry(group).or_default(), tp, value)?;
            }
            Key::Ledger(number) => self.put_in_ledger(number, of_bytes(value)?),
            Key::Lost(tp, from) => put(&mut self.lost, (tp, from), value)?,
            Key::Doubt => self.doubt = Some(of_bytes(value)?),
        }
        Some(())
    }

    fn remove(&mut self, key: &Key) {
        match key.clone() {
            Key::Head => {}
            Key::Topic(name) => drop(self.topics.remove(&name)),
            Key::Edge(name) => drop(self.edges.remove(&name)),
            Key::Pin(edge, tp) => drop(self.pins.remove(&(edge, tp))),
            Key::Partition(tp) => drop(self.partitions.remove(&tp)),
            Key::Segment(tp, base) => remove_from(&mut self.segments, &tp, &base),
            Key::Producer(tp, id) => remove_from(&mut self.producers, &tp, &id),
            Key::Streams(edge, tp) => drop(self.streams.remove(&(edge, tp))),
            Key::Group(group) => drop(self.groups.remove(&group)),
            Key::GroupOffset(group, tp) => remove_from(&mut self.group_offsets, &group, &tp),
            Key::Ledger(number) => drop(self.take_from_ledger(number)),
            Key::Lost(tp, from) => drop(self.lost.remove(&(tp, from))),
            Key::Doubt => self.doubt = None,
        }
    }
}

/// Reading. All of it is what is applied, hence committed.
impl Shard {
    pub fn applied(&self) -> At {
        At {
            index: self.head.index,
            term: self.head.term,
        }
    }

    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub fn topics(&self) -> impl Iterator<Item = (&TopicName, &Topic)> {
        self.topics.iter()
    }

    pub fn edge(&self, name: &str) -> Option<&Edge> {
        self.edges.get(name)
    }

    pub fn edges(&self) -> impl Iterator<Item = (&String, &Edge)> {
        self.edges.iter()
    }

    pub fn pinned(&self, edge: &str, source: &TopicPartition) -> Option<u32> {
        self.pins
            .get(&(edge.to_owned(), source.clone()))
            .map(|pin| pin.partition)
    }

    pub fn partition(&self, tp: &TopicPartition) -> Option<&Partition> {
        self.partitions.get(tp)
    }

    pub fn partitions(&self) -> impl Iterator<Item = (&TopicPartition, &Partition)> {
        self.partitions.iter()
    }

    /// The cold segments of a partition by base offset.
    pub fn segments(
        &self,
        tp: &TopicPartition,
    ) -> impl DoubleEndedIterator<Item = (Offset, &Segment)> {
        self.segments
            .get(tp)
            .into_iter()
            .flatten()
            .map(|(base, segment)| (*base, segment))
    }

    /// The cold segment that holds `offset`, or the first one after it.
    pub fn segment_at(&self, tp: &TopicPartition, offset: Offset) -> Option<(Offset, &Segment)> {
        let of = self.segments.get(tp)?;
        let below = of
            .range(..=offset)
            .next_back()
            .filter(|(_, s)| s.end > offset);
        below
            .or_else(|| of.range(offset..).next())
            .map(|(base, segment)| (*base, segment))
    }

    pub fn group(&self, group: &str) -> Option<&Group> {
        self.groups.get(group)
    }

    pub fn groups(&self) -> impl Iterator<Item = (&String, &Group)> {
        self.groups.iter()
    }

    pub fn offsets_of_group(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&TopicPartition, &Committed)> {
        self.group_offsets.get(group).into_iter().flatten()
    }

    pub fn committed(&self, group: &str, tp: &TopicPartition) -> Option<&Committed> {
        self.group_offsets.get(group)?.get(tp)
    }

    /// All incarnations of all edge partitions that are pinned to this shard.
    pub fn streams(&self) -> impl Iterator<Item = (&EdgeName, &TopicPartition, &EdgeStreams)> {
        self.streams
            .iter()
            .map(|((edge, tp), streams)| (edge, tp, streams))
    }

    pub fn streams_of(&self, edge: &EdgeName, tp: &TopicPartition) -> Option<&EdgeStreams> {
        self.streams.get(&(edge.clone(), tp.clone()))
    }

    pub fn ledger(&self) -> impl Iterator<Item = (u64, &LedgerEntry)> {
        self.ledger.iter().map(|(number, entry)| (*number, entry))
    }
}

/// A row's value as it is stored: its format, then postcard.
pub fn row_value<T: Serialize>(value: &T) -> Vec<u8> {
    let bytes = postcard::to_extend(value, vec![ROW_FORMAT]);
    bytes.expect("state holds nothing postcard refuses")
}

fn bytes_of<T: Serialize>(value: Option<&T>) -> Option<Vec<u8>> {
    value.map(row_value)
}

fn of_bytes<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    postcard::from_bytes(value).ok()
}

fn remove_from<A: Ord, B: Ord, V>(table: &mut BTreeMap<A, BTreeMap<B, V>>, outer: &A, inner: &B) {
    if let Some(of) = table.get_mut(outer) {
        of.remove(inner);
        if of.is_empty() {
            table.remove(outer);
        }
    }
}

fn put<K: Ord, V: DeserializeOwned>(
    table: &mut BTreeMap<K, V>,
    key: K,
    value: &[u8],
) -> Option<()> {
    table.insert(key, of_bytes(value)?);
    Some(())
}

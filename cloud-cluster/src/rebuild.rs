//! When the state is lost with all its copies: a node that starts anyway, from what is left.
//!
//! Partitions, topics and the manifest come from the cold segments, from batches in the journal that
//! name their place, and from what the journal's files say at their beginnings. Everything goes into
//! the state through committed entries (C1), then into a checkpoint.
//!
//! - Records that are left are readable at their offsets. How many there were behind them is not
//!   known, so offsets go on [`JUMP`] further; the range between stands in the ledger.
//! - Leader epochs go on above all that were seen.
//! - Dedup state of streams cannot be rebuilt. Each shard is in doubt then: a stream that may have sent
//!   anything is set aside with an alarm until the operator trusts its edge's own word (`edge trust`),
//!   since to take its records again would store them twice. See [`Doubt`] for those that go on.
//! - Edges come from the [register](crate::registry).
//! - Group offsets and topic configuration are gone as far as no row of theirs is in the journal: all
//!   rows are in both checkpoint stores, and in each journal file's beginning while they take less
//!   than an eighth of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use headwater_batch::{Offset, TopicName, TopicPartition};
use headwater_shard::{
    Doubt, Edge, Entry, Key, LostRange, LostReason, Partition, Segment, Topic, row_value,
};
use serde::Serialize;

use crate::batches::peek;
use crate::clock::Clock;
use crate::cold::{ColdError, ColdStore, Facts, SegmentName};
use crate::core::StartError;
use crate::machine::Machine;
use crate::registry::Registered;
use crate::shardlog::replay::{losses, put_back};
use crate::shardlog::{ProposeError, Remains, ShardId, ShardLog, commit};

/// More records than the lost part of any partition's journal can hold.
pub const JUMP: i64 = 1 << 32;
/// Rows of one entry, in bytes.
const ENTRY_BYTES: usize = 256 << 10;

/// What the rebuilding works with.
pub(crate) struct Rebuild<'a> {
    pub log: &'a dyn ShardLog,
    pub machine: &'a Arc<Machine>,
    pub cold: &'a ColdStore,
    pub clock: &'a Clock,
    /// Edges that have a bundle, where somebody keeps account of them.
    pub registered: Option<&'a Registered>,
}

/// What is known of a partition by now.
#[derive(Default)]
struct Found {
    row: Option<Partition>,
    segments: BTreeMap<Offset, (u128, Facts)>,
    next: Offset,
    first: Option<Offset>,
    epoch: i32,
}

/// Rows per shard.
type Rows = BTreeMap<ShardId, Vec<(Vec<u8>, Option<Vec<u8>>)>>;

impl Rebuild<'_> {
    /// Whether this shard's state is in doubt and not rebuilt yet.
    pub fn is_due(machine: &Machine) -> bool {
        let mut data = machine.shards.data();
        data.any(|id| machine.shards.read(id).doubt().is_some_and(|d| !d.rebuilt))
    }

    /// Whether there are segments, where there should be nothing at all yet.
    pub async fn finds_segments(&self) -> Result<bool, ColdError> {
        Ok(!self.cold.list().await?.is_empty())
    }

    /// Puts all that can be found into the state. Done again from the start after a crash.
    pub async fn run(&self, remains: &Remains) -> Result<(), StartError> {
        tracing::error!("the state is lost with all its copies; it is rebuilt from what is left");
        let found = self.look(remains).await?;
        let mut rows = Rows::new();
        let topics = self.topics(&found, remains, &mut rows);
        for (tp, found) in found {
            self.partition(&tp, found, topics[&tp.topic].id, &mut rows);
        }
        for (shard, rows) in rows {
            self.restore(shard, rows).await?;
        }
        for (batch, position) in &remains.batches {
            let mut batch = batch.clone();
            batch.topic_id = None;
            put_back(self.machine, batch, *position);
        }
        let meta = self.machine.shards.meta();
        let doubt = row(&Key::Doubt, &self.doubt());
        let mut rows = self.edges();
        rows.push(match self.registered.is_some_and(|r| r.is_whole) {
            true => doubt.clone(),
            // Anybody may have been there before: nobody is a newcomer.
            false => (doubt.0.clone(), None),
        });
        self.restore(meta, rows).await?;
        for shard in self.machine.shards.data() {
            self.restore(shard, vec![doubt.clone()]).await?;
        }
        Ok(())
    }

    fn doubt(&self) -> Doubt {
        Doubt {
            at_ms: self.clock.wall_ms(),
            rebuilt: true,
            trusted: BTreeSet::new(),
            newcomers: BTreeSet::new(),
        }
    }

    /// Everybody who is known, as one who was there before.
    fn edges(&self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let meta = self.machine.shards.read(self.machine.shards.meta());
        let registered = self.registered.iter().flat_map(|r| &r.edges);
        let mut edges: BTreeMap<String, Edge> = BTreeMap::new();
        for (name, added_ms) in registered {
            let edge = Edge {
                added_ms: *added_ms,
                revoked_ms: None,
                is_newcomer: false,
            };
            edges.entry(name.clone()).or_insert(edge);
        }
        for (name, edge) in meta.edges() {
            let mut edge = edge.clone();
            edge.is_newcomer = false;
            edges.insert(name.clone(), edge);
        }
        let rows = edges.into_iter();
        rows.map(|(name, edge)| row(&Key::Edge(name), &edge))
            .collect()
    }

    /// Enters what is missing into the ledger.
    pub async fn enter_losses(&self, reason: LostReason) -> Result<(), ProposeError> {
        for loss in losses(self.machine) {
            let range = LostRange {
                to: loss.to,
                reason,
                at_ms: self.clock.wall_ms(),
            };
            let shard = self.machine.shards.of(&loss.tp);
            let (tp, topic_id, from) = (loss.tp, loss.topic_id, loss.from);
            let entry = Entry::Lost {
                tp,
                topic_id,
                from,
                range,
            };
            commit(self.log, shard, entry, Bytes::new()).await?;
        }
        Ok(())
    }

    async fn look(&self, remains: &Remains) -> Result<BTreeMap<TopicPartition, Found>, ColdError> {
        let mut all: BTreeMap<TopicPartition, Found> = BTreeMap::new();
        for id in self.machine.shards.data() {
            let shard = self.machine.shards.read(id);
            for (tp, partition) in shard.partitions() {
                let found = all.entry(tp.clone()).or_default();
                found.next = partition.next;
                found.row = Some(partition.clone());
            }
        }
        for (tp, next) in remains.headers.iter().flat_map(|header| &header.next) {
            let found = all.entry(tp.clone()).or_default();
            found.next = found.next.max(*next);
        }
        for (tp, log) in self.machine.hot.partitions() {
            for (base, batch) in log.range(Offset::ZERO, Offset::MAX) {
                let found = all.entry(tp.clone()).or_default();
                found.saw(base, batch.end, batch.epoch);
            }
        }
        for (batch, _) in &remains.batches {
            let Some(meta) = peek(&batch.batch) else {
                continue;
            };
            let found = all.entry(batch.tp.clone()).or_default();
            found.saw(meta.base, meta.end(), batch.epoch);
        }
        for name in self.cold.list().await? {
            self.look_at(&name, &mut all).await?;
        }
        Ok(all)
    }

    /// A segment that the store does not give now must not be taken for one that is gone: only where
    /// the store answers, and goes on failing for this one object, the start goes on without it.
    async fn look_at(
        &self,
        name: &SegmentName,
        all: &mut BTreeMap<TopicPartition, Found>,
    ) -> Result<(), ColdError> {
        let known = {
            let shard = self.machine.shards.read(self.machine.shards.of(&name.tp));
            let mut segments = shard.segments(&name.tp);
            segments.any(|(base, s)| base == name.base && s.uuid == name.uuid.as_u128())
        };
        if known {
            return Ok(());
        }
        let facts = match self.cold.facts(name).await {
            Err(error) => {
                self.cold.list().await?;
                tracing::error!(%error, segment = ?name, "not readable; it stays where it is");
                all.entry(name.tp.clone()).or_default().missed(name.base);
                return Ok(());
            }
            Ok(facts) => facts,
        };
        match facts {
            Some(facts) => {
                let found = all.entry(name.tp.clone()).or_default();
                let epoch = facts.epochs.last().map_or(0, |(epoch, _)| *epoch);
                found.saw(name.base, facts.end, epoch);
                let longer = |(_, old): &(u128, Facts)| old.end >= facts.end;
                if !found.segments.get(&name.base).is_some_and(longer) {
                    let uuid = name.uuid.as_u128();
                    found.segments.insert(name.base, (uuid, facts));
                }
            }
            None => {
                tracing::error!(segment = ?name, "nothing in this segment is good");
                all.entry(name.tp.clone()).or_default().missed(name.base);
            }
        }
        Ok(())
    }

    /// Every topic that has a partition, or that the newest file names.
    fn topics(
        &self,
        found: &BTreeMap<TopicPartition, Found>,
        remains: &Remains,
        rows: &mut Rows,
    ) -> BTreeMap<TopicName, Topic> {
        let meta = self.machine.shards.meta();
        let shard = self.machine.shards.read(meta);
        let mut topics: BTreeMap<TopicName, Topic> = BTreeMap::new();
        let made = |id, partitions| Topic {
            id,
            partitions,
            config: BTreeMap::new(),
            created_ms: self.clock.wall_ms(),
        };
        let headed = remains
            .headers
            .last()
            .map(|header| header.topics.as_slice());
        for (name, id, partitions) in headed.unwrap_or_default() {
            topics.insert(name.clone(), made(*id, *partitions));
        }
        for (name, topic) in shard.topics() {
            topics.insert(name.clone(), topic.clone());
        }
        for (tp, found) in found {
            let row = found.row.as_ref().map(|row| row.topic_id);
            let topic = topics
                .entry(tp.topic.clone())
                .or_insert_with(|| made(row.unwrap_or(self.clock.uuid().as_u128()), 0));
            topic.partitions = topic.partitions.max(tp.partition + 1);
        }
        for (name, topic) in &topics {
            if shard.topic(name) != Some(topic) {
                let row = row(&Key::Topic(name.clone()), topic);
                rows.entry(meta).or_default().push(row);
            }
        }
        topics
    }

    fn partition(&self, tp: &TopicPartition, found: Found, topic_id: u128, rows: &mut Rows) {
        let shard = self.machine.shards.of(tp);
        let rows = rows.entry(shard).or_default();
        let first = found.first.unwrap_or(found.next);
        let mut partition = found.row.unwrap_or(Partition {
            topic_id,
            epoch_base: 0,
            start: first,
            next: Offset::ZERO,
            cold_end: first,
            epochs: Vec::new(),
            appended_ms: self.clock.wall_ms(),
        });
        partition.topic_id = topic_id;
        for (base, (uuid, facts)) in found.segments {
            if base < partition.cold_end {
                continue;
            }
            partition.cold_end = facts.end;
            for (epoch, from) in facts.epochs {
                if partition.epochs.last().is_none_or(|(e, _)| *e < epoch) {
                    partition.epochs.push((epoch, from));
                }
            }
            let segment = Segment {
                end: facts.end,
                uuid,
                log_bytes: facts.log_bytes,
                index_bytes: facts.index_bytes,
                time_index_bytes: facts.time_index_bytes,
                max_timestamp: facts.max_timestamp,
                appended_ms: self.clock.wall_ms(),
            };
            rows.push(row(&Key::Segment(tp.clone(), base), &segment));
        }
        let next = found.next.max(partition.next).max(partition.cold_end);
        partition.next = next.checked_add(JUMP).unwrap_or(next);
        // The term is at least 1: epochs go on above what was seen.
        partition.epoch_base = partition.epoch_base.max(found.epoch);
        rows.push(row(&Key::Partition(tp.clone()), &partition));
    }

    async fn restore(
        &self,
        shard: ShardId,
        rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), ProposeError> {
        let (mut entry, mut bytes) = (Vec::new(), 0);
        let mut entries = Vec::new();
        for row in rows {
            bytes += row.0.len() + row.1.as_ref().map_or(0, Vec::len);
            entry.push(row);
            if bytes >= ENTRY_BYTES {
                entries.push(std::mem::take(&mut entry));
                bytes = 0;
            }
        }
        entries.push(entry);
        for rows in entries.into_iter().filter(|rows| !rows.is_empty()) {
            commit(self.log, shard, Entry::Restore { rows }, Bytes::new()).await?;
        }
        Ok(())
    }
}

impl Found {
    /// There were records from `base` on. The log starts no later: what is gone belongs into the
    /// ledger, and not below the start, where retention would have taken it.
    fn missed(&mut self, base: Offset) {
        self.next = self.next.max(base);
        self.first = Some(self.first.map_or(base, |first| first.min(base)));
    }

    fn saw(&mut self, base: Offset, end: Offset, epoch: i32) {
        self.missed(base);
        self.next = self.next.max(end);
        self.epoch = self.epoch.max(epoch);
    }
}

fn row(key: &Key, value: &impl Serialize) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.to_bytes(), Some(row_value(value)))
}

//! The honest model of a cluster: committed entries applied in order to `EdgeStreams`, and the log
//! and ledger that they make.

use std::collections::{BTreeMap, BTreeSet};

use headwater_batch::{BatchView, Decoder, Limits, TopicPartition};

use super::log::Id;
use crate::stream::GapRecord;
use crate::{
    EdgeStreams, Incarnation, StreamEntry, StreamKey, StreamOutcome, keep_pin, map_partition,
};

/// A range of offsets, stored or lost.
type Tile = (i64, i64);

#[derive(Debug, Clone, Default)]
pub(super) struct Sink {
    pub(super) streams: BTreeMap<TopicPartition, EdgeStreams>,
    /// What consumers read, in order.
    pub(super) records: BTreeMap<TopicPartition, Vec<Id>>,
    /// What each incarnation's stream is made of, in order: ranges stored or lost.
    pub(super) tiles: BTreeMap<(TopicPartition, Incarnation), Vec<Tile>>,
    pub(super) ledger: Vec<(TopicPartition, Incarnation, GapRecord)>,
    /// What the operator retired by name.
    pub(super) retired: BTreeSet<(TopicPartition, Incarnation)>,
    /// Partitions of the cloud's topic now.
    pub(super) cloud_count: u32,
    /// Where each edge partition goes (U6), and where its records are.
    pub(super) pins: BTreeMap<TopicPartition, u32>,
    pub(super) landed: BTreeMap<TopicPartition, BTreeSet<u32>>,
}

impl Sink {
    /// What a session asks to be pinned to, by the counts of the moment. What is pinned asks too: a
    /// node may not know of the pin yet.
    pub(super) fn wish(&self, key: &StreamKey, entry: &StreamEntry) -> Option<u32> {
        let StreamEntry::Session(session) = entry else {
            return None;
        };
        let (count, partition) = (session.partitions, key.tp.partition);
        Some(map_partition(&key.edge, partition, count, self.cloud_count))
    }

    pub(super) fn apply(
        &mut self,
        key: &StreamKey,
        entry: &StreamEntry,
        wish: Option<u32>,
    ) -> StreamOutcome {
        if let Some(wish) = wish {
            let pin = keep_pin(self.pins.get(&key.tp).copied(), wish);
            self.pins.insert(key.tp.clone(), pin);
        }
        // As a journal would keep it.
        let (head, batch) = entry.encode();
        let entry = StreamEntry::decode(&head, batch).expect("what was encoded decodes");
        let streams = self.streams.entry(key.tp.clone()).or_default();
        let outcome = streams.apply(key.incarnation, &entry);
        let tiles = self
            .tiles
            .entry((key.tp.clone(), key.incarnation))
            .or_default();
        match (&outcome, &entry) {
            (StreamOutcome::Append { .. }, StreamEntry::Data(data)) => {
                tiles.push((data.base.0, data.next.0));
                let ids = ids_of(&data.batch);
                self.records.entry(key.tp.clone()).or_default().extend(ids);
                let place = self.pins[&key.tp];
                self.cloud_count = self.cloud_count.max(place + 1); // made again by data (U5)
                let landed = self.landed.entry(key.tp.clone()).or_default();
                landed.insert(place);
            }
            (StreamOutcome::Ledger { gap, .. }, _) => {
                tiles.push((gap.from.0, gap.to.0));
                self.ledger.push((key.tp.clone(), key.incarnation, *gap));
            }
            _ => {}
        }
        outcome
    }
}

pub(super) fn ids_of(batch: &[u8]) -> Vec<Id> {
    let limits = Limits::UPLINK;
    let view = BatchView::parse(batch, &limits).expect("the session checked it");
    let mut decoder = Decoder::new();
    let records = view
        .records(&mut decoder, &limits)
        .expect("an honest batch");
    records
        .map(|r| r.expect("an honest record").timestamp as Id)
        .collect()
}

//! Applying entries on this node: the shard's state, then what has to follow in memory.
//!
//! The same code runs for a new entry and for one that is read back at start, so that a node that
//! restarted stands where it stood.

use std::sync::Arc;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition, stamp};
use headwater_shard::{At, Effect, Entry, Outcome, Segment};
use tokio::sync::mpsc::UnboundedSender;

use crate::batches::peek;
use crate::hot::{Hot, HotBatch};
use crate::shardlog::ShardId;
use crate::shardlog::frames::Carried;
use crate::shards::Shards;
use crate::topics::TopicCache;

/// A segment that left the manifest; its objects may be deleted.
#[derive(Debug, Clone)]
pub struct Gone {
    pub tp: TopicPartition,
    pub base: Offset,
    pub segment: Segment,
}

/// Where applied entries take effect.
#[derive(Debug)]
pub struct Machine {
    pub shards: Arc<Shards>,
    pub hot: Arc<Hot>,
    pub topics: Arc<TopicCache>,
    /// As many as the sealer has not deleted yet: bounded by the manifest they come from.
    pub gone: UnboundedSender<Gone>,
}

impl Machine {
    /// Puts the partitions of a loaded state in place, before entries are replayed.
    pub fn open_all(&self) {
        self.shards.data().for_each(|id| self.resync(id));
    }

    /// Makes the hot end agree with a shard's rows that came without entries. Batches stay where
    /// their partition does.
    pub fn resync(&self, id: ShardId) {
        let shard = self.shards.read(id);
        for (tp, log) in self.hot.partitions() {
            let stays = shard
                .partition(&tp)
                .is_some_and(|p| p.topic_id == log.topic_id());
            if self.shards.of(&tp) == id && !stays {
                self.hot.close(&tp);
            }
        }
        for (tp, partition) in shard.partitions() {
            match self.hot.partition(tp) {
                Some(log) => log.set_marks(partition.start, partition.next, partition.cold_end),
                None => self
                    .hot
                    .open(tp, partition.topic_id, partition.start, partition.next),
            }
        }
        if id == self.shards.meta() {
            self.topics.replace(shard.topics());
        }
    }

    /// Applies one entry, whose frame lies at `position` of the journal. Also says where its batch
    /// was put: base offset and epoch.
    pub fn apply(
        &self,
        id: ShardId,
        at: At,
        entry: &Entry,
        batch: &Bytes,
        position: u64,
    ) -> (Outcome, Option<(Offset, i32)>) {
        let applied = self.shards.write(id).apply(at, entry, batch);
        let mut put = None;
        for effect in applied.effects {
            if let Effect::Append { base, epoch, .. } = &effect {
                put = Some((*base, *epoch));
            }
            self.carry_out(id, effect, batch, entry, position);
        }
        self.refresh_topic(id, entry);
        if let Entry::Restore { .. } = entry {
            self.resync(id);
        }
        (applied.outcome, put)
    }

    fn carry_out(&self, id: ShardId, effect: Effect, batch: &Bytes, entry: &Entry, position: u64) {
        match effect {
            Effect::Append {
                tp,
                base,
                end,
                epoch,
                at_ms,
            } => {
                let log = self
                    .hot
                    .partition(&tp)
                    .expect("an open partition has its hot end");
                let bytes = stamped(batch, base, epoch);
                let max_timestamp = peek(&bytes).map_or(-1, |meta| meta.max_timestamp);
                metrics::counter!("headwater_append_bytes_total", "from" => origin(entry))
                    .increment(bytes.len() as u64);
                metrics::counter!("headwater_append_records_total", "from" => origin(entry))
                    .increment(end.since(base).unwrap_or(0));
                log.append(
                    base,
                    HotBatch {
                        end,
                        epoch,
                        at_ms,
                        max_timestamp,
                        position,
                        bytes,
                    },
                );
            }
            Effect::PartitionOpened(tp) => {
                let shard = self.shards.read(id);
                let partition = shard.partition(&tp).expect("it was just opened");
                self.hot
                    .open(&tp, partition.topic_id, partition.start, partition.next);
            }
            Effect::PartitionClosed(tp) => self.hot.close(&tp),
            Effect::LogStart(tp, start) => {
                if let Some(log) = self.hot.partition(&tp) {
                    log.move_start(start);
                }
                self.hot.drained.notify_waiters();
            }
            Effect::Cold(tp, end) => {
                if let Some(log) = self.hot.partition(&tp) {
                    log.drop_below(end);
                }
                self.hot.drained.notify_waiters();
            }
            Effect::SegmentGone(tp, base, segment) => {
                // Nobody deletes on a node that is stopping; the next start looks for leftovers.
                let _ = self.gone.send(Gone { tp, base, segment });
            }
            Effect::Lost(tp, from, to) => {
                metrics::counter!("headwater_lost_ranges_total").increment(1);
                tracing::error!(%tp, %from, %to, "acknowledged records are lost; see the ledger");
            }
            Effect::Ledger(number) => {
                metrics::counter!("headwater_ledger_entries_total").increment(1);
                tracing::warn!(shard = id.0, number, "the loss ledger has a new entry");
            }
        }
    }

    /// Puts a batch back that was copied forward, unless it is cold or gone by now.
    pub fn restore(&self, carried: Carried, position: u64) {
        let Carried { head, batch } = carried;
        let Some(meta) = peek(&batch) else { return };
        let cold_end = {
            let shard = self.shards.read(self.shards.of(&head.tp));
            match shard.partition(&head.tp) {
                Some(partition) if partition.topic_id == head.topic_id => partition.cold_end,
                _ => return,
            }
        };
        if meta.end() <= cold_end {
            return;
        }
        let Some(log) = self.hot.partition(&head.tp) else {
            return;
        };
        let (end, max_timestamp) = (meta.end(), meta.max_timestamp);
        let (epoch, at_ms, bytes) = (head.epoch, head.at_ms, batch);
        log.restore(
            meta.base,
            HotBatch {
                end,
                epoch,
                at_ms,
                max_timestamp,
                position,
                bytes,
            },
        );
    }

    fn refresh_topic(&self, id: ShardId, entry: &Entry) {
        let name = match entry {
            Entry::CreateTopic { name, .. }
            | Entry::DeleteTopic { name }
            | Entry::CreatePartitions { name, .. }
            | Entry::AlterConfig { name, .. } => name,
            _ => return,
        };
        self.topics.refresh(name, self.shards.read(id).topic(name));
    }
}

fn origin(entry: &Entry) -> &'static str {
    match entry {
        Entry::Produce { .. } => "kafka",
        _ => "uplink",
    }
}

fn stamped(batch: &Bytes, base: Offset, epoch: i32) -> Bytes {
    let mut bytes = batch.to_vec();
    stamp(&mut bytes, base, epoch).expect("the shard parsed this batch's header");
    bytes.into()
}

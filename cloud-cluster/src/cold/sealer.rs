//! From hot to cold: sealed ranges become segments, then the state is checkpointed and the journal
//! let go (J5).
//!
//! One round, in this order, each step durable before the next begins:
//! ```text
//! mark: position P and the rows that changed    -> what the state was at P
//! per partition with hot batches in frames < P: -> large, old, or too much is hot: segment objects,
//!                                                  AddSegment entry
//!                                                  else: carried forward in the journal (J8)
//! checkpoint rows as of P                       -> the journal before P may go
//! ```
//! A crash between two steps leaves the last checkpoint in force: the entries since are replayed,
//! and objects that no entry names are leftovers that the next start deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_batch::{Offset, TopicPartition};
use headwater_log::Position;
use headwater_log::segment::SegmentBuilder;
use headwater_shard::{Entry, Outcome, Refusal, Segment};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::{ColdError, ColdStore, SegmentName};
use crate::batches::ANY_SIZE;
use crate::clock::Clock;
use crate::hot::HotBatch;
use crate::machine::{Gone, Machine};
use crate::shardlog::frames::{Carried, CarriedHead};
use crate::shardlog::local::Rows;
use crate::shardlog::{LocalLog, commit};

/// When to seal, and what.
#[derive(Debug, Clone)]
pub struct SealConfig {
    /// A round begins when so much is hot.
    pub hot_bytes: u64,
    /// A round begins when so much of the journal waits for a checkpoint.
    pub journal_bytes: u64,
    /// A round begins when the journal takes less than this.
    pub room_bytes: u64,
    /// A round begins after this time if anything changed.
    pub interval: Duration,
    /// A partition with fewer hot bytes is carried forward...
    pub partition_bytes_min: u64,
    /// ... unless its oldest hot batch is older than this, or small ones alone fill `hot_bytes`.
    pub partition_age_ms_max: i64,
    /// Log bytes of one segment.
    pub segment_bytes: u64,
}

/// Owns the way from hot to cold.
#[derive(Debug)]
pub struct Sealer {
    pub config: SealConfig,
    pub machine: Arc<Machine>,
    pub log: Arc<LocalLog>,
    pub cold: Arc<ColdStore>,
    pub gone: UnboundedReceiver<Gone>,
    pub clock: Clock,
    /// Rows of rounds that failed before their checkpoint.
    owed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    last_round: Instant,
}

/// How often it is looked whether a round is due.
const LOOK: Duration = Duration::from_millis(200);
/// The same after rounds that failed, one after the other.
const LOOK_MAX: Duration = Duration::from_secs(5);

impl Sealer {
    pub fn new(
        config: SealConfig,
        machine: Arc<Machine>,
        log: Arc<LocalLog>,
        cold: Arc<ColdStore>,
        gone: UnboundedReceiver<Gone>,
        clock: Clock,
    ) -> Sealer {
        let owed = BTreeMap::new();
        Sealer {
            config,
            machine,
            log,
            cold,
            gone,
            clock,
            owed,
            last_round: Instant::now(),
        }
    }

    /// Runs until the node stops. Returns the error that has to stop it.
    pub async fn run(&mut self) -> String {
        let mut pause = LOOK;
        loop {
            tokio::select! {
                biased;
                gone = self.gone.recv() => {
                    let Some(gone) = gone else { std::future::pending().await };
                    self.delete(gone).await;
                }
                () = tokio::time::sleep(pause) => {
                    if !self.is_due() {
                        continue;
                    }
                    match self.round().await {
                        Ok(()) => pause = LOOK,
                        Err(error) if error.fatal => return error.what,
                        Err(error) => {
                            if pause == LOOK {
                                tracing::warn!(error = %error.what, "sealing failed; tried again");
                            }
                            pause = (pause * 2).min(LOOK_MAX);
                        }
                    }
                    self.last_round = Instant::now();
                }
            }
        }
    }

    /// Makes room in a journal that earlier starts have used up: each takes a file, and a node that
    /// is killed again and again never gets to a round of its own. Twice, since the journal is
    /// trimmed to the older of two checkpoints.
    pub async fn make_room(&mut self) -> Result<(), SealError> {
        for _ in 0..2 {
            if self.log.room_bytes() >= self.config.room_bytes {
                return Ok(());
            }
            tracing::info!(room = self.log.room_bytes(), "making room in the journal");
            self.round().await?;
        }
        Ok(())
    }

    /// Puts the whole state, and everything that is hot, behind a new checkpoint: twice, so that
    /// nothing older is needed.
    pub async fn store_all(&mut self) -> Result<(), SealError> {
        for _ in 0..2 {
            let mark = self.log.mark().await.map_err(SealError::retry)?;
            self.owed.extend(mark.rows);
            let all = mark.hot.iter();
            let carried = all.flat_map(|(tp, end)| self.straggler(tp, *end, mark.at));
            let carried: Vec<Carried> = carried.collect();
            self.log.carry(carried).await.map_err(SealError::retry)?;
            self.store(mark.at).await?;
        }
        Ok(())
    }

    /// The checkpoint of a round.
    async fn store(&mut self, at: Position) -> Result<(), SealError> {
        let owed = self.owed.iter();
        let rows: Rows = owed.map(|(k, v)| (k.clone(), v.clone())).collect();
        self.log
            .checkpoint(at, rows)
            .await
            .map_err(SealError::retry)?;
        self.owed.clear();
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.machine.hot.bytes() >= self.config.hot_bytes
            || self.log.live_bytes() >= self.config.journal_bytes
            || self.log.room_bytes() < self.config.room_bytes
            || self.last_round.elapsed() >= self.config.interval
    }

    /// One round. Public for tests and for a clean stop.
    pub async fn round(&mut self) -> Result<(), SealError> {
        let mark = self.log.mark().await.map_err(SealError::retry)?;
        let is_news = !mark.rows.is_empty() || !self.owed.is_empty();
        let sealed = self.to_seal(&mark.hot);
        if !is_news && sealed.is_empty() {
            return Ok(());
        }
        self.owed.extend(mark.rows);
        let mut stragglers = Vec::new();
        for (tp, end) in mark.hot {
            if sealed.contains(&tp) {
                self.seal(&tp, end).await?;
            } else {
                stragglers.extend(self.straggler(&tp, end, mark.at));
            }
        }
        if !stragglers.is_empty() {
            self.log.carry(stragglers).await.map_err(SealError::retry)?;
        }
        self.store(mark.at).await
    }

    /// The partitions that are worth a segment; and of the others the largest, when together they hold
    /// so much that new data would wait. Half of it goes then: the next round is not due at once.
    fn to_seal(&self, hot: &[(TopicPartition, Offset)]) -> BTreeSet<TopicPartition> {
        let now_ms = self.clock.wall_ms();
        let (mut sealed, mut small, mut left) = (BTreeSet::new(), Vec::new(), 0);
        for (tp, _) in hot {
            let log = self.machine.hot.partition(tp);
            let Some((bytes, at_ms)) = log.and_then(|log| log.held()) else {
                continue;
            };
            // A clock that went back makes batches of the future: they are no younger for it.
            let is_old = now_ms.abs_diff(at_ms) >= self.config.partition_age_ms_max as u64;
            if is_old || bytes >= self.config.partition_bytes_min {
                sealed.insert(tp.clone());
            } else {
                small.push((bytes, tp));
                left += bytes;
            }
        }
        if left >= self.config.hot_bytes {
            small.sort_unstable();
            while let Some((bytes, tp)) = small.pop().filter(|_| left > self.config.hot_bytes / 2) {
                left -= bytes;
                sealed.insert(tp.clone());
            }
        }
        sealed
    }

    /// Seals what is hot below `end` into one or more segments.
    async fn seal(&self, tp: &TopicPartition, end: Offset) -> Result<(), SealError> {
        let Some(log) = self.machine.hot.partition(tp) else {
            return Ok(());
        };
        let (topic_id, start) = (log.topic_id(), log.marks().start);
        let mut run: Vec<(Offset, HotBatch)> = Vec::new();
        let mut bytes = 0;
        for (base, batch) in log.range(start, end) {
            let is_full = bytes + batch.bytes.len() as u64 > self.config.segment_bytes;
            // Within a segment offsets have no gaps; what is lost lies between two.
            let is_gap = run.last().is_some_and(|(_, last)| last.end != base);
            if !run.is_empty() && (is_full || is_gap) {
                self.put(tp, topic_id, std::mem::take(&mut run)).await?;
                bytes = 0;
            }
            bytes += batch.bytes.len() as u64;
            run.push((base, batch));
        }
        if !run.is_empty() {
            self.put(tp, topic_id, run).await?;
        }
        Ok(())
    }

    async fn put(
        &self,
        tp: &TopicPartition,
        topic_id: u128,
        run: Vec<(Offset, HotBatch)>,
    ) -> Result<(), SealError> {
        let base = run.first().expect("a run has a batch").0;
        let appended_ms = run.iter().map(|(_, batch)| batch.at_ms).max().unwrap_or(0);
        let max_timestamp = run
            .iter()
            .map(|(_, batch)| batch.max_timestamp)
            .max()
            .unwrap_or(-1);
        let mut builder = SegmentBuilder::new(base);
        for (_, batch) in &run {
            let appended = builder.append(&batch.bytes, &ANY_SIZE);
            appended.map_err(|e| SealError::retry(format!("{tp} from {base}: {e}")))?;
        }
        let (end, bytes) = (builder.end(), builder.finish());
        let uuid = self.clock.uuid().as_u128();
        let segment = Segment {
            end,
            uuid,
            log_bytes: bytes.log.len() as u64,
            index_bytes: bytes.index.len() as u64,
            time_index_bytes: bytes.timeindex.len() as u64,
            max_timestamp,
            appended_ms,
        };
        let name = SegmentName::new(tp, base, uuid);
        metrics::counter!("headwater_cold_bytes_total").increment(segment.log_bytes);
        self.cold.put(&name, bytes).await.map_err(SealError::from)?;
        let entry = Entry::AddSegment {
            tp: tp.clone(),
            topic_id,
            base,
            segment,
        };
        let shard = self.machine.shards.of(tp);
        let outcome = commit(&*self.log, shard, entry, bytes::Bytes::new()).await;
        match outcome.map_err(SealError::retry)? {
            // The topic went meanwhile, or its start did: nobody will ask for these objects.
            Outcome::Refused(refusal @ Refusal::SegmentNotNext(_)) => {
                self.cold.delete(&name).await?;
                let log = self.machine.hot.partition(tp);
                match log.is_some_and(|log| log.topic_id() == topic_id && log.marks().start < end) {
                    // A hole that the ledger does not know yet: the journal must not be let go.
                    true => Err(SealError::retry(format!("{tp} from {base}: {refusal}"))),
                    false => Ok(()),
                }
            }
            Outcome::Refused(Refusal::UnknownPartition) => {
                self.cold.delete(&name).await.map_err(SealError::from)
            }
            _ => Ok(()),
        }
    }

    /// The batches below `end` whose newest frame lies before `at`.
    fn straggler(&self, tp: &TopicPartition, end: Offset, at: Position) -> Vec<Carried> {
        let Some(log) = self.machine.hot.partition(tp) else {
            return Vec::new();
        };
        let topic_id = log.topic_id();
        let held = log.range(log.marks().start, end).into_iter();
        held.filter(|(_, batch)| batch.position < at.0)
            .map(|(_, batch)| Carried {
                head: CarriedHead {
                    tp: tp.clone(),
                    topic_id,
                    epoch: batch.epoch,
                    at_ms: batch.at_ms,
                },
                batch: batch.bytes,
            })
            .collect()
    }

    async fn delete(&self, gone: Gone) {
        let name = SegmentName::new(&gone.tp, gone.base, gone.segment.uuid);
        if let Err(error) = self.cold.delete(&name).await {
            tracing::warn!(%error, segment = ?name, "not deleted; the next start tries again");
        }
    }

    /// Compares the manifest with the store: segments that are missing are said, once each. With
    /// `delete`, what a crash left between the writing of a segment and its entry goes; only after a
    /// clean recovery, since a manifest that fell back must not cost data.
    pub async fn compare(&self, delete: bool) -> Result<(), ColdError> {
        let listed: BTreeSet<SegmentName> = self.cold.list().await?.into_iter().collect();
        let known: BTreeSet<SegmentName> = self.manifest().collect();
        for missing in known.difference(&listed) {
            tracing::error!(segment = ?missing, "a segment of the manifest is not in the store");
        }
        metrics::gauge!("headwater_cold_segments_missing")
            .set(known.difference(&listed).count() as f64);
        // A manifest that was rebuilt may lack what could not be read then: that is all there is of it.
        let mut data = self.machine.shards.data();
        let rebuilt = data.any(|id| self.machine.shards.read(id).doubt().is_some());
        for leftover in listed.difference(&known).filter(|_| delete && !rebuilt) {
            tracing::info!(segment = ?leftover, "a leftover segment is deleted");
            self.cold.delete(leftover).await?;
        }
        Ok(())
    }

    fn manifest(&self) -> impl Iterator<Item = SegmentName> {
        let mut names = Vec::new();
        for id in self.machine.shards.data() {
            let shard = self.machine.shards.read(id);
            for (tp, _) in shard.partitions() {
                let segments = shard.segments(tp);
                names.extend(segments.map(|(base, s)| SegmentName::new(tp, base, s.uuid)));
            }
        }
        names.into_iter()
    }
}

/// Why a round ended early.
#[derive(Debug)]
pub struct SealError {
    pub what: String,
    /// The node has to stop.
    pub fatal: bool,
}

impl SealError {
    fn retry(what: impl ToString) -> SealError {
        SealError {
            what: what.to_string(),
            fatal: false,
        }
    }
}

impl From<ColdError> for SealError {
    fn from(error: ColdError) -> SealError {
        SealError {
            fatal: error.is_fatal(),
            what: error.to_string(),
        }
    }
}

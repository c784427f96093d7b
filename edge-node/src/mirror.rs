//! The log as the uplink sees it.
//!
//! What must be durable before it may be answered is asked of the store: [`Mirror::begin`] asks and
//! does not wait, so that a simulation can let the disk decide; the [`Source`] of the real uplink
//! begins the same way and then waits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_batch::{BatchView, Limits, Offset, TopicName, TopicPartition};
use headwater_log::disk::{Disk, Open, create_dirs};
use headwater_log::store::{Chunk, Gap, GapReason as LogGapReason, ReadError};
use headwater_proto::edge::LogGap;
use headwater_proto::{
    AlarmKind, GapReason, Incarnation, QuarantineReason, RejectCode, StreamInfo, boot_spans,
};
use headwater_quic::client::{Done, Fork, LogRange, ReadAnswer, Source, Work};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::store::{Asked, LogView, PartitionView, StoreHandle, ToStore};

/// Alarms kept for the status page; the oldest goes first.
const ALARMS_MAX: usize = 32;

/// An alarm as the status page shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Alarm {
    /// Wall clock, ms since 1970.
    pub at_ms: i64,
    /// The partition.
    pub partition: String,
    /// What it is.
    pub alarm: String,
}

/// Reads from the log's view, writes through the store thread.
pub struct Mirror {
    view: Arc<LogView>,
    store: StoreHandle,
    disk: Arc<dyn Disk>,
    clock: Clock,
    dead_letters: PathBuf,
    routed: Arc<BTreeMap<TopicName, u32>>,
    alarms: Mutex<Vec<Alarm>>,
    /// The cloud's wall clock less ours, in ms, when it last answered.
    pub clock_ahead_ms: AtomicI64,
    /// Batch bytes handed to the uplink, resends included.
    pub read_bytes: AtomicU64,
}

/// Work that was begun. `T` is what it gives.
#[must_use]
pub struct Begun<T>(State<T>);

enum State<T> {
    Done(T),
    /// The store was asked; what it says becomes the answer.
    Asked(Asked, Box<dyn FnOnce(Result<(), String>) -> T + Send>),
}

impl<T> Begun<T> {
    fn asked(
        asked: Asked,
        then: impl FnOnce(Result<(), String>) -> T + Send + 'static,
    ) -> Begun<T> {
        Begun(State::Asked(asked, Box::new(then)))
    }

    /// Blocks until it is done.
    pub fn wait(self) -> T {
        match self.0 {
            State::Done(answer) => answer,
            State::Asked(asked, then) => then(asked.wait()),
        }
    }

    /// The answer, or the work itself when it is still under way.
    pub fn poll(self) -> Result<T, Begun<T>> {
        match self.0 {
            State::Done(answer) => Ok(answer),
            State::Asked(asked, then) => match asked.poll() {
                Some(result) => Ok(then(result)),
                None => Err(Begun(State::Asked(asked, then))),
            },
        }
    }

    fn map<U>(self, map: impl FnOnce(T) -> U + Send + 'static) -> Begun<U>
    where
        T: 'static,
    {
        Begun(match self.0 {
            State::Done(answer) => State::Done(map(answer)),
            State::Asked(asked, then) => State::Asked(asked, Box::new(|r| map(then(r)))),
        })
    }
}

impl Mirror {
    /// `data_dir` is where the dead-letter directory goes, `routed` how many partitions each topic
    /// has that is routed.
    pub fn new(
        view: Arc<LogView>,
        store: StoreHandle,
        disk: Arc<dyn Disk>,
        clock: Clock,
        data_dir: &Path,
        routed: BTreeMap<TopicName, u32>,
    ) -> Mirror {
        Mirror {
            view,
            store,
            disk,
            clock,
            dead_letters: data_dir.join("dead-letter"),
            routed: Arc::new(routed),
            alarms: Mutex::default(),
            clock_ahead_ms: AtomicI64::new(0),
            read_bytes: AtomicU64::new(0),
        }
    }

    /// Begins what the uplink's relay asks for. At most one at a time for a partition.
    pub fn begin(&self, work: Work) -> Begun<Done> {
        match work {
            Work::Read {
                tp,
                from,
                max_bytes,
            } => {
                let read = self.begin_read(&tp, from, max_bytes);
                read.map(|answer| Done::Read(tp, answer))
            }
            Work::Fork(fork) => {
                let tp = fork.tp.clone();
                let forked = self.begin_fork(fork);
                forked.map(|done| Done::Forked(tp, done))
            }
            Work::DeadLetter { tp, from, to, code } => {
                let moved = self.begin_dead_letter(&tp, from, to, code);
                moved.map(|done| Done::DeadLettered(tp, done))
            }
        }
    }

    /// The last alarms.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms
            .lock()
            .expect("no code panics while it holds this lock")
            .clone()
    }

    /// Under a name of its own choosing a log that lost its lineage would be stored twice.
    fn set_aside(&self, tp: &TopicPartition) {
        let kind = AlarmKind::Quarantine(QuarantineReason::NoCommonBoot);
        let (partition, alarm) = (tp.to_string(), format!("{kind:?}"));
        let told = |known: &Alarm| known.partition == partition && known.alarm == alarm;
        if !self.alarms().iter().any(told) {
            tracing::error!(%tp, "its lineage is lost: not sent until `edge-node log trust`");
            self.alarm(tp, kind);
        }
    }

    fn begin_read(&self, tp: &TopicPartition, from: Offset, max: usize) -> Begun<ReadAnswer> {
        let Some(mut reader) = self
            .view
            .partitions()
            .get(tp)
            .map(|view| view.reader.clone())
        else {
            return Begun(State::Done(ReadAnswer::Failed(
                "no such partition".to_owned(),
            )));
        };
        let answer = match reader.read(from, max) {
            Ok(Chunk::Batches(batches)) => {
                let bytes: usize = batches.iter().map(Bytes::len).sum();
                self.read_bytes.fetch_add(bytes as u64, Relaxed);
                ReadAnswer::Batches(batches)
            }
            Ok(Chunk::End) => ReadAnswer::Batches(Vec::new()),
            Ok(Chunk::Gap(gap)) => gap_answer(tp, from, gap),
            Err(ReadError::Corrupt { from, to, what }) => {
                tracing::error!(partition = %tp, %from, %to, what, "the medium rotted");
                let gap = Gap {
                    from,
                    to,
                    reason: LogGapReason::Corrupt,
                };
                let asked = self.ask_gap(tp, gap);
                let tp = tp.clone();
                return Begun::asked(asked, move |durable| match durable {
                    Ok(()) => gap_answer(&tp, from, gap),
                    Err(reason) => ReadAnswer::Failed(reason),
                });
            }
            Err(error) => unread(&error),
        };
        Begun(State::Done(answer))
    }

    fn begin_fork(&self, fork: Fork) -> Begun<Result<StreamInfo, String>> {
        let tp = fork.tp.clone();
        let asked = self.store.ask(|answer| ToStore::Fork(fork, answer));
        let (view, routed) = (self.view.clone(), self.routed.clone());
        Begun::asked(asked, move |durable| {
            durable?;
            let info = describe(&view.partitions(), &routed, &tp);
            info.ok_or_else(|| "the forked partition is gone".to_owned())
        })
    }

    fn begin_dead_letter(
        &self,
        tp: &TopicPartition,
        from: Offset,
        to: Offset,
        code: RejectCode,
    ) -> Begun<Result<(), String>> {
        if let Err(error) = self.write_dead_letters(tp, from, to) {
            return Begun(State::Done(Err(error)));
        }
        tracing::error!(partition = %tp, %from, %to, ?code, "rejected for good: see dead-letter/");
        let gap = Gap {
            from,
            to,
            reason: LogGapReason::Rejected,
        };
        Begun::asked(self.ask_gap(tp, gap), |durable| durable)
    }

    fn ask_gap(&self, tp: &TopicPartition, gap: Gap) -> Asked {
        let tp = tp.clone();
        self.store.ask(|answer| ToStore::Gap(tp, gap, answer))
    }

    /// Writes whole batches, as a segment file of their own that Kafka's tools read.
    fn write_dead_letters(
        &self,
        tp: &TopicPartition,
        from: Offset,
        to: Offset,
    ) -> Result<(), String> {
        let reader = self
            .view
            .partitions()
            .get(tp)
            .map(|view| view.reader.clone());
        let mut reader = reader.ok_or("no such partition")?;
        let dir = self.dead_letters.join(tp.to_string());
        let write = |batches: &[Bytes]| -> std::io::Result<()> {
            let disk = &*self.disk;
            create_dirs(disk, &dir)?;
            let file = disk.open(&dir.join(format!("{:020}.log", from.0)), Open::Create)?;
            file.set_len(0)?;
            let mut end = 0;
            for batch in batches {
                file.write_at(batch, end)?;
                end += batch.len() as u64;
            }
            file.sync_data()?;
            disk.sync_dir(&dir)
        };
        let (mut at, mut kept) = (from, Vec::new());
        while at < to {
            match reader.read(at, 1) {
                Ok(Chunk::Batches(batches)) if !batches.is_empty() => {
                    let last = &batches[batches.len() - 1];
                    let view =
                        BatchView::parse(last, &Limits::UPLINK).map_err(|e| e.to_string())?;
                    at = view.next_offset();
                    kept.extend(batches);
                }
                Ok(Chunk::Gap(gap)) => at = gap.to,
                // It rotted since it was sent. The GAP names it with the rest.
                Err(ReadError::Corrupt { to: end, what, .. }) if end > at => {
                    tracing::error!(partition = %tp, from = %at, to = %end, what, "rotted, too");
                    at = end;
                }
                // Dropped since for want of room, by the operator's choice.
                Err(ReadError::BelowStart { start, .. }) if start > at => at = start,
                Err(error) => return Err(error.to_string()),
                Ok(_) => return Err(format!("no record at {at}")),
            }
        }
        write(&kept).map_err(|e| format!("{}: {e}", dir.display()))
    }
}

impl Source for Mirror {
    fn changes(&self) -> watch::Receiver<u64> {
        self.view.changes()
    }

    fn logs(&self) -> Vec<LogRange> {
        let mut logs = Vec::new();
        let mut doubted = Vec::new();
        for (tp, view) in self.view.partitions().iter() {
            match view.in_doubt {
                true => doubted.push(tp.clone()),
                false => logs.push(LogRange {
                    tp: tp.clone(),
                    start: view.start,
                    end: view.sealed_end,
                }),
            }
        }
        for tp in doubted {
            self.set_aside(&tp);
        }
        logs
    }

    fn stream(&self, tp: &TopicPartition) -> Option<StreamInfo> {
        describe(&self.view.partitions(), &self.routed, tp)
    }

    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> ReadAnswer {
        self.begin_read(tp, from, max_bytes).wait()
    }

    fn persist_fork(&self, fork: Fork) -> Result<StreamInfo, String> {
        self.begin_fork(fork).wait()
    }

    fn dead_letter(
        &self,
        tp: &TopicPartition,
        from: Offset,
        to: Offset,
        code: RejectCode,
    ) -> Result<(), String> {
        self.begin_dead_letter(tp, from, to, code).wait()
    }

    fn acked(&self, tp: &TopicPartition, offset: Offset) {
        self.store.send(ToStore::Acked(tp.clone(), offset));
    }

    fn alarm(&self, tp: &TopicPartition, kind: AlarmKind) {
        let mut alarms = self
            .alarms
            .lock()
            .expect("no code panics while it holds this lock");
        if alarms.len() == ALARMS_MAX {
            alarms.remove(0);
        }
        let (at_ms, partition) = (self.clock.wall_ms(), tp.to_string());
        alarms.push(Alarm {
            at_ms,
            partition,
            alarm: format!("{kind:?}"),
        });
    }

    fn link(&self, server_ms: Option<i64>) {
        if let Some(server_ms) = server_ms {
            self.clock_ahead_ms
                .store(server_ms - self.clock.wall_ms(), Relaxed);
        }
        self.store.send(ToStore::Link(server_ms.is_some()));
    }
}

fn describe(
    views: &BTreeMap<TopicPartition, PartitionView>,
    routed: &BTreeMap<TopicName, u32>,
    tp: &TopicPartition,
) -> Option<StreamInfo> {
    let view = views.get(tp)?;
    let found = views.keys().filter(|found| found.topic == tp.topic);
    Some(StreamInfo {
        tp: tp.clone(),
        partitions: partitions(routed, tp, found.map(|found| found.partition)),
        incarnation: Incarnation(view.lineage.incarnation),
        origin: view.lineage.since,
        parent: view.parent,
        start: view.start,
        end: view.sealed_end,
        acked: view.acked,
        spans: boot_spans(&view.lineage.boots, view.sealed_end),
        priority: 0,
    })
}

/// How many partitions the topic has (U6): as routed, or, when no route leads there any more, as
/// many as were used. A route that was made narrower does not hide what lies beyond it.
///
/// Not kept on the disk: the cloud pins by it at first use, for ever. Only a topic whose routes
/// go before its first connection, and whose last partitions got no record, has fewer here than
/// it had; then its partitions may be hashed where they would have kept their numbers.
fn partitions(
    routed: &BTreeMap<TopicName, u32>,
    tp: &TopicPartition,
    found: impl Iterator<Item = u32>,
) -> u32 {
    let count = match routed.get(&tp.topic) {
        Some(routed) => *routed,
        None => found.max().map_or(1, |last| last + 1),
    };
    count.max(tp.partition + 1)
}

/// Below the start without a GAP lies what was acknowledged and deleted: there is nothing, and the
/// uplink knows what it means that the cloud asks for it (the cloud went back). Everything else may
/// pass.
fn unread(error: &ReadError) -> ReadAnswer {
    match error {
        ReadError::BelowStart { .. } => ReadAnswer::Batches(Vec::new()),
        error => ReadAnswer::Failed(error.to_string()),
    }
}

fn gap_answer(tp: &TopicPartition, from: Offset, gap: Gap) -> ReadAnswer {
    let reason = match gap.reason {
        LogGapReason::Dropped => GapReason::Budget,
        LogGapReason::Corrupt => GapReason::Corrupt,
        LogGapReason::Rejected => GapReason::Rejected(RejectCode::Unacceptable),
    };
    ReadAnswer::Gap(LogGap {
        tp: tp.clone(),
        from: from.max(gap.from),
        to: gap.to,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise a log that forked below its start would wait for ever, and say that it cannot be read.
    #[test]
    fn below_the_start_there_is_nothing_and_that_is_no_failure() {
        let (from, start) = (Offset(20), Offset(40));
        let deleted = ReadError::BelowStart { from, start };
        assert_eq!(unread(&deleted), ReadAnswer::Batches(Vec::new()));
        let rotten = ReadError::Corrupt {
            from,
            to: start,
            what: "bits".to_owned(),
        };
        assert!(matches!(unread(&rotten), ReadAnswer::Failed(_)));
    }
}

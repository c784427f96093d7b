//! The log as the uplink sees it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_batch::{BatchView, Limits, Offset, TopicName, TopicPartition};
use headwater_log::store::{Chunk, Gap, GapReason as LogGapReason, ReadError};
use headwater_proto::edge::LogGap;
use headwater_proto::{AlarmKind, GapReason, Incarnation, RejectCode, StreamInfo, boot_spans};
use headwater_quic::client::{Fork, LogRange, ReadAnswer, Source};
use tokio::sync::watch;

use crate::store::{LogView, StoreHandle, ToStore};

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
    dead_letters: PathBuf,
    routed: BTreeMap<TopicName, u32>,
    alarms: Mutex<Vec<Alarm>>,
    /// The cloud's wall clock less ours, in ms, when it last answered.
    pub clock_ahead_ms: AtomicI64,
    /// Batch bytes handed to the uplink, resends included.
    pub read_bytes: AtomicU64,
}

impl Mirror {
    /// `data_dir` is where the dead-letter directory goes, `routed` how many partitions each topic
    /// has that is routed.
    pub fn new(
        view: Arc<LogView>,
        store: StoreHandle,
        data_dir: &std::path::Path,
        routed: BTreeMap<TopicName, u32>,
    ) -> Mirror {
        Mirror {
            view,
            store,
            dead_letters: data_dir.join("dead-letter"),
            routed,
            alarms: Mutex::default(),
            clock_ahead_ms: AtomicI64::new(0),
            read_bytes: AtomicU64::new(0),
        }
    }

    /// The last alarms.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms
            .lock()
            .expect("no code panics while it holds this lock")
            .clone()
    }

    /// How many partitions the topic has (U6): as routed, or, when no route leads there any more, as
    /// many as were used. A route that was made narrower does not hide what lies beyond it.
    ///
    /// Not kept on the disk: the cloud pins by it at first use, for ever. Only a topic whose routes
    /// go before its first connection, and whose last partitions got no record, has fewer here than
    /// it had; then its partitions may be hashed where they would have kept their numbers.
    fn partitions(&self, tp: &TopicPartition, found: impl Iterator<Item = u32>) -> u32 {
        let count = match self.routed.get(&tp.topic) {
            Some(routed) => *routed,
            None => found.max().map_or(1, |last| last + 1),
        };
        count.max(tp.partition + 1)
    }

    fn read_log(&self, tp: &TopicPartition, from: Offset, max: usize) -> ReadAnswer {
        let Some(mut reader) = self
            .view
            .partitions()
            .get(tp)
            .map(|view| view.reader.clone())
        else {
            return ReadAnswer::Failed("no such partition".to_owned());
        };
        match reader.read(from, max) {
            Ok(Chunk::Batches(batches)) => ReadAnswer::Batches(batches),
            Ok(Chunk::End) => ReadAnswer::Batches(Vec::new()),
            Ok(Chunk::Gap(gap)) => gap_answer(tp, from, gap),
            Err(ReadError::Corrupt { from, to, what }) => {
                tracing::error!(partition = %tp, %from, %to, what, "the medium rotted");
                let gap = Gap {
                    from,
                    to,
                    reason: LogGapReason::Corrupt,
                };
                match self
                    .store
                    .ask(|answer| ToStore::Gap(tp.clone(), gap, answer))
                {
                    Ok(()) => gap_answer(tp, from, gap),
                    Err(reason) => ReadAnswer::Failed(reason),
                }
            }
            // Only acked records are deleted without a GAP, and the cloud asks for unacked ones.
            Err(error @ (ReadError::BelowStart { .. } | ReadError::Io(_))) => {
                ReadAnswer::Failed(error.to_string())
            }
        }
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
            fs::create_dir_all(&dir)?;
            let mut file = fs::File::create(dir.join(format!("{:020}.log", from.0)))?;
            batches.iter().try_for_each(|batch| file.write_all(batch))?;
            file.sync_all()?;
            fs::File::open(&dir)?.sync_all()?;
            fs::File::open(&self.dead_letters)?.sync_all()
        };
        let (mut at, mut kept) = (from, Vec::new());
        while at < to {
            match reader.read(at, 1).map_err(|e| e.to_string())? {
                Chunk::Batches(batches) if !batches.is_empty() => {
                    let last = &batches[batches.len() - 1];
                    let view =
                        BatchView::parse(last, &Limits::UPLINK).map_err(|e| e.to_string())?;
                    at = view.next_offset();
                    kept.extend(batches);
                }
                Chunk::Gap(gap) => at = gap.to,
                _ => break,
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
        let partitions = self.view.partitions();
        let range = |(tp, view): (&TopicPartition, &crate::store::PartitionView)| LogRange {
            tp: tp.clone(),
            start: view.start,
            end: view.sealed_end,
        };
        partitions.iter().map(range).collect()
    }

    fn stream(&self, tp: &TopicPartition) -> Option<StreamInfo> {
        let partitions = self.view.partitions();
        let view = partitions.get(tp)?;
        let found = partitions.keys().filter(|found| found.topic == tp.topic);
        Some(StreamInfo {
            tp: tp.clone(),
            partitions: self.partitions(tp, found.map(|found| found.partition)),
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

    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> ReadAnswer {
        let answer = self.read_log(tp, from, max_bytes);
        if let ReadAnswer::Batches(batches) = &answer {
            let bytes: usize = batches.iter().map(Bytes::len).sum();
            self.read_bytes.fetch_add(bytes as u64, Relaxed);
        }
        answer
    }

    fn persist_fork(&self, fork: Fork) -> Result<StreamInfo, String> {
        let tp = fork.tp.clone();
        self.store.ask(|answer| ToStore::Fork(fork, answer))?;
        self.stream(&tp)
            .ok_or_else(|| "the forked partition is gone".to_owned())
    }

    fn dead_letter(
        &self,
        tp: &TopicPartition,
        from: Offset,
        to: Offset,
        code: RejectCode,
    ) -> Result<(), String> {
        self.write_dead_letters(tp, from, to)?;
        tracing::error!(partition = %tp, %from, %to, ?code, "rejected for good: see dead-letter/");
        let gap = Gap {
            from,
            to,
            reason: LogGapReason::Rejected,
        };
        self.store
            .ask(|answer| ToStore::Gap(tp.clone(), gap, answer))
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
        let (at_ms, partition) = (crate::clock::wall_ms(), tp.to_string());
        alarms.push(Alarm {
            at_ms,
            partition,
            alarm: format!("{kind:?}"),
        });
    }

    fn link(&self, server_ms: Option<i64>) {
        if let Some(server_ms) = server_ms {
            self.clock_ahead_ms
                .store(server_ms - crate::clock::wall_ms(), Relaxed);
        }
        self.store.send(ToStore::Link(server_ms.is_some()));
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

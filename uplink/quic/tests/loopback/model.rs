//! A log in memory and a sink in memory, for both shells in one process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_batch::{
    BatchBuilder, BatchView, Decoder, Level, Limits, NewRecord, Offset, TopicName, TopicPartition,
};
use headwater_proto::{
    AlarmKind, EdgeStreams, Incarnation, RejectCode, StreamEntry, StreamInfo, StreamKey,
    StreamOutcome, boot_spans,
};
use headwater_quic::EdgeName;
use headwater_quic::client::{Fork, LogRange, ReadAnswer, Source};
use headwater_quic::server::{Reply, Sink};
use tokio::sync::watch;

pub fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("readings").unwrap(), number)
}

/// Sealed batches by base offset, with the offset after each.
#[derive(Default)]
struct Log {
    batches: BTreeMap<i64, (i64, Bytes)>,
    end: i64,
    acked: i64,
}

pub struct ModelLog {
    logs: Mutex<BTreeMap<TopicPartition, Log>>,
    changed: watch::Sender<u64>,
    incarnation: u128,
}

impl ModelLog {
    pub fn new(incarnation: u128) -> Arc<ModelLog> {
        let (logs, changed) = (Mutex::default(), watch::Sender::new(0));
        Arc::new(ModelLog {
            logs,
            changed,
            incarnation,
        })
    }

    /// Seals one batch of so many records; each value says where it belongs.
    pub fn append(&self, tp: &TopicPartition, records: i64) {
        let mut logs = self.logs.lock().unwrap();
        let log = logs.entry(tp.clone()).or_default();
        let mut builder = BatchBuilder::new(Offset(log.end), Level::Zstd(1));
        for n in log.end..log.end + records {
            builder
                .push(&NewRecord::new(1, "key", format!("{tp}/{n}")))
                .unwrap();
        }
        let batch = (log.end + records, Bytes::from(builder.finish()));
        log.batches.insert(log.end, batch);
        log.end += records;
        drop(logs);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn acked(&self, tp: &TopicPartition) -> i64 {
        self.logs.lock().unwrap().get(tp).map_or(0, |log| log.acked)
    }
}

impl Source for ModelLog {
    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn logs(&self) -> Vec<LogRange> {
        let logs = self.logs.lock().unwrap();
        let range = |(tp, log): (&TopicPartition, &Log)| LogRange {
            tp: tp.clone(),
            start: Offset(0),
            end: Offset(log.end),
        };
        logs.iter().map(range).collect()
    }

    fn stream(&self, tp: &TopicPartition) -> Option<StreamInfo> {
        let logs = self.logs.lock().unwrap();
        let log = logs.get(tp)?;
        Some(StreamInfo {
            tp: tp.clone(),
            partitions: tp.partition + 1,
            incarnation: Incarnation(self.incarnation),
            origin: Offset(0),
            parent: None,
            start: Offset(0),
            end: Offset(log.end),
            acked: Offset(log.acked),
            spans: boot_spans(&[(7, Offset(0))], Offset(log.end)),
            priority: 0,
        })
    }

    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> ReadAnswer {
        let logs = self.logs.lock().unwrap();
        let Some(log) = logs.get(tp) else {
            return ReadAnswer::Failed("no partition".into());
        };
        let mut batches = Vec::new();
        let mut bytes = 0;
        for (next, batch) in log.batches.values().filter(|(next, _)| *next > from.0) {
            if !batches.is_empty() && bytes + batch.len() > max_bytes {
                break;
            }
            assert!(*next > from.0);
            bytes += batch.len();
            batches.push(batch.clone());
        }
        ReadAnswer::Batches(batches)
    }

    fn persist_fork(&self, fork: Fork) -> Result<StreamInfo, String> {
        Err(format!("no fork is expected: {fork:?}"))
    }

    fn dead_letter(
        &self,
        tp: &TopicPartition,
        from: Offset,
        _to: Offset,
        code: RejectCode,
    ) -> Result<(), String> {
        Err(format!("no dead letter is expected: {tp} {from} {code:?}"))
    }

    fn acked(&self, tp: &TopicPartition, offset: Offset) {
        let mut logs = self.logs.lock().unwrap();
        let log = logs.get_mut(tp).unwrap();
        assert!(offset.0 <= log.end);
        log.acked = log.acked.max(offset.0);
    }
}

#[derive(Default)]
pub struct ModelSink {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    streams: HashMap<(EdgeName, TopicPartition), EdgeStreams>,
    stored: HashMap<TopicPartition, Vec<String>>,
    commits: u64,
    alarms: Vec<AlarmKind>,
    reasons: Vec<String>,
}

impl ModelSink {
    pub fn stored(&self, tp: &TopicPartition) -> Vec<String> {
        self.inner
            .lock()
            .unwrap()
            .stored
            .get(tp)
            .cloned()
            .unwrap_or_default()
    }

    pub fn alarms(&self) -> Vec<AlarmKind> {
        self.inner.lock().unwrap().alarms.clone()
    }

    pub fn disconnect_reasons(&self) -> Vec<String> {
        self.inner.lock().unwrap().reasons.clone()
    }
}

impl Sink for ModelSink {
    fn commit(&self, key: StreamKey, entry: StreamEntry, reply: Reply) {
        let mut inner = self.inner.lock().unwrap();
        inner.commits += 1;
        // Now and then no answer is given although nothing is wrong: dropping means retry.
        if inner.commits % 17 == 0 {
            return;
        }
        let streams = inner
            .streams
            .entry((key.edge.clone(), key.tp.clone()))
            .or_default();
        let outcome = streams.apply(key.incarnation, &entry);
        if let (StreamOutcome::Append { .. }, Some(batch)) = (&outcome, entry.batch()) {
            let view = BatchView::parse(batch, &Limits::UPLINK).unwrap();
            view.verify_crc().unwrap();
            let mut decoder = Decoder::new();
            for record in view.records(&mut decoder, &Limits::UPLINK).unwrap() {
                let value = record.unwrap().value.unwrap().to_vec();
                let value = String::from_utf8(value).unwrap();
                inner.stored.entry(key.tp.clone()).or_default().push(value);
            }
        }
        // And now and then it is committed, but the answer is lost.
        if inner.commits % 13 == 0 {
            reply.retry();
        } else {
            reply.committed(outcome);
        }
    }

    fn alarm(&self, _: StreamKey, kind: AlarmKind) {
        self.inner.lock().unwrap().alarms.push(kind);
    }

    fn disconnected(&self, _: &EdgeName, reason: &str) {
        self.inner.lock().unwrap().reasons.push(reason.to_owned());
    }
}

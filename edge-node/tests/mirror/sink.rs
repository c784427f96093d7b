//! A cloud in memory: proto's own dedup rules, and what they let through.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use headwater_batch::{BatchView, Decoder, Limits, TopicPartition};
use headwater_proto::{
    AlarmKind, EdgeStreams, GapReason, RejectCode, StreamEntry, StreamKey, StreamOutcome,
};
use headwater_quic::server::{Reply, Sink};

#[derive(Default)]
pub struct Cloud {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    streams: HashMap<TopicPartition, EdgeStreams>,
    announced: BTreeMap<TopicPartition, u32>,
    values: Vec<String>,
    forks: usize,
    gaps: Vec<(i64, i64, GapReason)>,
    alarms: Vec<AlarmKind>,
    /// A batch with this value can never be stored.
    refused: Option<String>,
}

pub fn values(batch: &[u8]) -> Vec<String> {
    let view = BatchView::parse(batch, &Limits::UPLINK).unwrap();
    view.verify_crc().unwrap();
    let mut decoder = Decoder::new();
    let records = view.records(&mut decoder, &Limits::UPLINK).unwrap();
    records
        .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
        .collect()
}

impl Cloud {
    pub fn refuse(&self, value: &str) {
        self.inner.lock().unwrap().refused = Some(value.to_owned());
    }

    /// Values in the order in which they were stored.
    pub fn values(&self) -> Vec<String> {
        self.inner.lock().unwrap().values.clone()
    }

    pub fn len(&self) -> usize {
        self.inner.lock().unwrap().values.len()
    }

    /// What was announced since the last call: partitions, and how many their topic has.
    pub fn take_announced(&self) -> Vec<(String, u32)> {
        let announced = std::mem::take(&mut self.inner.lock().unwrap().announced);
        let named = |(tp, count): (TopicPartition, u32)| (tp.to_string(), count);
        announced.into_iter().map(named).collect()
    }

    pub fn announced(&self) -> usize {
        self.inner.lock().unwrap().announced.len()
    }

    pub fn forks(&self) -> usize {
        self.inner.lock().unwrap().forks
    }

    pub fn gaps(&self) -> Vec<(i64, i64, GapReason)> {
        self.inner.lock().unwrap().gaps.clone()
    }

    pub fn alarms(&self) -> Vec<AlarmKind> {
        self.inner.lock().unwrap().alarms.clone()
    }
}

impl Sink for Cloud {
    fn commit(&self, key: StreamKey, entry: StreamEntry, reply: Reply) {
        let mut inner = self.inner.lock().unwrap();
        if let StreamEntry::Session(session) = &entry {
            inner.announced.insert(key.tp.clone(), session.partitions);
        }
        if let (Some(refused), Some(batch)) = (&inner.refused, entry.batch()) {
            if values(batch).contains(refused) {
                return reply.committed(StreamOutcome::Rejected(RejectCode::Unacceptable));
            }
        }
        let streams = inner.streams.entry(key.tp.clone()).or_default();
        let outcome = streams.apply(key.incarnation, &entry);
        match &outcome {
            StreamOutcome::Append { .. } => {
                let batch = entry.batch().expect("only a batch is appended");
                inner.values.extend(values(batch));
            }
            StreamOutcome::Ledger { gap, .. } => {
                inner.gaps.push((gap.from.0, gap.to.0, gap.reason));
            }
            StreamOutcome::Opened(opened) => inner.forks += usize::from(opened.forked.is_some()),
            _ => {}
        }
        reply.committed(outcome);
    }

    fn alarm(&self, _: StreamKey, kind: AlarmKind) {
        self.inner.lock().unwrap().alarms.push(kind);
    }
}

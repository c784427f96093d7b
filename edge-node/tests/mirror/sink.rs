//! A cloud in memory: proto's own dedup rules, and what they let through.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use headwater_batch::{BatchView, Decoder, Limits, TopicPartition};
use headwater_proto::{AlarmKind, EdgeStreams, GapReason, StreamEntry, StreamKey, StreamOutcome};
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
}

impl Cloud {
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
        let streams = inner.streams.entry(key.tp.clone()).or_default();
        let outcome = streams.apply(key.incarnation, &entry);
        match &outcome {
            StreamOutcome::Append { .. } => {
                let batch = entry.batch().expect("only a batch is appended");
                let view = BatchView::parse(batch, &Limits::UPLINK).unwrap();
                view.verify_crc().unwrap();
                let mut decoder = Decoder::new();
                for record in view.records(&mut decoder, &Limits::UPLINK).unwrap() {
                    let value = record.unwrap().value.unwrap().to_vec();
                    inner.values.push(String::from_utf8(value).unwrap());
                }
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

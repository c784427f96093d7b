//! The log as the uplink sees it, with the alarms told to the world too.

use std::sync::{Arc, Mutex};

use edge_node::mirror::Mirror;
use headwater_batch::{Offset, TopicPartition};
use headwater_proto::{AlarmKind, RejectCode, StreamInfo};
use headwater_quic::client::{Fork, LogRange, ReadAnswer, Source};
use tokio::sync::watch;

pub(super) struct Tap {
    pub(super) mirror: Arc<Mirror>,
    alarms: Mutex<Vec<(TopicPartition, AlarmKind)>>,
}

impl Tap {
    pub(super) fn new(mirror: Arc<Mirror>) -> Tap {
        Tap {
            mirror,
            alarms: Mutex::default(),
        }
    }

    /// Alarms since the last call.
    pub(super) fn alarms(&self) -> Vec<(TopicPartition, AlarmKind)> {
        let mut alarms = self.alarms.lock().expect("nothing panics while it is held");
        std::mem::take(&mut *alarms)
    }
}

impl Source for Tap {
    fn changes(&self) -> watch::Receiver<u64> {
        self.mirror.changes()
    }

    fn logs(&self) -> Vec<LogRange> {
        self.mirror.logs()
    }

    fn stream(&self, tp: &TopicPartition) -> Option<StreamInfo> {
        self.mirror.stream(tp)
    }

    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> ReadAnswer {
        self.mirror.read(tp, from, max_bytes)
    }

    fn persist_fork(&self, fork: Fork) -> Result<StreamInfo, String> {
        self.mirror.persist_fork(fork)
    }

    fn dead_letter(
        &self,
        tp: &TopicPartition,
        from: Offset,
        to: Offset,
        code: RejectCode,
    ) -> Result<(), String> {
        self.mirror.dead_letter(tp, from, to, code)
    }

    fn acked(&self, tp: &TopicPartition, offset: Offset) {
        self.mirror.acked(tp, offset);
    }

    fn alarm(&self, tp: &TopicPartition, kind: AlarmKind) {
        self.mirror.alarm(tp, kind.clone());
        let mut alarms = self.alarms.lock().expect("nothing panics while it is held");
        alarms.push((tp.clone(), kind));
    }

    fn link(&self, server_ms: Option<i64>) {
        self.mirror.link(server_ms);
    }
}

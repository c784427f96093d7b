//! Messages as they arrive at the broker, for those who watch.
//!
//! What is shown is what the broker hands to the log, at that moment: a message that the log refuses
//! and the broker offers again is shown again.
//!
//! Bounds: [`WATCHERS_MAX`] watchers; for each at most [`WAITING_BYTES_MAX`] wait, and beyond that
//! messages are left out and counted. A broker nobody watches pays for one load of an integer.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use headwater_mqtt::{Publish, QoS, topic};
use tokio::sync::mpsc;

/// See the module's docs.
pub const WATCHERS_MAX: usize = 4;
/// See the module's docs. One message always waits, however large.
pub const WAITING_BYTES_MAX: usize = 1 << 20;
/// What a message counts beside its own bytes.
const MESSAGE_BYTES: usize = 128;

/// All watchers.
#[derive(Default)]
pub struct Taps {
    count: AtomicUsize,
    watchers: Mutex<Vec<Watcher>>,
}

struct Watcher {
    filter: String,
    queue: mpsc::UnboundedSender<Seen>,
    waiting_bytes: Arc<AtomicUsize>,
    missed: u64,
}

/// A message that somebody watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Messages that were left out before it.
    pub missed: u64,
    /// Wall clock of its arrival, ms since 1970.
    pub at_ms: i64,
    /// Its topic.
    pub topic: Arc<str>,
    /// Who published it.
    pub client_id: Arc<str>,
    /// How it was published.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// What it says.
    pub payload: Bytes,
}

/// A watcher's end. It watches until this is dropped.
pub struct Watch {
    queue: mpsc::UnboundedReceiver<Seen>,
    waiting_bytes: Arc<AtomicUsize>,
    taps: Arc<Taps>,
}

impl Taps {
    /// Watches a topic filter; `None` when too many watch.
    pub fn watch(self: &Arc<Taps>, filter: String) -> Option<Watch> {
        let mut watchers = self.watchers();
        watchers.retain(|watcher| !watcher.queue.is_closed());
        if watchers.len() >= WATCHERS_MAX {
            return None;
        }
        let (sender, queue) = mpsc::unbounded_channel();
        let waiting_bytes = Arc::<AtomicUsize>::default();
        watchers.push(Watcher {
            filter,
            queue: sender,
            waiting_bytes: waiting_bytes.clone(),
            missed: 0,
        });
        self.count.store(watchers.len(), Relaxed);
        Some(Watch {
            queue,
            waiting_bytes,
            taps: self.clone(),
        })
    }

    /// A message arrives.
    pub fn offer(&self, publish: &Publish, wall_ms: impl Fn() -> i64) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        for watcher in self.watchers().iter_mut() {
            if topic::matches(&watcher.filter, &publish.topic) {
                watcher.offer(publish, wall_ms());
            }
        }
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl Watcher {
    fn offer(&mut self, publish: &Publish, at_ms: i64) {
        let bytes = bytes_of(&publish.topic, &publish.payload);
        let waiting = self.waiting_bytes.load(Relaxed);
        if waiting > 0 && waiting + bytes > WAITING_BYTES_MAX {
            self.missed += 1;
            return;
        }
        self.waiting_bytes.fetch_add(bytes, Relaxed);
        let _ = self.queue.send(Seen {
            missed: std::mem::take(&mut self.missed),
            at_ms,
            topic: publish.topic.clone(),
            client_id: publish.client_id.clone(),
            qos: publish.qos,
            retain: publish.retain,
            // A slice would keep all that was read with it.
            payload: Bytes::copy_from_slice(&publish.payload),
        });
    }
}

impl Watch {
    /// The next message.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Seen>> {
        let next = self.queue.poll_recv(context);
        if let Poll::Ready(Some(seen)) = &next {
            let bytes = bytes_of(&seen.topic, &seen.payload);
            self.waiting_bytes.fetch_sub(bytes, Relaxed);
        }
        next
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.close();
        let mut watchers = self.taps.watchers();
        watchers.retain(|watcher| !watcher.queue.is_closed());
        self.taps.count.store(watchers.len(), Relaxed);
    }
}

fn bytes_of(topic: &str, payload: &[u8]) -> usize {
    MESSAGE_BYTES + topic.len() + payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn publish(topic: &str, payload: usize) -> Publish {
        Publish {
            topic: topic.into(),
            payload: vec![b'x'; payload].into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            properties: None,
            client_id: "c".into(),
        }
    }

    fn next(watch: &mut Watch) -> Option<Seen> {
        match watch.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(seen) => seen,
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_watcher_sees_what_it_asked_for() {
        let taps = Arc::new(Taps::default());
        taps.offer(&publish("a/b", 1), || panic!("nobody watches"));
        let mut watch = taps.watch("a/+".into()).unwrap();
        for topic in ["a/b", "b", "$SYS/x", "a/c"] {
            taps.offer(&publish(topic, 1), || 7);
        }
        let seen: Vec<String> = std::iter::from_fn(|| next(&mut watch))
            .map(|seen| seen.topic.to_string())
            .collect();
        assert_eq!(seen, ["a/b", "a/c"]);
        drop(watch);
        taps.offer(&publish("a/b", 1), || panic!("nobody watches"));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let taps = Arc::new(Taps::default());
        let mut watch = taps.watch("#".into()).unwrap();
        let large = WAITING_BYTES_MAX * 2;
        taps.offer(&publish("large", large), || 1);
        for _ in 0..5 {
            taps.offer(&publish("small", 1), || 2);
        }
        assert_eq!(next(&mut watch).unwrap().payload.len(), large);
        assert_eq!(next(&mut watch), None);
        for _ in 0..100_000 {
            taps.offer(&publish("small", 1), || 3);
        }
        let waiting = watch.waiting_bytes.load(Relaxed);
        assert!(waiting <= WAITING_BYTES_MAX, "{waiting}");
        assert_eq!(next(&mut watch).unwrap().missed, 5);
        let shown = 1 + std::iter::from_fn(|| next(&mut watch)).count() as u64;
        assert_eq!(watch.waiting_bytes.load(Relaxed), 0);
        taps.offer(&publish("small", 1), || 4);
        assert_eq!(next(&mut watch).unwrap().missed, 100_000 - shown);
    }

    #[test]
    fn so_many_watch_and_a_place_is_given_back() {
        let taps = Arc::new(Taps::default());
        let mut all: Vec<Watch> = (0..WATCHERS_MAX)
            .map(|_| taps.watch("#".into()).unwrap())
            .collect();
        assert!(taps.watch("#".into()).is_none());
        all.pop();
        assert!(taps.watch("#".into()).is_some());
    }
}

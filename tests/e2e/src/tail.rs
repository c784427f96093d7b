//! A consumer that follows a topic while its node is killed and started, and never looks back: what
//! it has read once must stay where it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::judge::Stored;
use crate::kafka::{Consumer, Record, Refused};
use crate::payload;

/// Kafka's code for an offset that a log does not have.
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// Between two looks when there is nothing new, or nobody to ask.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    read: AtomicU64,
    stop: AtomicBool,
    /// Records by partition, without holes from offset 0 on.
    found: Mutex<Vec<Vec<Stored>>>,
    fault: Mutex<Option<String>>,
}

/// A consumer in the background.
pub struct Tail {
    node: SocketAddr,
    topic: &'static str,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Follows `topic` from its first offset on, from now on until [`Tail::finish`].
    pub fn follow(node: SocketAddr, topic: &'static str) -> Tail {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::SeqCst) {
                if let Err(fault) = shared.session(node, topic) {
                    *shared.fault.lock().expect("no holder panics") = Some(fault);
                    return;
                }
                // The node is down; it comes back when the test starts it.
                std::thread::sleep(PAUSE);
            }
        });
        Tail {
            node,
            topic,
            state,
            thread: Some(thread),
        }
    }

    /// Records read so far. The error: an offset that was there is gone or is another.
    pub fn read(&self) -> Result<u64, String> {
        match &*self.state.fault.lock().expect("no holder panics") {
            Some(fault) => Err(fault.clone()),
            None => Ok(self.state.read.load(Ordering::SeqCst)),
        }
    }

    /// Reads everything once more, from the start, and gives it back if it is what was read before.
    /// Nothing more may be on its way.
    pub fn finish(mut self) -> Result<Vec<Stored>, String> {
        self.end();
        self.read()?;
        let again = Consumer::connect(self.node).and_then(|mut c| c.read_all(self.topic));
        let again = again.map_err(|error| format!("reading once more: {error}"))?;
        let again: Vec<Stored> = again.into_iter().map(stored).collect::<Result<_, _>>()?;
        let found = std::mem::take(&mut *self.state.found.lock().expect("no holder panics"));
        for (partition, before) in found.into_iter().enumerate() {
            let mut now = again.iter().filter(|s| s.partition as usize == partition);
            for stored in before {
                if now.next() != Some(&stored) {
                    return Err(format!("{stored:?} was read, and is not there any more"));
                }
            }
        }
        Ok(again)
    }

    fn end(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a consumer does not panic");
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    /// Reads until the connection breaks. The error is a fault of the node.
    fn session(&self, node: SocketAddr, topic: &str) -> Result<(), String> {
        let Ok(mut consumer) = Consumer::connect(node) else {
            return Ok(());
        };
        let Ok(partitions) = consumer.partitions(topic) else {
            return Ok(());
        };
        while !self.stop.load(Ordering::SeqCst) {
            let mut new = 0;
            for partition in 0..partitions {
                match self.fetch(&mut consumer, topic, partition)? {
                    Some(records) => new += records,
                    None => return Ok(()),
                }
            }
            if partitions == 0 {
                return Ok(());
            }
            if new == 0 {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// `None`: the connection broke, or the node is not ready.
    fn fetch(
        &self,
        consumer: &mut Consumer,
        topic: &str,
        partition: i32,
    ) -> Result<Option<usize>, String> {
        let at = partition as usize;
        let next = {
            let mut found = self.found.lock().expect("no holder panics");
            if found.len() <= at {
                found.resize(at + 1, Vec::new());
            }
            found[at].len() as i64
        };
        let fetched = consumer.fetch(topic, partition, next, Duration::ZERO);
        let records = match fetched {
            Ok(records) => records,
            Err(error) => {
                let refused = error.downcast_ref::<Refused>();
                let is_not_ready = refused.is_some_and(|r| r.code != OFFSET_OUT_OF_RANGE);
                return match is_not_ready || error.is::<std::io::Error>() {
                    true => Ok(None),
                    // A bad checksum, a hole, an offset that is gone.
                    false => Err(error.to_string()),
                };
            }
        };
        let count = records.len();
        let mut read = Vec::with_capacity(count);
        for (due, record) in (next..).zip(records) {
            if record.offset != due {
                let offset = record.offset;
                return Err(format!(
                    "{topic}-{partition}: offset {offset} where {due} was due"
                ));
            }
            read.push(stored(record)?);
        }
        self.found.lock().expect("no holder panics")[at].extend(read);
        self.read.fetch_add(count as u64, Ordering::SeqCst);
        Ok(Some(count))
    }
}

fn stored(record: Record) -> Result<Stored, String> {
    let attempt = payload::read(record.value.as_deref().unwrap_or_default());
    let (partition, offset) = (record.partition, record.offset);
    let attempt = attempt.map_err(|what| format!("offset {offset} of {partition}: {what}"))?;
    Ok(Stored {
        partition,
        offset,
        attempt,
    })
}

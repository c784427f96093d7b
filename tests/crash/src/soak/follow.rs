//! A Kafka consumer that follows the topic over every fault, and reads it once more in the end: what it
//! has read must stay where it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::kafka::{Consumer, Record, Refused};

use super::attempt::Attempt;
use super::stage::{PARTITIONS, TOPIC};

/// Kafka's code for an offset that a log does not have.
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// A fetch waits so long for records, which also ends the thread in time.
const WAIT: Duration = Duration::from_millis(200);
/// Between two tries to reach a node that is down.
const PAUSE: Duration = Duration::from_millis(50);

/// A record: whose it is; `None` for an empty payload, which deletes a retained message.
pub type Found = Option<Attempt>;

#[derive(Default)]
struct State {
    read: AtomicU64,
    stop: AtomicBool,
    /// By partition, without holes from offset 0 on.
    found: Mutex<Vec<Vec<Found>>>,
    fault: Mutex<Option<String>>,
}

pub struct Follower {
    node: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub fn start(node: SocketAddr) -> Follower {
        let state = Arc::new(State {
            found: Mutex::new(vec![Vec::new(); PARTITIONS as usize]),
            ..State::default()
        });
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::SeqCst) {
                if let Err(fault) = shared.session(node) {
                    *shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
                    return;
                }
                // The node is down; it comes back when its run starts it.
                std::thread::sleep(PAUSE);
            }
        });
        Follower {
            node,
            state,
            thread: Some(thread),
        }
    }

    /// Records read so far. The error: an offset that was there is gone or is another.
    pub fn read(&self) -> Result<u64, String> {
        let fault = self.state.fault.lock();
        match &*fault.unwrap_or_else(PoisonError::into_inner) {
            Some(fault) => Err(fault.clone()),
            None => Ok(self.state.read.load(Ordering::SeqCst)),
        }
    }

    /// Everything, partition by partition, after a second reading that found the same. `seen` hears
    /// how far that is. Nothing more may be on its way.
    pub fn finish(mut self, mut seen: impl FnMut(u64)) -> Result<Vec<Vec<Found>>, String> {
        self.end();
        self.read()?;
        let found = std::mem::take(
            &mut *self
                .state
                .found
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let mut consumer = Consumer::connect(self.node).map_err(|e| e.to_string())?;
        let mut read = 0;
        for (partition, before) in (0..PARTITIONS).zip(&found) {
            let mut next = 0;
            while next < before.len() {
                let fetched = consumer.fetch(TOPIC, partition, next as i64, WAIT);
                let records = fetched.map_err(|e| format!("reading once more: {e}"))?;
                if records.is_empty() {
                    return Err(format!("{partition} at {next}: read once, and not again"));
                }
                for record in records {
                    let offset = record.offset;
                    let now = whose(record)?;
                    if offset != next as i64 || before.get(next) != Some(&now) {
                        let was = before.get(next);
                        return Err(format!(
                            "{partition}: {was:?} was read at {next}, and now {now:?} at {offset}"
                        ));
                    }
                    next += 1;
                    read += 1;
                }
                seen(read);
            }
        }
        Ok(found)
    }

    fn end(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a consumer does not panic");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    /// Reads until the connection breaks. The error is a fault of the node.
    fn session(&self, node: SocketAddr) -> Result<(), String> {
        let Ok(mut consumer) = Consumer::connect(node) else {
            return Ok(());
        };
        while !self.stop.load(Ordering::SeqCst) {
            let mut new = 0;
            for partition in 0..PARTITIONS {
                let from = {
                    let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                    found[partition as usize].len() as i64
                };
                let wait = if new == 0 { WAIT / 4 } else { Duration::ZERO };
                match consumer.fetch(TOPIC, partition, from, wait) {
                    Ok(records) => new += self.take(partition, from, records)?,
                    Err(error) => {
                        let refused = error.downcast_ref::<Refused>();
                        let not_ready = refused.is_some_and(|r| r.code != OFFSET_OUT_OF_RANGE);
                        return match not_ready || error.is::<std::io::Error>() {
                            true => Ok(()),
                            // A bad checksum, an offset that is gone.
                            false => Err(error.to_string()),
                        };
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self, partition: i32, from: i64, records: Vec<Record>) -> Result<usize, String> {
        let mut read = Vec::with_capacity(records.len());
        for (due, record) in (from..).zip(records) {
            let offset = record.offset;
            if offset != due {
                return Err(format!("{partition}: offset {offset} where {due} was due"));
            }
            read.push(whose(record)?);
        }
        let count = read.len();
        self.found.lock().unwrap_or_else(PoisonError::into_inner)[partition as usize].extend(read);
        self.read.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }
}

/// Whose record it is; its key has to say the same.
fn whose(record: Record) -> Result<Found, String> {
    let value = record.value.unwrap_or_default();
    if value.is_empty() {
        return Ok(None);
    }
    let (partition, offset) = (record.partition, record.offset);
    let place = |what: String| format!("offset {offset} of {partition}: {what}");
    let attempt = Attempt::read(&value).map_err(place)?;
    let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
    let name = format!("p{}", attempt.publisher());
    match key.split('/').nth(1) == Some(name.as_str()) {
        true => Ok(Some(attempt)),
        false => Err(place(format!("{attempt} under the key {key:?}"))),
    }
}

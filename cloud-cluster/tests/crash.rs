//! A node that is killed while producers write: nothing acknowledged is lost, nothing is there
//! twice, and no offset moves.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::{Client, Node, batch, fails};

const TOPIC: &str = "crash";
/// Batches on their way at a time, as librdkafka and the Java client have with idempotence.
const IN_FLIGHT: usize = 5;

/// `(base offset, first value, count)` of every acknowledged batch.
type Acked = Arc<Mutex<Vec<(i64, i32, i32)>>>;

struct Producer {
    kafka: std::net::SocketAddr,
    id: i64,
    next: i32,
    /// Sent and not acknowledged, oldest first.
    waiting: VecDeque<(i32, i32, Bytes)>,
    acked: Acked,
    count: Arc<AtomicUsize>,
}

impl Producer {
    /// Sends until told to stop, then until everything is acknowledged. Whatever breaks, what is
    /// not acknowledged is sent again with the same sequence numbers.
    fn run(mut self, stop: &AtomicBool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !(stop.load(Ordering::Relaxed) && self.waiting.is_empty()) {
            assert!(
                Instant::now() < deadline,
                "the producer does not get through"
            );
            if self.session(stop).is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn session(&mut self, stop: &AtomicBool) -> std::io::Result<()> {
        let mut client = Client::connect(self.kafka)?;
        for (_, _, bytes) in &self.waiting {
            client.produce(TOPIC, bytes)?;
        }
        loop {
            while self.waiting.len() < IN_FLIGHT && !stop.load(Ordering::Relaxed) {
                let count = 1 + self.next % 50;
                let bytes = batch(self.id, self.next, count);
                self.waiting.push_back((self.next, count, bytes.clone()));
                self.next += count;
                client.produce(TOPIC, &bytes)?;
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            let base = client
                .acked()?
                .expect("an idempotent producer is never refused");
            let (first, count, _) = self.waiting.pop_front().expect("checked");
            self.acked.lock().unwrap().push((base, first, count));
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_moved_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    node.start();
    node.json("POST", "/topics", r#"{"name":"crash","partitions":1}"#);
    let id = Client::connect(node.kafka).unwrap().producer_id().unwrap();
    quiet(&node, true);
    let (acked, stop) = (Acked::default(), Arc::new(AtomicBool::new(false)));
    let count = Arc::new(AtomicUsize::new(0));
    let producer = Producer {
        kafka: node.kafka,
        id,
        next: 0,
        waiting: VecDeque::new(),
        acked: acked.clone(),
        count: count.clone(),
    };
    let stopping = stop.clone();
    let writing = std::thread::spawn(move || producer.run(&stopping));
    for round in 0..20 {
        // Some rounds are long enough for a checkpoint and cold segments.
        let wanted = count.load(Ordering::Relaxed) + if round % 2 == 0 { 20 } else { 400 };
        let deadline = Instant::now() + Duration::from_secs(60);
        while count.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "no batch is acknowledged");
            std::thread::sleep(Duration::from_millis(1));
        }
        node.kill();
        node.start();
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();

    let acked = acked.lock().unwrap();
    check(&node, &acked);
    quiet(&node, false);
    node.kill();
    node.start();
    check(&node, &acked);
    quiet(&node, false);
    let topics = node.json("GET", "/topics", "");
    assert!(
        topics[0]["partitions"][0]["segments"].as_i64().unwrap() > 0,
        "{topics}"
    );
}

/// A partition with one record, too small for a segment of its own: it has to be carried from one
/// journal file to the next while the other partition's traffic has the old ones trimmed (J8).
fn quiet(node: &Node, write: bool) {
    if write {
        node.json("POST", "/topics", r#"{"name":"quiet","partitions":1}"#);
        let mut client = Client::connect(node.kafka).unwrap();
        let id = client.producer_id().unwrap();
        client.produce("quiet", &batch(id, 0, 1)).unwrap();
        assert_eq!(client.acked().unwrap(), Ok(0));
    }
    assert_eq!(node.records("quiet", 0), vec![(0, "0".to_owned())]);
}

/// The partition is exactly the acknowledged values, each once, each where its ack said.
fn check(node: &Node, acked: &[(i64, i32, i32)]) {
    let records = node.records(TOPIC, 0);
    let last = acked.last().expect("something was acknowledged");
    assert_eq!(records.len() as i32, last.1 + last.2);
    for (i, (offset, value)) in records.iter().enumerate() {
        assert_eq!(
            (*offset, value.as_str()),
            (i as i64, i.to_string().as_str())
        );
    }
    for (base, first, _) in acked {
        assert_eq!(*base, i64::from(*first));
    }
}

#[test]
fn starting_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    node.start();

    let error = fails(node.command());
    assert!(error.contains("in use by another process"), "{error}");
    let elsewhere = tempfile::tempdir().unwrap();
    let mut other = node.command();
    other.arg("--data-dir").arg(elsewhere.path());
    let error = fails(other);
    assert!(
        error.contains(&format!("kafka.listen = {}", node.kafka)),
        "{error}"
    );

    // A client that is connected, and waits, does not hold the node up.
    let _idle = Client::connect(node.kafka).unwrap();
    let (took, well) = node.terminate();
    assert!(well && took < Duration::from_secs(2), "{took:?}");
}

/// Rule C5: the refusal comes before anything is written, and is one that clients retry.
#[test]
fn a_full_disk_refuses_data_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::with(dir.path(), "reserve_bytes = 1099511627776");
    node.start();
    let deadline = Instant::now() + Duration::from_secs(10);
    while node.json("GET", "/status", "")["disk_full"] != true {
        assert!(
            Instant::now() < deadline,
            "a reserve of 1 TiB is not met on this disk"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    node.json("POST", "/topics", r#"{"name":"full","partitions":1}"#);
    let mut client = Client::connect(node.kafka).unwrap();
    let id = client.producer_id().unwrap();
    client.produce("full", &batch(id, 0, 1)).unwrap();
    const KAFKA_STORAGE_ERROR: i16 = 56;
    assert_eq!(client.acked().unwrap(), Err(KAFKA_STORAGE_ERROR));
    assert!(node.records("full", 0).is_empty());
}

//! As many messages as there is time for, at QoS 0 and 1, without a fault: how fast, and what memory
//! does over all of them. Each has to stand in Kafka once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use e2e::kafka::Consumer;
use e2e::mqtt::{Client, Packet, Version};
use e2e::nodes::{Cloud, Edge};
use e2e::process::Process;

use super::memory::Memory;
use super::scrape::{EDGE, Page};
use super::stage::{PARTITIONS, TOPIC};

/// Publishers; every other one at QoS 1, and of MQTT 5 from the third on.
const PUBLISHERS: usize = 4;
/// Packets of one write; at QoS 1 as many more may be unanswered.
const BURST: u64 = 500;
/// Publisher (2 bytes) and message (8 bytes), big endian.
const PAYLOAD_BYTES: usize = 10;
/// The one whose messages a subscriber at QoS 0 reads as well.
const READ: usize = 1;
const LINE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
const PING: Duration = Duration::from_secs(20);
const WAIT: Duration = Duration::from_millis(500);

const CLOUD: &str = "[topics]\npartitions = 4\n";
const EDGE_SETTINGS: &str = "
[[routes]]
filter = \"#\"
topic = \"mqtt\"
key = \"{topic}\"
partitions = 4
";

/// Runs it in `root`; the answer is what to print. `limit` bounds the wait for what is left to send.
pub fn run(root: &Path, messages: u64, limit: Duration) -> Result<Vec<String>, String> {
    let cloud = Cloud::new(&root.join("cloud")).with_config(CLOUD);
    let cloud_process = cloud.start();
    let bundle = cloud.add_edge("gateway-1", cloud.uplink);
    let edge = Edge::new(&root.join("edge"), Some(bundle)).with_config(EDGE_SETTINGS);
    let edge_process = edge.start();
    let left = Arc::new(AtomicU64::new(messages));
    let mut watch = Watch {
        memory: Memory::default(),
        started: Instant::now(),
        line: Instant::now(),
        sent: Arc::default(),
        edge: &edge,
        processes: (edge_process, cloud_process),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (subscriber, ready) = subscribe(edge.mqtt, stop.clone())?;
    ready.recv().map_err(|_| "the subscriber ended")?;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|n| {
            let (mqtt, left, sent) = (edge.mqtt, left.clone(), watch.sent.clone());
            std::thread::spawn(move || publish(mqtt, n, &left, &sent))
        })
        .collect();
    while publishers.iter().any(|publisher| !publisher.is_finished()) {
        watch.look();
    }
    let took = watch.started.elapsed();
    let mut shares = Vec::new();
    for publisher in publishers {
        let ended = publisher.join().expect("publishers do not panic");
        shares.push(ended.map_err(|error| format!("a publisher: {error}"))?);
    }
    let (share, total) = (shares[READ], messages);
    let until = Instant::now() + limit;
    let wrong = loop {
        watch.look();
        let page = Page::read(EDGE, edge.status).map_err(|error| error.to_string())?;
        let wrong = differences(&page, &shares);
        if wrong.is_empty() || Instant::now() > until {
            break wrong;
        }
    };
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let drained = watch.started.elapsed();
    stop.store(true, Relaxed);
    let read = subscriber.join().expect("the subscriber does not panic")?;
    let dropped = Page::read(EDGE, edge.status).map_err(|error| error.to_string())?;
    let dropped = dropped.whole("mqtt_dropped_total").unwrap_or(-1);
    if read as i64 + dropped != share as i64 {
        return Err(format!(
            "the subscriber read {read} of {share}, and {dropped} were dropped"
        ));
    }
    println!("published in {took:.1?}, in the cloud after {drained:.1?}; reading all of it");
    stands_once(cloud.kafka, &shares)?;
    let per_second = total as f64 / took.as_secs_f64();
    let mut lines = vec![format!(
        "{total} messages of {PAYLOAD_BYTES} B, {} of them at QoS 1 with {} in flight for each of {} \
         publishers: {per_second:.0} a second; all in the cloud after {:.1} s, each once; a subscriber read \
         {read} of {share}, {dropped} dropped by the counter",
        at_qos(&shares, 1),
        2 * BURST,
        PUBLISHERS / 2,
        drained.as_secs_f64(),
    )];
    lines.extend(watch.memory.report());
    Ok(lines)
}

/// What the edge's counters say otherwise, when all is over.
fn differences(page: &Page, shares: &[u64]) -> Vec<String> {
    let total: u64 = shares.iter().sum();
    let due = [
        ("mqtt_published_total{qos=\"0\"}", at_qos(shares, 0) as i64),
        ("mqtt_published_total{qos=\"1\"}", at_qos(shares, 1) as i64),
        ("log_records_total", total as i64),
        ("log_refused_total", 0),
        ("uplink_lag_records", 0),
    ];
    let mut wrong = Vec::new();
    for (name, due) in due {
        let seen = page.whole(name);
        if seen != Some(due) {
            wrong.push(format!("{name} is {seen:?} where {due} was due"));
        }
    }
    let acked = page.sum("partition_acked_offset");
    if acked != total as i64 {
        wrong.push(format!("acked offsets are {acked} where {total} was due"));
    }
    wrong
}

struct Watch<'a> {
    memory: Memory,
    started: Instant,
    line: Instant,
    sent: Arc<AtomicU64>,
    edge: &'a Edge,
    /// The edge's and the cloud's.
    processes: (Process, Process),
}

impl Watch<'_> {
    fn look(&mut self) {
        let sent = self.sent.load(Relaxed);
        let (edge, cloud) = &self.processes;
        if self.memory.is_due() {
            self.memory.sample(1, Some(edge), Some(cloud), sent);
        }
        if self.line.elapsed() >= LINE {
            self.line = Instant::now();
            let seconds = self.started.elapsed().as_secs_f64();
            let page = Page::read(EDGE, self.edge.status).unwrap_or_default();
            println!(
                "{seconds:5.0} s: {sent} sent, {:.0} a second; edge {:.1} MB, cloud {:.1} MB, {} to send",
                sent as f64 / seconds,
                edge.rss_bytes() as f64 / 1e6,
                cloud.rss_bytes() as f64 / 1e6,
                page.whole("uplink_lag_records").unwrap_or(-1),
            );
        }
        // The pace of a loop that looks at other processes.
        std::thread::sleep(LOOK);
    }
}

fn qos(publisher: usize) -> u8 {
    (publisher % 2) as u8
}

/// What publishers of one QoS sent.
fn at_qos(shares: &[u64], wanted: u8) -> u64 {
    let of = shares.iter().enumerate().filter(|(n, _)| qos(*n) == wanted);
    of.map(|(_, share)| share).sum()
}

/// Takes the next burst of what is left for all publishers, so that all of them end together.
fn burst_of(left: &AtomicU64) -> u64 {
    let take = |left: u64| Some(left.saturating_sub(BURST));
    let before = left.fetch_update(Relaxed, Relaxed, take);
    before.unwrap_or_else(|before| before).min(BURST)
}

/// Sends as long as there is something left, and at QoS 1 waits for every PUBACK. The answer is how
/// many it sent.
fn publish(
    broker: SocketAddr,
    publisher: usize,
    left: &AtomicU64,
    sent: &AtomicU64,
) -> std::io::Result<u64> {
    let version = if publisher < 2 {
        Version::V3
    } else {
        Version::V5
    };
    let mut client = Client::connect_as(version, broker, &format!("flood-{publisher}"), true)?;
    client.read_timeout(Duration::from_secs(60))?;
    let topic = format!("flood/{publisher}");
    let qos = qos(publisher);
    let (mut next, mut unanswered) = (0, 0);
    loop {
        let burst = burst_of(left);
        for message in next..next + burst {
            let mut payload = [0; PAYLOAD_BYTES];
            payload[..2].copy_from_slice(&(publisher as u16).to_be_bytes());
            payload[2..].copy_from_slice(&message.to_be_bytes());
            let id = (message % u64::from(u16::MAX)) as u16 + 1;
            client.publish(&topic, &payload, qos, id, false);
        }
        client.flush()?;
        next += burst;
        sent.fetch_add(burst, Relaxed);
        unanswered += if qos == 0 { 0 } else { burst };
        let may_stay = if burst > 0 { BURST } else { 0 };
        while unanswered > may_stay {
            match client.receive()? {
                Packet::PubAck(_) => unanswered -= 1,
                other => return Err(std::io::Error::other(format!("{other:?}"))),
            }
        }
        if burst == 0 {
            // The edge may be behind with reading, and what it has not read when a client is gone is
            // lost at QoS 0. The answer comes behind all of it.
            client.ping();
            client.flush()?;
            while client.receive()? != Packet::Other(13) {}
            client.disconnect()?;
            return Ok(next);
        }
    }
}

type Subscriber = std::thread::JoinHandle<Result<u64, String>>;

/// Reads what publisher [`READ`] sends until it is told to stop and nothing more comes.
fn subscribe(
    broker: SocketAddr,
    stop: Arc<AtomicBool>,
) -> Result<(Subscriber, std::sync::mpsc::Receiver<()>), String> {
    let client = Client::connect(broker, "flood-reader", true);
    let mut client = client.map_err(|error| error.to_string())?;
    client.subscribe(1, &format!("flood/{READ}"), 0);
    client.flush().map_err(|error| error.to_string())?;
    let (subscribed, ready) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut read = 0;
        let limit = client.read_timeout(WAIT);
        limit.map_err(|error| error.to_string())?;
        let mut pinged = Instant::now();
        loop {
            // It promised a packet every 60 s (3.1.2.10).
            if pinged.elapsed() > PING {
                pinged = Instant::now();
                client.ping();
                client.flush().map_err(|error| error.to_string())?;
            }
            match client.receive() {
                Ok(Packet::Publish { .. }) => read += 1,
                Ok(_) => drop(subscribed.send(())),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if stop.load(Relaxed) {
                        return Ok(read);
                    }
                }
                Err(error) => return Err(format!("the subscriber: {error}")),
            }
        }
    });
    Ok((thread, ready))
}

/// Reads the topic and ticks every message off, once.
fn stands_once(kafka: SocketAddr, shares: &[u64]) -> Result<(), String> {
    let row = |share: &u64| vec![0u64; share.div_ceil(64) as usize];
    let mut seen: Vec<Vec<u64>> = shares.iter().map(row).collect();
    let mut consumer = Consumer::connect(kafka).map_err(|error| error.to_string())?;
    let mut read = 0;
    for partition in 0..PARTITIONS {
        let end = consumer.offset(TOPIC, partition, -1);
        let end = end.map_err(|error| error.to_string())?;
        let mut next = 0;
        while next < end {
            let records = consumer.fetch(TOPIC, partition, next, WAIT);
            let records = records.map_err(|error| format!("{partition} at {next}: {error}"))?;
            for record in records {
                if record.offset != next {
                    let offset = record.offset;
                    return Err(format!("{partition}: offset {offset} where {next} was due"));
                }
                next += 1;
                read += 1;
                tick(
                    &mut seen,
                    shares,
                    record.value.as_deref().unwrap_or_default(),
                )?;
            }
        }
    }
    let due: u64 = shares.iter().sum();
    match read == due {
        true => Ok(()),
        false => Err(format!("{read} records in Kafka where {due} were due")),
    }
}

/// Since none stands twice, as many as were sent are all of them.
fn tick(seen: &mut [Vec<u64>], shares: &[u64], value: &[u8]) -> Result<(), String> {
    let wrong = || format!("{value:?} is no payload of ours");
    let (publisher, message) = value.split_at_checked(2).ok_or_else(wrong)?;
    let publisher = u16::from_be_bytes(publisher.try_into().map_err(|_| wrong())?);
    let message = u64::from_be_bytes(message.try_into().map_err(|_| wrong())?);
    let row = seen.get_mut(usize::from(publisher)).ok_or_else(wrong)?;
    if message >= shares[usize::from(publisher)] {
        return Err(wrong());
    }
    let (word, bit) = ((message / 64) as usize, 1 << (message % 64));
    if row[word] & bit != 0 {
        return Err(format!(
            "message {message} of publisher {publisher} stands twice"
        ));
    }
    row[word] |= bit;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_a_stranger_and_another_payload_are_seen() {
        const SHARES: [u64; PUBLISHERS] = [100; PUBLISHERS];
        let mut seen = vec![vec![0; 2]; PUBLISHERS];
        let payload = |publisher: u16, message: u64| {
            let mut payload = publisher.to_be_bytes().to_vec();
            payload.extend(message.to_be_bytes());
            payload
        };
        assert_eq!(tick(&mut seen, &SHARES, &payload(1, 99)), Ok(()));
        assert!(tick(&mut seen, &SHARES, &payload(1, 99)).is_err());
        assert!(tick(&mut seen, &SHARES, &payload(1, 100)).is_err());
        assert!(tick(&mut seen, &SHARES, &payload(4, 0)).is_err());
        assert!(tick(&mut seen, &SHARES, b"x").is_err());
    }
}

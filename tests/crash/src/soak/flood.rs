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
    let share = messages / PUBLISHERS as u64;
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
            let (mqtt, sent) = (edge.mqtt, watch.sent.clone());
            std::thread::spawn(move || publish(mqtt, n, share, &sent))
        })
        .collect();
    while publishers.iter().any(|publisher| !publisher.is_finished()) {
        watch.look();
    }
    for publisher in publishers {
        let ended = publisher.join().expect("publishers do not panic");
        ended.map_err(|error| format!("a publisher: {error}"))?;
    }
    let took = watch.started.elapsed();
    let total = share * PUBLISHERS as u64;
    let until = Instant::now() + limit;
    let wrong = loop {
        watch.look();
        let page = Page::read(EDGE, edge.status).map_err(|error| error.to_string())?;
        let wrong = differences(&page, total, share);
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
    stands_once(cloud.kafka, share)?;
    let per_second = total as f64 / took.as_secs_f64();
    let mut lines = vec![format!(
        "{total} messages of {PAYLOAD_BYTES} B, half at QoS 0 and half at QoS 1 with {} in flight for each of \
         {} publishers: {per_second:.0} a second; all in the cloud after {:.1} s, each once; a subscriber \
         read {read} of {share}, {dropped} dropped by the counter",
        2 * BURST,
        PUBLISHERS / 2,
        drained.as_secs_f64(),
    )];
    lines.extend(watch.memory.report());
    Ok(lines)
}

/// What the edge's counters say otherwise, when all is over.
fn differences(page: &Page, total: u64, share: u64) -> Vec<String> {
    let half = (share * PUBLISHERS as u64 / 2) as i64;
    let due = [
        ("mqtt_published_total{qos=\"0\"}", half),
        ("mqtt_published_total{qos=\"1\"}", half),
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

/// Sends `share` messages, and at QoS 1 waits for every PUBACK.
fn publish(
    broker: SocketAddr,
    publisher: usize,
    share: u64,
    sent: &AtomicU64,
) -> std::io::Result<()> {
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
    while next < share || unanswered > 0 {
        let burst = BURST.min(share - next);
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
        if qos == 0 {
            continue;
        }
        unanswered += burst;
        let may_stay = if next < share { BURST } else { 0 };
        while unanswered > may_stay {
            match client.receive()? {
                Packet::PubAck(_) => unanswered -= 1,
                other => return Err(std::io::Error::other(format!("{other:?}"))),
            }
        }
    }
    client.disconnect()
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
        loop {
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
fn stands_once(kafka: SocketAddr, share: u64) -> Result<(), String> {
    let words = share.div_ceil(64) as usize;
    let mut seen = vec![vec![0u64; words]; PUBLISHERS];
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
                    share,
                    record.value.as_deref().unwrap_or_default(),
                )?;
            }
        }
    }
    let due = share * PUBLISHERS as u64;
    match read == due {
        true => Ok(()),
        false => Err(format!("{read} records in Kafka where {due} were due")),
    }
}

/// Since none stands twice, as many as were sent are all of them.
fn tick(seen: &mut [Vec<u64>], share: u64, value: &[u8]) -> Result<(), String> {
    let wrong = || format!("{value:?} is no payload of ours");
    let (publisher, message) = value.split_at_checked(2).ok_or_else(wrong)?;
    let publisher = u16::from_be_bytes(publisher.try_into().map_err(|_| wrong())?);
    let message = u64::from_be_bytes(message.try_into().map_err(|_| wrong())?);
    let row = seen.get_mut(usize::from(publisher)).ok_or_else(wrong)?;
    if message >= share {
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
        let mut seen = vec![vec![0; 2]; PUBLISHERS];
        let payload = |publisher: u16, message: u64| {
            let mut payload = publisher.to_be_bytes().to_vec();
            payload.extend(message.to_be_bytes());
            payload
        };
        assert_eq!(tick(&mut seen, 100, &payload(1, 99)), Ok(()));
        assert!(tick(&mut seen, 100, &payload(1, 99)).is_err());
        assert!(tick(&mut seen, 100, &payload(1, 100)).is_err());
        assert!(tick(&mut seen, 100, &payload(4, 0)).is_err());
        assert!(tick(&mut seen, 100, b"x").is_err());
    }
}

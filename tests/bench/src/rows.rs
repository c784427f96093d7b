//! One function per row of the table. Each prints nothing and returns what it saw.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::kafka::Consumer;
use e2e::link::Link;
use e2e::mqtt::{Client, Packet};
use e2e::nodes::{Cloud, Edge};
use e2e::process::{Process, free_port, wait_listening};
use e2e::wait_for;

use crate::load::{self, Load, Outcome};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The load of DESIGN.md's first row.
fn design_load(time: Duration) -> Load {
    Load {
        publishers: 10,
        in_flight: 50,
        payload_bytes: 100,
        time,
    }
}

/// Mosquitto as Debian packages it, without a queue limit that would drop for the subscriber, and
/// without persistence: it does not fsync.
pub fn mosquitto(dir: &Path, time: Duration) -> Result<Outcome> {
    let address = free_port();
    let config = dir.join("mosquitto.conf");
    let mut file = std::fs::File::create(&config)?;
    writeln!(file, "listener {} {}", address.port(), address.ip())?;
    writeln!(
        file,
        "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000"
    )?;
    let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .ok_or("mosquitto is not installed (Debian: mosquitto)")?;
    let args = ["-c".to_owned(), config.display().to_string()];
    let _process = Process::spawn("mosquitto", program, &args, &dir.join("mosquitto.log"));
    wait_listening("mosquitto", address);
    Ok(load::qos1(address, design_load(time))?)
}

/// The edge with its defaults: fsync before each PUBACK.
pub fn edge_qos1(dir: &Path, time: Duration) -> Result<Outcome> {
    let edge = Edge::new(&dir.join("edge-qos1"), None);
    let process = edge.start();
    let outcome = load::qos1(edge.mqtt, design_load(time))?;
    process.stop();
    std::fs::remove_dir_all(&edge.dir)?;
    Ok(outcome)
}

/// Resident bytes of an edge that has done nothing for two seconds.
pub fn edge_idle_rss(dir: &Path) -> Result<u64> {
    let edge = Edge::new(&dir.join("edge-idle"), None);
    let process = edge.start();
    // The figure is of an idle process: time has to pass.
    std::thread::sleep(Duration::from_secs(2));
    Ok(process.rss_bytes())
}

/// What a reading costs on its way, at a steady rate.
pub struct PathCost {
    pub readings: u64,
    pub payload_bytes: f64,
    pub edge_disk_bytes: f64,
    pub link_bytes: f64,
    pub device_bytes_per_ingested: f64,
    pub poll_p50: Duration,
    pub poll_p99: Duration,
}

/// Publishes readings at `rate` a second for `time`, through a relay that counts bytes, and polls
/// the topic meanwhile: latency from just before the PUBLISH to the poll that returns it.
pub fn path(dir: &Path, rate: u32, time: Duration) -> Result<PathCost> {
    let cloud = Cloud::new(&dir.join("path-cloud"));
    let cloud_process = cloud.start();
    let link = Link::to(cloud.uplink);
    let edge = Edge::new(
        &dir.join("path-edge"),
        Some(cloud.add_edge("bench", link.address())),
    );
    let edge_process = edge.start();
    // The first record makes the topic; everything after it is measured.
    let mut publisher = Client::connect(edge.mqtt, "bench-path", true)?;
    publisher.publish("sensors/first", b"{}", 1, 1, false);
    publisher.flush()?;
    match publisher.receive()? {
        Packet::PubAck(1) => {}
        other => return Err(format!("not the PUBACK of the first record: {other:?}").into()),
    }
    let (partition, next) = first_record(cloud.kafka)?;

    let consumer = std::thread::spawn(move || {
        poll(
            cloud.kafka,
            partition,
            next,
            u64::from(rate) * time.as_secs(),
        )
    });
    let passed = link.passed_bytes();
    let written = edge_process.written_bytes();
    let (readings, ingested) = publish_readings(publisher, rate, time)?;
    let mut latencies = consumer
        .join()
        .expect("the consumer does not panic")
        .map_err(|error| error.to_string())?;
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    // What is still in flight or unsynced belongs to the figure: J7 syncs within 5 s.
    std::thread::sleep(Duration::from_secs(6));
    let cost = PathCost {
        readings,
        payload_bytes: ingested as f64 / readings as f64,
        edge_disk_bytes: segment_bytes(&edge.dir.join("data"))? as f64 / readings as f64,
        link_bytes: (link.passed_bytes() - passed) as f64 / readings as f64,
        device_bytes_per_ingested: (edge_process.written_bytes() - written) as f64
            / ingested as f64,
        poll_p50: at(50),
        poll_p99: at(99),
    };
    edge_process.stop();
    cloud_process.stop();
    Ok(cost)
}

fn first_record(kafka: SocketAddr) -> Result<(i32, i64)> {
    let mut consumer = Consumer::connect(kafka)?;
    Ok(wait_for(
        "the first record in the cloud",
        Duration::from_secs(20),
        || {
            let records = consumer.read_all("mqtt").ok()?;
            records
                .first()
                .map(|record| (record.partition, record.offset + 1))
        },
    ))
}

fn poll(
    kafka: SocketAddr,
    partition: i32,
    mut next: i64,
    wanted: u64,
) -> std::result::Result<Vec<Duration>, String> {
    let mut consumer = Consumer::connect(kafka).map_err(|error| error.to_string())?;
    let mut latencies = Vec::new();
    let until = Instant::now() + Duration::from_secs(600);
    while (latencies.len() as u64) < wanted {
        if Instant::now() > until {
            return Err(format!("{} of {wanted} readings came", latencies.len()));
        }
        let records = consumer
            .fetch("mqtt", partition, next, Duration::from_millis(500))
            .map_err(|error| error.to_string())?;
        let now = wall_clock();
        for record in records {
            next = record.offset + 1;
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().unwrap_or_default())
                    .map_err(|error| error.to_string())?;
            let sent =
                Duration::from_micros(value["us"].as_u64().ok_or("a reading without its time")?);
            latencies.push(now.saturating_sub(sent));
        }
    }
    Ok(latencies)
}

/// Readings as in DESIGN.md, from twenty sensors in turn, with the microsecond in place of a
/// second clock field. Returns how many were acknowledged and the bytes of their payloads and topics.
fn publish_readings(mut client: Client, rate: u32, time: Duration) -> Result<(u64, u64)> {
    let total = u64::from(rate) * time.as_secs();
    let started = Instant::now();
    let (mut sent, mut acked, mut bytes) = (0u64, 0u64, 0u64);
    client.read_timeout(Duration::from_secs(20))?;
    while acked < total {
        let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1;
        while sent < due.min(total) && sent - acked < 1000 {
            let sensor = sent % 20;
            let topic = format!("sensors/temp-{sensor:02}");
            let us = wall_clock().as_micros();
            let payload = format!(
                "{{\"us\":{us},\"sensor\":\"temp-{sensor:02}\",\"value\":{:.2},\"unit\":\"C\",\"seq\":{sent},\"batt\":3.7,\"status\":\"ok\"}}",
                21.0 + (sent * 7919 % 500) as f64 / 100.0
            );
            bytes += (payload.len() + topic.len()) as u64;
            client.publish(
                &topic,
                payload.as_bytes(),
                1,
                (sent % 60000) as u16 + 1,
                false,
            );
            sent += 1;
        }
        client.flush()?;
        if sent == acked {
            // Pacing: the next reading is not due yet.
            std::thread::sleep(Duration::from_micros(500));
            continue;
        }
        loop {
            if let Packet::PubAck(_) = client.receive()? {
                acked += 1;
            }
            if !client.has_buffered_input() {
                break;
            }
        }
    }
    client.disconnect()?;
    Ok((total, bytes))
}

fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Bytes of all segments (`.log` of RecordBatches) below `dir`.
fn segment_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            sum += segment_bytes(&entry.path())?;
        } else if name.len() == 24 && name.ends_with(".log") {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

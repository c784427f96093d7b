//! Headwater against the clients that its users have: MQTT clients publish to an edge, Kafka clients
//! read the mirrored topic from the cloud, Kafka's own tool reads both directories. Started by
//! `tests/interop/run`, which brings the clients. Fails, never skips.

mod consume;
mod dump;
mod publish;
mod rows;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use e2e::kafka::Consumer;
use e2e::nodes::{Cloud, Edge};

use crate::consume::Source;

/// Publishes with every MQTT client, reads with every Kafka client, and compares.
#[derive(Parser)]
struct Arguments {
    /// Where the clients are, and where the table of exercised APIs is written
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    let out = arguments
        .out
        .canonicalize()
        .map_err(|error| format!("{}: {error}", arguments.out.display()))?;
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let cloud = Cloud::new(&scratch.path().join("cloud"));
    let cloud_process = cloud.start();
    let edge = Edge::new(
        &scratch.path().join("edge"),
        Some(cloud.add_edge("interop", cloud.uplink)),
    );
    let edge_process = edge.start();
    println!("== MQTT clients publish");
    let started_ms = wall_clock_ms();
    let mut published = Vec::new();
    for version in ["3.1.1", "5"] {
        published.extend(publish::paho(&out, edge.mqtt, version)?);
    }
    for version in ["311", "5"] {
        published.extend(publish::mosquitto(edge.mqtt, version)?);
    }
    published.extend(publish::rumqttc(edge.mqtt)?);
    println!("   {} messages acknowledged", published.len());
    let ended_ms = wall_clock_ms() + 1000;
    wait_mirrored(&cloud, published.len())?;

    println!("== Kafka clients read");
    let source = Source {
        out: &out,
        kafka: cloud.kafka,
        topic: "mqtt",
        records: published.len(),
    };
    let first = consume::kcat(source)?;
    rows::compare(&published, &first, started_ms, ended_ms)
        .map_err(|error| format!("kcat: {error}"))?;
    for members in [1, 3] {
        for (name, read) in [
            (
                "confluent-kafka",
                consume::python(source, "confluent", members)?,
            ),
            (
                "kafka-python",
                consume::python(source, "kafka-python", members)?,
            ),
            ("java", consume::java(source, members)?),
        ] {
            rows::compare(&published, &read, started_ms, ended_ms)
                .map_err(|error| format!("{name}: {error}"))?;
            rows::same(&first, &read)
                .map_err(|error| format!("kcat and {name} differ: {error}"))?;
        }
    }
    println!("== MQTT clients subscribe");
    publish::mosquitto_sub_receives(edge.mqtt)?;

    println!("== Kafka's DumpLogSegments");
    table::write(&out, cloud.admin)?;
    edge_process.stop();
    cloud_process.stop();
    for (name, dir) in [
        ("edge", edge.dir.join("data")),
        ("cloud", cloud.dir.join("data")),
    ] {
        let (segments, batches) = dump::check(&out, &dir)?;
        println!("   {name}: {segments} segments, {batches} batches, all valid");
    }
    println!("\n12 passed, 0 failed");
    Ok(())
}

fn wait_mirrored(cloud: &Cloud, records: usize) -> Result<(), String> {
    let started = Instant::now();
    let mut seen = 0;
    while started.elapsed() < Duration::from_secs(30) {
        let read =
            Consumer::connect(cloud.kafka).and_then(|mut consumer| consumer.read_all("mqtt"));
        seen = read.map_or(seen, |records| records.len());
        if seen >= records {
            return Ok(());
        }
        // Polling another process' state: there is nothing to be woken by.
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("{seen} of {records} messages mirrored in 30 s"))
}

fn wall_clock_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// One value per line.
fn json_lines<T: for<'a> serde::Deserialize<'a>>(output: &[u8]) -> Result<Vec<T>, String> {
    let text = std::str::from_utf8(output).map_err(|error| error.to_string())?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")))
        .collect()
}

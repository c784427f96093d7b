//! Readings at a steady rate from an MQTT publish to a Kafka poll: how long it takes, and what a
//! reading costs on the edge's disk, on the link and on the device.

use std::path::Path;
use std::time::Duration;

use e2e::link::Link;
use e2e::nodes::{Cloud, Edge};

use super::{Plan, Result, say};
use crate::readings;
use crate::table::{Line, Spread};

const LINGER_MS: f64 = 250.0;
/// J7 syncs whatever waits within 5 s: it belongs to the figures.
const SETTLE: Duration = Duration::from_secs(6);
/// Six batches at linger 10 s and more.
const SLOW_TIME: Duration = Duration::from_secs(70);

/// What one round cost.
struct Cost {
    segment_bytes: f64,
    link_bytes: f64,
    device_per_ingested: f64,
    poll_ms: Spread,
    p99_ms: f64,
}

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let mut rounds = Vec::new();
    for n in 1..=plan.rounds {
        say(format!("1,000 readings/s, round {n} of {}", plan.rounds));
        rounds.push(round(plan.dir, 1000, plan.time, "")?);
    }
    let of = |value: fn(&Cost) -> f64| Spread::of(rounds.iter().map(value));
    let p99 = of(|c| c.p99_ms);
    let device = of(|c| c.device_per_ingested);
    let [disk, link] = bytes_lines("1,000 readings/s, linger 250 ms", &rounds, 17.0);
    let kept = |value: fn(&Cost) -> f64| of(value).median() <= 20.0;
    Ok(vec![
        Line::new(
            "publish to Kafka poll, 1,000 readings/s, defaults",
            format!(
                "p50 {} ms, p99 {} ms",
                of(|c| c.poll_ms.median()).show(1.0, 0),
                p99.show(1.0, 0)
            ),
        )
        .aim("p99 300 ms", p99.median() <= LINGER_MS + 50.0),
        disk.floor("20 B", kept(|c| c.segment_bytes)),
        link.floor("20 B", kept(|c| c.link_bytes)),
        Line::new(
            "device bytes written per byte ingested, all files, 1,000 readings/s",
            device.show(1.0, 2),
        )
        .aim("0.6", device.median() <= 0.6),
    ])
}

pub fn run_slow(plan: &Plan<'_>) -> Result<Vec<Line>> {
    say(format!("20 readings/s for {SLOW_TIME:?}"));
    let config = "[log]\nlinger_ms = 10000\n";
    let rounds = [round(plan.dir, 20, SLOW_TIME, config)?];
    Ok(bytes_lines("20 readings/s, linger 10 s", &rounds, 18.0).into())
}

fn bytes_lines(what: &str, rounds: &[Cost], aim: f64) -> [Line; 2] {
    let disk = Spread::of(rounds.iter().map(|c| c.segment_bytes));
    let link = Spread::of(rounds.iter().map(|c| c.link_bytes));
    [("disk (segments)", disk), ("link, both ways", link)].map(|(place, bytes)| {
        let what = format!("{place}, bytes per reading of 114 B, {what}");
        Line::new(what, format!("{} B", bytes.show(1.0, 1)))
            .aim(format!("{aim:.0} B"), bytes.median() <= aim)
    })
}

fn round(dir: &Path, rate: u32, time: Duration, config: &str) -> Result<Cost> {
    let scratch = tempfile::tempdir_in(dir)?;
    let cloud = Cloud::new(&scratch.path().join("cloud"));
    let link = Link::to(cloud.uplink);
    let cloud = cloud.behind(&link);
    let _cloud_process = cloud.start();
    let bundle = cloud.add_edge("bench", link.address());
    let edge = Edge::new(&scratch.path().join("edge"), Some(bundle)).with_config(config);
    let process = edge.start();
    // The first record makes the topic; everything after it is measured.
    let from = readings::first(edge.mqtt, cloud.kafka)?;
    let wanted = u64::from(rate) * time.as_secs();
    let consumer = std::thread::spawn(move || {
        let mut latencies = Vec::new();
        let polled = readings::poll(cloud.kafka, from, wanted, |record, now| {
            if let Ok(sent) = readings::sent_at(record) {
                latencies.push(now.saturating_sub(sent).as_secs_f64() * 1e3);
            }
        });
        polled.map(|()| latencies).map_err(|e| e.to_string())
    });
    let (passed, written) = (link.passed_bytes(), process.written_bytes());
    let published = readings::publish(edge.mqtt, rate, time)?;
    let mut latencies = consumer.join().expect("the consumer does not panic")?;
    if latencies.len() as u64 != published.readings {
        return Err("a record that is no reading of ours".into());
    }
    std::thread::sleep(SETTLE);
    latencies.sort_by(f64::total_cmp);
    let p99_ms = latencies[(latencies.len() - 1) * 99 / 100];
    let readings = published.readings as f64;
    let cost = Cost {
        segment_bytes: segment_bytes(&edge.dir.join("data"))? as f64 / readings,
        link_bytes: (link.passed_bytes() - passed) as f64 / readings,
        device_per_ingested: (process.written_bytes() - written) as f64 / published.bytes as f64,
        poll_ms: Spread::of(latencies),
        p99_ms,
    };
    process.stop();
    Ok(cost)
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

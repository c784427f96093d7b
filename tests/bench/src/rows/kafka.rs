//! The cloud node's Kafka port beside Apache Kafka: the same client (Kafka's own perf tools), the
//! same machine, in turns. A first round warms both up and is not counted.
//!
//! Headwater fsyncs before it answers a Produce and Kafka leaves that to the operating system.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::nodes::Cloud;
use e2e::process::{Process, children_cpu_time};

use super::{Plan, Result, say};
use crate::peers::kafka::{self, Work};
use crate::readings::reading;
use crate::table::{Line, Spread};

/// What is sent. Readings fit into what a cloud node holds in memory; blobs are read back from its
/// cold segments for the most part.
struct Load {
    name: &'static str,
    values: fn(u64) -> String,
    /// Per second of a round, so that a round takes about that long.
    records_per_s: u64,
}

const LOADS: [Load; 2] = [
    Load {
        name: "readings of 99 B",
        values: |n| reading(n, 1_763_800_000_000 + u128::from(n)).1,
        records_per_s: 300_000,
    },
    Load {
        name: "1 kB of random letters",
        values: letters,
        records_per_s: 40_000,
    },
];
const VALUES: u64 = 20_000;

/// A running broker.
struct Broker {
    process: Process,
    address: SocketAddr,
}

/// One direction of one broker: values per second, and the CPU that broker and client took per GB
/// of values.
#[derive(Clone, Copy)]
struct Figure {
    mb_per_s: f64,
    cpu_s_per_gb: f64,
    client_s_per_gb: f64,
}

/// Produce and fetch.
type Pair = [Figure; 2];

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let scratch = tempfile::tempdir_in(plan.dir)?;
    let cloud = Cloud::new(&scratch.path().join("cloud"));
    let ours = Broker {
        process: cloud.start(),
        address: cloud.kafka,
    };
    let (process, address) = kafka::start(&scratch.path().join("kafka"))?;
    let theirs = Broker { process, address };
    let mut lines = Vec::new();
    for load in &LOADS {
        let payloads = write_values(scratch.path(), load)?;
        let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
        for n in 0..=plan.rounds {
            say(format!("{}: round {n} of {}", load.name, plan.rounds));
            let topic = format!("round-{n}-{}", load.records_per_s);
            let work = Work {
                topic: &topic,
                payloads: &payloads,
                records: load.records_per_s * plan.time.as_secs(),
            };
            let pair = (measure(&ours, work)?, measure(&theirs, work)?);
            if n > 0 {
                our_rounds.push(pair.0);
                their_rounds.push(pair.1);
            }
        }
        lines.extend(load_lines(load, &our_rounds, &their_rounds)?);
    }
    Ok(lines)
}

fn measure(broker: &Broker, work: Work<'_>) -> Result<Pair> {
    let produced = one(broker, work, kafka::produce)?;
    let fetched = one(broker, work, kafka::fetch)?;
    Ok([produced, fetched])
}

fn one(
    broker: &Broker,
    work: Work<'_>,
    tool: fn(SocketAddr, Work<'_>) -> Result<f64>,
) -> Result<Figure> {
    let (before, client_before) = (broker.process.cpu_time(), children_cpu_time());
    let mb_per_s = tool(broker.address, work)?;
    let client = children_cpu_time() - client_before;
    let broker = broker.process.cpu_time() - before;
    let values = std::fs::read_to_string(work.payloads)?;
    let mean = (values.len() as u64 - VALUES) as f64 / VALUES as f64;
    let gb = mean * work.records as f64 / 1e9;
    Ok(Figure {
        mb_per_s,
        cpu_s_per_gb: broker.as_secs_f64() / gb,
        client_s_per_gb: client.as_secs_f64() / gb,
    })
}

fn load_lines(load: &Load, ours: &[Pair], theirs: &[Pair]) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (i, what) in ["produce", "fetch"].into_iter().enumerate() {
        let of = |pairs: &[Pair], value: fn(&Figure) -> f64| {
            Spread::of(pairs.iter().map(|pair| value(&pair[i])))
        };
        let pairs = ours.iter().zip(theirs);
        let rate = |f: &Figure| f.mb_per_s;
        let cpu = |f: &Figure| f.cpu_s_per_gb;
        let client = |f: &Figure| f.client_s_per_gb;
        let faster = Spread::of(pairs.clone().map(|(a, b)| a[i].mb_per_s / b[i].mb_per_s));
        let cheaper = Spread::of(pairs.map(|(a, b)| b[i].cpu_s_per_gb / a[i].cpu_s_per_gb));
        lines.push(
            Line::new(
                format!("{what}, {}, zstd: MB/s", load.name),
                format!(
                    "{}; {} {}; ratio {}",
                    of(ours, rate).show(1.0, 0),
                    kafka::version()?,
                    of(theirs, rate).show(1.0, 0),
                    faster.show(1.0, 2)
                ),
            )
            .floor("0.8", faster.median() >= 0.8)
            .aim("1.5", faster.median() >= 1.5),
        );
        lines.push(
            Line::new(
                format!("{what}, {}: the broker's CPU seconds per GB", load.name),
                format!(
                    "{}; Kafka {}; ratio Kafka : ours {}; the client itself {}, with Kafka {}",
                    of(ours, cpu).show(1.0, 2),
                    of(theirs, cpu).show(1.0, 2),
                    cheaper.show(1.0, 1),
                    of(ours, client).show(1.0, 1),
                    of(theirs, client).show(1.0, 1)
                ),
            )
            .aim("1.5", cheaper.median() >= 1.5),
        );
    }
    Ok(lines)
}

fn write_values(dir: &Path, load: &Load) -> Result<PathBuf> {
    let path = dir.join(format!("values-{}", load.records_per_s));
    let values: Vec<String> = (0..VALUES).map(load.values).collect();
    std::fs::write(&path, values.join("\n") + "\n")?;
    Ok(path)
}

/// As the producer's own random values, but the same for both brokers.
fn letters(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'A' + (state >> 32) as u8 % 26)
    };
    (0..1000).map(|_| letter()).collect()
}

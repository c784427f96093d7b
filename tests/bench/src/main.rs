//! `cargo run --release -p bench`: first figures, side by side with a named peer in one run, the
//! disk probe beside them. Prints a Markdown table.

mod load;
mod probe;
mod rows;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

const TARGETS: [&str; 3] = [
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
    "arm-unknown-linux-musleabihf",
];

/// Measures the edge beside mosquitto, and the path from a publish to a Kafka poll.
/// Needs `cargo build --release -p edge-node -p cloud-cluster` and Debian's mosquitto.
#[derive(Parser)]
struct Arguments {
    /// Seconds of load per round
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds, brokers taking turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where data and probes are written: the disk that is measured
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    std::fs::create_dir_all(&arguments.dir)?;
    let scratch = tempfile::tempdir_in(&arguments.dir)?;
    let dir = scratch.path();

    println!("| what | figure |\n|---|---|");
    row("machine", &machine());
    print_probe("disk before", dir)?;
    qos1(dir, time, arguments.rounds)?;
    let idle = rows::edge_idle_rss(dir)?;
    row("edge RSS idle", &format!("{:.1} MB", idle as f64 / 1e6));
    let cost = rows::path(dir, 1000, time)?;
    row(
        &format!(
            "publish to Kafka poll, {} readings at 1,000/s, defaults",
            cost.readings
        ),
        &format!("p50 {:.0?}, p99 {:.0?}", cost.poll_p50, cost.poll_p99),
    );
    row(
        &format!(
            "bytes per reading of {:.0} B (topic and payload)",
            cost.payload_bytes
        ),
        &format!(
            "{:.1} in edge segments, {:.1} on the link both ways",
            cost.edge_disk_bytes, cost.link_bytes
        ),
    );
    row(
        "device bytes written per byte ingested",
        &format!("{:.2}", cost.device_bytes_per_ingested),
    );
    print_probe("disk after", dir)?;
    for target in TARGETS {
        let binary = Path::new("target").join(target).join("edge/edge-node");
        let size = match binary.metadata() {
            Ok(found) => format!("{:.2} MB", found.len() as f64 / 1e6),
            Err(_) => format!("not built: cross/build {target}"),
        };
        row(&format!("edge binary, {target}"), &size);
    }
    Ok(())
}

fn row(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores, {}",
        model.trim_start_matches(['\t', ' ', ':'])
    )
}

fn print_probe(name: &str, dir: &Path) -> std::io::Result<()> {
    let probe = probe::disk(dir)?;
    row(
        name,
        &format!(
            "{:.0} fdatasync/s (p50 {:.2?}, p99 {:.2?}), {:.0} MB/s sequential",
            probe.fdatasync_per_s,
            probe.fdatasync_p50,
            probe.fdatasync_p99,
            probe.sequential_mb_per_s
        ),
    );
    Ok(())
}

/// Brokers take turns, so that an hour's drift of the machine hits both.
fn qos1(dir: &Path, time: Duration, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let edge = rows::edge_qos1(dir, time)?;
        let mosquitto = rows::mosquitto(dir, time)?;
        ratios.push(edge.acked_per_s / mosquitto.acked_per_s);
        ours.push(edge);
        theirs.push(mosquitto);
    }
    for (name, outcomes) in [
        ("edge, fsync before PUBACK", &mut ours),
        ("mosquitto, no fsync", &mut theirs),
    ] {
        outcomes.sort_by(|a, b| a.acked_per_s.total_cmp(&b.acked_per_s));
        let median = &outcomes[outcomes.len() / 2];
        row(
            &format!("QoS 1, {name}: acked/s, median of {rounds} (min to max)"),
            &format!(
                "{:.0} ({:.0} to {:.0}); delivered {:.0}/s; PUBACK p50 {:.2?}, p99 {:.2?}",
                median.acked_per_s,
                outcomes[0].acked_per_s,
                outcomes[outcomes.len() - 1].acked_per_s,
                median.delivered_per_s,
                median.ack_p50,
                median.ack_p99
            ),
        );
    }
    ratios.sort_by(f64::total_cmp);
    row(
        "ratio edge : mosquitto, median (min to max)",
        &format!(
            "{:.2} ({:.2} to {:.2})",
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1]
        ),
    );
    Ok(())
}

//! `cargo run --release -p crash`: a million QoS 1 and 100,000 QoS 2 messages, while link, edge and
//! cloud are cut and killed at random. Needs both binaries beside it:
//! `cargo build --release -p edge-node -p cloud-cluster` first.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use crash::plan::Counts;
use crash::run::{Setup, Standing, Summary, run};

/// Publishes while both nodes and the link fail, and looks for every acknowledged message.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Draws when what fails; without it, a fresh one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// Messages at QoS 1
    #[arg(long, default_value_t = 1_000_000)]
    qos1: u32,
    /// Messages at QoS 2
    #[arg(long, default_value_t = 100_000)]
    qos2: u32,
    /// SIGKILLs of the edge, and as many of the cloud node
    #[arg(long, default_value_t = 5)]
    kills: u64,
    /// Times the link is cut
    #[arg(long, default_value_t = 3)]
    cuts: u64,
    /// Where the nodes' data and logs go, and stay; without it, a folder that is removed when all is
    /// well
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Longest wait for anything, in seconds
    #[arg(long, default_value_t = 900)]
    limit: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let scratch = match tempfile::Builder::new()
        .prefix("headwater-crash-")
        .tempdir()
    {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("a scratch folder: {error}");
            return ExitCode::FAILURE;
        }
    };
    let root = arguments.dir.clone().unwrap_or(scratch.path().to_owned());
    let setup = Setup {
        seed,
        qos1: arguments.qos1,
        qos2: arguments.qos2,
        counts: Counts {
            kills: arguments.kills,
            cuts: arguments.cuts,
        },
        limit: Duration::from_secs(arguments.limit),
    };
    println!("seed {seed}: again with --seed {seed}");
    let mut line = Line::new(u64::from(setup.qos1 + setup.qos2));
    match run(&root, setup, |standing| line.show(standing)) {
        Ok(summary) => {
            println!("\n{}", text(seed, &summary));
            ExitCode::SUCCESS
        }
        Err(what) => {
            let kept = scratch.keep();
            let at = arguments.dir.unwrap_or(kept);
            println!(
                "\nFAILED with seed {seed}; data and logs are in {}",
                at.display()
            );
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

/// One line that is written over and over.
struct Line {
    messages: u64,
    shown: Instant,
}

impl Line {
    const EVERY: Duration = Duration::from_millis(500);

    fn new(messages: u64) -> Line {
        let shown = Instant::now();
        Line { messages, shown }
    }

    fn show(&mut self, now: Standing) {
        if self.shown.elapsed() < Line::EVERY {
            return;
        }
        self.shown = Instant::now();
        print!(
            "\r{} of {} acknowledged, {} in the cloud, {} resent; killed: edge {}, cloud {}; cuts {}  ",
            now.acked,
            self.messages,
            now.in_cloud,
            now.resent,
            now.edge_kills,
            now.cloud_kills,
            now.cuts
        );
        let _ = std::io::stdout().flush();
    }
}

fn text(seed: u64, summary: &Summary) -> String {
    let Summary {
        verdict,
        standing,
        dropped,
        published_in,
        took,
    } = summary;
    format!(
        "seed {seed}: {} messages acknowledged, each there once and in order, every CRC right\n\
         published in {:.1} s, everything in the cloud and read twice after {:.1} s\n\
         killed: edge {} times, cloud {} times; link cut {} times ({dropped} datagrams dropped)\n\
         {} reconnects, {} resends with DUP, of which {} left two attempts (QoS 1)",
        verdict.acked,
        published_in.as_secs_f64(),
        took.as_secs_f64(),
        standing.edge_kills,
        standing.cloud_kills,
        standing.cuts,
        verdict.reconnects,
        verdict.resends,
        verdict.unacked_present,
    )
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64 % 1_000_000_007)
}

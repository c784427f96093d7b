//! `cargo run --release -p crash --bin soak -- --minutes 60`: the edge under kills, cuts, outages, slow
//! clients and a full disk for so long, judged in the end. Needs both binaries beside it:
//! `cargo build --release -p edge-node -p cloud-cluster` first. Without root it takes a user namespace
//! of its own, see `crash::room`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crash::room;
use crash::soak::{Setup, flood, run};

/// Runs an edge and a cloud node under random faults, and judges what came of it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Draws what fails when; without it, a fresh one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults are dealt
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// So many messages at QoS 0 and 1 as fast as it goes, without faults, instead
    #[arg(long)]
    messages: Option<u64>,
    /// The edge drops its oldest records when its disk is full, and the ledger has to name them
    #[arg(long)]
    drop_oldest: bool,
    /// Longest pause between two faults, in seconds
    #[arg(long, default_value_t = 16.0)]
    pause: f64,
    /// Where the nodes' data and logs go, and stay; without it, a folder that is removed when all is
    /// well
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Longest wait for anything, in seconds
    #[arg(long, default_value_t = 180)]
    limit: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before there is a second thread.
    if let Err(what) = room::own_mounts() {
        eprintln!("{what}");
        return ExitCode::FAILURE;
    }
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let scratch = match tempfile::Builder::new().prefix("headwater-soak-").tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("a scratch folder: {error}");
            return ExitCode::FAILURE;
        }
    };
    let root = arguments.dir.clone().unwrap_or(scratch.path().to_owned());
    let limit = Duration::from_secs(arguments.limit);
    if let Some(messages) = arguments.messages {
        return match flood::run(&root, messages, limit) {
            Ok(lines) => {
                println!("{}", lines.join("\n"));
                ExitCode::SUCCESS
            }
            Err(what) => {
                println!(
                    "{what}\nFAILED; data and logs are in {}",
                    scratch.keep().display()
                );
                ExitCode::FAILURE
            }
        };
    }
    println!("seed {seed}: the same faults again with --seed {seed}");
    let setup = Setup {
        seed,
        lasts: Duration::from_secs_f64(arguments.minutes * 60.0),
        pause_max_ms: (arguments.pause * 1_000.0) as u64,
        drop_oldest: arguments.drop_oldest,
        limit,
    };
    match run(&root, setup) {
        Ok(summary) => {
            println!("{}", summary.lines.join("\n"));
            println!(
                "seed {seed}: {} acknowledged, {} refused, {} resent, {} numbers compared; {:?}",
                summary.acked, summary.refused, summary.resent, summary.compared, summary.done
            );
            ExitCode::SUCCESS
        }
        Err(what) => {
            let kept = scratch.keep();
            let at = arguments.dir.unwrap_or(kept);
            println!("{what}");
            println!(
                "FAILED with seed {seed}; data and logs are in {}",
                at.display()
            );
            ExitCode::FAILURE
        }
    }
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64 % 1_000_000_007)
}

//! Many seeds, or one again.
//!
//! ```text
//! cargo run --release -p sim -- --seeds 10000            fresh seeds, with a summary
//! cargo run --release -p sim -- --seed 17 --trace        one again, with what happens in it
//! ```

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use headwater_log::durable::Rules;
use sim::count::Trace;
use sim::run::{self, Summary};

/// Runs simulated worlds from seeds and says what they met.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them; by default one that was never used before.
    #[arg(long)]
    first_seed: Option<u64>,
    /// Just this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints what happens in it.
    #[arg(long)]
    trace: bool,
    /// Worlds at a time; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Goes on after failures, up to so many.
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seed {
        Some(seed) => one(seed, args.trace),
        None => many(&args),
    }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    if trace {
        // What the nodes themselves log stands between the world's lines.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let lines = tracing_subscriber::fmt().without_time().with_ansi(false);
        lines.with_env_filter(filter).init();
    }
    let trace = if trace { Trace::Printed } else { Trace::Off };
    let report = run::simulate(seed, trace, Rules::default());
    show(&report.counts);
    println!("seed {seed}: trace {:016x}", report.hash);
    match report.told() {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn many(args: &Args) -> ExitCode {
    let first = args.first_seed.unwrap_or_else(run::fresh_seed);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores);
    println!("seeds {first}.. ({}), {jobs} at a time", args.seeds);
    let started = Instant::now();
    let (mut told, mut slow) = (0, BTreeSet::new());
    let tell = |summary: &Summary| {
        // At once: a long run may be cut short.
        for failure in &summary.failures[told..] {
            eprintln!("{failure}");
        }
        told = summary.failures.len();
        for seed in &summary.slow {
            if slow.insert(*seed) {
                eprintln!("seed {seed} takes longer than {} s", run::SLOW.as_secs());
            }
        }
        if summary.seeds % 100 == 0 {
            let cuts = summary.counts.get("disk: power cuts").unwrap_or(&0);
            let seconds = started.elapsed().as_secs_f64();
            let (seeds, failed) = (summary.seeds, summary.failures.len());
            eprintln!("{seeds} seeds, {cuts} power cuts, {failed} failures, {seconds:.0} s");
        }
    };
    let summary = run::many(first, args.seeds, jobs, args.failures, tell);
    show(&summary.counts);
    let seconds = started.elapsed().as_secs_f64();
    let per_seed = seconds * 1_000.0 * jobs as f64 / summary.seeds.max(1) as f64;
    println!(
        "{} seeds, {} power cuts, {} hours simulated, in {seconds:.0} s: {per_seed:.0} ms of a \
         core each",
        summary.seeds,
        summary.counts.get("disk: power cuts").unwrap_or(&0),
        summary.simulated_ms / 3_600_000,
    );
    summary
        .failures
        .iter()
        .for_each(|failure| println!("{failure}"));
    let silent = run::silent(&summary.counts);
    if summary.seeds >= run::SEEDS_FOR_ALL_FAULTS && !silent.is_empty() {
        println!("never happened: {silent:?}");
        return ExitCode::FAILURE;
    }
    match summary.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn show(counts: &sim::count::Counts) {
    for (what, count) in counts {
        println!("{count:>10} {what}");
    }
}

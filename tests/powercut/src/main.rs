//! Power cuts of the real process. The simulator drives everything above the `Disk` trait; what lies
//! below it, the real files and sled's own, is here: an `edge-node` runs under strace, and from its
//! own system calls a file system is rebuilt as a power cut leaves it at any moment. The real binary
//! then starts on that, and everything acknowledged by that moment must stand once.
//!
//! The same with both nodes, round after round: while publishers write and the edge mirrors, one node's
//! power is cut, and it goes on with what that left. At the end everything stands once in the cloud.
//!
//! ```text
//! cargo build -p edge-node -p cloud-cluster && cargo run -p powercut -- --cuts 200 --rounds 20
//! ```
//! Needs strace, and leave to trace one's own children.

mod answers;
mod disk;
mod edge;
mod rounds;
mod trace;
mod traced;

use std::process::ExitCode;

use clap::Parser;
use disk::Unsynced;
use edge::{Load, Met};
use headwater_batch::SplitMix64;

/// Cuts the power of real nodes, by their own system calls.
#[derive(Parser)]
struct Args {
    /// How many cuts of an edge, at any moment of its life.
    #[arg(long, default_value_t = 40)]
    cuts: u64,
    /// How many cuts of edge and cloud at work.
    #[arg(long, default_value_t = 6)]
    rounds: u64,
    /// The moments' seed; by default one that was never used before. The run that is cut is a new one
    /// each time: threads and clocks are real.
    #[arg(long)]
    seed: Option<u64>,
    /// Messages of each of three publishers at QoS 1; a third as many at QoS 2.
    #[arg(long, default_value_t = 600)]
    messages: u16,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args
        .seed
        .unwrap_or_else(|| getrandom::u64().expect("the system has random numbers") >> 16);
    println!("seed {seed}");
    match run(&args, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("powercut: seed {seed}: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, seed: u64) -> Result<(), String> {
    let mut rng = SplitMix64(seed);
    if args.cuts > 0 {
        cuts(args, &mut rng)?;
    }
    if args.rounds > 0 {
        rounds::run(args.rounds, &mut rng)?;
    }
    Ok(())
}

/// What a cut leaves: mostly this and that.
fn unsynced(rng: &mut SplitMix64) -> Unsynced {
    match rng.below(4) {
        0 => Unsynced::Lost,
        1 => Unsynced::Kept,
        _ => Unsynced::Torn(1 + rng.below(7)),
    }
}

fn cuts(args: &Args, rng: &mut SplitMix64) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (qos1, qos2) = (args.messages, args.messages / 3);
    let run = edge::record(scratch.path(), Load { qos1, qos2 })?;
    let mut met = Met::default();
    for n in 1..=args.cuts {
        let (cut, unsynced) = (run.moment(rng), unsynced(rng));
        let place = scratch.path().join(format!("cut-{n}"));
        match run.cut(cut, unsynced, rng, &place) {
            Ok(one) => met.add(&one),
            Err(text) => {
                let kept = scratch.keep().join(format!("cut-{n}"));
                let kept = kept.display();
                return Err(format!(
                    "cut {n} at moment {cut}, {unsynced:?}: {text} (see {kept})"
                ));
            }
        }
        std::fs::remove_dir_all(&place).map_err(|e| e.to_string())?;
        if n % 10 == 0 {
            println!("{n} cuts, {} acknowledged messages asked for", met.acked);
        }
    }
    println!("{} power cuts of an edge: {met:?}", args.cuts);
    met.complete()
}

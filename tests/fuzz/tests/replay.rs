//! Every input of every corpus, and changes of them: from a fixed seed, and from a fresh one that
//! is printed. `HEADWATER_SEED=N` runs one seed again, `HEADWATER_CASES=N` more changes.
#![allow(clippy::unwrap_used)] // A test may.

use std::time::{Duration, Instant, SystemTime};

use fuzz::mutate::{Rng, changed};
use fuzz::{Target, check, corpus};

/// Changes per target and seed, unless HEADWATER_CASES says otherwise.
const CASES: usize = 1_500;
/// A slow target is left at its fixed part of the changes: the suite has other things to do.
const TIME_MAX: Duration = Duration::from_secs(4);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// Says which input failed: a panic inside a target does not know.
struct Running<'a>(&'a str, &'a str, u64, &'a [u8]);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Running(target, name, seed, bytes) = self;
            let path = std::env::temp_dir().join(format!("fuzz-{target}-{seed}"));
            std::fs::write(&path, bytes).unwrap();
            eprintln!(
                "{target}: {name} changed by seed {seed}; the input is {}",
                path.display()
            );
        }
    }
}

fn run_changes(target: &Target, inputs: &[(String, Vec<u8>)], seed: u64) -> usize {
    let mut rng = Rng(seed);
    let cases = number("HEADWATER_CASES").map_or(CASES, |n| n as usize);
    let started = Instant::now();
    for case in 0..cases {
        let (name, input) = &inputs[rng.below(inputs.len())];
        let (_, other) = &inputs[rng.below(inputs.len())];
        let bytes = changed(input, other, &mut rng);
        let _named = Running(target.name, name, seed, &bytes);
        check(target, &bytes);
        if started.elapsed() > TIME_MAX && number("HEADWATER_CASES").is_none() {
            return case + 1;
        }
    }
    cases
}

fn replay(name: &str) {
    let target = fuzz::target(name).unwrap();
    let inputs = corpus::of(target);
    assert!(inputs.len() >= 2, "{name} has no corpus");
    for (input, bytes) in &inputs {
        let _named = Running(name, input, 0, bytes);
        check(target, bytes);
    }
    if let Some(seed) = number("HEADWATER_SEED") {
        run_changes(target, &inputs, seed);
        return;
    }
    let fixed = run_changes(target, &inputs, 1);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = now.as_nanos() as u64;
    let fresh = run_changes(target, &inputs, seed);
    println!(
        "{name}: {} inputs, {fixed} changes, {fresh} by seed {seed}",
        inputs.len()
    );
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_run_and_its_corpus_is_small() {
            let named = [$(stringify!($name)),*];
            let all: Vec<_> = fuzz::TARGETS.iter().map(|t| t.name).collect();
            assert_eq!(named.to_vec(), all);
            let mut bytes = 0;
            for target in fuzz::TARGETS {
                bytes += corpus::of(target).iter().map(|(_, b)| b.len()).sum::<usize>();
            }
            assert!(bytes < 400 << 10, "the corpora hold {bytes} bytes");
        }
    };
}

targets![
    mqtt_codec,
    mqtt_broker,
    batch,
    frames,
    cloud_session,
    edge_session,
    kafka_decoders,
    kafka_dispatch,
    journal,
    store,
    checkpoint,
    entries,
    bundle,
    config,
];

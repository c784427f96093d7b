//! Fuzz targets: everything that reads bytes which somebody else wrote.
//!
//! A [`Target`] is a function from bytes to nothing. It must not panic, not hang, and not reserve
//! more than its stated bound; [`check`] asserts all three. The same functions are run by
//! - `cargo test -p fuzz`: the corpora under `corpus/`, and small changes of them;
//! - `tests/fuzz/run`: libFuzzer, guided by coverage.
//!
//! | module | what it is |
//! |---|---|
//! | [`targets`] | the targets, one a file |
//! | [`meter`] | the allocator that counts |
//! | [`mutate`] | changes of an input, from a seed |
//! | [`corpus`] | reading the checked-in inputs |
//! | [`input`] | an input as a list of decisions |
//!
//! `corpus/TARGET/seed-*` are written by `cargo run -p fuzz --bin corpus` from real encoders and
//! golden bytes of real clients; `corpus/TARGET/found-*` once broke something, and stay.

pub mod corpus;
pub mod input;
pub mod meter;
pub mod mutate;
pub mod targets;

use std::time::Duration;

pub use targets::TARGETS;

/// One thing to fuzz.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Inputs to begin with, by name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// Longer inputs are cut.
    pub input_bytes_max: usize,
    /// What a run may hold at one time, in bytes, for any input.
    pub memory_bytes_max: usize,
}

/// No input takes longer on a processor, with instrumented code. A typical one takes microseconds.
pub const TIME_MAX: Duration = Duration::from_secs(10);

/// The target called `name`.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub peak_bytes: usize,
    /// On a processor.
    pub time: Duration,
}

/// Runs `target` on `data` and asserts its bounds.
pub fn check(target: &Target, data: &[u8]) -> Cost {
    let data = &data[..data.len().min(target.input_bytes_max)];
    let started = meter::processor_time();
    meter::begin();
    (target.run)(data);
    let cost = Cost {
        peak_bytes: meter::peak_bytes(),
        time: meter::processor_time() - started,
    };
    assert!(
        cost.peak_bytes <= target.memory_bytes_max,
        "{} held {} bytes for an input of {}; at most {}",
        target.name,
        cost.peak_bytes,
        data.len(),
        target.memory_bytes_max
    );
    assert!(
        cost.time <= TIME_MAX,
        "{} took {:?} for an input of {} bytes",
        target.name,
        cost.time,
        data.len()
    );
    cost
}

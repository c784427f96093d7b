//! One seed, or many on several threads, and what they came to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use headwater_log::durable::Rules;

use crate::count::{Counts, Trace};
use crate::world::World;

/// What a world came to.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub failure: Option<String>,
    pub counts: Counts,
    /// Of everything that happened, with its time: the same for the same seed.
    pub hash: u64,
    /// Empty unless asked for.
    pub trace: Vec<String>,
    pub simulated_ms: u64,
}

impl Report {
    /// What to tell whoever has to find out why.
    pub fn told(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let seed = self.seed;
        Some(format!(
            "seed {seed}: {failure}\n  repeat: cargo run --release -p sim -- --seed {seed} --trace"
        ))
    }
}

thread_local! {
    /// The first panic of the code under test: tokio would swallow those of tasks.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What a panic said, if there was one since it was last asked.
pub(crate) fn panicked() -> Option<String> {
    PANIC.with(|panic| panic.borrow_mut().take())
}

fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IN_WORLD.with(|inside| *inside.borrow()) {
                PANIC.with(|panic| {
                    panic.borrow_mut().get_or_insert(info.to_string());
                });
            } else {
                before(info);
            }
        }));
    });
}

thread_local! {
    static IN_WORLD: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs one world to its end. Panics of the code under test are failures too.
pub fn simulate(seed: u64, trace: Trace, rules: Rules) -> Report {
    hear_panics();
    panicked();
    IN_WORLD.with(|inside| inside.replace(true));
    let run = AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O always builds");
        runtime.block_on(async {
            let mut world = World::new(seed, trace, rules);
            world.live().await;
            world.report(seed)
        })
    });
    let report = catch_unwind(run);
    IN_WORLD.with(|inside| inside.replace(false));
    let panic = panicked();
    report.unwrap_or_else(|_| Report {
        seed,
        failure: Some(format!("PANIC: {}", panic.unwrap_or_default())),
        counts: Counts::new(),
        hash: 0,
        trace: Vec::new(),
        simulated_ms: 0,
    })
}

/// What many worlds came to.
#[derive(Debug, Default)]
pub struct Summary {
    pub seeds: u64,
    pub counts: Counts,
    pub failures: Vec<String>,
    pub simulated_ms: u64,
    /// Worlds that do not end: they have taken longer than [`SLOW`].
    pub slow: Vec<u64>,
}

/// Most worlds take a tenth of a second.
pub const SLOW: Duration = Duration::from_secs(60);

/// Runs `count` seeds from `first` on, `jobs` at a time, until `failures_max` failed. `told` hears
/// of each in the order they end.
pub fn many(
    first: u64,
    count: u64,
    jobs: usize,
    failures_max: usize,
    told: impl FnMut(&Summary),
) -> Summary {
    let world = |seed| simulate(seed, Trace::Off, Rules::default());
    many_of(world, first, count, jobs, failures_max, told)
}

/// As [`many`], with worlds of the caller's.
pub fn many_of(
    world: impl Fn(u64) -> Report + Sync,
    first: u64,
    count: u64,
    jobs: usize,
    failures_max: usize,
    mut told: impl FnMut(&Summary),
) -> Summary {
    let world = &world;
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let running: Mutex<BTreeMap<u64, Instant>> = Mutex::default();
    let running = &running;
    let (reports, ended) = mpsc::channel();
    let mut summary = Summary::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, stop, reports) = (&next, &stop, reports.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = first.wrapping_add(number);
                    unpoisoned(running).insert(seed, Instant::now());
                    let report = world(seed);
                    unpoisoned(running).remove(&seed);
                    if reports.send(report).is_err() {
                        return;
                    }
                }
            });
        }
        drop(reports);
        loop {
            let report = ended.recv_timeout(SLOW);
            let slow = |(seed, since): (&u64, &Instant)| (since.elapsed() > SLOW).then_some(*seed);
            summary.slow = unpoisoned(running).iter().filter_map(slow).collect();
            let report = match report {
                Ok(report) => report,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    told(&summary);
                    continue;
                }
            };
            summary.seeds += 1;
            summary.simulated_ms += report.simulated_ms;
            summary.failures.extend(report.told());
            for (what, count) in report.counts {
                *summary.counts.entry(what).or_default() += count;
            }
            if summary.failures.len() >= failures_max {
                stop.store(true, Ordering::Relaxed);
            }
            told(&summary);
        }
    });
    summary
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

/// A seed that nobody has seen; so are those after it.
pub fn fresh_seed() -> u64 {
    getrandom::u64().expect("the system has random numbers") >> 16
}

/// Seeds that a run of this size must have for every fault to be due.
pub const SEEDS_FOR_ALL_FAULTS: u64 = 1_000;

/// Faults and branches without which a green run says little.
pub const MUST_FIRE: &[&str] = &[
    "disk: power cuts",
    "disk: kills",
    "disk: sectors lost",
    "disk: sectors written unasked",
    "disk: sectors torn to an older state",
    "disk: names lost",
    "disk: names kept unasked",
    "disk: ENOSPC",
    "disk: EIO",
    "disk: bits flipped",
    "object store: 503",
    "edge power cut",
    "edge kill",
    "edge crash in an operation",
    "edge cut late",
    "edge crash in recovery",
    "edge cut after a kill",
    "edge stops itself",
    "cloud power cut",
    "cloud kill",
    "cloud crash in an operation",
    "cloud cut after a kill",
    "cloud stops itself",
    "cloud disk full",
    "cloud disk stalls",
    "cloud clock jumps",
    "link cut",
    "link outage",
    "outage for all",
    "address change",
    "card full",
    "clock jumps to 1970",
    "clock right again",
    "image taken",
    "image restored",
    "card cloned",
    "empty card",
    "old card returns",
    "checkpoints lost",
    "lineage file lost",
    "rot: journal",
    "rot: checkpoints",
    "rot: segment",
    "rot: index",
    "client cut",
    "client leaves",
    "consumer pauses",
    "subscriber away",
    "subscriber: subscribed",
    "subscriber: message",
    "subscriber: DUP",
    "subscriber: QoS 2 again",
    "route removed",
    "route added",
    "topic deleted",
    "topic created",
    "client: DUP",
    "client: PUBREL again",
    "refused: quota",
    "member: assigned",
    "member: committed",
    "member: commit refused",
    "member: joins again",
    "member: left",
    "member stalls",
    "produced and acknowledged",
    "producer: batch again",
    "consumer: look back",
    "consumer: offsets compared",
    "stream: opened",
    "stream: append",
    "stream: duplicate",
    "stream: out of order",
    "stream: ledger",
    "stream: fenced",
    "stream: diverged",
    "alarm: forked",
    "edge: gap dropped",
    "edge: gap corrupt",
    "edge: checkpoint",
    "black hole",
    "black hole upwards",
    "black hole downwards",
    "sink spell",
    "sink: answer late",
    "sink: answer lost",
    "sink: refused for now",
    "sink: refused for good",
    "cloud copied",
    "cloud restored",
    "stream: rejected",
    "alarm: dead letter",
    "alarm: cloud went back",
    "alarm: fenced",
    "edge: gap rejected",
    "flood",
    "image of a running machine",
    "running card cloned",
    "copied as it forks",
    "crash as it forks",
    "alarm: two live",
    "machine resumed beside itself",
    "alarm: quarantine",
    "stream: quarantined",
    "stream: position",
    "stream: refused",
    "stream: retired",
    "alarm: refused",
    "operator retires",
    "client: CONNECT refused",
    "subscriber: retained",
    "subscriber: deletion",
    "subscriber: looked at what is retained",
    "subscriber: session present",
    "subscriber: session expired",
    "subscriber: session ended",
    "subscriber: session had ended",
    "edge crash as a client subscribes",
    "edge crash as a session ends",
    "edge cut after a session's end",
    "subscriber: goes on without SUBSCRIBE",
    "shared: message",
    "shared: message again",
    "shared: DUP",
    "will: sent",
    "will: published",
    "will: taken back",
    "will: gone with DISCONNECT",
    "will: open",
];

/// What never happened and should have.
pub fn silent(counts: &Counts) -> Vec<&'static str> {
    let silent = MUST_FIRE.iter().filter(|what| !counts.contains_key(**what));
    silent.copied().collect()
}

//! Runs cases side by side against one broker.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::registry::{Case, Outcome, Seen};

/// How a broker is reached and how patient the suite is with it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    /// Where it speaks MQTT in a WebSocket; without it section 6 has no object.
    pub websocket: Option<SocketAddr>,
    /// Every case goes there.
    pub over_websocket: bool,
    /// How long something that must come may take.
    pub wait: Duration,
    /// Cases at the same time. Most of their time they wait.
    pub workers: usize,
}

impl Target {
    pub fn new(address: SocketAddr) -> Target {
        Target {
            address,
            websocket: None,
            over_websocket: false,
            wait: Duration::from_secs(10),
            workers: 32,
        }
    }
}

/// A case that was run.
pub struct Verdict {
    pub case: Case,
    pub outcome: Outcome,
    /// What went over the wire, line by line.
    pub trace: Vec<String>,
    pub took: Duration,
}

impl Verdict {
    pub fn failed(&self) -> bool {
        self.outcome.is_err()
    }

    /// `held`, `n/a` or `FAILED`, and what was seen.
    pub fn words(&self) -> (&'static str, &str) {
        match &self.outcome {
            Ok(Seen::Held(what)) => ("held", what),
            Ok(Seen::NotOffered(what)) => ("n/a", what),
            Err(failure) => ("FAILED", &failure.0),
        }
    }
}

/// Runs all of `cases` and returns the verdicts in the same order.
pub fn run(target: Target, cases: &[Case]) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..target.workers.min(cases.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else {
                        return;
                    };
                    let verdict = one(target, *case);
                    let mut all = verdicts.lock().expect("no case panics with the lock");
                    all.push((number, verdict));
                }
            });
        }
    });
    let mut all = verdicts.into_inner().expect("no case panics with the lock");
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, verdict)| verdict).collect()
}

fn one(target: Target, case: Case) -> Verdict {
    let started = Instant::now();
    let broker = Broker::new(target, case.version);
    let outcome = (case.run)(&broker);
    let took = started.elapsed();
    let trace = broker.take_trace();
    broker.tidy();
    Verdict {
        case,
        outcome,
        trace,
        took,
    }
}

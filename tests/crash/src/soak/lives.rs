//! The lives of the edge's process, and what its clients saw in each: counters of a process start at
//! zero with it, so what they are held against does too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What all clients together did and saw in one life of the edge.
#[derive(Debug, Default)]
pub struct Tally {
    pub number: u32,
    /// It is about to be killed or stopped: connections break now by our doing.
    pub ending: AtomicBool,
    /// Times that everything was quiet and compared in this life.
    pub censuses: AtomicU64,
    pub connects: AtomicU64,
    pub connects_refused: AtomicU64,
    /// Connections that are open now.
    pub open: AtomicU64,
    /// PUBLISH packets sent, by QoS, resends included.
    pub sent: [AtomicU64; 3],
    /// Wills that the edge had to publish, all at QoS 1.
    pub wills: AtomicU64,
    /// PUBLISH packets received, by QoS.
    pub received: [AtomicU64; 3],
    /// PUBACKs, and PUBRECs, that took a message.
    pub acked: [AtomicU64; 2],
    /// Those that refused one.
    pub refused: AtomicU64,
    /// Connections that ended with something on its way to the client, which nobody counts.
    pub cut_short: AtomicU64,
    pub bytes_out: AtomicU64,
    pub bytes_in: AtomicU64,
}

impl Tally {
    pub fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Relaxed);
    }
}

/// Which process clients talk to now, if any.
#[derive(Debug, Default)]
pub struct Lives {
    current: RwLock<Option<Arc<Tally>>>,
    up: Mutex<bool>,
    changed: Condvar,
}

impl Lives {
    /// The process listens from now on.
    pub fn begin(&self, tally: Arc<Tally>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(tally);
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Connections break from now on because we break them.
    pub fn ending(&self) {
        if let Some(tally) = self.current() {
            tally.ending.store(true, Relaxed);
        }
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// The process is gone. Returns once nobody is half way into a connection with it.
    pub fn ended(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn current(&self) -> Option<Arc<Tally>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Connects to the process that is there now; `None` when there is none. The life cannot change
    /// meanwhile, so that what `connect` counts is counted in the right one.
    pub fn connect<T>(&self, connect: impl FnOnce(Arc<Tally>) -> T) -> Option<T> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let tally = current.as_ref()?;
        (!tally.ending.load(Relaxed)).then(|| connect(tally.clone()))
    }

    /// Waits until a process listens, at most so long.
    pub fn wait_up(&self, at_most: Duration) {
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout_while(up, at_most, |up| !*up);
    }
}

/// What clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Run,
    /// Finish what is under way, start nothing, stay; slow ones read on.
    Quiet,
    /// Finish and leave.
    Stop,
}

/// Orders to all clients, and word from them that they have carried them out.
#[derive(Debug)]
pub struct Orders {
    state: Mutex<(Mode, u64)>,
    changed: Condvar,
    quiet: Mutex<Vec<u64>>,
    /// What a client saw that must not be.
    faults: Mutex<Vec<String>>,
}

impl Orders {
    /// For so many clients that will report.
    pub fn new(clients: usize) -> Orders {
        Orders {
            state: Mutex::new((Mode::Run, 1)),
            changed: Condvar::new(),
            quiet: Mutex::new(vec![0; clients]),
            faults: Mutex::default(),
        }
    }

    pub fn give(&self, mode: Mode) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (mode, state.1 + 1);
        self.changed.notify_all();
    }

    /// The order, and its number.
    pub fn now(&self) -> (Mode, u64) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the order is another one, or so long.
    pub fn wait_changed(&self, number: u64, at_most: Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |state: &mut (Mode, u64)| state.1 == number;
        let _ = self.changed.wait_timeout_while(state, at_most, same);
    }

    /// Client `place` has nothing under way, under the order of this number.
    pub fn is_quiet(&self, place: usize, number: u64) {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)[place] = number;
    }

    /// Places of clients that are not quiet under the present order.
    pub fn loud(&self) -> Vec<usize> {
        let (_, number) = self.now();
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let loud = quiet.iter().enumerate().filter(|(_, n)| **n != number);
        loud.map(|(place, _)| place).collect()
    }

    pub fn fault(&self, what: String) {
        println!("FAULT: {what}");
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    pub fn faults(&self) -> Vec<String> {
        let faults = self.faults.lock();
        faults.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// When the next of a steady stream of things is due; one that is late does not hurry to catch up for
/// longer than [`Pace::LATE`].
#[derive(Debug)]
pub struct Pace {
    every: Duration,
    due: Instant,
}

impl Pace {
    const LATE: Duration = Duration::from_millis(250);

    pub fn per_second(n: f64) -> Pace {
        Pace {
            every: Duration::from_secs_f64(1.0 / n),
            due: Instant::now(),
        }
    }

    /// How long until the next is due.
    pub fn pause(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Takes the next if it is due.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.due <= now;
        if is_due {
            let floor = now.checked_sub(Pace::LATE).unwrap_or(now);
            self.due = self.due.max(floor) + self.every;
        }
        is_due
    }
}

//! One history: lives of a store, each ended by a crash, all from one seed.

mod steps;

use std::path::Path;
use std::sync::Arc;

use headwater_batch::Level;
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::durable::Rules;
use headwater_log::store::{CommitJob, Full, GapReason, Ms, Store, StoreConfig};
use headwater_log::{ErrorKind, LogError, SimDisk};

use super::model::Model;
use headwater_batch::SplitMix64 as Rng;

/// What a history may meet.
#[derive(Clone, Default)]
pub struct Plan {
    pub rot: bool,
    pub faults: bool,
    pub drop_oldest: bool,
    pub rules: Rules,
}

pub struct Outcome {
    pub result: Result<(), String>,
    pub trace: Vec<String>,
    pub seen: Seen,
}

/// What a history has met.
#[derive(Debug, Default)]
pub struct Seen {
    pub lives: u64,
    pub records: u64,
    pub checkpoints: u64,
    pub crashed_opens: u64,
    pub kills: u64,
    pub power_cuts: u64,
    pub full: u64,
    pub eio: u64,
    pub corrupt_gaps: u64,
    pub dropped_gaps: u64,
    pub unsynced_survivors: u64,
    pub forks: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.lives += other.lives;
        self.records += other.records;
        self.checkpoints += other.checkpoints;
        self.crashed_opens += other.crashed_opens;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.full += other.full;
        self.eio += other.eio;
        self.corrupt_gaps += other.corrupt_gaps;
        self.dropped_gaps += other.dropped_gaps;
        self.unsynced_survivors += other.unsynced_survivors;
        self.forks += other.forks;
    }
}

struct History {
    rng: Rng,
    disk: SimDisk,
    cfg: StoreConfig,
    model: Model,
    plan: Plan,
    now: Ms,
    boot: u64,
    trace: Vec<String>,
    seen: Seen,
    /// An injected fault may surface as an error.
    faulty: bool,
    job: Option<CommitJob>,
}

/// Why a life ended.
enum End {
    Crashed,
    Wrong(String),
}

impl From<String> for End {
    fn from(problem: String) -> End {
        End::Wrong(problem)
    }
}

const LIVES: u64 = 8;
const STEPS: u64 = 60;

pub fn run(seed: u64, plan: &Plan) -> Outcome {
    let mut rng = Rng(seed ^ 0x5eed);
    let mut cfg = StoreConfig::new("/data");
    cfg.journal_file_bytes = 64 << 10;
    cfg.reserve_bytes = 64 << 10;
    cfg.batch_bytes = 1024 << rng.below(3);
    cfg.linger_ms = 100;
    cfg.hold_ms = 1_000;
    cfg.level = if rng.one_in(2) {
        Level::None
    } else {
        Level::Zstd(1)
    };
    cfg.segment_bytes = 4096 << rng.below(3);
    cfg.memory_bytes = 64 << 10;
    cfg.retention_bytes = rng.one_in(2).then_some(16 << 10);
    cfg.retention_ms = rng.one_in(3).then_some(5_000);
    cfg.budget_bytes = 64 << 20;
    if plan.drop_oldest {
        cfg.full = Full::DropOldest;
        cfg.budget_bytes = 576 << 10;
    }
    cfg.rules = plan.rules;
    let mut history = History {
        disk: SimDisk::new(seed),
        rng,
        cfg,
        model: Model {
            next_id: 1,
            drop_oldest: plan.drop_oldest,
            ..Model::default()
        },
        plan: plan.clone(),
        now: 1_000,
        boot: 0,
        trace: Vec::new(),
        seen: Seen::default(),
        faulty: false,
        job: None,
    };
    let result = history.lives();
    let counters = history.disk.counters();
    history.seen.kills = counters.kills;
    history.seen.power_cuts = counters.power_cuts;
    history.seen.eio = counters.eio;
    history.seen.unsynced_survivors = history.model.survivors;
    Outcome {
        result,
        trace: history.trace,
        seen: history.seen,
    }
}

impl History {
    fn lives(&mut self) -> Result<(), String> {
        for life in 0..LIVES {
            self.seen.lives += 1;
            self.note(|| format!("life {life}"));
            match self.live(life + 1 == LIVES) {
                Ok(()) => {}
                Err(End::Crashed) => self.crash(),
                Err(End::Wrong(problem)) => {
                    self.note(|| format!("WRONG: {problem}"));
                    return Err(problem);
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.push(line());
    }

    fn live(&mut self, last: bool) -> Result<(), End> {
        if !last {
            self.plan_crash();
        }
        let mut store = self.open()?;
        for _ in 0..STEPS {
            self.step(&mut store)?;
        }
        if last {
            self.quiet(&mut store)?;
            let found = self.model.compare(&mut store, self.now);
            self.count(found?);
            return Ok(());
        }
        Err(End::Crashed)
    }

    /// Where this life ends, if it does not end at its last step.
    fn plan_crash(&mut self) {
        let how = self.how();
        match self.rng.below(3) {
            0 => {
                let nth = self.rng.below(40);
                self.note(|| format!("plan: {how:?} at sync {nth}"));
                self.disk.crash_at_sync(nth, how);
            }
            1 => {
                let nth = self.rng.below(120);
                self.note(|| format!("plan: {how:?} at operation {nth}"));
                self.disk.crash_at(nth, how);
            }
            _ => {}
        }
        if self.plan.faults {
            match self.rng.below(4) {
                0 => self.disk.fail_sync(self.rng.below(60)),
                1 => self.disk.fail_write(self.rng.below(100)),
                2 => {
                    let used: u64 = 600 << 10;
                    self.disk.set_capacity(used + self.rng.below(100 << 10));
                }
                _ => return,
            }
            self.faulty = true;
        }
    }

    fn how(&mut self) -> Crash {
        if self.rng.one_in(3) {
            Crash::Kill
        } else {
            Crash::Power
        }
    }

    fn crash(&mut self) {
        self.job = None;
        if !self.disk.is_down() {
            let how = self.how();
            self.note(|| format!("{how:?}"));
            self.disk.crash(how);
        }
        self.disk.restart();
        self.disk.set_capacity(u64::MAX);
        self.faulty = false;
        if self.plan.rot && self.rng.one_in(2) {
            self.rot();
        }
    }

    /// Flips a bit in a file of some kind.
    fn rot(&mut self) {
        let files = self.disk.files();
        let files: Vec<_> = files
            .iter()
            .filter(|path| !path.ends_with("quarantine"))
            .collect();
        if files.is_empty() {
            return;
        }
        let path = files[self.rng.below(files.len() as u64) as usize].clone();
        // Most of a journal file is room for more.
        let byte = self.rng.below(12 << 10);
        let mask = 1 << self.rng.below(8);
        if self.disk.rot(&path, byte, mask).is_ok() {
            self.note(|| format!("rot: {} byte {byte}", path.display()));
            self.model.rotten = true;
        }
    }

    fn open(&mut self) -> Result<Store, End> {
        self.boot += 1;
        let disk: Arc<dyn headwater_log::Disk> = Arc::new(self.disk.clone());
        let checkpoints = FileStore::open(Arc::clone(&disk), Path::new("/data/checkpoints"));
        let checkpoints = self.check(checkpoints, "open checkpoints")?;
        let (cfg, incarnation) = (self.cfg.clone(), u128::from(self.boot) << 32);
        let opened = Store::open(
            disk,
            Box::new(checkpoints),
            cfg,
            self.now,
            self.boot,
            incarnation,
        );
        if opened.is_err() && self.disk.is_down() {
            self.seen.crashed_opens += 1;
            self.model.start_died = true;
        }
        let (mut store, recovered) = self.check(opened, "open")?;
        if std::env::var("HEADWATER_SEED").is_ok() {
            let files = self.disk.files();
            self.note(|| format!("files: {files:?}"));
        }
        self.note(|| {
            format!(
                "recovered {} ops, {:?}",
                recovered.ops.len(),
                recovered.notes
            )
        });
        self.model.recovered(&recovered)?;
        self.seal(&mut store)?;
        let found = self.model.compare(&mut store, self.now);
        match found {
            Err(_) if self.disk.is_down() || self.faulty => return Err(End::Crashed),
            found => self.count(found?),
        }
        Ok(store)
    }

    fn count(&mut self, reasons: Vec<GapReason>) {
        for reason in reasons {
            match reason {
                GapReason::Corrupt => self.seen.corrupt_gaps += 1,
                GapReason::Dropped => self.seen.dropped_gaps += 1,
                GapReason::Rejected => {}
            }
        }
    }

    /// An error must have a reason: the machine is down, or a fault was injected.
    fn check<T>(&mut self, result: Result<T, LogError>, what: &str) -> Result<T, End> {
        result.map_err(|error| {
            self.note(|| format!("{what}: {error}"));
            match self.disk.is_down() || self.faulty {
                true => End::Crashed,
                false => End::Wrong(format!("{what}: {error}")),
            }
        })
    }

    /// As [`History::check`]; waiting and being full are answers too.
    fn tolerate<T>(&mut self, result: Result<T, LogError>, what: &str) -> Result<Option<T>, End> {
        match result {
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Full) => {
                self.note(|| format!("{what}: {error}"));
                Ok(None)
            }
            other => self.check(other, what).map(Some),
        }
    }
}

//! The soak: an edge on a small disk and a cloud node, under everything that a long life brings, and a
//! harness that knows what must come of it.
//!
//! ```text
//! publishers (QoS 0, 1, 2, retained, bulk)            subscribers (durable, shared, restless, late,
//! visitors (clean start, wills)  ──▶ edge ──▶ ...          slow, stopped)
//!                                     │ UDP relay, cut at random
//!                                     ▼
//!                                   cloud ──▶ a Kafka consumer that follows
//! ```
//! [`faults`] deals kills, terminations, cuts, outages until the log is full, and a disk that others
//! fill, from a seed. Now and then [`census`] makes all quiet and holds every counter of both nodes
//! against what clients saw in this life of the process. In the end [`judge`] holds every attempt
//! against Kafka, the ledger, and what subscribers got, and [`named`] each range of the ledger against
//! what is missing where it lies; [`memory`] gives the slope of RSS over messages.
//! [`flood`] is the other run: as many messages as there is time for, without faults.

pub mod attempt;
pub mod cast;
pub mod census;
pub mod faults;
pub mod flood;
pub mod follow;
pub mod judge;
pub mod lives;
pub mod memory;
pub mod named;
pub mod publisher;
pub mod scrape;
pub mod stage;
pub mod subscriber;
pub mod verdict;
pub mod visitor;
pub mod watch;
pub mod wire;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use headwater_batch::SplitMix64;

use cast::{CLIENTS, Cast, PUBLISHERS, VISITORS};
use census::Before;
use faults::{Card, Deck, Lasting};
use follow::Follower;
use judge::Faults;
use lives::{Lives, Mode, Orders};
use named::Named;
use publisher::{Progress, World};
use stage::{Done, Stage};
use verdict::Told;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(50);
const LINE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub seed: u64,
    /// How long faults are dealt; at least one deck is.
    pub lasts: Duration,
    /// Longest pause between two faults.
    pub pause_max_ms: u64,
    /// `when_full = "drop-oldest"`: what an outage drops has to be in the ledger.
    pub drop_oldest: bool,
    /// How long any one wait may take.
    pub limit: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    pub done: Done,
    pub acked: u64,
    pub refused: u64,
    pub resent: u64,
    /// Comparisons that held, over all censuses.
    pub compared: usize,
    pub lines: Vec<String>,
}

/// Runs it in `root`, which is empty, in mounts of its own. The error names everything that is wrong.
pub fn run(root: &Path, setup: Setup) -> Result<Summary, String> {
    let mut rng = SplitMix64(setup.seed);
    let lives = Arc::new(Lives::default());
    let orders = Arc::new(Orders::new(CLIENTS));
    let mut stage = Stage::new(root, setup.drop_oldest, lives.clone(), orders.clone())?;
    let begun = (0..PUBLISHERS + VISITORS).map(|_| AtomicU32::new(0));
    let progress = Progress {
        begun: begun.collect(),
        ..Progress::default()
    };
    let world = World {
        broker: stage.edge.mqtt,
        lives,
        orders,
        progress: Arc::new(progress),
        retained: Arc::default(),
    };
    let follower = Follower::start(stage.cloud.kafka);
    // Subscribers are quiet once they have subscribed.
    world.orders.give(Mode::Quiet);
    let late_at = setup.lasts.as_secs().max(60) * 300;
    let mut cast = Cast::subscribers(&world, &mut rng, late_at);
    let mut soak = Soak {
        world: world.clone(),
        rng,
        lasting: Lasting::default(),
        line: Instant::now(),
        last: String::from("start"),
        before: Before::default(),
        compared: 0,
        follower: &follower,
        limit: setup.limit,
    };
    soak.wait(&mut stage, "subscribers to subscribe", |_, world| {
        let loud = world.orders.loud();
        loud.iter().all(|place| *place < PUBLISHERS + VISITORS)
    })?;
    world.orders.give(Mode::Run);
    cast.publishers(&world, &mut soak.rng);

    soak.deal(&mut stage, setup);
    soak.say("healing");
    soak.lasting.heal(&mut stage);
    // Nothing comes between: what is acknowledged now is in the cloud.
    soak.census(&mut stage, Mode::Stop);
    soak.wait(&mut stage, "clients to end", |_, world| {
        world.orders.loud().iter().all(|place| *place < PUBLISHERS)
    })?;
    let mut faults = Faults::default();
    let told = Told::join(cast);
    // What would come now would be a double.
    stage.stop_edge();
    let rows = scrape::ledger(stage.cloud.admin)?;
    if !setup.drop_oldest && !rows.is_empty() {
        faults.add("the loss ledger is not empty", format!("{rows:?}"));
    }
    let named = Named::read(&rows).unwrap_or_else(|what| {
        faults.add("the loss ledger", what);
        Named::default()
    });
    if setup.drop_oldest && named.records() == 0 {
        faults.add("nothing was dropped", "which this run is for".into());
    }
    let due = stage.end_offsets()?.iter().sum::<i64>() as u64;
    soak.wait(&mut stage, "the consumer to have read all", |soak, _| {
        soak.follower.read().map_or(true, |read| read >= due)
    })?;
    let compared = soak.compared;
    let found = follower.finish(|_| {})?;
    let mut lines = verdict::judge(&told, &found, &named, &stage.queues, &mut faults);
    lines.extend(stage.memory.report());
    for fault in world.orders.faults() {
        faults.add("seen on the way", fault);
    }
    went_back(&stage, &mut faults);
    match faults.is_empty() {
        true => Ok(Summary {
            done: stage.done,
            acked: world.progress.acked.load(Relaxed),
            refused: world.progress.refused.load(Relaxed),
            resent: world.progress.resent.load(Relaxed),
            compared,
            lines,
        }),
        false => Err(format!("{}\n{faults}", lines.join("\n"))),
    }
}

/// Acknowledged too early, records are not missing in the end, see [`e2e::pipeline`].
fn went_back(stage: &Stage, faults: &mut Faults) {
    let path = stage.edge.dir.join("log");
    let log = std::fs::read(path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    for line in log.lines().filter(|line| line.contains("CloudWentBack")) {
        faults.add("the cloud lost what it acknowledged", line.to_owned());
    }
}

/// The one who deals.
struct Soak<'a> {
    world: World,
    rng: SplitMix64,
    lasting: Lasting,
    line: Instant,
    last: String,
    before: Before,
    compared: usize,
    follower: &'a Follower,
    limit: Duration,
}

impl Soak<'_> {
    fn deal(&mut self, stage: &mut Stage, setup: Setup) {
        let mut deck = Deck::new(self.rng.draw());
        // The first census is of a life without a fault.
        self.pause(stage, Duration::from_secs(5));
        self.census(stage, Mode::Run);
        while stage.elapsed() < setup.lasts || deck.decks == 0 {
            let (card, pause) = deck.deal(setup.pause_max_ms);
            self.pause(stage, pause);
            if card == Card::Census {
                let due = Instant::now() + self.limit;
                while self.lasting.is_filling() && Instant::now() < due {
                    self.tick(stage);
                }
                self.lasting.heal(stage);
                self.census(stage, Mode::Run);
                continue;
            }
            self.say(&format!("{card:?}"));
            self.lasting.begin(card, stage, &mut self.rng);
        }
        // An outage that still fills the log is let do so.
        let due = Instant::now() + self.limit;
        while self.lasting.is_filling() && Instant::now() < due {
            self.tick(stage);
        }
    }

    fn say(&mut self, what: &str) {
        self.last = what.to_owned();
    }

    fn pause(&mut self, stage: &mut Stage, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.tick(stage);
        }
    }

    fn tick(&mut self, stage: &mut Stage) {
        let begun = self.world.progress.begun();
        stage.queues.published(begun);
        stage.tick(begun);
        self.lasting.tick(stage);
        if self.line.elapsed() >= LINE {
            self.line = Instant::now();
            self.print(stage);
        }
        // The pace of a loop that looks at other processes.
        std::thread::sleep(TICK);
    }

    fn print(&self, stage: &Stage) {
        let progress = &self.world.progress;
        let done = stage.done;
        let page = stage.edge_page().unwrap_or_default();
        let checkpoints = page.whole("log_checkpoint_bytes").unwrap_or(0);
        let in_cloud = match self.follower.read() {
            Ok(read) => read.to_string(),
            Err(fault) => fault,
        };
        println!(
            "{}{:5.0} s: acked {}, at QoS 0 {}, refused {}, resent {}, in the cloud {in_cloud}; edge {} \
             ({:.1} MB, checkpoints {:.1} MB), cloud {:.1} MB; killed {}+{}, stopped {}+{}, cuts {}, outages {} ({} full), \
             disk filled {}, compared {}; {}",
            // Two runs may print side by side.
            if stage.drop_oldest { "drops, " } else { "" },
            stage.elapsed().as_secs_f64(),
            progress.acked.load(Relaxed),
            progress.sent.load(Relaxed),
            progress.refused.load(Relaxed),
            progress.resent.load(Relaxed),
            stage.life(),
            stage.edge_rss() as f64 / 1e6,
            checkpoints as f64 / 1e6,
            stage.cloud_rss() as f64 / 1e6,
            done.edge_kills,
            done.cloud_kills,
            done.edge_terms,
            done.cloud_terms,
            done.cuts,
            done.outages,
            done.filled,
            done.disk_fills,
            done.censuses,
            self.last,
        );
    }

    fn wait(
        &mut self,
        stage: &mut Stage,
        what: &str,
        mut is_so: impl FnMut(&Self, &World) -> bool,
    ) -> Result<(), String> {
        let until = Instant::now() + self.limit;
        let world = self.world.clone();
        while !is_so(self, &world) {
            if Instant::now() > until {
                let faults = world.orders.faults().join("\n");
                return Err(format!("waited {:?} for {what}\n{faults}", self.limit));
            }
            self.tick(stage);
        }
        Ok(())
    }

    /// Everything is up; clients come to rest and all is compared. Then they do as `after` says.
    fn census(&mut self, stage: &mut Stage, after: Mode) {
        self.say("Census");
        let until = Instant::now() + self.limit;
        while !stage.edge_up && Instant::now() < until {
            self.tick(stage);
        }
        let world = self.world.clone();
        match census::take(stage, &world, &mut self.before, self.limit) {
            Ok(compared) => {
                self.compared += compared;
                stage.done.censuses += 1;
            }
            Err(what) => {
                let life = stage.life();
                world
                    .orders
                    .fault(format!("census in life {life}:\n{what}"));
            }
        }
        self.world.orders.give(after);
    }
}

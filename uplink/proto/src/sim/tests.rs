//! Thousands of seeds; every fault must fire; every rule taken out must be found.

use std::collections::BTreeMap;

use super::Kinds;
use super::world::World;
use crate::digest::with_digest_bits;
use crate::rules::{Rule, without};

/// How long the healed world has to bring everything home, in simulated time.
const HEAL_MS: u64 = 180_000;
/// The same where operators make room for one card after the other.
const HEAL_CROWD_MS: u64 = 900_000;

struct Report {
    failure: Option<String>,
    fired: BTreeMap<&'static str, u64>,
    hash: u64,
    trace: Vec<String>,
}

fn simulate(seed: u64, trace: bool) -> Report {
    simulate_in(Kinds::All, seed, trace)
}

fn simulate_in(kinds: Kinds, seed: u64, trace: bool) -> Report {
    let mut world = World::new(seed, kinds, trace);
    let bits = if world.plan.collide { 1 } else { 64 };
    with_digest_bits(bits, || {
        let steps = world.plan.steps;
        world.run(u64::MAX / 2, |w| w.steps >= steps);
        if world.failure.is_none() {
            world.heal();
            let crowd = world.plan.crowd;
            let until = world.now + if crowd { HEAL_CROWD_MS } else { HEAL_MS };
            world.run(until, World::is_quiet);
        }
        if world.failure.is_none() {
            world.check_end();
        }
    });
    Report {
        failure: world.failure,
        fired: world.fired,
        hash: world.hash,
        trace: world.trace.unwrap_or_default(),
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|v| v.parse().expect("a number"))
}

#[test]
fn everything_acked_arrives_once_or_stands_in_the_ledger() {
    if let Some(seed) = variable("HEADWATER_SEED") {
        let report = simulate(seed, true);
        report.trace.iter().for_each(|line| println!("{line}"));
        return assert_eq!(report.failure, None);
    }
    let seeds = variable("HEADWATER_SEEDS").unwrap_or(2_000);
    let first = variable("HEADWATER_FIRST_SEED").unwrap_or(0);
    let mut fired = BTreeMap::new();
    for seed in first..first + seeds {
        let report = simulate(seed, false);
        if let Some(failure) = report.failure {
            panic!(
                "seed {seed}: {failure}\n  repeat with: HEADWATER_SEED={seed} cargo test -p \
                 headwater-proto --lib sim::tests::everything -- --nocapture"
            );
        }
        for (what, count) in report.fired {
            *fired.entry(what).or_insert(0u64) += count;
        }
    }
    println!("{fired:#?}");
    if seeds >= 1_000 {
        for what in MUST_FIRE {
            assert!(
                fired.contains_key(what),
                "{what:?} never happened in {seeds} seeds"
            );
        }
    }
}

/// Faults and branches without which a green run says little.
const MUST_FIRE: &[&str] = &[
    "cut",
    "black hole",
    "edge closes",
    "equal counts",
    "edge recount",
    "cloud recount",
    "fresh card",
    "card from the drawer",
    "card copied",
    "full",
    "refused: full",
    "refused: retired",
    "retired",
    "given up",
    "alarm: refused",
    "alarm: retired",
    "stale session",
    "stall",
    "stalled commit",
    "cloud restarts",
    "power cut",
    "trim",
    "drop oldest",
    "rot",
    "new partition",
    "image taken",
    "image restored",
    "card cloned",
    "log wiped",
    "old card returns",
    "running image taken",
    "running image resumed",
    "cloud went back",
    "read failed",
    "sink rejects",
    "fork durable",
    "opened",
    "append",
    "duplicate",
    "out of order",
    "ledger: budget",
    "ledger: corrupt",
    "ledger: rejected",
    "ledger: given up",
    "clipped",
    "position",
    "fenced",
    "diverged",
    "quarantined",
    "alarm: cloud went back",
    "alarm: quarantine",
    "alarm: two live",
    "alarm: forked",
    "alarm: fenced",
    "alarm: dead letter",
    "fork failed",
    "dead letter failed",
    "alarm: log unwritable",
];

/// U2 where it matters: 16 incarnations and more, an operator, and cards that come back.
#[test]
fn crowds_of_cards_wait_for_their_place_and_lose_nothing() {
    let mut fired = BTreeMap::new();
    let first = variable("HEADWATER_FIRST_SEED").unwrap_or(0);
    for seed in first..first + variable("HEADWATER_CROWDS").unwrap_or(500) {
        let report = simulate_in(Kinds::Crowds, seed, false);
        if let Some(failure) = report.failure {
            simulate_in(Kinds::Crowds, seed, true)
                .trace
                .iter()
                .for_each(|line| println!("{line}"));
            panic!("crowd {seed}: {failure}");
        }
        for (what, count) in report.fired {
            *fired.entry(what).or_insert(0u64) += count;
        }
    }
    println!("{fired:#?}");
    for what in ["full", "refused: full", "retired", "refused: retired"] {
        assert!(fired.contains_key(what), "{what:?} never happened");
    }
}

#[test]
fn the_same_seed_runs_the_same() {
    for seed in 0..20 {
        let (one, two) = (simulate(seed, true), simulate(seed, true));
        assert_eq!(one.trace, two.trace);
        assert_eq!(one.hash, two.hash);
    }
    assert_ne!(simulate(1, false).hash, simulate(2, false).hash);
}

fn finds(rule: Rule, kinds: Kinds) {
    let simulate = |seed| simulate_in(kinds, seed, false).failure;
    let found = without(Some(rule), || {
        (0..500).find_map(|seed| simulate(seed).map(|failure| (seed, failure)))
    });
    let (seed, failure) =
        found.unwrap_or_else(|| panic!("{rule:?} taken out: 500 seeds are green"));
    assert_eq!(
        simulate(seed),
        None,
        "seed {seed} must be green with {rule:?}"
    );
    println!("{rule:?} taken out: seed {seed}: {failure}");
}

macro_rules! found_without {
    ($kinds:ident $($name:ident: $rule:ident,)*) => {
        $(#[test] fn $name() { finds(Rule::$rule, Kinds::$kinds); })*
    };
}

found_without! {
    Crowds
    u2_incarnation_bound: IncarnationBound,
    u2_retired_stays: RetiredStays,
    u2_retired_compared: RetiredCompared,
    u2_refused_asks_again: RefusedAsksAgain,
}

found_without! {
    All
    u1_lineage: Lineage,
    u1_lineage_across: LineageAcross,
    u1_digest_check: DigestCheck,
    u1_fork_durable: ForkDurable,
    u2_per_incarnation: PerIncarnation,
    u3_fencing: Fencing,
    u3_discard_until_resume: DiscardUntilResume,
    u3_silent: Silent,
    u3_resync: Resync,
    u4_gap_clip: GapClip,
    u4_gap_order: GapOrder,
    u4_no_gap_below_acked: NoGapBelowAcked,
    u5_dead_letter: DeadLetter,
    u5_persist_again: PersistAgain,
    u6_pinned: Pinned,
    u6_equal_counts: EqualCounts,
    table_dedup: Dedup,
    ack_after_commit: AckAfterCommit,
}

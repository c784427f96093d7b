//! Which seeds find that a rule is taken out: for the seeds that `tests/rules.rs` names.
//!
//! ```text
//! cargo run --release -p sim --example without -- --seeds 500 DigestCheck Silent j2
//! cargo run --release -p sim --example without -- --seed 17 --trace Silent
//! ```

use clap::Parser;
use headwater_log::durable::Rules;
use headwater_mqtt::rules as mqtt;
use headwater_proto::rules::{Rule, without};
use sim::count::Trace;
use sim::run::{Report, many_of, simulate};

/// Takes rules out, one at a time, and says which seeds find it.
#[derive(Parser)]
struct Args {
    /// Names of the uplink's rules, of the broker's, and of fields of the journal's `Rules`; all of the
    /// uplink's and the broker's if none. `none`: with all rules.
    rules: Vec<String>,
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Only each so-manieth seed.
    #[arg(long, default_value_t = 1)]
    step: u64,
    /// Just this one.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long)]
    trace: bool,
    /// Stops a rule's scan at so many finds.
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

const UPLINK: &[Rule] = &[
    Rule::Lineage,
    Rule::LineageAcross,
    Rule::DigestCheck,
    Rule::RejectedCompared,
    Rule::ForkDurable,
    Rule::PerIncarnation,
    Rule::IncarnationBound,
    Rule::RetiredStays,
    Rule::RetiredCompared,
    Rule::RefusedAsksAgain,
    Rule::Fencing,
    Rule::DiscardUntilResume,
    Rule::Resync,
    Rule::Silent,
    Rule::GapClip,
    Rule::GapOrder,
    Rule::NoGapBelowAcked,
    Rule::DeadLetter,
    Rule::PersistAgain,
    Rule::Pinned,
    Rule::EqualCounts,
    Rule::Dedup,
    Rule::AckAfterCommit,
];

const MQTT: &[mqtt::Rule] = &[
    mqtt::Rule::PubAckDurable,
    mqtt::Rule::PubRecDurable,
    mqtt::Rule::PubCompDurable,
    mqtt::Rule::IdKnown,
    mqtt::Rule::IdsKept,
    mqtt::Rule::SubAckDurable,
    mqtt::Rule::PubRelDurable,
    mqtt::Rule::QueuedCarried,
    mqtt::Rule::DupMarked,
    mqtt::Rule::RetainedCarried,
    mqtt::Rule::RetainedStored,
    mqtt::Rule::DeleteCarried,
    mqtt::Rule::DeleteStored,
    mqtt::Rule::EnqueueRecorded,
    mqtt::Rule::EndRecorded,
    mqtt::Rule::WillKept,
    mqtt::Rule::WillGoneInFrame,
    mqtt::Rule::WillGoneRecorded,
    mqtt::Rule::WillTakenBack,
    mqtt::Rule::ForwardInFrame,
    mqtt::Rule::SentStays,
    mqtt::Rule::DealCarried,
];

fn journal_rules(name: &str) -> Option<Rules> {
    let mut rules = Rules::default();
    match name {
        "none" => {}
        "j1" => rules.j1 = false,
        "j2" => rules.j2 = false,
        "j3" => rules.j3 = false,
        "j4" => rules.j4 = false,
        "j5" => rules.j5 = false,
        "j6" => rules.j6 = false,
        "j7" => rules.j7 = false,
        "j8" => rules.j8 = false,
        "j9" => rules.j9 = false,
        "pack_synced" => rules.pack_synced = false,
        "segments_synced" => rules.segments_synced = false,
        "keep_unsent" => rules.keep_unsent = false,
        "refuse_full" => rules.refuse_full = false,
        "seal_idle" => rules.seal_idle = false,
        _ => return None,
    }
    Some(rules)
}

fn main() {
    let args = Args::parse();
    let uplink = UPLINK.iter().map(|rule| format!("{rule:?}"));
    let all = || {
        uplink
            .chain(MQTT.iter().map(|rule| format!("{rule:?}")))
            .collect()
    };
    let names: Vec<String> = match args.rules.is_empty() {
        true => all(),
        false => args.rules.clone(),
    };
    for name in &names {
        let rule = UPLINK.iter().find(|rule| format!("{rule:?}") == *name);
        let broker = MQTT.iter().find(|rule| format!("{rule:?}") == *name);
        if let Some(rule) = broker {
            scan(&args, name, |seed, trace| {
                mqtt::without(Some(*rule), || simulate(seed, trace, Rules::default()))
            });
            continue;
        }
        match (rule, journal_rules(name)) {
            (Some(rule), _) => scan(&args, name, |seed, trace| {
                without(Some(*rule), || simulate(seed, trace, Rules::default()))
            }),
            (None, Some(rules)) => scan(&args, name, |seed, trace| simulate(seed, trace, rules)),
            (None, None) => println!("{name}: no such rule"),
        }
    }
}

fn scan(args: &Args, name: &str, world: impl Fn(u64, Trace) -> Report + Sync) {
    if let Some(seed) = args.seed {
        let trace = if args.trace {
            Trace::Printed
        } else {
            Trace::Off
        };
        println!("{name}: {:?}", world(seed, trace).failure);
        return;
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let quiet = |number: u64| world(args.first_seed + number * args.step, Trace::Off);
    let summary = many_of(quiet, 0, args.seeds, jobs, args.failures, |_| {});
    println!(
        "{name}: {} of {} seeds find it",
        summary.failures.len(),
        summary.seeds
    );
    for failure in &summary.failures {
        let line = failure.lines().next().unwrap_or_default();
        println!("  {}", line.chars().take(300).collect::<String>());
    }
}

//! The instrument is tested: each rule that can lose or repeat data is taken out, and some world
//! fails; with the rule in place that world is green.
//!
//! Each rule stands with a seed that found it, which is tried first. A seed is a world only as long as
//! the simulator draws the same: when it does not find the rule any more, the first 500 are searched.
//! Two are found by one world in a thousand or more, and need theirs: GapClip and GapOrder.
//!
//! Of the journal's rules one is missing, `j8`: that stragglers are copied forward. No node hands a
//! frame to be copied to a checkpoint, since the edge seals everything before it (`seal_idle`, the
//! other half of J8, is here) and the cloud's checkpoints hold all of its state. Taken out by itself it
//! changes nothing that either node does; `headwater-log` holds it for those who will use it.
//!
//! Of the uplink's rules these are not here:
//! - DiscardUntilResume: DATA that was under way is judged by its offset too, and what is neither next nor
//!   known is turned away: the rule is hardly ever the only one in the way.
//! - PersistAgain: without it a stream waits for the next connection, and every world has one.
//! - Pinned: a node asks for one pin of an edge at a time, so that two wishes never meet.
//!
//! All of them are held by the links of `headwater-proto`. Of the broker's rules none is missing.
//! `cargo run -p sim --example without` tells which seeds find a rule.
#![allow(clippy::unwrap_used)]

use headwater_log::durable::Rules;
use headwater_mqtt::rules as mqtt;
use headwater_proto::rules::{Rule, without};
use sim::count::Trace;
use sim::run::{Report, many_of, simulate};

const TRIED: u64 = 500;

/// `known`: a seed that found it, tried before all others.
fn found(name: &str, known: u64, world: impl Fn(u64) -> Report + Sync) {
    let told = world(known).told().or_else(|| {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let summary = many_of(&world, 0, TRIED, jobs, 1, |_| {});
        summary.failures.into_iter().next()
    });
    let Some(failure) = told else {
        panic!("{name} taken out: {TRIED} seeds are green");
    };
    println!("{name} taken out: {failure}");
    let seed = failure["seed ".len()..].split(':').next().unwrap();
    let with = simulate(seed.parse().unwrap(), Trace::Off, Rules::default());
    assert_eq!(with.told(), None, "{name}: red with the rule too");
}

fn journal(name: &str, known: u64, off: impl Fn(&mut Rules) + Sync) {
    let mut rules = Rules::default();
    off(&mut rules);
    found(name, known, |seed| simulate(seed, Trace::Off, rules));
}

fn uplink(rule: Rule, known: u64) {
    let world = |seed| without(Some(rule), || simulate(seed, Trace::Off, Rules::default()));
    found(&format!("{rule:?}"), known, world);
}

fn broker(rule: mqtt::Rule, known: u64) {
    let world = |seed| mqtt::without(Some(rule), || simulate(seed, Trace::Off, Rules::default()));
    found(&format!("{rule:?}"), known, world);
}

macro_rules! journal_rules {
    ($($name:ident: $known:expr,)*) => {
        $(#[test] fn $name() { journal(stringify!($name), $known, |rules| rules.$name = false); })*
    };
}

macro_rules! uplink_rules {
    ($($name:ident: $rule:ident, $known:expr;)*) => {
        $(#[test] fn $name() { uplink(Rule::$rule, $known); })*
    };
}

macro_rules! broker_rules {
    ($($name:ident: $rule:ident, $known:expr;)*) => {
        $(#[test] fn $name() { broker(mqtt::Rule::$rule, $known); })*
    };
}

journal_rules! {
    j1: 101,
    j2: 0,
    j3: 10,
    j4: 124,
    j5: 5,
    j6: 59,
    j7: 397,
    j9: 25,
    pack_synced: 6,
    segments_synced: 7,
    refuse_full: 9,
    seal_idle: 68,
    keep_unsent: 1,
}

uplink_rules! {
    u1_lineage: Lineage, 13;
    u1_lineage_across: LineageAcross, 207;
    u1_digest_check: DigestCheck, 21;
    u1_rejected_compared: RejectedCompared, 157;
    u1_fork_durable: ForkDurable, 241;
    u2_per_incarnation: PerIncarnation, 7;
    u2_incarnation_bound: IncarnationBound, 95;
    u2_retired_stays: RetiredStays, 23;
    u2_retired_compared: RetiredCompared, 95;
    u2_refused_asks_again: RefusedAsksAgain, 95;
    u3_fencing: Fencing, 7;
    u3_resync: Resync, 25;
    u3_silent: Silent, 25;
    u4_gap_clip: GapClip, 1_721;
    u4_gap_order: GapOrder, 1_913;
    u4_no_gap_below_acked: NoGapBelowAcked, 45;
    u5_dead_letter: DeadLetter, 1;
    u6_equal_counts: EqualCounts, 5;
    table_dedup: Dedup, 21;
    ack_after_commit: AckAfterCommit, 0;
}

broker_rules! {
    mqtt_puback_durable: PubAckDurable, 0;
    mqtt_pubrec_durable: PubRecDurable, 2;
    mqtt_pubcomp_durable: PubCompDurable, 2;
    mqtt_id_known: IdKnown, 2;
    mqtt_ids_kept: IdsKept, 2;
    mqtt_suback_durable: SubAckDurable, 150;
    mqtt_pubrel_durable: PubRelDurable, 22;
    mqtt_queued_carried: QueuedCarried, 11;
    mqtt_dup_marked: DupMarked, 11;
    mqtt_retained_carried: RetainedCarried, 11;
    mqtt_retained_stored: RetainedStored, 50;
    mqtt_delete_carried: DeleteCarried, 68;
    mqtt_delete_stored: DeleteStored, 331;
    mqtt_enqueue_recorded: EnqueueRecorded, 138;
    mqtt_end_recorded: EndRecorded, 320;
    mqtt_will_kept: WillKept, 2;
    mqtt_will_gone_in_frame: WillGoneInFrame, 32;
    mqtt_will_gone_recorded: WillGoneRecorded, 116;
    mqtt_will_taken_back: WillTakenBack, 2;
    mqtt_forward_in_frame: ForwardInFrame, 184;
    mqtt_sent_stays: SentStays, 42;
    mqtt_deal_carried: DealCarried, 22;
}

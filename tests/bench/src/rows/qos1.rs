//! QoS 1 with an fsync before each PUBACK, beside two brokers that do not fsync. The three take
//! turns, so that an hour's drift of the machine hits all of them.

use std::time::Duration;

use e2e::nodes::Edge;

use super::{Plan, Result, say};
use crate::load::{self, Load, Outcome};
use crate::peers::mqtt::Peer;
use crate::probe;
use crate::table::{Line, Spread};

const PEERS: [Peer; 2] = [Peer::Mosquitto, Peer::Rumqttd];

struct Round {
    edge: Outcome,
    peers: [Outcome; 2],
    disk_p99: Duration,
}

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let mut rounds = Vec::new();
    for n in 1..=plan.rounds {
        say(format!("QoS 1, round {n} of {}", plan.rounds));
        rounds.push(Round {
            edge: edge(plan)?,
            peers: [peer(plan, PEERS[0])?, peer(plan, PEERS[1])?],
            disk_p99: probe::disk(plan.dir)?.fdatasync_p99,
        });
    }
    let mut lines = vec![broker_line(
        "QoS 1, fsync before each PUBACK: acked/s",
        rounds.iter().map(|r| &r.edge),
    )];
    for (i, peer) in PEERS.into_iter().enumerate() {
        let what = format!("the same load on {}, no fsync: acked/s", peer.version()?);
        lines.push(broker_line(&what, rounds.iter().map(|r| &r.peers[i])));
    }
    lines.push(
        ratio(&rounds, 0)
            .floor("1.5", ratios(&rounds, 0).median() >= 1.5)
            .aim("3", ratios(&rounds, 0).median() >= 3.0),
    );
    lines.push(ratio(&rounds, 1));
    lines.push(ack_p99(&rounds));
    Ok(lines)
}

/// The load of DESIGN.md's first row.
fn design_load(plan: &Plan<'_>) -> Load {
    Load {
        publishers: 10,
        in_flight: 50,
        payload_bytes: 100,
        time: plan.time,
    }
}

fn edge(plan: &Plan<'_>) -> Result<Outcome> {
    let edge = Edge::new(&plan.dir.join("edge-qos1"), None);
    let process = edge.start();
    let outcome = load::qos1(edge.mqtt, design_load(plan))?;
    process.stop();
    std::fs::remove_dir_all(&edge.dir)?;
    Ok(outcome)
}

fn peer(plan: &Plan<'_>, peer: Peer) -> Result<Outcome> {
    let (_process, address) = peer.start(plan.dir)?;
    let outcome = load::qos1(address, design_load(plan));
    outcome.map_err(|e| format!("{}: {e}", peer.name()).into())
}

fn broker_line<'a>(what: &str, outcomes: impl Iterator<Item = &'a Outcome> + Clone) -> Line {
    let of = |value: fn(&Outcome) -> f64| Spread::of(outcomes.clone().map(value));
    Line::new(
        what,
        format!(
            "{}; delivered {}/s; PUBACK p50 {} ms, p99 {} ms",
            of(|o| o.acked_per_s).show(1.0, 0),
            of(|o| o.delivered_per_s).show(1.0, 0),
            of(|o| o.ack_p50.as_secs_f64()).show(1e-3, 1),
            of(|o| o.ack_p99.as_secs_f64()).show(1e-3, 1),
        ),
    )
}

fn ratios(rounds: &[Round], peer: usize) -> Spread {
    let ratio = |r: &Round| r.edge.acked_per_s / r.peers[peer].acked_per_s;
    Spread::of(rounds.iter().map(ratio))
}

fn ratio(rounds: &[Round], peer: usize) -> Line {
    let what = format!("ratio edge : {}", PEERS[peer].name());
    Line::new(what, ratios(rounds, peer).show(1.0, 2))
}

fn ack_p99(rounds: &[Round]) -> Line {
    let disk = Spread::of(rounds.iter().map(|r| r.disk_p99.as_secs_f64()));
    let times = |r: &Round| r.edge.ack_p99.as_secs_f64() / r.disk_p99.as_secs_f64();
    let times = Spread::of(rounds.iter().map(times));
    Line::new(
        "PUBACK p99 under that load : the disk's fdatasync p99",
        format!(
            "{}; the disk's p99 {} ms",
            times.show(1.0, 1),
            disk.show(1e-3, 1)
        ),
    )
    .aim("3", times.median() <= 3.0)
}

//! What a subscriber that stops reading costs the others, beside mosquitto and rumqttd.
//!
//! Short windows with it and without it take turns on one broker, and the median window of each kind
//! counts: on a shared machine the same work takes half as much again for seconds at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broker::{self, Broker};
use super::{Plan, Result, say};
use crate::crowd::{Client, Delivered, Load, gather};
use crate::table::{Line, Spread};

const READERS: usize = 10;
const PER_S: u64 = 2_000;
/// Windows of each kind in a round.
const WINDOWS: u32 = 8;
/// Before a window of either kind: 80,000 messages, 10 MB. The kernel holds some 30,000 for who does not
/// read, and a queue of the edge's 10,000.
const FILL: Duration = Duration::from_secs(2);
const FILL_PER_S: u64 = 40_000;
/// The bound on the ratio.
const AIM: f64 = 1.2;
/// At QoS 1 the edge's messages would wait 25 ms in the mean for others that share their fsync, which
/// hides what a subscriber costs.
const NO_GATHERING: &str = "[log]\ncommit_gather_ms = 0\n";
const STALLED: &str = "stalled";

/// What one broker did, a value a round: p99 of its median windows, in seconds.
#[derive(Default)]
struct Figures {
    without: Vec<f64>,
    ratio: Vec<f64>,
    failures: Vec<String>,
}

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut lines = Vec::new();
    for qos in [0, 1] {
        let mut all = broker::ALL.map(|broker| (broker, Figures::default()));
        for n in 1..=plan.rounds {
            for (broker, figures) in &mut all {
                let name = broker.name();
                say(format!(
                    "one that does not read at {name}, QoS {qos}, round {n} of {}",
                    plan.rounds
                ));
                let (_process, at, scratch) = broker.start_with(plan, NO_GATHERING)?;
                // The peers' queues have no bound here.
                let drops = *broker == Broker::Edge;
                let round = round(at, qos, plan.time, drops, figures);
                if let Err(error) = runtime.block_on(round) {
                    let said = broker.last_lines(scratch.path());
                    say(format!("{error}; the log of {name} ends:\n{said}"));
                    figures.failures.push(error.to_string());
                }
            }
        }
        for (broker, figures) in &all {
            lines.extend(of(*broker, qos, figures));
        }
    }
    Ok(lines)
}

async fn round(
    at: SocketAddr,
    qos: u8,
    time: Duration,
    drops: bool,
    out: &mut Figures,
) -> Result<()> {
    let readers = gather(at, READERS, qos, |n| vec![format!("work/{n}")]).await?;
    let (begun, delivered) = (Instant::now(), Arc::new(Delivered::default()));
    for reader in readers {
        reader.read_on(begun, delivered.clone());
    }
    let mut publisher = Client::connect(at, "publisher").await?;
    let topic = |n: u64| format!("work/{}", n % READERS as u64);
    let fill = Load::new(qos, FILL_PER_S, FILL);
    let load = Load::new(qos, PER_S, time / WINDOWS);
    let mut sent = publisher.publish(begun, load, topic).await?;
    let (mut without, mut beside) = (Vec::new(), Vec::new());
    for n in 0..2 * WINDOWS {
        // Without, beside, beside, without: neither kind is always the later one.
        let is_beside = n % 4 == 1 || n % 4 == 2;
        let stalled = match is_beside {
            true => Some(Client::durable(at, STALLED, "work/#", qos).await?),
            false => None,
        };
        let filled = publisher.publish(begun, fill, topic).await?;
        sent += filled;
        delivered.reach(sent).await?;
        delivered.take_percentile(99);
        sent += publisher.publish(begun, load, topic).await?;
        delivered.reach(sent).await?;
        let times = if is_beside { &mut beside } else { &mut without };
        times.push(delivered.take_percentile(99).as_secs_f64());
        if let Some(stalled) = stalled {
            let held = stalled.read_what_waits().await;
            if drops && held >= filled {
                return Err(format!("all {filled} found room somewhere, so nobody stalled").into());
            }
            // Leaves no session behind.
            Client::connect(at, STALLED).await?;
        }
    }
    let (without, beside) = (Spread::of(without).median(), Spread::of(beside).median());
    out.without.push(without);
    out.ratio.push(beside / without);
    Ok(())
}

fn of(broker: Broker, qos: u8, figures: &Figures) -> Vec<Line> {
    let name = broker.name();
    let ours = broker == Broker::Edge;
    let what = format!("{name}: p99 of {READERS} subscribers at QoS {qos}");
    let mut lines = Vec::new();
    if !figures.ratio.is_empty() {
        let ratio = Spread::of(figures.ratio.iter().copied());
        let line = Line::new(
            format!("{what}, beside one that does not read : without it"),
            ratio.show(1.0, 2),
        );
        lines.push(match ours {
            true => line.aim(AIM.to_string(), ratio.median() <= AIM),
            false => line,
        });
        let without = Spread::of(figures.without.iter().copied());
        lines.push(Line::new(
            format!("{what}, without it"),
            format!("{} ms", without.show(1e-3, 2)),
        ));
    }
    lines.extend(figures.failures.iter().map(|why| broker.did_not(why)));
    lines
}

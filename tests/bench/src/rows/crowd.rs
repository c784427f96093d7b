//! Many connections and many subscriptions, beside mosquitto and rumqttd: what an idle one costs,
//! whether 5,000 are held, 200,000 subscriptions under load, and one publisher to 1,000 subscribers.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::process::Process;

use super::broker::{self, Broker};
use super::{Plan, Result, say};
use crate::crowd::{Client, Delivered, Load, gather};
use crate::peers::mqtt::Peer;
use crate::table::{Line, Spread};

const CONNECTIONS: usize = 5_000;
/// Clients with 1,000 filters each.
const SUBSCRIBERS: usize = 200;
const FILTERS: usize = 1_000;
const MATCHED_PER_S: u64 = 10_000;
/// Messages that are sent one by one before, each to a topic that no other message has.
const ALONE: u64 = 20;
const FAN_OUT: usize = 1_000;
/// Messages of the one publisher per second; each becomes 1,000.
const FAN_OUT_PER_S: u64 = 60;
const SETTLE: Duration = Duration::from_secs(2);

/// What one broker did; a figure is missing where it did not do it.
#[derive(Default)]
struct Figures {
    bytes_per_connection: Vec<f64>,
    alive: Vec<f64>,
    matched_alone: Vec<f64>,
    matched_per_s: Vec<f64>,
    matched_p99: Vec<f64>,
    matched_mb: Vec<f64>,
    fan_out_per_s: Vec<f64>,
    fan_out_p99: Vec<f64>,
    failures: Vec<String>,
}

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut all = broker::ALL.map(|broker| (broker, Figures::default()));
    for n in 1..=plan.rounds {
        for (broker, figures) in &mut all {
            say(format!(
                "a crowd at {}, round {n} of {}",
                broker.name(),
                plan.rounds
            ));
            for (what, part) in PARTS {
                let started = broker.start(plan);
                let (process, address, scratch) = started?;
                if let Err(error) = runtime.block_on(part(&process, address, plan.time, figures)) {
                    let why = reason(*broker, what).map_or(String::new(), |why| format!("; {why}"));
                    let said = broker.last_lines(scratch.path());
                    say(format!(
                        "{what}: {error}; the log of {} ends:\n{said}",
                        broker.name()
                    ));
                    figures.failures.push(format!("{what}: {error}{why}"));
                }
            }
        }
    }
    Ok(all
        .iter()
        .flat_map(|(broker, figures)| lines(*broker, figures))
        .collect())
}

/// Why a broker cannot do a part, where that is known.
fn reason(broker: Broker, part: &str) -> Option<&'static str> {
    match (broker, part) {
        // `DataLog::matches` in its router/logs.rs. No setting of its config changes that, and nothing
        // is delivered before all that its publisher has sent so far is matched.
        (Broker::Peer(Peer::Rumqttd), SUBSCRIPTIONS) => {
            Some("it holds a topic that is new to it against every filter, one after the other")
        }
        _ => None,
    }
}

const SUBSCRIPTIONS: &str = "subscriptions";

type Part = for<'a> fn(
    &'a Process,
    SocketAddr,
    Duration,
    &'a mut Figures,
) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

const PARTS: [(&str, Part); 3] = [
    ("connections", |process, at, time, out| {
        Box::pin(idle(process, at, time, out))
    }),
    (SUBSCRIPTIONS, |process, at, time, out| {
        Box::pin(matched(process, at, time, out))
    }),
    ("fan-out", |process, at, time, out| {
        Box::pin(fan_out(process, at, time, out))
    }),
];

async fn idle(process: &Process, at: SocketAddr, time: Duration, out: &mut Figures) -> Result<()> {
    // What a first client brings into memory is no connection's.
    let _first = gather(at, 1, 1, |_| vec!["crowd/first".into()]).await?;
    tokio::time::sleep(SETTLE).await;
    let before = process.rss_bytes();
    let mut clients = gather(at, CONNECTIONS, 1, |n| vec![format!("crowd/{n}/#")]).await?;
    tokio::time::sleep(time.max(SETTLE)).await;
    let grown = process.rss_bytes().saturating_sub(before);
    out.bytes_per_connection
        .push(grown as f64 / CONNECTIONS as f64);
    let mut alive = 0u32;
    for client in &mut clients {
        alive += u32::from(client.is_alive().await);
    }
    out.alive.push(f64::from(alive));
    Ok(())
}

/// Each message matches one of 200,000 filters, half of them with a wildcard.
async fn matched(
    process: &Process,
    at: SocketAddr,
    time: Duration,
    out: &mut Figures,
) -> Result<()> {
    let filters = |client: usize| {
        let filter = move |n: usize| match n % 2 {
            0 => format!("plant/{client}/sensor/{n}/value"),
            _ => format!("plant/{client}/sensor/{n}/+"),
        };
        (0..FILTERS).map(filter).collect()
    };
    let clients = gather(at, SUBSCRIBERS, 0, filters).await?;
    let (begun, delivered) = (Instant::now(), Arc::new(Delivered::default()));
    for client in clients {
        client.read_on(begun, delivered.clone());
    }
    let mut publisher = Client::connect(at, "publisher").await?;
    let topic = |n: u64| {
        // A step without a common divisor goes through all of them.
        let filter = n.wrapping_mul(7_919) as usize % (SUBSCRIBERS * FILTERS);
        format!(
            "plant/{}/sensor/{}/value",
            filter % SUBSCRIBERS,
            filter / SUBSCRIBERS
        )
    };
    for n in 1..=ALONE {
        // From the end, which the load does not come to.
        let topic = topic((SUBSCRIBERS * FILTERS) as u64 - n);
        publisher.publish_one(begun, &topic, &delivered).await?;
    }
    out.matched_alone
        .push(delivered.take_percentile(50).as_secs_f64());
    let sent = publisher
        .publish(begun, Load::new(0, MATCHED_PER_S, time), topic)
        .await?;
    tokio::time::sleep(SETTLE).await;
    let arrived = delivered.messages() - ALONE;
    if arrived < sent {
        let (missing, wait) = (sent - arrived, SETTLE.as_secs());
        return Err(format!("{missing} of {sent} messages did not arrive within {wait} s").into());
    }
    out.matched_per_s.push(sent as f64 / time.as_secs_f64());
    out.matched_p99
        .push(delivered.take_percentile(99).as_secs_f64());
    out.matched_mb.push(process.rss_bytes() as f64 / 1e6);
    Ok(())
}

async fn fan_out(_: &Process, at: SocketAddr, time: Duration, out: &mut Figures) -> Result<()> {
    let clients = gather(at, FAN_OUT, 0, |_| vec!["fan/#".into()]).await?;
    let (begun, delivered) = (Instant::now(), Arc::new(Delivered::default()));
    for client in clients {
        client.read_on(begun, delivered.clone());
    }
    let mut publisher = Client::connect(at, "publisher").await?;
    let sent = publisher
        .publish(begun, Load::new(0, FAN_OUT_PER_S, time), |_| {
            "fan/out".into()
        })
        .await?;
    let all = sent * FAN_OUT as u64;
    let started = Instant::now();
    while delivered.messages() < all && started.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if delivered.messages() < all {
        return Err(format!(
            "{} of {all} messages did not arrive",
            all - delivered.messages()
        )
        .into());
    }
    out.fan_out_per_s
        .push(all as f64 / begun.elapsed().as_secs_f64());
    out.fan_out_p99
        .push(delivered.take_percentile(99).as_secs_f64());
    Ok(())
}

/// A bound, and whether a median keeps it.
type Aim<'a> = (&'a str, fn(f64) -> bool);

fn lines(broker: Broker, f: &Figures) -> Vec<Line> {
    let name = broker.name();
    let ours = broker == Broker::Edge;
    let mut lines = Vec::new();
    let mut line =
        |what: String, values: &[f64], show: &dyn Fn(&Spread) -> String, aim: Option<Aim>| {
            if values.is_empty() {
                return;
            }
            let spread = Spread::of(values.iter().copied());
            let line = Line::new(format!("{name}: {what}"), show(&spread));
            lines.push(match aim {
                Some((bound, kept)) if ours => line.aim(bound, kept(spread.median())),
                _ => line,
            });
        };
    line(
        format!("RSS per idle connection with one subscription, {CONNECTIONS} of them"),
        &f.bytes_per_connection,
        &|s| format!("{} kB", s.show(1e3, 1)),
        Some(("4 kB", |bytes| bytes <= 4_000.0)),
    );
    line(
        format!("of {CONNECTIONS} connections answer"),
        &f.alive,
        &|s| s.show(1.0, 0),
        Some(("all", |alive| alive >= CONNECTIONS as f64)),
    );
    let subscriptions = SUBSCRIBERS * FILTERS;
    line(
        format!("{subscriptions} subscriptions, one message at a time: publish to arrival, median"),
        &f.matched_alone,
        &|s| format!("{} ms", s.show(1e-3, 2)),
        None,
    );
    line(
        format!("{subscriptions} subscriptions: matched publishes/s, all delivered"),
        &f.matched_per_s,
        &|s| s.show(1.0, 0),
        Some(("10,000", |rate| rate >= 0.98 * MATCHED_PER_S as f64)),
    );
    line(
        "the same: publish to arrival p99".into(),
        &f.matched_p99,
        &|s| format!("{} ms", s.show(1e-3, 1)),
        None,
    );
    line(
        "the same: RSS".into(),
        &f.matched_mb,
        &|s| format!("{} MB", s.show(1.0, 1)),
        None,
    );
    line(
        format!("one publisher to {FAN_OUT} subscribers: deliveries/s"),
        &f.fan_out_per_s,
        &|s| s.show(1.0, 0),
        None,
    );
    line(
        "the same: publish to arrival p99".into(),
        &f.fan_out_p99,
        &|s| format!("{} ms", s.show(1e-3, 1)),
        None,
    );
    lines.extend(f.failures.iter().map(|what| broker.did_not(what)));
    lines
}

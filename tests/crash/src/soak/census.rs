//! A moment of quiet in which every counter is held against what the harness saw.
//!
//! Publishers finish what is under way and prove with a PINGREQ that the edge has read everything of
//! theirs; subscribers read all that is left. Then numbers stand still, so they can be compared
//! exactly. Pages are up to half a second old, so a comparison that fails is made again, for a while:
//! a count that is wrong never becomes right by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use e2e::mqtt::{Packet, Version};

use super::attempt::Attempt;
use super::judge::{self, Faults};
use super::lives::{Mode, Tally};
use super::named::Named;
use super::publisher::World;
use super::scrape::{Page, edge_queues, ledger};
use super::stage::Stage;
use super::wire::{Hello, Met, Wire};

/// Publishes under way to a client that ends its connection: the edge's `inflight_max`.
const INFLIGHT_MAX: i64 = 1024;
/// Bytes under way to one: what the edge hands out unwritten, a packet, and socket buffers.
const UNDER_WAY_BYTES: i64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(200);

/// One number, and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub what: &'static str,
    pub seen: i64,
    pub least: i64,
    pub most: i64,
}

impl Check {
    fn exact(what: &'static str, seen: i64, due: i64) -> Check {
        Check::within(what, seen, due, due)
    }

    fn within(what: &'static str, seen: i64, least: i64, most: i64) -> Check {
        Check {
            what,
            seen,
            least,
            most,
        }
    }

    pub fn holds(&self) -> bool {
        (self.least..=self.most).contains(&self.seen)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check {
            what,
            seen,
            least,
            most,
        } = self;
        match least == most {
            true => write!(f, "{what} is {seen}, and {least} by the harness"),
            false => write!(f, "{what} is {seen}, and {least} to {most} by the harness"),
        }
    }
}

/// Where the counters stood at the last census of the same life of the edge.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before {
    life: u32,
    next: i64,
    records: i64,
}

/// What is compared, from one look at everything.
struct Look<'a> {
    page: &'a Page,
    tally: &'a Tally,
    /// Partitions whose next offset is not what Kafka and its ledger have.
    uneven: i64,
    subscriptions: i64,
    retained: i64,
    dropped_named: i64,
    before: Before,
}

/// The edge's counters.
fn edge_checks(look: &Look<'_>) -> Vec<Check> {
    let Look { page, tally, .. } = look;
    let of = |name: &str| page.whole(name).unwrap_or(-1);
    let at = |counter: &AtomicU64| counter.load(Relaxed) as i64;
    let published = |qos: u8| of(&format!("mqtt_published_total{{qos=\"{qos}\"}}"));
    let sent = |qos: usize| at(&tally.sent[qos]);
    let cut_short = at(&tally.cut_short);
    let wills = at(&tally.wills);
    let duplicates = of("mqtt_publish_duplicates_total");
    let all: i64 = (0..3).map(published).sum();
    let (records, refused) = (of("log_records_total"), of("log_refused_total"));
    let (next, acked) = (
        page.sum("partition_next_offset"),
        page.sum("partition_acked_offset"),
    );
    let mut checks = vec![
        Check::exact("healthy", of("healthy"), 1),
        Check::exact("log_full", of("log_full"), 0),
        Check::exact("published at QoS 0", published(0), sent(0)),
        Check::exact(
            "published at QoS 1, wills included",
            published(1),
            sent(1) + wills,
        ),
        Check::exact(
            "published and resent at QoS 2",
            published(2) + duplicates,
            sent(2),
        ),
        Check::exact(
            "received_bytes",
            of("mqtt_received_bytes_total"),
            at(&tally.bytes_out),
        ),
        Check::within(
            "sent_bytes",
            of("mqtt_sent_bytes_total"),
            at(&tally.bytes_in),
            at(&tally.bytes_in) + cut_short * UNDER_WAY_BYTES,
        ),
        Check::exact("connects", of("mqtt_connects_total"), at(&tally.connects)),
        Check::exact(
            "connects_refused",
            of("mqtt_connects_refused_total"),
            at(&tally.connects_refused),
        ),
        Check::exact("connected", of("mqtt_connected"), at(&tally.open)),
        Check::exact("sessions", of("mqtt_sessions"), at(&tally.open)),
        Check::exact(
            "subscriptions",
            of("mqtt_subscriptions"),
            look.subscriptions,
        ),
        Check::exact("malformed", of("mqtt_malformed_total"), 0),
        Check::exact("queued", of("mqtt_queued"), 0),
        Check::exact("retained", of("mqtt_retained"), look.retained),
        Check::within(
            "dropped, and what clients' queues say",
            of("mqtt_dropped_total"),
            look.dropped_named,
            i64::MAX,
        ),
        // Refused frames without a record, and tries of held ones, are counted too.
        Check::within("log_refused", refused, at(&tally.refused), i64::MAX),
        Check::within(
            "log_records and what was published",
            records,
            all - refused,
            all,
        ),
        Check::exact("unrouted", of("log_unrouted_total"), 0),
        Check::exact("uplink_connected", of("uplink_connected"), 1),
        Check::exact("uplink_lag", of("uplink_lag_records"), 0),
        Check::exact("acked offsets and next offsets", acked, next),
        Check::exact(
            "partitions whose next offset is not what Kafka and its ledger have",
            look.uneven,
            0,
        ),
    ];
    for qos in 0..3 {
        let received = at(&tally.received[qos]);
        checks.push(Check::within(
            [
                "delivered at QoS 0",
                "delivered at QoS 1",
                "delivered at QoS 2",
            ][qos],
            of(&format!("mqtt_delivered_total{{qos=\"{qos}\"}}")),
            received,
            received + cut_short * INFLIGHT_MAX,
        ));
    }
    if look.before.life == tally.number {
        let what = "records and offsets since the last census";
        let (new, due) = (next - look.before.next, records - look.before.records);
        checks.push(Check::exact(what, new, due));
    }
    checks
}

/// The cloud's counters since its process began, when its topic held `base` records.
fn cloud_checks(
    then: &(Page, i64),
    now: &(Page, i64),
    ledger_rows: i64,
    broken: i64,
) -> Vec<Check> {
    let appended = "append_records_total{from=\"uplink\"}";
    let of = |page: &Page, name: &str| page.whole(name).unwrap_or(0);
    vec![
        Check::exact(
            "the cloud's append_records",
            of(&now.0, appended) - of(&then.0, appended),
            now.1 - then.1,
        ),
        Check::exact(
            "the cloud's append_records at its start",
            of(&then.0, appended),
            0,
        ),
        Check::exact(
            "the cloud's lost_ranges",
            of(&now.0, "lost_ranges_total"),
            0,
        ),
        // One that broke without a word counts until its idle timeout.
        Check::within(
            "the cloud's uplink_connections",
            of(&now.0, "uplink_connections"),
            1,
            1 + broken,
        ),
        Check::within(
            "the cloud's ledger_entries",
            of(&now.0, "ledger_entries_total"),
            0,
            ledger_rows,
        ),
    ]
}

/// Compares everything; `stage` must have both nodes and the link up. The error is one line for each
/// number that does not agree within `limit`, and each retained message that is another.
pub fn take(
    stage: &mut Stage,
    world: &World,
    before: &mut Before,
    limit: Duration,
) -> Result<usize, String> {
    world.orders.give(Mode::Quiet);
    let due = Instant::now() + limit;
    let loud = |stage: &mut Stage| {
        stage.tick(world.progress.begun());
        world.orders.loud()
    };
    while !loud(stage).is_empty() {
        if Instant::now() > due {
            return Err(format!("clients {:?} are not quiet", world.orders.loud()));
        }
        std::thread::sleep(PAUSE);
    }
    let tally = stage.tally().ok_or("the edge does not run")?;
    let retained = retained_now(world)?;
    loop {
        stage.tick(world.progress.begun());
        let outcome = compare(stage, world, &tally, *before);
        let (wrong, count, now) = match outcome {
            Ok((checks, now)) => {
                let count = checks.len();
                let wrong = checks.into_iter().filter(|check| !check.holds());
                (wrong.map(|check| check.to_string()).collect(), count, now)
            }
            Err(error) => (vec![error], 0, Before::default()),
        };
        if wrong.is_empty() {
            *before = now;
            let mut faults = Faults::default();
            let due = world
                .retained
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            judge::retained(&due, &retained, &mut faults);
            tally.censuses.fetch_add(1, Relaxed);
            return match faults.is_empty() {
                true => Ok(count + due.len()),
                false => Err(faults.to_string()),
            };
        }
        if Instant::now() > due {
            return Err(wrong.join("\n"));
        }
        std::thread::sleep(PAUSE);
    }
}

fn compare(
    stage: &Stage,
    world: &World,
    tally: &Tally,
    before: Before,
) -> Result<(Vec<Check>, Before), String> {
    let page = stage.edge_page().ok_or("the edge has no page")?;
    let cloud = stage.cloud_now()?;
    let rows = ledger(stage.cloud.admin)?;
    let named = Named::read(&rows)?;
    let uneven = (0..).zip(stage.end_offsets()?).filter(|(partition, end)| {
        let next = page.of_partition("partition_next_offset", *partition);
        next != Some(end + named.of(*partition) as i64)
    });
    let dropped_named: u64 = edge_queues(stage.edge.status)
        .values()
        .map(|queue| queue.dropped)
        .sum();
    let retained = world
        .retained
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let look = Look {
        page: &page,
        tally,
        uneven: uneven.count() as i64,
        subscriptions: world.progress.subscriptions.load(Relaxed) as i64,
        retained: retained.values().flatten().count() as i64,
        dropped_named: dropped_named as i64,
        before,
    };
    let mut checks = edge_checks(&look);
    let base = stage.cloud_base.as_ref();
    let base = base.ok_or("the cloud's numbers at its start are not known")?;
    let done = stage.done;
    let broken = (done.cuts + done.outages + done.edge_kills) as i64;
    checks.extend(cloud_checks(base, &cloud, rows.len() as i64, broken));
    let now = Before {
        life: tally.number,
        next: page.sum("partition_next_offset"),
        records: page.whole("log_records_total").unwrap_or(0),
    };
    Ok((checks, now))
}

/// Every retained message below `r/`, as a new client gets them.
pub fn retained_now(world: &World) -> Result<BTreeMap<String, Attempt>, String> {
    let hello = Hello {
        version: Version::V5,
        id: "retained",
        keep: false,
        will: None,
    };
    let mut wire = match Wire::connect(&world.lives, world.broker, hello) {
        Met::Accepted(wire) => wire,
        Met::Refused => return Err("a reader of retained messages was refused".into()),
        Met::Failed(error) => return Err(error.to_string()),
        Met::Nobody => return Err("the edge does not run".into()),
    };
    let mut got = BTreeMap::new();
    let mut read = || -> std::io::Result<()> {
        wire.subscribe(1, &["r/#"], 1);
        wire.flush()?;
        while !matches!(wire.poll(PAUSE)?, Some(Packet::SubAck { .. })) {}
        // Until a whole round brings nothing.
        loop {
            let before = got.len();
            wire.ping();
            wire.flush()?;
            loop {
                match wire.poll(PAUSE)? {
                    Some(Packet::Publish {
                        topic, payload, id, ..
                    }) => {
                        let attempt = Attempt::read(&payload).map_err(std::io::Error::other)?;
                        got.insert(topic, attempt);
                        wire.answer(0x40, id.unwrap_or(0));
                        wire.flush()?;
                    }
                    Some(Packet::Other(13)) => break,
                    _ => {}
                }
            }
            if got.len() == before {
                return Ok(());
            }
        }
    };
    read().map_err(|error| format!("reading retained messages: {error}"))?;
    wire.leave().map_err(|error| error.to_string())?;
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_or_too_few_is_seen() {
        assert!(Check::exact("n", 5, 5).holds());
        assert!(!Check::exact("n", 4, 5).holds() && !Check::exact("n", 6, 5).holds());
        assert!(Check::within("n", 5, 4, 6).holds() && !Check::within("n", 7, 4, 6).holds());
    }
}

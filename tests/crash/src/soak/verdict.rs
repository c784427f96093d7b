//! Gathers what everybody knows when all is over, and lets the judge speak.

use std::collections::HashMap;

use super::attempt::Attempt;
use super::cast::{Cast, GROUP, PUBLISHERS, VISITORS, levels, tasks};
use super::follow::Found;
use super::judge::{Due, Faults, Known};
use super::named::Named;
use super::publisher::{Report, Task};
use super::subscriber::Heard;
use super::visitor::Visits;
use super::watch::Queues;

/// What everybody knows, when they have ended.
pub struct Told {
    pub reports: Vec<Report>,
    pub heard: Vec<Heard>,
    pub visits: Vec<Visits>,
}

impl Told {
    pub fn join(cast: Cast) -> Told {
        fn all<T>(threads: Vec<std::thread::JoinHandle<T>>) -> Vec<T> {
            let join = |thread: std::thread::JoinHandle<T>| thread.join();
            let joined = threads.into_iter().map(join);
            joined.map(|t| t.expect("clients do not panic")).collect()
        }
        Told {
            reports: all(cast.publishers),
            heard: all(cast.subscribers),
            visits: all(cast.visitors),
        }
    }

    /// Attempts and what is known of them.
    pub fn known(&self) -> Known {
        let tasks = tasks();
        let mut known = Known::default();
        for (task, report) in tasks.iter().zip(&self.reports) {
            let deletes = |attempt: &&Attempt| task.deletes(attempt.message());
            known.deletes.0 += report.acked.iter().filter(deletes).count() as u64;
            known.deletes.1 += report.unknown.iter().filter(deletes).count() as u64;
            let carries = |attempt: &&Attempt| !task.deletes(attempt.message());
            known.acked.extend(report.acked.iter().filter(carries));
            known.unknown.extend(report.unknown.iter().filter(carries));
            if task.qos == 2 {
                known.exactly_once.push(task.publisher);
            }
            if task.retained_topics > 0 {
                known.topics.insert(task.publisher, task.retained_topics);
            }
        }
        known.with_wills = (PUBLISHERS as u16..(PUBLISHERS + VISITORS) as u16).collect();
        for visits in &self.visits {
            known.acked.extend(&visits.acked);
            known.unknown.extend(&visits.unknown);
            for will in &visits.wills {
                // The life went on until all was quiet and counted: the will is in the log.
                let seen = will
                    .tally
                    .censuses
                    .load(std::sync::atomic::Ordering::Relaxed);
                match seen > will.censuses {
                    true => known.acked.push(will.attempt),
                    false => known.unknown.push(will.attempt),
                }
            }
        }
        known.sort();
        known
    }
}

/// Judges everything; the answer is what to print.
pub fn judge(
    told: &Told,
    found: &[Vec<Found>],
    named: &Named,
    queues: &Queues,
    faults: &mut Faults,
) -> Vec<String> {
    let known = told.known();
    let tasks = tasks();
    let ledger = named.records();
    let missing = known.stored(found, ledger, faults);
    let held = known.named(found, named, faults);
    let mut lines = vec![format!(
        "{} acknowledged and {} unknown attempts; {} records in Kafka, {missing} missing of {ledger} in \
         the ledger; {} refused",
        known.acked.len() as u64 + known.deletes.0,
        known.unknown.len() as u64 + known.deletes.1,
        found.iter().map(Vec::len).sum::<usize>(),
        told.reports.iter().map(|r| r.refused).sum::<u64>()
            + told.visits.iter().map(|v| v.refused).sum::<u64>(),
    )];
    if named.records() > 0 {
        lines.push(held);
    }
    for heard in &told.heard {
        let reading = &heard.reading;
        if reading.name.starts_with(GROUP) {
            continue;
        }
        let (named, unseen) = queues.dropped(&reading.name);
        let wants = wants(&tasks, &reading.filters);
        let missed = known.delivered(
            &Due {
                who: &reading.name,
                delivered: &heard.delivered,
                wants: &|publisher| wants.contains_key(&publisher),
                since: &heard.since,
                exactly_once: reading.qos == 2,
                at_most_once: reading.qos == 0,
                in_order: true,
                dropped: named + unseen,
            },
            faults,
        );
        lines.push(format!(
            "{}: {} delivered over {} connections, {missed} missed, {named} dropped by its counter \
             (and at most {unseen} unseen before kills)",
            reading.name,
            heard.delivered.len(),
            heard.connections,
        ));
    }
    lines.push(group(told, &known, &tasks, queues, faults));
    let of = |count: fn(&Visits) -> u64| told.visits.iter().map(count).sum::<u64>();
    lines.push(format!(
        "visitors: {} visits, {} wills of the vanished, {} withheld after DISCONNECT",
        of(|v| v.visits),
        of(|v| v.wills.len() as u64),
        of(|v| v.withheld),
    ));
    lines
}

/// The members of the shared subscription together: each message reaches one of them.
fn group(
    told: &Told,
    known: &Known,
    tasks: &[Task],
    queues: &Queues,
    faults: &mut Faults,
) -> String {
    let is_member = |heard: &&Heard| heard.reading.name.starts_with(GROUP);
    let members: Vec<&Heard> = told.heard.iter().filter(is_member).collect();
    let delivered: Vec<Attempt> = members.iter().flat_map(|m| m.delivered.clone()).collect();
    // Those that were there when the first of them had subscribed.
    let publishers = PUBLISHERS + VISITORS;
    let since: Vec<u32> = (0..publishers)
        .map(|n| {
            let of = members.iter().filter_map(|m| m.since.get(n).copied());
            of.min().unwrap_or(u32::MAX)
        })
        .collect();
    let dropped = members.iter().map(|m| queues.dropped(&m.reading.name));
    let (named, unseen) = dropped.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    let filters: Vec<String> = vec!["s/+".to_owned()];
    let wants = wants(tasks, &filters);
    let missed = known.delivered(
        &Due {
            who: "the shared group",
            delivered: &delivered,
            wants: &|publisher| wants.contains_key(&publisher),
            since: &since,
            exactly_once: true,
            at_most_once: false,
            in_order: false,
            dropped: named + unseen,
        },
        faults,
    );
    let shares: Vec<usize> = members.iter().map(|m| m.delivered.len()).collect();
    format!(
        "the shared group: {shares:?} delivered, {missed} missed, {named} dropped by its counters (and \
         at most {unseen} unseen before kills)"
    )
}

/// Publishers whose messages one of the filters takes.
fn wants(tasks: &[Task], filters: &[String]) -> HashMap<u16, ()> {
    let all = (0..(PUBLISHERS + VISITORS) as u16).filter(|publisher| {
        let levels = levels(tasks, *publisher);
        levels.iter().all(|level| {
            let name = format!("{level}/p{publisher}");
            filters.iter().any(|filter| {
                *filter == name
                    || *filter == format!("{level}/+")
                    || *filter == format!("{level}/#")
            })
        })
    });
    all.map(|publisher| (publisher, ())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_wants_publishers_by_level_and_name() {
        let tasks = tasks();
        let of = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
            let mut all: Vec<u16> = wants(&tasks, &filters).into_keys().collect();
            all.sort();
            all
        };
        assert_eq!(of(&["s/p3"]), [3]);
        assert_eq!(of(&["s/+"]), (0..11).collect::<Vec<u16>>());
        assert_eq!(of(&["r/#"]), [11, 12]);
        // A visitor publishes on two levels.
        assert_eq!(of(&["c/#"]), Vec::<u16>::new());
        assert_eq!(of(&["c/#", "w/#"]), [16, 17, 18]);
    }
}

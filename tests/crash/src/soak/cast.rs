//! Who takes part: publishers of each kind, subscribers of each habit, visitors.

use std::thread::JoinHandle;

use e2e::mqtt::Version;
use headwater_batch::SplitMix64;

use super::publisher::{Publisher, Report, Task, World};
use super::subscriber::{Habit, Heard, Reading, Subscriber};
use super::visitor::{Visitor, Visits};

/// Publishers, which are numbered first.
pub const PUBLISHERS: usize = 16;
pub const VISITORS: usize = 3;
const SUBSCRIBERS: usize = 11;
/// Clients that report to [`super::lives::Orders`]: publishers, visitors, subscribers.
pub const CLIENTS: usize = PUBLISHERS + VISITORS + SUBSCRIBERS;
/// Members of the shared group, by name.
pub const GROUP: &str = "group-";

/// Every publisher's task. Topics are `s/pN`, bulk that fills the disk `b/pN`, retained `r/pN/K`.
pub fn tasks() -> Vec<Task> {
    let kinds = [
        // QoS, level, retained topics, payload, in flight, a second; how many.
        (0, "s", 0, 200, 1, 150.0, 2),
        (1, "s", 0, 500, 20, 80.0, 5),
        (2, "s", 0, 500, 20, 50.0, 4),
        (1, "r", 12, 200, 1, 20.0, 1),
        (2, "r", 12, 200, 1, 20.0, 1),
        (1, "b", 0, 8_000, 20, 70.0, 3),
    ];
    let mut tasks = Vec::new();
    for (qos, level, retained_topics, payload_bytes, in_flight, per_second, count) in kinds {
        for _ in 0..count {
            let publisher = tasks.len() as u16;
            tasks.push(Task {
                publisher,
                version: version(usize::from(publisher)),
                qos,
                level,
                retained_topics,
                payload_bytes,
                in_flight,
                per_second,
            });
        }
    }
    assert_eq!(tasks.len(), PUBLISHERS);
    tasks
}

fn version(n: usize) -> Version {
    match n % 2 {
        0 => Version::V3,
        _ => Version::V5,
    }
}

/// Topic levels of everything that one publisher or visitor sends.
pub fn levels(tasks: &[Task], publisher: u16) -> Vec<&'static str> {
    match tasks.get(usize::from(publisher)) {
        Some(task) => vec![task.level],
        None => vec!["c", "w"],
    }
}

/// Every subscriber, with its seed drawn from `rng`.
pub fn readings(rng: &mut SplitMix64) -> Vec<Reading> {
    let first = PUBLISHERS + VISITORS;
    let mut all: Vec<Reading> = Vec::new();
    let mut add = |name: &str, version, filters: &[&str], qos, habit| {
        all.push(Reading {
            place: first + all.len(),
            name: name.to_owned(),
            version,
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            qos,
            durable: true,
            habit,
            seed: rng.draw(),
            joins_at: 0,
        });
    };
    use Version::{V3, V5};
    // p2 to p6 are at QoS 1, p7 to p10 at QoS 2, p13 to p15 are bulk.
    add("steady-1", V3, &["s/p2", "s/p3", "s/p7"], 1, Habit::Prompt);
    add("steady-2", V5, &["s/p3", "s/p7", "s/p8"], 2, Habit::Prompt);
    add(
        "retained-and-wills",
        V5,
        &["r/#", "w/#", "c/#"],
        2,
        Habit::Prompt,
    );
    add("restless", V3, &["s/p4", "s/p9"], 2, Habit::ComesAndGoes);
    add("restless-5", V5, &["s/p5", "s/p10"], 1, Habit::ComesAndGoes);
    add("late", V5, &["s/p6", "s/p9"], 2, Habit::Prompt);
    for member in 0..3 {
        let name = format!("{GROUP}{member}");
        add(&name, V5, &["$share/g/s/+"], 2, Habit::Prompt);
    }
    add("slow", V5, &["s/+"], 1, Habit::Slow(60.0));
    add("stops", V3, &["s/+", "b/p13"], 1, Habit::Stops(20));
    assert_eq!(all.len(), SUBSCRIBERS);
    all
}

/// Everybody at work.
pub struct Cast {
    pub publishers: Vec<JoinHandle<Report>>,
    pub subscribers: Vec<JoinHandle<Heard>>,
    pub visitors: Vec<JoinHandle<Visits>>,
}

impl Cast {
    /// Subscribers first, so that those who are there from the start get all.
    pub fn subscribers(world: &World, rng: &mut SplitMix64, late_at: u64) -> Cast {
        let mut subscribers = Vec::new();
        for mut reading in readings(rng) {
            if reading.name == "late" {
                reading.joins_at = late_at;
            }
            let subscriber = Subscriber::new(world.clone(), reading);
            subscribers.push(std::thread::spawn(move || subscriber.run()));
        }
        Cast {
            publishers: Vec::new(),
            subscribers,
            visitors: Vec::new(),
        }
    }

    pub fn publishers(&mut self, world: &World, rng: &mut SplitMix64) {
        for task in tasks() {
            let publisher = Publisher::new(world.clone(), task);
            self.publishers
                .push(std::thread::spawn(move || publisher.run()));
        }
        for n in 0..VISITORS {
            let publisher = PUBLISHERS + n;
            let visitor = Visitor {
                world: world.clone(),
                place: publisher,
                publisher: publisher as u16,
                version: version(n),
                filter: ["s/p0", "s/p2", "s/p1"][n].to_owned(),
                qos: (n % 2) as u8,
                rng: SplitMix64(rng.draw()),
                next: 0,
                visits: Visits::default(),
            };
            self.visitors
                .push(std::thread::spawn(move || visitor.run()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_are_each_ones_own() {
        let readings = readings(&mut SplitMix64(1));
        let mut places: Vec<usize> = readings.iter().map(|r| r.place).collect();
        places.dedup();
        assert_eq!(places, (PUBLISHERS + VISITORS..CLIENTS).collect::<Vec<_>>());
        for (n, task) in tasks().iter().enumerate() {
            assert_eq!(usize::from(task.publisher), n);
            let topic = task.topic(13);
            assert_eq!(topic.split('/').nth(1), Some(format!("p{n}").as_str()));
        }
    }
}

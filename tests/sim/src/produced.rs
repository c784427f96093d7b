//! What idempotent producers sent, and whether it holds.
//!
//! - An acknowledged record can be read, at the offset that the answer told, unless retention moved on.
//! - No record can be read twice, nor in another partition than it was sent to.
//! - The records of one producer stand in their order.

use std::collections::BTreeMap;

use crate::kafka::requests::Place;
use crate::payload::Id;

struct Sent {
    topic: String,
    partition: i32,
    producer: usize,
    acked: bool,
    /// Where the answer said that it stands.
    told: Option<i64>,
    found: Option<i64>,
}

#[derive(Default)]
pub struct Produced {
    sent: BTreeMap<Id, Sent>,
    /// The newest that was read, of each producer and partition: readers go forward.
    last: BTreeMap<(usize, Place), (i64, Id)>,
}

impl Produced {
    pub fn sent(&mut self, producer: usize, topic: &str, partition: i32, ids: &[Id]) {
        for id in ids {
            let sent = Sent {
                topic: topic.to_owned(),
                partition,
                producer,
                acked: false,
                told: None,
                found: None,
            };
            self.sent.insert(*id, sent);
        }
    }

    pub fn acked(&mut self, ids: &[Id], base: Option<i64>) {
        for (id, nth) in ids.iter().zip(0..) {
            if let Some(sent) = self.sent.get_mut(id) {
                (sent.acked, sent.told) = (true, base.map(|base| base + nth));
            }
        }
    }

    pub fn is_of_producer(&self, id: Id) -> bool {
        self.sent.contains_key(&id)
    }

    pub fn acked_count(&self) -> usize {
        self.sent.values().filter(|sent| sent.acked).count()
    }

    /// A record as a consumer got it, for the first time.
    pub fn found(&mut self, place: &Place, offset: i64, id: Id) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(&id) else {
            return Err(format!("{id:?} was never produced"));
        };
        if sent.topic != place.topic || sent.partition != place.partition {
            let (topic, partition) = (&sent.topic, sent.partition);
            return Err(format!(
                "ALTERED: {id:?} in {place:?}, produced to {topic}-{partition}"
            ));
        }
        if let Some(first) = sent.found.replace(offset) {
            return Err(format!(
                "PRODUCED TWICE: {id:?} in {place:?} at {first} and {offset}"
            ));
        }
        let line = (sent.producer, place.clone());
        let told = sent.told;
        let (at, before) = self.last.get(&line).copied().unwrap_or((-1, Id(0)));
        if (offset > at) != (id > before) {
            return Err(format!(
                "PRODUCED OUT OF ORDER: {place:?}: {id:?} at {offset}, {before:?} at {at}"
            ));
        }
        if offset > at {
            self.last.insert(line, (offset, id));
        }
        match told {
            Some(told) if told != offset => Err(format!(
                "ELSEWHERE: {id:?} in {place:?} at {offset}, told {told}"
            )),
            _ => Ok(()),
        }
    }

    /// Read to the end: is anything missing that was acknowledged? `start`: where a partition begins.
    pub fn check_end(&self, start: impl Fn(&str, i32) -> i64) -> Result<(), String> {
        for (id, sent) in self.sent.iter().filter(|(_, sent)| sent.acked) {
            let start = start(&sent.topic, sent.partition);
            // Without the offset it may be one of those that retention took.
            let kept = sent.told.map_or(start == 0, |told| told >= start);
            if kept && sent.found.is_none() {
                let (topic, partition, told) = (&sent.topic, sent.partition, sent.told);
                return Err(format!(
                    "LOST: {id:?}, acknowledged in {topic}-{partition} at {told:?}"
                ));
            }
        }
        Ok(())
    }
}

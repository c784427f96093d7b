//! Idempotent producers in the world.

use super::readers::KafkaOwner;
use super::{Event, World};
use crate::kafka::producer::{Act, Producer};

pub(super) struct Maker {
    pub client: Producer,
    topic: String,
}

/// A topic of their own, which no operator deletes.
pub(super) const MADE: &str = "made";
pub(super) const MADE_PARTITIONS: i32 = 3;
/// Records that wait at a producer at most.
const WANTED_MAX: u64 = 12;

impl World {
    pub(super) fn add_maker(&mut self) {
        let topic = MADE.to_owned();
        let client = Producer::new(topic.clone(), MADE_PARTITIONS, self.rng.fork());
        self.makers.push(Maker { client, topic });
    }

    pub(super) fn produce(&mut self) {
        if !self.makers.is_empty() {
            let maker = self.rng.index(self.makers.len());
            let records = 1 + self.rng.below(WANTED_MAX);
            if self.makers[maker].client.is_done() {
                self.makers[maker].client.produce(records);
            }
        }
    }

    pub(super) fn maker_acts(&mut self, number: usize) {
        while let Some(act) = self.makers[number].client.acts.pop_front() {
            match act {
                Act::Dial => {
                    let at = self.now + 1 + self.rng.below(20);
                    self.at(at, Event::KafkaDialled(KafkaOwner::Maker(number)));
                }
                Act::Send(conn, bytes) => {
                    let at = self.now + self.rng.below(4);
                    self.at(at, Event::ToNode { conn, bytes });
                }
                Act::Close(conn) => {
                    self.kafka.remove(&conn);
                    self.cloud.client_closed(conn);
                }
                Act::Sent { partition, ids } => {
                    let topic = &self.makers[number].topic;
                    self.oracle.produced.sent(number, topic, partition, &ids);
                    self.note("produced", || format!("{number}: {partition} {ids:?}"));
                }
                Act::Acked { ids, base } => {
                    self.oracle.produced.acked(&ids, base);
                    self.note("produced and acknowledged", || {
                        format!("{ids:?} at {base:?}")
                    });
                }
                Act::Note(what) => self.note(&format!("producer: {what}"), || number.to_string()),
                Act::Wrong(what) => self.oracle.fail(format!("producer {number}: {what}")),
            }
        }
    }
}

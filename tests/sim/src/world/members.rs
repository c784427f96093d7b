//! Members of one consumer group in the world.

use super::readers::KafkaOwner;
use super::{Event, World};
use crate::kafka::member::{Act, Member};

impl World {
    pub(super) fn add_member(&mut self, topic: &str, partitions: i32) {
        let (group, topic) = ("crowd".to_owned(), topic.to_owned());
        let client = Member::new(group, topic, partitions, self.rng.fork());
        self.members.push(client);
    }

    pub(super) fn member_acts(&mut self, number: usize) {
        while let Some(act) = self.members[number].acts.pop_front() {
            match act {
                Act::Dial => {
                    let at = self.now + 1 + self.rng.below(20);
                    self.at(at, Event::KafkaDialled(KafkaOwner::Member(number)));
                }
                Act::Send(conn, bytes) => {
                    let at = self.now + self.rng.below(4);
                    self.at(at, Event::ToNode { conn, bytes });
                }
                Act::Close(conn) => {
                    self.kafka.remove(&conn);
                    self.cloud.client_closed(conn);
                }
                Act::Note(what) => self.note(&format!("member: {what}"), || number.to_string()),
                Act::Wrong(what) => self.oracle.fail(format!("member {number}: {what}")),
            }
        }
    }

    pub(super) fn member_fault(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let number = self.rng.index(self.members.len());
        if self.rng.one_in(2) {
            self.note("member stalls", || number.to_string());
            self.members[number].stall(self.now);
        } else {
            self.members[number].leave();
        }
    }
}

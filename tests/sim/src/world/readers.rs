//! Kafka clients' connections to the cloud, and consumers.

use bytes::Bytes;

use super::{Event, World};
use crate::kafka::consumer::{self, Consumer, KafkaConn};
use crate::now::Ms;

pub(super) struct Reader {
    pub client: Consumer,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum KafkaOwner {
    Reader(usize),
    Maker(usize),
    Member(usize),
}

pub(super) struct KafkaLink {
    owner: KafkaOwner,
    last: Ms,
}

impl World {
    pub(super) fn add_reader(&mut self) {
        let group = format!("group-{}", self.readers.len());
        let client = Consumer::new(group, self.rng.fork());
        self.readers.push(Reader { client });
    }

    pub(super) fn reader_acts(&mut self, reader: usize) {
        while let Some(act) = self.readers[reader].client.acts.pop_front() {
            match act {
                consumer::Act::Dial => {
                    let at = self.now + 1 + self.rng.below(20);
                    self.at(at, Event::KafkaDialled(KafkaOwner::Reader(reader)));
                }
                consumer::Act::Send(conn, bytes) => {
                    let at = self.now + self.rng.below(4);
                    self.at(at, Event::ToNode { conn, bytes });
                }
                consumer::Act::Close(conn) => {
                    self.kafka.remove(&conn);
                    self.cloud.client_closed(conn);
                }
                consumer::Act::Note(what) => {
                    self.note(&format!("consumer: {what}"), || format!("reader {reader}"));
                }
            }
        }
    }

    pub(super) fn kafka_dialled(&mut self, owner: KafkaOwner) {
        let (conn, now) = (self.conn(), self.now);
        let up = self.cloud.client_opened(conn);
        if up {
            self.kafka.insert(conn, KafkaLink { owner, last: 0 });
        }
        match (owner, up) {
            (KafkaOwner::Reader(n), true) => self.readers[n].client.connected(now, conn),
            (KafkaOwner::Reader(n), false) => self.readers[n].client.refused(now),
            (KafkaOwner::Maker(n), true) => self.makers[n].client.connected(now, conn),
            (KafkaOwner::Maker(n), false) => self.makers[n].client.refused(now),
            (KafkaOwner::Member(n), true) => self.members[n].connected(now, conn),
            (KafkaOwner::Member(n), false) => self.members[n].refused(now),
        }
        self.kafka_acts(owner);
    }

    fn kafka_acts(&mut self, owner: KafkaOwner) {
        match owner {
            KafkaOwner::Reader(number) => self.reader_acts(number),
            KafkaOwner::Maker(number) => self.maker_acts(number),
            KafkaOwner::Member(number) => self.member_acts(number),
        }
    }

    pub(super) fn reach_node(&mut self, conn: KafkaConn, bytes: Bytes) {
        if self.kafka.contains_key(&conn) || self.admin.is(conn) {
            self.mix("to node", conn, &bytes);
            self.cloud.client_frame(conn, bytes);
        }
    }

    pub(super) fn kafka_down(&mut self, conn: KafkaConn, bytes: Bytes) {
        let at = self.now + self.rng.below(4);
        if let Some(link) = self.kafka.get_mut(&conn) {
            link.last = at.max(link.last);
            let at = link.last;
            self.at(at, Event::ToReader { conn, bytes });
        } else if self.admin.is(conn) {
            self.at(at, Event::ToReader { conn, bytes });
        }
    }

    pub(super) fn reach_reader(&mut self, conn: KafkaConn, bytes: &Bytes) {
        if self.admin.is(conn) {
            return self.admin_heard(conn, bytes);
        }
        let Some(link) = self.kafka.get(&conn) else {
            return;
        };
        let (owner, now) = (link.owner, self.now);
        self.mix("to reader", conn, bytes);
        match owner {
            KafkaOwner::Reader(n) => {
                let client = &mut self.readers[n].client;
                client.received(now, conn, bytes, &mut self.oracle);
            }
            KafkaOwner::Maker(n) => self.makers[n].client.received(now, conn, bytes),
            KafkaOwner::Member(n) => {
                self.members[n].received(now, conn, bytes, &mut self.grouped);
            }
        }
        self.kafka_acts(owner);
    }

    pub(super) fn reader_sees(&mut self, conn: KafkaConn) {
        if self.admin.is(conn) {
            return self.admin_lost();
        }
        if let Some(link) = self.kafka.remove(&conn) {
            let now = self.now;
            match link.owner {
                KafkaOwner::Reader(n) => self.readers[n].client.closed(now, conn),
                KafkaOwner::Maker(n) => self.makers[n].client.closed(now, conn),
                KafkaOwner::Member(n) => self.members[n].closed(now, conn),
            }
            self.kafka_acts(link.owner);
        }
    }

    pub(super) fn kafka_lost(&mut self) {
        let conns: Vec<KafkaConn> = self.kafka.keys().copied().collect();
        for conn in conns {
            let later = self.rng.below(500);
            self.at(self.now + later, Event::ReaderSees(conn));
        }
        if let Some(conn) = self.admin.conn() {
            self.at(self.now + 1, Event::ReaderSees(conn));
        }
    }
}

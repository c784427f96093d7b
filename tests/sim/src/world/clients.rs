//! The clients' connections: MQTT to devices, Kafka to the cloud.

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_batch::partition_for;

use super::devices::DeviceId;
use super::{Event, World};
use crate::edge::MqttConn;
use crate::kafka::consumer::{self, Consumer, KafkaConn};
use crate::mqtt::publisher::{self, Manner, Message, Publisher};
use crate::mqtt::wire::Version;
use crate::now::Ms;
use crate::oracle::Attempt;
use crate::payload::Id;

/// A publisher and the device that it talks to.
pub(super) struct Sender {
    pub client: Publisher,
    pub device: DeviceId,
}

pub(super) struct MqttLink {
    sender: usize,
    device: DeviceId,
    life: u64,
    client_up: bool,
    last_up: Ms,
    last_down: Ms,
    /// The broker does not read just now.
    paused: bool,
    held: VecDeque<Bytes>,
}

pub(super) struct Reader {
    pub client: Consumer,
}

pub(super) struct KafkaLink {
    reader: usize,
    last: Ms,
}

/// Messages that wait at a client at most: a sensor does not sample for ever.
const WAITING_MAX: usize = 300;

impl World {
    pub(super) fn add_sender(&mut self, device: DeviceId) {
        let number = self.senders.len();
        let version = if self.rng.one_in(2) {
            Version::V4
        } else {
            Version::V5
        };
        let clean = self.rng.one_in(3);
        let topics = (0..3).map(|n| {
            let root = if n == 2 { "b" } else { "a" };
            format!("{root}/{number}/{n}")
        });
        let manner = Manner {
            client_id: format!("sensor-{number}"),
            version,
            clean,
            topics: topics.collect(),
        };
        let client = Publisher::new(manner, self.rng.fork());
        self.senders.push(Sender { client, device });
    }

    pub(super) fn add_reader(&mut self) {
        let group = format!("group-{}", self.readers.len());
        let client = Consumer::new(group, self.rng.fork());
        self.readers.push(Reader { client });
    }

    pub(super) fn publish(&mut self, sender: usize, count: u64) {
        for _ in 0..count {
            let Sender { client, .. } = &mut self.senders[sender];
            if client.waiting() >= WAITING_MAX {
                return;
            }
            let qos = match (self.rng.below(10), client.manner.clean) {
                (0, _) => 0,
                (1..5, false) => 2,
                _ => 1,
            };
            let bytes = self.rng.below(self.plan.bytes_max) as usize;
            let topic = self.rng.index(3);
            let message = Message {
                qos,
                topic,
                bytes,
                id: None,
            };
            client.publish(self.now, message, &mut self.ids);
        }
        self.sender_acts(sender);
    }

    pub(super) fn sender_acts(&mut self, sender: usize) {
        while let Some(act) = self.senders[sender].client.acts.pop_front() {
            match act {
                publisher::Act::Dial => {
                    let at = self.now + 1 + self.rng.below(10);
                    self.at(at, Event::MqttDialled(sender));
                }
                publisher::Act::Send(conn, bytes) => self.mqtt_up(conn, bytes),
                publisher::Act::Close(conn) => {
                    if let Some(link) = self.mqtt.get_mut(&conn) {
                        link.client_up = false;
                        let at = link.last_up.max(self.now) + 1;
                        self.at(at, Event::BrokerSees(conn));
                    }
                }
                publisher::Act::Sent {
                    id,
                    qos,
                    topic,
                    older_session,
                } => self.sent(sender, id, qos, topic, older_session),
                publisher::Act::Acked(id) => {
                    self.oracle.acked(id);
                    self.note("acked", || format!("sender {sender} {id:?}"));
                }
                publisher::Act::Refused(id) => {
                    self.oracle.refused(id);
                    self.note("refused: quota", || format!("sender {sender} {id:?}"));
                }
                publisher::Act::Note(what) => {
                    self.note(&format!("client: {what}"), || format!("sender {sender}"));
                }
                publisher::Act::Wrong(what) => self.oracle.fail(format!("BROKER WRONG: {what}")),
            }
        }
    }

    fn sent(&mut self, sender: usize, id: Id, qos: u8, topic: usize, older_session: bool) {
        let Sender { client, device } = &self.senders[sender];
        let mqtt_topic = client.manner.topics[topic].clone();
        let device = &self.devices[*device];
        let routes = &device.settings.routes;
        let matches =
            |filter: &str| filter == "#" || mqtt_topic.starts_with(filter.trim_end_matches('#'));
        let route = routes.iter().find(|(filter, ..)| matches(filter));
        let (_, log_topic, partitions) = route.expect("the last route takes everything");
        let edge_partition = partition_for(mqtt_topic.as_bytes(), *partitions);
        let attempt = Attempt {
            qos,
            publisher: sender,
            card: device.card,
            history: self.cards[device.card].history,
            edge: device.name.as_str().to_owned(),
            log_topic: log_topic.clone(),
            edge_partition,
            rerouted: None,
            mqtt_topic,
            at: self.now,
            order: 0,
            again: false,
            acked: false,
            refused: false,
            may_miss: (qos == 2 && older_session).then_some("QoS 2 over an older session"),
            may_repeat: false,
        };
        self.journal.line(self.now, || {
            format!("sender {sender} sends {id:?} at QoS {qos} to {log_topic}-{edge_partition}")
        });
        self.oracle.sent(id, attempt);
    }

    pub(super) fn mqtt_dialled(&mut self, sender: usize) {
        let device = self.senders[sender].device;
        let conn = self.conn();
        if self.devices[device].edge.is_none() {
            self.senders[sender].client.refused(self.now);
            return self.sender_acts(sender);
        }
        let link = MqttLink {
            sender,
            device,
            life: self.devices[device].life,
            client_up: true,
            last_up: 0,
            last_down: 0,
            paused: false,
            held: VecDeque::new(),
        };
        self.mqtt.insert(conn, link);
        self.edge(device, |edge, now| edge.mqtt_open(now, conn));
        self.senders[sender].client.connected(self.now, conn);
        self.sender_acts(sender);
    }

    fn mqtt_up(&mut self, conn: MqttConn, mut bytes: Bytes) {
        let Some(link) = self.mqtt.get_mut(&conn) else {
            return;
        };
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let cut = 1 + self.rng.index(bytes.len());
            let whole = self.rng.chance(7, 8);
            let piece = bytes.split_to(if whole { bytes.len() } else { cut });
            link.last_up = (self.now + self.rng.below(4)).max(link.last_up);
            pieces.push((link.last_up, piece));
        }
        for (at, bytes) in pieces {
            self.at(at, Event::ToBroker { conn, bytes });
        }
    }

    pub(super) fn mqtt_down(&mut self, conn: MqttConn, bytes: Bytes) {
        let Some(link) = self.mqtt.get_mut(&conn) else {
            return;
        };
        link.last_down = (self.now + self.rng.below(4)).max(link.last_down);
        let at = link.last_down;
        self.at(at, Event::ToClient { conn, bytes });
    }

    /// The device and the process that a connection leads to, if that still runs.
    fn broker_of(&self, conn: MqttConn) -> Option<DeviceId> {
        let link = self.mqtt.get(&conn)?;
        let device = &self.devices[link.device];
        (device.life == link.life && device.edge.is_some()).then_some(link.device)
    }

    pub(super) fn reach_broker(&mut self, conn: MqttConn, bytes: Bytes) {
        let Some(device) = self.broker_of(conn) else {
            return;
        };
        let Some(link) = self.mqtt.get_mut(&conn) else {
            return;
        };
        if !bytes.is_empty() {
            link.held.push_back(bytes);
        }
        while let Some(link) = self.mqtt.get_mut(&conn).filter(|link| !link.paused) {
            let Some(bytes) = link.held.pop_front() else {
                return;
            };
            self.mix("to broker", conn, &bytes);
            self.edge(device, |edge, now| edge.mqtt_bytes(now, conn, bytes));
        }
    }

    pub(super) fn mqtt_pause(&mut self, conn: MqttConn, paused: bool) {
        let Some(link) = self.mqtt.get_mut(&conn) else {
            return;
        };
        link.paused = paused;
        if paused {
            return self.note("broker pauses a client", || conn.to_string());
        }
        let bytes = Bytes::new();
        self.at(self.now, Event::ToBroker { conn, bytes });
    }

    pub(super) fn reach_client(&mut self, conn: MqttConn, bytes: Bytes) {
        let Some(link) = self.mqtt.get(&conn).filter(|link| link.client_up) else {
            return;
        };
        let sender = link.sender;
        self.mix("to client", conn, &bytes);
        let client = &mut self.senders[sender].client;
        client.received(self.now, conn, &bytes, &mut self.ids);
        self.sender_acts(sender);
    }

    /// The client's end of a connection has come to the broker.
    pub(super) fn broker_sees(&mut self, conn: MqttConn) {
        if let Some(device) = self.broker_of(conn) {
            self.edge(device, |edge, now| edge.mqtt_closed(now, conn));
        }
        self.mqtt.remove(&conn);
    }

    /// The broker's end of a connection has come to the client.
    pub(super) fn client_sees(&mut self, conn: MqttConn) {
        let Some(link) = self.mqtt.remove(&conn) else {
            return;
        };
        if link.client_up {
            self.senders[link.sender].client.closed(self.now, conn);
            self.sender_acts(link.sender);
        }
    }

    /// The broker closes, after what it sent.
    pub(super) fn mqtt_hung_up(&mut self, conn: MqttConn) {
        if let Some(link) = self.mqtt.get_mut(&conn) {
            // The process has no more of this connection: what comes is for nobody.
            link.life = 0;
            let at = link.last_down.max(self.now) + 1;
            self.note("broker hangs up", || conn.to_string());
            self.at(at, Event::ClientSees(conn));
        }
    }

    /// The device's process is gone: what it had sent may still arrive.
    pub(super) fn mqtt_lost(&mut self, device: DeviceId) {
        let conns: Vec<MqttConn> = self
            .mqtt
            .iter()
            .filter(|(_, link)| link.device == device)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in conns {
            if self.rng.one_in(2) {
                self.lose_mqtt(conn);
            }
            let link = self.mqtt.get(&conn).expect("just listed");
            let at = link.last_down.max(self.now) + 1 + self.rng.below(2_000);
            self.at(at, Event::ClientSees(conn));
        }
    }

    fn lose_mqtt(&mut self, conn: MqttConn) {
        self.queue.retain(|_, event| match event {
            Event::ToBroker { conn: c, .. } | Event::ToClient { conn: c, .. } => *c != conn,
            _ => true,
        });
    }

    /// The network between a client and its broker breaks, with what is under way.
    pub(super) fn cut_client(&mut self) {
        let conns: Vec<MqttConn> = self.mqtt.keys().copied().collect();
        if conns.is_empty() {
            return;
        }
        let conn = conns[self.rng.index(conns.len())];
        self.note("client cut", || conn.to_string());
        self.lose_mqtt(conn);
        if let Some(device) = self.broker_of(conn) {
            self.edge(device, |edge, now| edge.mqtt_closed(now, conn));
        }
        if let Some(link) = self.mqtt.get_mut(&conn) {
            link.life = 0;
        }
        let later = self.rng.below(500);
        self.at(self.now + later, Event::ClientSees(conn));
    }

    pub(super) fn reader_acts(&mut self, reader: usize) {
        while let Some(act) = self.readers[reader].client.acts.pop_front() {
            match act {
                consumer::Act::Dial => {
                    let at = self.now + 1 + self.rng.below(20);
                    self.at(at, Event::KafkaDialled(reader));
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

    pub(super) fn kafka_dialled(&mut self, reader: usize) {
        let conn = self.conn();
        if self.cloud.client_opened(conn) {
            self.kafka.insert(conn, KafkaLink { reader, last: 0 });
            self.readers[reader].client.connected(self.now, conn);
        } else {
            self.readers[reader].client.refused(self.now);
        }
        self.reader_acts(reader);
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
        let reader = link.reader;
        self.mix("to reader", conn, bytes);
        let client = &mut self.readers[reader].client;
        client.received(self.now, conn, bytes, &mut self.oracle);
        self.reader_acts(reader);
    }

    pub(super) fn reader_sees(&mut self, conn: KafkaConn) {
        if self.admin.is(conn) {
            return self.admin_lost();
        }
        if let Some(link) = self.kafka.remove(&conn) {
            self.readers[link.reader].client.closed(self.now, conn);
            self.reader_acts(link.reader);
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

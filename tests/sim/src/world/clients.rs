//! MQTT clients' connections to devices, and publishers.

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_batch::partition_for;

use super::devices::DeviceId;
use super::wills::Wills;
use super::{Event, World};
use crate::edge::MqttConn;
use crate::mqtt::publisher::{self, Manner, Message, Publisher};
use crate::mqtt::wire::Version;
use crate::now::Ms;
use crate::oracle::Attempt;
use crate::payload::Id;

/// A publisher and the device that it talks to.
pub(super) struct Sender {
    pub client: Publisher,
    pub device: DeviceId,
    pub wills: Wills,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    Sender(usize),
    Listener(usize),
}

pub(super) struct MqttLink {
    owner: Owner,
    device: DeviceId,
    life: u64,
    client_up: bool,
    last_up: Ms,
    last_down: Ms,
    /// The broker does not read just now.
    paused: bool,
    held: VecDeque<Bytes>,
}

/// Index of the topic that a publisher's retained messages go to: it alone writes there, so that their
/// order is known.
const RETAINED_TOPIC: usize = 3;

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
        let topics = topics.chain([format!("r/{number}")]);
        let reuses = self.plan.mqtt.sessions && self.mqtt_rng.one_in(2);
        let roams = self.plan.mqtt.wills && self.mqtt_rng.one_in(2);
        let manner = Manner {
            client_id: format!("sensor-{number}"),
            version,
            clean,
            topics: topics.collect(),
            wills: self.plan.mqtt.wills,
            stays_ms: roams.then(|| 500 + self.mqtt_rng.below(10_000)),
            // More than are ever in flight.
            ids_max: if reuses { 16 } else { 200 },
        };
        let client = Publisher::new(manner, self.rng.fork());
        let wills = Wills::default();
        self.senders.push(Sender {
            client,
            device,
            wills,
        });
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
            let mut message = Message {
                qos,
                topic,
                bytes,
                retain: false,
                deletes: false,
                id: None,
            };
            if self.plan.mqtt.retains && self.mqtt_rng.one_in(4) {
                message.retain = true;
                message.topic = RETAINED_TOPIC;
                let names = client.manner.version == Version::V5;
                message.deletes = names && self.mqtt_rng.one_in(2);
            }
            client.publish(self.now, message, &mut self.ids);
        }
        self.sender_acts(sender);
    }

    pub(super) fn sender_acts(&mut self, sender: usize) {
        while let Some(act) = self.senders[sender].client.acts.pop_front() {
            match act {
                publisher::Act::Dial => {
                    let at = self.now + 1 + self.rng.below(10);
                    self.at(at, Event::MqttDialled(Owner::Sender(sender)));
                }
                publisher::Act::Send(conn, bytes) => self.mqtt_up(conn, bytes),
                publisher::Act::Close(conn) => self.mqtt_left(conn),
                publisher::Act::Sent {
                    id,
                    message,
                    older_session,
                } => self.sent(sender, id, message, older_session),
                publisher::Act::Connects(conn, will) => self.will_sent(sender, conn, will),
                publisher::Act::Greeted(conn) => self.will_stands(sender, conn),
                publisher::Act::Leaves(conn) => self.will_leaves(sender, conn),
                publisher::Act::Acked(id) => {
                    self.oracle.acked(id, self.now);
                    match self.hears_the_dead {
                        true => self.acked_late(id),
                        false => self.wills_durable(sender, id),
                    }
                    self.plan_late_cut(sender);
                    self.note("acked", || format!("sender {sender} {id:?}"));
                }
                publisher::Act::Refused(id) => {
                    self.oracle.refused(id);
                    self.note("refused: quota", || format!("sender {sender} {id:?}"));
                }
                publisher::Act::Lost => self.sender_lost(sender),
                publisher::Act::Note(what) => {
                    self.note(&format!("client: {what}"), || format!("sender {sender}"));
                }
                publisher::Act::Wrong(what) => self.oracle.fail(format!("BROKER WRONG: {what}")),
            }
        }
    }

    /// The broker has lost a session, which only one that answers before the sync may.
    fn sender_lost(&mut self, sender: usize) {
        self.note("client: session lost", || format!("sender {sender}"));
        let device = self.senders[sender].device;
        if self.plan.mqtt.sessions && !self.devices[device].settings.interval {
            self.oracle.fail(format!("SESSION LOST of sender {sender}"));
        }
    }

    fn sent(&mut self, sender: usize, id: Id, message: Message, older_session: bool) {
        let Message { qos, topic, .. } = message;
        let mqtt_topic = self.senders[sender].client.manner.topics[topic].clone();
        let mut attempt = self.attempt(sender, mqtt_topic, qos);
        (attempt.retain, attempt.deletes) = (message.retain, message.deletes);
        attempt.may_miss = (qos == 2 && older_session).then_some("QoS 2 over an older session");
        let (log_topic, edge_partition) = (attempt.log_topic.clone(), attempt.edge_partition);
        self.journal.line(self.now, || {
            format!("sender {sender} sends {id:?} at QoS {qos} to {log_topic}-{edge_partition}")
        });
        self.oracle.sent(id, attempt);
    }

    /// An attempt to publish, with where the routes lead it.
    pub(super) fn attempt(&self, sender: usize, mqtt_topic: String, qos: u8) -> Attempt {
        let device = &self.devices[self.senders[sender].device];
        let routes = &device.settings.routes;
        let matches =
            |filter: &str| filter == "#" || mqtt_topic.starts_with(filter.trim_end_matches('#'));
        let route = routes.iter().find(|(filter, ..)| matches(filter));
        let (_, log_topic, partitions) = route.expect("the last route takes everything");
        Attempt {
            qos,
            publisher: sender,
            card: device.card,
            history: self.cards[device.card].history,
            edge: device.name.as_str().to_owned(),
            log_topic: log_topic.clone(),
            edge_partition: partition_for(mqtt_topic.as_bytes(), *partitions),
            rerouted: None,
            mqtt_topic,
            at: self.now,
            order: 0,
            first: 0,
            again: false,
            acked: false,
            acked_at: None,
            interval: device.settings.interval,
            refused: false,
            retain: false,
            deletes: false,
            may_miss: None,
            may_repeat: false,
        }
    }

    /// The client closes its end.
    pub(super) fn mqtt_left(&mut self, conn: MqttConn) {
        if let Some(link) = self.mqtt.get_mut(&conn) {
            link.client_up = false;
            let at = link.last_up.max(self.now) + 1;
            self.at(at, Event::BrokerSees(conn));
        }
    }

    pub(super) fn mqtt_dialled(&mut self, owner: Owner) {
        let device = match owner {
            Owner::Sender(number) => self.senders[number].device,
            Owner::Listener(number) => self.listeners[number].device,
        };
        let conn = self.conn();
        let up = self.devices[device].edge.is_some();
        if up {
            let link = MqttLink {
                owner,
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
        }
        let now = self.now;
        match (owner, up) {
            (Owner::Sender(number), true) => {
                let client = &mut self.senders[number].client;
                client.connected(now, conn, &mut self.ids);
            }
            (Owner::Sender(number), false) => self.senders[number].client.refused(now),
            (Owner::Listener(number), true) => {
                self.listener_connects(number, conn);
                self.listeners[number].client.connected(now, conn);
            }
            (Owner::Listener(number), false) => self.listeners[number].client.refused(now),
        }
        self.owner_acts(owner);
    }

    fn owner_acts(&mut self, owner: Owner) {
        match owner {
            Owner::Sender(number) => self.sender_acts(number),
            Owner::Listener(number) => self.listener_acts(number),
        }
    }

    pub(super) fn mqtt_up(&mut self, conn: MqttConn, mut bytes: Bytes) {
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

    /// Nothing of a connection to this device was lost so far.
    pub(super) fn leads_to(&self, conn: MqttConn, device: DeviceId) -> bool {
        self.broker_of(conn) == Some(device)
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
        let (owner, now) = (link.owner, self.now);
        let device = &self.devices[link.device];
        let is_over = device.edge.is_none() || ![0, device.life].contains(&link.life);
        self.hears_the_dead = is_over;
        let was_older = match owner {
            Owner::Listener(number) => self.listeners[number].client.is_older(),
            Owner::Sender(number) => self.senders[number].client.is_older(),
        };
        self.mix("to client", conn, &bytes);
        match owner {
            Owner::Sender(number) => {
                let client = &mut self.senders[number].client;
                client.received(now, conn, &bytes, &mut self.ids);
            }
            Owner::Listener(number) => {
                let client = &mut self.listeners[number].client;
                client.received(now, conn, &bytes);
            }
        }
        self.owner_acts(owner);
        self.hears_the_dead = false;
        if is_over && was_older {
            // The dead had the session as it was; the next process has the older state.
            match owner {
                Owner::Listener(number) => self.listener_went_back(number),
                Owner::Sender(number) => self.senders[number].client.session_went_back(),
            }
        }
    }

    /// The client's end of a connection has come to the broker.
    pub(super) fn broker_sees(&mut self, conn: MqttConn) {
        if let Some(device) = self.broker_of(conn) {
            self.broker_lost(conn, self.came(conn));
            self.edge(device, |edge, now| edge.mqtt_closed(now, conn));
        }
        self.mqtt.remove(&conn);
    }

    /// The broker has read all of a connection that has reached it.
    fn came(&self, conn: MqttConn) -> bool {
        let came = |link: &MqttLink| !link.paused && link.held.is_empty();
        self.mqtt.get(&conn).is_some_and(came)
    }

    /// A broker's connection ends. `came`: whatever was sent to it had come.
    fn broker_lost(&mut self, conn: MqttConn, came: bool) {
        match self.mqtt.get(&conn).map(|link| link.owner) {
            Some(Owner::Sender(sender)) => self.will_cut(sender, conn, came),
            Some(Owner::Listener(number)) => self.listener_cut(number, conn, came),
            None => {}
        }
    }

    /// The broker's end of a connection has come to the client.
    pub(super) fn client_sees(&mut self, conn: MqttConn) {
        let Some(link) = self.mqtt.remove(&conn) else {
            return;
        };
        if link.client_up {
            let now = self.now;
            match link.owner {
                Owner::Sender(number) => self.senders[number].client.closed(now, conn),
                Owner::Listener(number) => self.listeners[number].client.closed(now, conn),
            }
            self.owner_acts(link.owner);
        }
    }

    /// The broker closes, after what it sent.
    pub(super) fn mqtt_hung_up(&mut self, conn: MqttConn) {
        // Where its client leaves, for that. Else another connection may have taken the client over.
        let under_way =
            |event: &Event| matches!(event, Event::ToBroker { conn: c, .. } if *c == conn);
        let came = self.came(conn) && !self.queue.values().any(under_way);
        self.broker_lost(conn, came);
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
            self.broker_lost(conn, false);
            if self.rng.one_in(2) {
                self.lose_mqtt(conn);
            }
            let link = self.mqtt.get(&conn).expect("just listed");
            let at = link.last_down.max(self.now) + 1 + self.rng.below(2_000);
            self.at(at, Event::ClientSees(conn));
        }
    }

    /// Connections that lead to this device.
    pub(super) fn mqtt_conns(&self, device: DeviceId) -> Vec<MqttConn> {
        let links = self.mqtt.iter();
        let here = links.filter(|(_, link)| link.device == device);
        here.map(|(conn, _)| *conn).collect()
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
            self.broker_lost(conn, false);
            self.edge(device, |edge, now| edge.mqtt_closed(now, conn));
        }
        if let Some(link) = self.mqtt.get_mut(&conn) {
            link.life = 0;
        }
        let later = self.rng.below(500);
        self.at(self.now + later, Event::ClientSees(conn));
    }
}

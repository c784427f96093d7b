//! MQTT subscribers in the world, each at one device.

use std::collections::BTreeMap;

use headwater_log::disk::Crash;

use super::clients::Owner;
use super::devices::DeviceId;
use super::{Event, World};
use crate::edge::MqttConn;
use crate::kept::Kept;
use crate::mqtt::subscriber::{Act, Greeting, Manner, NEVER, Subscriber, Taken};
use crate::mqtt::wire::Version;
use crate::now::Ms;
use crate::served::{Here, Served};
use crate::shared::Shared;

pub(super) struct Listener {
    pub client: Subscriber,
    pub device: DeviceId,
    served: Served,
    kept: Kept,
    /// The shared subscription that it is a member of: an index into [`World::shares`].
    group: Option<usize>,
    /// Where it sent its last CONNECT.
    conn: MqttConn,
    ended: Option<Ended>,
    /// It had ended for certain before the last CONNECT.
    begins_anew: bool,
}

/// A shared subscription at a device.
pub(super) struct Share {
    device: DeviceId,
    shared: Shared,
}

impl Listener {
    fn new(client: Subscriber, device: DeviceId) -> Listener {
        Listener {
            client,
            device,
            served: Served::default(),
            kept: Kept::default(),
            group: None,
            conn: 0,
            ended: None,
            begins_anew: false,
        }
    }
}

/// What a broker and its client may see of each other's end later than it came.
const NOTICE_MS: Ms = 3_000;

/// A subscriber may stay away for so long.
const AWAY_MS: Ms = 20_000;
/// Where it mostly goes to come again.
const AWAY_SHORT_MS: Ms = 500;

/// The end of a session, with what is certain of it.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// It has ended by then, in that process.
    By(Ms, u64),
    /// And so it stands in the journal.
    Durably,
}

impl World {
    pub(super) fn add_listener(&mut self, device: DeviceId) {
        let number = self.listeners.len();
        let version = [Version::V4, Version::V5][self.rng.index(2)];
        let mut manner = Manner {
            client_id: format!("listener-{number}"),
            version,
            clean: self.rng.one_in(4),
            expiry_s: NEVER,
            trusts: self.plan.mqtt.sessions,
            ends: false,
            stays_ms: None,
            away_ms: AWAY_SHORT_MS,
            filter: ["#", "a/#", "b/#"][self.rng.index(3)].to_owned(),
            qos: [0, 1, 2, 1, 2][self.rng.index(5)],
            receive_maximum: self.rng.one_in(2).then_some(3),
            slow_ms: [0, 5, 2_000][self.rng.index(3)],
        };
        if self.plan.mqtt.sessions && version == Version::V5 && self.mqtt_rng.chance(2, 3) {
            manner.expiry_s = 1 + self.mqtt_rng.below(5) as u32;
            manner.stays_ms = Some(500 + self.mqtt_rng.below(5_000));
            manner.away_ms = AWAY_MS;
        }
        let client = Subscriber::new(manner, self.rng.fork());
        self.listeners.push(Listener::new(client, device));
    }

    /// One that comes for what is retained, mostly again and again.
    pub(super) fn add_watcher(&mut self, device: DeviceId) {
        let rng = &mut self.mqtt_rng;
        let clean = rng.chance(3, 4);
        let manner = Manner {
            client_id: format!("watcher-{}", self.listeners.len()),
            version: [Version::V4, Version::V5][rng.index(2)],
            clean,
            expiry_s: NEVER,
            trusts: false,
            ends: false,
            stays_ms: rng.chance(3, 4).then(|| 500 + rng.below(4_000)),
            away_ms: AWAY_SHORT_MS,
            filter: "r/#".to_owned(),
            qos: [0, 0, 1, 2][rng.index(4)],
            receive_maximum: rng.one_in(2).then_some(3),
            slow_ms: [0, 5, 500][rng.index(3)],
        };
        let client = Subscriber::new(manner, rng.fork());
        self.listeners.push(Listener::new(client, device));
    }

    /// Subscribers that share a subscription. One of them may end its session, or be without one.
    pub(super) fn add_share(&mut self, device: DeviceId) {
        let rng = &mut self.mqtt_rng;
        let members = 2 + rng.index(2);
        let qos = [1, 1, 2][rng.index(3)];
        let filter = ["#", "a/#", "b/#"][rng.index(3)];
        let odd = rng.index(4);
        let group = self.shares.len();
        let clean = odd == 0;
        // There all are slow: some of what is dealt to a member has to wait behind its window.
        let ending = odd > 0 && qos == 1;
        let mut manners = Vec::new();
        for member in 0..members {
            let is_odd = member == 0;
            let ends = is_odd && ending;
            let version = [Version::V4, Version::V5][rng.index(2)];
            let manner = Manner {
                client_id: format!("member-{group}-{member}"),
                version: if ending { Version::V5 } else { version },
                clean: is_odd && clean,
                expiry_s: NEVER,
                trusts: rng.one_in(2),
                ends,
                stays_ms: (ends || rng.one_in(2)).then(|| 500 + rng.below(5_000)),
                away_ms: AWAY_SHORT_MS,
                filter: format!("$share/group-{group}/{filter}"),
                qos,
                receive_maximum: (ending || rng.one_in(2)).then_some(3),
                slow_ms: if ending {
                    2_000
                } else {
                    [0, 5, 2_000][rng.index(3)]
                },
            };
            manners.push(manner);
        }
        let shared = Shared::of(manners.iter());
        self.shares.push(Share { device, shared });
        for manner in manners {
            let client = Subscriber::new(manner, self.mqtt_rng.fork());
            let mut listener = Listener::new(client, device);
            listener.group = Some(group);
            self.listeners.push(listener);
        }
    }

    /// The sessions that a copied card holds have their clients too: queues that nobody ever empties
    /// would fill a small budget, and then nothing more is taken.
    pub(super) fn twin_listeners(&mut self, device: DeviceId, twin: DeviceId) {
        let here = self.listeners.iter().filter(|l| l.device == device);
        let stay = here.filter(|l| !l.client.manner.clean);
        let stay: Vec<_> = stay.map(|l| (l.client.manner.clone(), l.group)).collect();
        let mut groups: BTreeMap<usize, Vec<Manner>> = BTreeMap::new();
        for (manner, group) in &stay {
            if let Some(group) = group {
                groups.entry(*group).or_default().push(manner.clone());
            }
        }
        for (manner, group) in stay {
            let client = Subscriber::new(manner, self.rng.fork());
            let mut listener = Listener::new(client, twin);
            let nth = |group| groups.range(..group).count();
            listener.group = group.map(|group| self.shares.len() + nth(group));
            self.listeners.push(listener);
        }
        self.shares.extend(groups.values().map(|members| Share {
            device: twin,
            shared: Shared::of(members.iter()),
        }));
    }

    pub(super) fn listener_acts(&mut self, number: usize) {
        while let Some(act) = self.listeners[number].client.acts.pop_front() {
            match act {
                Act::Dial => {
                    let at = self.now + 1 + self.rng.below(10);
                    self.at(at, Event::MqttDialled(Owner::Listener(number)));
                }
                Act::Send(conn, bytes) => self.mqtt_up(conn, bytes),
                Act::Close(conn) => self.mqtt_left(conn),
                Act::Greeted(greeting) => self.listener_greeted(number, greeting),
                Act::Asks if self.listeners[number].group.is_some() => {}
                Act::Asks => self.listeners[number].kept.asks(self.now),
                Act::GoesOn => {
                    self.listeners[number].kept.goes_on();
                    self.note("subscriber: goes on without SUBSCRIBE", || {
                        number.to_string()
                    });
                }
                Act::Looked(conn) => self.look_at_kept(number, conn),
                Act::Subscribed => {
                    self.crash_as_subscribed(number);
                    let sent = self.oracle.sent_count();
                    match self.listeners[number].group {
                        Some(group) => self.shares[group].shared.subscribed(number, sent),
                        None => self.listeners[number].served.subscribed(sent),
                    }
                    self.note("subscriber: subscribed", || number.to_string());
                }
                Act::Taken(taken) => self.listener_took(number, &taken),
                Act::Note(what) => {
                    self.note(&format!("subscriber: {what}"), || number.to_string());
                }
                Act::Wrong(what) => self.oracle.fail(format!("BROKER WRONG: {what}")),
            }
        }
    }

    /// CONNECT goes out.
    pub(super) fn listener_connects(&mut self, number: usize, conn: MqttConn) {
        let listener = &mut self.listeners[number];
        listener.conn = conn;
        listener.begins_anew = matches!(listener.ended.take(), Some(Ended::Durably));
    }

    /// The broker has seen the end of a connection. `came`: whatever was sent on it had come.
    pub(super) fn listener_cut(&mut self, number: usize, conn: MqttConn, came: bool) {
        let (now, life) = (self.now, self.devices[self.listeners[number].device].life);
        let listener = &mut self.listeners[number];
        if listener.conn != conn || listener.ended.is_some() {
            return;
        }
        let for_good = came && listener.client.ends_with(conn);
        let outlives = match for_good {
            true => Some(0),
            false => listener.client.manner.outlives().map(|ms| ms + NOTICE_MS),
        };
        listener.ended = outlives.map(|ms| Ended::By(now + ms, life));
        if for_good && !self.calm && self.plan.faults.edge_crashes && self.mqtt_rng.one_in(2) {
            // Where its end, and what follows, are on their way to the disk.
            let disk = self.card_of(self.listeners[number].device).disk.clone();
            disk.crash_at_sync(self.mqtt_rng.below(3), Crash::Power);
            self.note("edge crash as a session ends", || number.to_string());
        }
    }

    /// A publish that was sent at `sent_at` is durable, and so is what was appended before.
    pub(super) fn ends_durable(&mut self, device: DeviceId, sent_at: Ms) {
        let life = self.devices[device].life;
        let mut ended = Vec::new();
        let listeners = self.listeners.iter_mut().enumerate();
        for (number, listener) in listeners.filter(|(_, l)| l.device == device) {
            match listener.ended {
                Some(Ended::By(at, of)) if of == life && at < sent_at => {
                    listener.ended = Some(Ended::Durably);
                    ended.push(number);
                }
                _ => {}
            }
        }
        for listener in ended {
            if !self.calm && self.plan.faults.edge_crashes && self.mqtt_rng.one_in(2) {
                let at = self.now + 1 + self.mqtt_rng.below(500);
                self.at(at, Event::EndCut { listener, life });
            }
        }
    }

    /// The power goes once a session has ended, and its client comes back as soon as it can.
    pub(super) fn end_cut(&mut self, number: usize, life: u64) {
        let Listener { device, ended, .. } = &self.listeners[number];
        let (device, ended) = (*device, *ended);
        let it = &self.devices[device];
        let stands = matches!(ended, Some(Ended::Durably)) && it.life == life && it.edge.is_some();
        if stands && !self.calm {
            self.note("edge cut after a session's end", || number.to_string());
            self.crash_edge(device, Crash::Power);
            self.listeners[number].client.hurry(self.now);
        }
    }

    /// Where a client will trust that its session has the subscription, the power goes as it hears so.
    fn crash_as_subscribed(&mut self, number: usize) {
        let Listener { client, device, .. } = &self.listeners[number];
        let manner = &client.manner;
        let may = !self.calm && self.plan.faults.edge_crashes && manner.trusts && !manner.clean;
        if may && self.mqtt_rng.one_in(4) {
            self.card_of(*device).disk.crash_at_sync(0, Crash::Power);
            self.note("edge crash as a client subscribes", || number.to_string());
        }
    }

    fn listener_greeted(&mut self, number: usize, greeting: Greeting) {
        let Listener {
            client,
            device,
            begins_anew,
            ..
        } = &self.listeners[number];
        let Greeting {
            present,
            may_be_over: may_be_another,
            due,
            lost_at,
            down_at,
            dialled_at,
        } = greeting;
        let outlives = client.manner.outlives();
        let lasts = |ms: Ms| self.now + NOTICE_MS >= lost_at + ms;
        let over = |ms: Ms| {
            let since = down_at.max(self.devices[*device].started_at);
            since + ms + NOTICE_MS < dialled_at
        };
        let (may_be_over, is_over) = (outlives.is_some_and(lasts), outlives.is_some_and(over));
        if *begins_anew && !self.oracle.refusing.contains(&self.devices[*device].card) {
            self.note("subscriber: session had ended", || number.to_string());
            if present {
                let what = format!("SESSION CAME BACK: listener {number} {greeting:?}");
                self.oracle.fail(what);
            }
        }
        if present {
            self.note("subscriber: session present", || number.to_string());
            if is_over {
                let what = format!("SESSION OUTLIVED ITS EXPIRY: listener {number} {greeting:?}");
                self.oracle.fail(what);
            }
            if may_be_another {
                let listener = &mut self.listeners[number];
                listener.served.begin_anew();
                listener.kept.went_back();
            }
            return;
        }
        if is_over && due {
            self.note("subscriber: session expired", || number.to_string());
        }
        let listener = &mut self.listeners[number];
        listener.served.begin_anew();
        listener.kept.begin_anew();
        self.note("subscriber: new session", || number.to_string());
        if due && !may_be_over {
            self.oracle
                .fail(format!("SESSION LOST of listener {number}"));
        }
    }

    fn here(&self, device: DeviceId) -> Here {
        let card = self.devices[device].card;
        Here {
            card,
            history: self.cards[card].history,
            kept_since: self.cards[card].kept_since,
        }
    }

    fn listener_took(&mut self, number: usize, taken: &Taken) {
        let here = self.here(self.listeners[number].device);
        let Listener {
            client,
            served,
            kept,
            group,
            ..
        } = &mut self.listeners[number];
        let manner = &client.manner;
        let mut again = false;
        let took = match (*group, taken.retain) {
            (Some(group), _) => {
                let shared = &mut self.shares[group].shared;
                let took = shared.took(manner, taken, &self.oracle);
                took.map(|took| {
                    again = took.is_some_and(|(_, again)| again);
                    took.map(|(id, _)| id)
                })
            }
            (None, true) => kept.took(manner, taken, here, &self.oracle).map(Some),
            (None, false) => served.took(manner, taken, &self.oracle),
        };
        let id = match took {
            Ok(Some(id)) => id,
            Ok(None) => return self.note("subscriber: deletion", || number.to_string()),
            Err(what) => return self.oracle.fail(what),
        };
        // From QoS 1 on subscribers hear of what is durable.
        let attempt = &self.oracle.attempts[&id];
        if attempt.qos > 0 {
            let is_news = !attempt.acked;
            self.oracle.acked(id, self.now);
            if self.hears_the_dead && is_news {
                self.acked_late(id);
            }
        }
        let is_member = self.listeners[number].group.is_some();
        let name = match (is_member, taken.retain, taken.dup) {
            (true, ..) if again => "shared: message again",
            (true, _, true) => "shared: DUP",
            (true, _, false) => "shared: message",
            (_, true, _) => "subscriber: retained",
            (_, _, true) => "subscriber: DUP",
            (_, _, false) => "subscriber: message",
        };
        self.note(name, || {
            format!("listener {number} {id:?}, packet {}", taken.id)
        });
    }

    /// A subscriber has had the time for what is retained. At QoS 0 that comes with SUBACK, unless the
    /// connection has ended meanwhile.
    fn look_at_kept(&mut self, number: usize, conn: MqttConn) {
        let Listener { client, device, .. } = &self.listeners[number];
        if client.manner.qos > 0 || !self.leads_to(conn, *device) {
            return;
        }
        self.note("subscriber: looked at what is retained", || {
            number.to_string()
        });
        let Listener { client, kept, .. } = &self.listeners[number];
        let here = self.here(self.listeners[number].device);
        if let Some(missing) = kept.missing(&client.manner, here, &self.oracle) {
            self.oracle.fail(format!("RETAINED AND LOST: {missing}"));
        }
    }

    pub(super) fn listener_leaves(&mut self) {
        if self.listeners.is_empty() {
            return;
        }
        let number = self.rng.index(self.listeners.len());
        let until = self.now + self.rng.below(AWAY_MS);
        let orderly = self.rng.one_in(2);
        self.note("subscriber away", || format!("{number} until {until}"));
        let client = &mut self.listeners[number].client;
        client.leave(self.now, until, orderly);
        self.listener_acts(number);
    }

    /// What is owed and was not delivered, with those who wait for it.
    pub(super) fn undelivered(&self) -> Option<String> {
        let own = self.listeners.iter().find_map(|listener| {
            let here = self.here(listener.device);
            let manner = &listener.client.manner;
            if !listener.client.is_settled() {
                return Some(format!("{} is not settled", manner.client_id));
            }
            let mut missing = listener.served.missing(manner, here, &self.oracle);
            if let Some((id, attempt)) = missing.next() {
                let more = missing.count();
                let who = &manner.client_id;
                return Some(format!("{id:?} and {more} more to {who}: {attempt:?}"));
            }
            listener.kept.missing(manner, here, &self.oracle)
        });
        own.or_else(|| self.unshared())
    }

    /// What is owed to a group.
    fn unshared(&self) -> Option<String> {
        self.listeners.iter().find_map(|member| {
            let share = &self.shares[member.group?];
            let (manner, here) = (&member.client.manner, self.here(share.device));
            let mut missing = share.shared.missing(manner.root(), here, &self.oracle);
            let (id, attempt) = missing.next()?;
            let (more, filter) = (missing.count(), &manner.filter);
            Some(format!("{id:?} and {more} more to {filter}: {attempt:?}"))
        })
    }

    /// Sessions of the device's broker, and what it retains, are older, or gone: nobody's fault.
    pub(super) fn listeners_went_back(&mut self, device: DeviceId) {
        let sent = self.oracle.sent_count();
        self.card_mut(device).kept_since = sent;
        self.wills_went_back(device);
        for share in self.shares.iter_mut().filter(|s| s.device == device) {
            share.shared.begin_anew();
        }
        for number in 0..self.listeners.len() {
            if self.listeners[number].device == device {
                self.listener_went_back(number);
            }
        }
    }

    /// A full queue let go of messages, nobody says whose.
    pub(super) fn listeners_lose(&mut self, device: DeviceId) {
        for listener in self.listeners.iter_mut().filter(|l| l.device == device) {
            listener.served.lose();
            listener.kept.lose();
        }
        for share in self.shares.iter_mut().filter(|s| s.device == device) {
            share.shared.lose();
        }
    }

    pub(super) fn listener_went_back(&mut self, number: usize) {
        let listener = &mut self.listeners[number];
        listener.client.session_went_back();
        listener.served.begin_anew();
        listener.kept.went_back();
        (listener.ended, listener.begins_anew) = (None, false);
        if let Some(group) = listener.group {
            self.shares[group].shared.begin_anew();
        }
    }
}

//! MQTT subscribers in the world, each at one device.

use super::clients::Owner;
use super::devices::DeviceId;
use super::{Event, World};
use crate::mqtt::subscriber::{Act, Manner, Subscriber};
use crate::mqtt::wire::Version;
use crate::now::Ms;
use crate::served::Served;

pub(super) struct Listener {
    pub client: Subscriber,
    pub device: DeviceId,
    served: Served,
}

/// A subscriber may stay away for so long.
const AWAY_MS: Ms = 20_000;

impl World {
    pub(super) fn add_listener(&mut self, device: DeviceId) {
        let number = self.listeners.len();
        let version = [Version::V4, Version::V5][self.rng.index(2)];
        let manner = Manner {
            client_id: format!("listener-{number}"),
            version,
            clean: self.rng.one_in(4),
            filter: ["#", "a/#", "b/#"][self.rng.index(3)].to_owned(),
            qos: [0, 1, 2, 1, 2][self.rng.index(5)],
            receive_maximum: self.rng.one_in(2).then_some(3),
            slow_ms: [0, 5, 2_000][self.rng.index(3)],
        };
        let client = Subscriber::new(manner, self.rng.fork());
        self.listeners.push(Listener {
            client,
            device,
            served: Served::default(),
        });
    }

    /// The sessions that a copied card holds have their clients too: queues that nobody ever empties
    /// would fill a small budget, and then nothing more is taken.
    pub(super) fn twin_listeners(&mut self, device: DeviceId, twin: DeviceId) {
        let here = self.listeners.iter().filter(|l| l.device == device);
        let stay = here.filter(|l| !l.client.manner.clean);
        let manners: Vec<Manner> = stay.map(|l| l.client.manner.clone()).collect();
        for manner in manners {
            let client = Subscriber::new(manner, self.rng.fork());
            self.listeners.push(Listener {
                client,
                device: twin,
                served: Served::default(),
            });
        }
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
                Act::Anew { lost } => {
                    self.listeners[number].served.begin_anew();
                    self.note("subscriber: new session", || number.to_string());
                    if lost {
                        self.oracle
                            .fail(format!("SESSION LOST of listener {number}"));
                    }
                }
                Act::Subscribed => {
                    let sent = self.oracle.sent_count();
                    self.listeners[number].served.subscribed(sent);
                    self.note("subscriber: subscribed", || number.to_string());
                }
                Act::Taken(taken) => {
                    let Listener { client, served, .. } = &mut self.listeners[number];
                    match served.took(&client.manner, &taken, &self.oracle) {
                        Ok(id) => {
                            // From QoS 1 on subscribers hear of what is durable.
                            if self.oracle.attempts[&id].qos > 0 {
                                self.oracle.acked(id, self.now);
                            }
                            let name = match taken.dup {
                                true => "subscriber: DUP",
                                false => "subscriber: message",
                            };
                            self.note(name, || {
                                format!("listener {number} {id:?}, packet {}", taken.id)
                            });
                        }
                        Err(what) => self.oracle.fail(what),
                    }
                }
                Act::Note(what) => {
                    self.note(&format!("subscriber: {what}"), || number.to_string());
                }
                Act::Wrong(what) => self.oracle.fail(format!("BROKER WRONG: {what}")),
            }
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
        self.listeners.iter().find_map(|listener| {
            let card = self.devices[listener.device].card;
            let here = (card, self.cards[card].history);
            let manner = &listener.client.manner;
            if !listener.client.is_settled() {
                return Some(format!("{} is not settled", manner.client_id));
            }
            let mut missing = listener.served.missing(manner, here, &self.oracle);
            let (id, attempt) = missing.next()?;
            let more = missing.count();
            let who = &manner.client_id;
            Some(format!("{id:?} and {more} more to {who}: {attempt:?}"))
        })
    }

    /// Sessions of the device's broker are older, or gone: nobody's fault.
    pub(super) fn listeners_went_back(&mut self, device: DeviceId) {
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
        }
    }

    pub(super) fn listener_went_back(&mut self, number: usize) {
        let listener = &mut self.listeners[number];
        listener.client.session_went_back();
        listener.served.begin_anew();
    }
}

//! Publishers that survive whatever happens to the broker, and know what became of each message.
//!
//! Every publish attempt carries an id of its own in its payload. At QoS 1 a message whose PUBACK
//! never came is sent again with DUP and a new attempt id, so that the oracle can tell what
//! Headwater doubled (nothing may) from what MQTT's QoS 1 doubles by design. At QoS 2 the resend
//! is the same message with the same packet id, and stands once. A message that the broker refuses
//! (MQTT 5) is sent anew after a pause, as another attempt; the refused one must not be there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mqtt::{Client, Packet, Version};
use crate::payload;

/// What a publisher waits before it sends again what was refused: it is a client's pace.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// A publisher's task.
#[derive(Clone)]
pub struct Task {
    pub broker: SocketAddr,
    pub version: Version,
    pub id: String,
    pub topic: String,
    pub qos: u8,
    pub messages: u32,
    pub in_flight: usize,
    /// Length of a payload, or as long as its id.
    pub payload_bytes: usize,
    /// Gives up after this.
    pub limit: Duration,
}

/// What became of a task's messages.
#[derive(Default, Debug)]
pub struct Report {
    /// Attempts whose acknowledgement came (PUBACK, or PUBREC at QoS 2), in the order of sending.
    pub acked: Vec<String>,
    /// Attempts that were sent and never acknowledged: they may be there, once, or not.
    pub unknown: BTreeSet<String>,
    /// Resends with DUP.
    pub resends: u64,
    pub reconnects: u64,
    /// Attempts that the broker refused with [`QUOTA_EXCEEDED`].
    pub refused: u64,
}

/// MQTT 5's reason for a publish that there is no room for.
pub const QUOTA_EXCEEDED: u8 = 0x97;

/// What is known of one packet id in flight.
struct InFlight {
    message: u32,
    attempt: u32,
    /// QoS 2: the PUBREC came, the PUBCOMP did not.
    released: bool,
}

struct Publisher {
    task: Task,
    next: u32,
    /// Refused messages, with the attempt that is next.
    again: VecDeque<(u32, u32)>,
    flying: BTreeMap<u16, InFlight>,
    report: Report,
    last_id: u16,
}

/// What publishers have seen so far, all together.
#[derive(Debug, Default)]
pub struct Progress {
    pub acked: AtomicU64,
    pub resent: AtomicU64,
    pub refused: AtomicU64,
}

/// Publishes all messages and returns when the last is acknowledged.
pub fn run(task: Task, progress: Arc<Progress>) -> Result<Report, String> {
    let until = Instant::now() + task.limit;
    let mut publisher = Publisher {
        task,
        next: 0,
        again: VecDeque::new(),
        flying: BTreeMap::new(),
        report: Report::default(),
        last_id: 0,
    };
    let mut connected_before = false;
    while !publisher.done() {
        if Instant::now() > until {
            return Err(format!(
                "{}: {} of {} messages after the time limit",
                publisher.task.id,
                publisher.report.acked.len(),
                publisher.task.messages
            ));
        }
        let Task {
            version,
            broker,
            ref id,
            ..
        } = publisher.task;
        let Ok(client) = Client::connect_as(version, broker, id, false) else {
            // The broker is down; it comes back when the test starts it.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        publisher.report.reconnects += u64::from(connected_before);
        connected_before = true;
        // An error here is a connection that broke: what is in flight is sent again.
        if let Err(error) = publisher.session(client, &progress, until) {
            if error.kind() == io::ErrorKind::InvalidData {
                return Err(format!("{}: {error}", publisher.task.id));
            }
        }
    }
    Ok(publisher.report)
}

impl Publisher {
    fn done(&self) -> bool {
        self.next == self.task.messages && self.flying.is_empty() && self.again.is_empty()
    }

    fn session(
        &mut self,
        mut client: Client,
        progress: &Progress,
        until: Instant,
    ) -> io::Result<()> {
        client.read_timeout(Duration::from_secs(15))?;
        self.resend(&mut client, progress);
        while !self.done() && Instant::now() < until {
            while self.flying.len() < self.task.in_flight {
                let Some((message, attempt)) = self.next_message() else {
                    break;
                };
                let id = self.free_id();
                let released = false;
                self.flying.insert(
                    id,
                    InFlight {
                        message,
                        attempt,
                        released,
                    },
                );
                self.send(&mut client, id, false);
            }
            client.flush()?;
            loop {
                self.receive(&mut client, progress)?;
                if !client.has_buffered_input() {
                    break;
                }
            }
        }
        client.disconnect()
    }

    /// MQTT 3.1.1 section 4.4: unacknowledged PUBLISH and PUBREL packets are sent again, in order.
    fn resend(&mut self, client: &mut Client, progress: &Progress) {
        let mut order: Vec<u16> = self.flying.keys().copied().collect();
        order.sort_by_key(|id| self.flying[id].message);
        for id in order {
            if self.flying[&id].released {
                client.pubrel(id);
                continue;
            }
            let before = self.attempt(id);
            if self.task.qos == 1 {
                self.report.unknown.insert(before);
                self.flying
                    .get_mut(&id)
                    .expect("the id was just listed")
                    .attempt += 1;
            }
            self.report.resends += 1;
            progress.resent.fetch_add(1, Ordering::Relaxed);
            self.send(client, id, true);
        }
    }

    fn send(&self, client: &mut Client, id: u16, dup: bool) {
        let task = &self.task;
        let payload = payload::of(&self.attempt(id), task.payload_bytes);
        client.publish(&task.topic, payload.as_bytes(), task.qos, id, dup);
    }

    fn next_message(&mut self) -> Option<(u32, u32)> {
        if let Some(again) = self.again.pop_front() {
            return Some(again);
        }
        let is_left = self.next < self.task.messages;
        self.next += u32::from(is_left);
        is_left.then(|| (self.next - 1, 0))
    }

    fn receive(&mut self, client: &mut Client, progress: &Progress) -> io::Result<()> {
        match client.receive()? {
            Packet::PubAck(id) if self.task.qos == 1 => {
                let attempt = self.attempt(id);
                if self.flying.remove(&id).is_some() {
                    self.report.acked.push(attempt);
                    progress.acked.fetch_add(1, Ordering::Relaxed);
                }
            }
            Packet::PubRec(id) if self.task.qos == 2 => {
                let attempt = self.attempt(id);
                if let Some(flight) = self.flying.get_mut(&id) {
                    if !flight.released {
                        flight.released = true;
                        self.report.acked.push(attempt);
                        progress.acked.fetch_add(1, Ordering::Relaxed);
                    }
                }
                client.pubrel(id);
            }
            Packet::PubComp(id) => {
                self.flying.remove(&id);
            }
            Packet::Refused {
                id,
                reason: QUOTA_EXCEEDED,
            } => {
                if let Some(flight) = self.flying.remove(&id) {
                    self.again.push_back((flight.message, flight.attempt + 1));
                    self.report.refused += 1;
                    progress.refused.fetch_add(1, Ordering::Relaxed);
                }
                if !client.has_buffered_input() {
                    std::thread::sleep(REFUSED_PAUSE);
                }
            }
            Packet::Refused { id, reason } => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} was refused with {reason:#x}", self.attempt(id)),
                ));
            }
            _ => {}
        }
        if client.buffered() > 0 && !client.has_buffered_input() {
            client.flush()?;
        }
        Ok(())
    }

    fn attempt(&self, id: u16) -> String {
        match self.flying.get(&id) {
            Some(flight) => payload::attempt(&self.task.id, flight.message, flight.attempt),
            None => String::new(),
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = if self.last_id == u16::MAX {
                1
            } else {
                self.last_id + 1
            };
            if !self.flying.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

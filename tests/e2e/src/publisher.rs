//! Publishers that survive whatever happens to the broker, and know what became of each message.
//!
//! Every publish attempt carries an id of its own in its payload. At QoS 1 a message whose PUBACK
//! never came is sent again with DUP and a new attempt id, so that the oracle can tell what
//! Headwater doubled (nothing may) from what MQTT's QoS 1 doubles by design. At QoS 2 the resend
//! is the same message with the same packet id, and stands once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mqtt::{Client, Packet};

/// A publisher's task.
#[derive(Clone)]
pub struct Task {
    pub broker: SocketAddr,
    pub id: String,
    pub topic: String,
    pub qos: u8,
    pub messages: u32,
    pub in_flight: usize,
    /// Gives up after this.
    pub limit: Duration,
}

/// What became of a task's messages.
#[derive(Default, Debug)]
pub struct Report {
    /// Payloads whose acknowledgement came (PUBACK, or PUBREC at QoS 2), in the order of sending.
    pub acked: Vec<String>,
    /// Payloads that were sent and never acknowledged: they may be there, once, or not.
    pub unknown: BTreeSet<String>,
    /// Resends with DUP.
    pub resends: u64,
    pub reconnects: u64,
}

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
    flying: BTreeMap<u16, InFlight>,
    report: Report,
    last_id: u16,
}

/// Publishes all messages and returns when the last is acknowledged. `progress` counts them.
pub fn run(task: Task, progress: Arc<AtomicU64>) -> Result<Report, String> {
    let until = Instant::now() + task.limit;
    let mut publisher = Publisher {
        task,
        next: 0,
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
        let Ok(client) = Client::connect(publisher.task.broker, &publisher.task.id, false) else {
            // The broker is down; it comes back when the test starts it.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        publisher.report.reconnects += u64::from(connected_before);
        connected_before = true;
        // An error here is a connection that broke: what is in flight is sent again.
        let _ = publisher.session(client, &progress, until);
    }
    Ok(publisher.report)
}

impl Publisher {
    fn done(&self) -> bool {
        self.next == self.task.messages && self.flying.is_empty()
    }

    fn session(
        &mut self,
        mut client: Client,
        progress: &AtomicU64,
        until: Instant,
    ) -> io::Result<()> {
        client.read_timeout(Duration::from_secs(15))?;
        self.resend(&mut client);
        while !self.done() && Instant::now() < until {
            while self.flying.len() < self.task.in_flight && self.next < self.task.messages {
                let id = self.free_id();
                self.flying.insert(
                    id,
                    InFlight {
                        message: self.next,
                        attempt: 0,
                        released: false,
                    },
                );
                let payload = self.payload(id);
                client.publish(
                    &self.task.topic,
                    payload.as_bytes(),
                    self.task.qos,
                    id,
                    false,
                );
                self.next += 1;
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
    fn resend(&mut self, client: &mut Client) {
        let mut order: Vec<u16> = self.flying.keys().copied().collect();
        order.sort_by_key(|id| self.flying[id].message);
        for id in order {
            if self.flying[&id].released {
                client.pubrel(id);
                continue;
            }
            let before = self.payload(id);
            if self.task.qos == 1 {
                self.report.unknown.insert(before);
                self.flying
                    .get_mut(&id)
                    .expect("the id was just listed")
                    .attempt += 1;
            }
            self.report.resends += 1;
            let payload = self.payload(id);
            client.publish(
                &self.task.topic,
                payload.as_bytes(),
                self.task.qos,
                id,
                true,
            );
        }
    }

    fn receive(&mut self, client: &mut Client, progress: &AtomicU64) -> io::Result<()> {
        match client.receive()? {
            Packet::PubAck(id) if self.task.qos == 1 => {
                let payload = self.payload(id);
                if self.flying.remove(&id).is_some() {
                    self.report.acked.push(payload);
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            }
            Packet::PubRec(id) if self.task.qos == 2 => {
                let payload = self.payload(id);
                if let Some(flight) = self.flying.get_mut(&id) {
                    if !flight.released {
                        flight.released = true;
                        self.report.acked.push(payload);
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
                client.pubrel(id);
            }
            Packet::PubComp(id) => {
                self.flying.remove(&id);
            }
            _ => {}
        }
        if client.buffered() > 0 && !client.has_buffered_input() {
            client.flush()?;
        }
        Ok(())
    }

    fn payload(&self, id: u16) -> String {
        match self.flying.get(&id) {
            Some(flight) => format!("{}#{}.{}", self.task.id, flight.message, flight.attempt),
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

/// What the oracle counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub acked: usize,
    /// Attempts that were never acknowledged and are there all the same: QoS 1's own doubles.
    pub unacked_present: usize,
    pub resends: u64,
}

/// Holds what consumers read against what publishers know. `read` are (key, value) in offset order
/// of each partition. The error names the first message that is lost, doubled or out of order.
pub fn judge(reports: &[Report], read: &[(String, String)]) -> Result<Verdict, String> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, value) in read {
        *times.entry(value).or_default() += 1;
    }
    if let Some((value, count)) = times.iter().find(|(_, count)| **count > 1) {
        return Err(format!("{value} stands {count} times"));
    }
    let mut verdict = Verdict {
        acked: 0,
        unacked_present: 0,
        resends: 0,
    };
    for report in reports {
        verdict.resends += report.resends;
        verdict.unacked_present += report
            .unknown
            .iter()
            .filter(|value| times.contains_key(value.as_str()))
            .count();
        for value in &report.acked {
            if times.remove(value.as_str()).is_none() {
                return Err(format!("{value} was acknowledged and is not there"));
            }
            verdict.acked += 1;
        }
        for value in &report.unknown {
            times.remove(value.as_str());
        }
    }
    match times.keys().next() {
        Some(value) => Err(format!("{value} was never sent")),
        None => in_order(read).map(|()| verdict),
    }
}

/// First attempts of one publisher arrive in the order of sending.
fn in_order(read: &[(String, String)]) -> Result<(), String> {
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, value) in read {
        let parsed = value.split_once('#').and_then(|(id, rest)| {
            let (message, attempt) = rest.split_once('.')?;
            Some((
                id,
                message.parse::<u32>().ok()?,
                attempt.parse::<u32>().ok()?,
            ))
        });
        let (id, message, attempt) =
            parsed.ok_or_else(|| format!("{value} is no payload of ours"))?;
        if attempt > 0 {
            continue;
        }
        if let Some(before) = last.insert(id, message) {
            if before >= message {
                return Err(format!("{id}: message {message} after {before}"));
            }
        }
    }
    Ok(())
}

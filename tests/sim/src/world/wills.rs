//! Wills of publishers, and what must become of each.
//!
//! A will is an attempt like others, so that it is stored once at most. It must be stored when its
//! connection ended without DISCONNECT, and not be when DISCONNECT reached the broker, or when its client
//! was back within its delay. What a process that died knew alone is known to nobody: there a will
//! stands again as long as no frame was durable that says otherwise, and a start waits its delay anew.
//! So each is judged by what is durable for certain: by a CONNACK of the same session, or by the
//! acknowledgement of a publish that was sent later, and only while both are of one process.
//!
//! Open stay: what was under way when the process died, a CONNECT that was never answered, and all
//! wills of a broker that answers before the sync, was full, or got an older state.

use super::World;
use super::devices::DeviceId;
use crate::edge::MqttConn;
use crate::mqtt::publisher::WillSent;
use crate::now::Ms;
use crate::oracle::Attempt;
use crate::payload::Id;

/// What a broker does of itself it does this late at most.
const LATE_MS: Ms = 200;

/// How a connection ended, for its broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With DISCONNECT.
    Left,
    Cut,
}

#[derive(Debug, Clone, Copy)]
struct Will {
    id: Id,
    conn: MqttConn,
    delay_ms: Ms,
    /// Its session outlives the connection, and so it does, too.
    stays: bool,
    /// DISCONNECT went out.
    leaves: bool,
    /// How its connection ended, when, and in which process.
    end: Option<(End, Ms, u64)>,
}

/// The wills of one publisher.
#[derive(Debug, Default)]
pub(super) struct Wills {
    /// What the last CONNACK stands for.
    standing: Option<Will>,
    /// A CONNECT that is not answered, and when it was sent.
    asked: Option<(MqttConn, Ms, Option<Will>)>,
    /// Due for certain in a process, and not durable for certain.
    due: Vec<Will>,
    all: Vec<Id>,
}

/// What is certain of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Published,
    TakenBack,
    Gone,
}

impl World {
    pub(super) fn will_sent(&mut self, sender: usize, conn: MqttConn, will: Option<WillSent>) {
        let device = self.senders[sender].device;
        let clean = self.senders[sender].client.manner.clean;
        let will = will.map(|sent| {
            let (id, delay_ms) = (sent.id, sent.delay_ms);
            self.enter_will(sender, device, sent);
            Will {
                id,
                conn,
                delay_ms,
                stays: !clean,
                leaves: false,
                end: None,
            }
        });
        let wills = &mut self.senders[sender].wills;
        if wills.asked.replace((conn, self.now, will)).is_some() {
            // Nobody knows whether the one before was heard, and took back what stood.
            wills.standing = None;
        }
    }

    fn enter_will(&mut self, sender: usize, device: DeviceId, sent: WillSent) {
        self.note("will: sent", || format!("sender {sender} {sent:?}"));
        let WillSent {
            id,
            qos,
            topic,
            retain,
            ..
        } = sent;
        let interval = self.devices[device].settings.interval;
        let mut attempt = self.attempt(sender, topic, qos);
        attempt.publisher = usize::MAX - sender;
        attempt.retain = retain;
        // A process that dies may have published what it had not stored.
        attempt.may_repeat = interval;
        self.oracle.sent(id, attempt);
        // Its place among others is where its connection ends.
        let attempt = self.oracle.attempts.get_mut(&id);
        attempt.expect("just entered").again = true;
        self.senders[sender].wills.all.push(id);
    }

    /// CONNACK came.
    pub(super) fn will_stands(&mut self, sender: usize, conn: MqttConn) {
        let device = self.senders[sender].device;
        let wills = &mut self.senders[sender].wills;
        let Some((asked, dialled, will)) = wills.asked.take() else {
            return;
        };
        let before = std::mem::replace(&mut wills.standing, will);
        if asked != conn || self.hears_the_dead || !self.leads_to(conn, device) {
            self.senders[sender].wills.standing = None;
            return;
        }
        let Some((before, (end, at, life))) = before.and_then(|w| Some((w, w.end?))) else {
            return;
        };
        let (here, started) = (self.devices[device].life, self.devices[device].started_at);
        let fate = match end {
            End::Left => (life == here).then_some(Fate::Gone),
            End::Cut if !before.stays => {
                if life == here {
                    self.senders[sender].wills.due.push(before);
                }
                None
            }
            End::Cut if before.delay_ms > LATE_MS && self.now + LATE_MS < at + before.delay_ms => {
                Some(Fate::TakenBack)
            }
            End::Cut if before.delay_ms == 0 && life == here => Some(Fate::Published),
            End::Cut => {
                let since = if life == here { at } else { started };
                (dialled > since + before.delay_ms + LATE_MS).then_some(Fate::Published)
            }
        };
        match fate {
            Some(fate) => self.judge_will(device, before, fate),
            None => self.note("will: open", || format!("{before:?}")),
        }
    }

    fn judge_will(&mut self, device: DeviceId, will: Will, fate: Fate) {
        let it = &self.devices[device];
        if it.settings.interval || self.oracle.refusing.contains(&it.card) {
            return self.note("will: open", || format!("{will:?}"));
        }
        let name = match fate {
            Fate::Published => "will: published",
            Fate::TakenBack => "will: taken back",
            Fate::Gone => "will: gone with DISCONNECT",
        };
        self.note(name, || format!("device {device} {will:?}"));
        match fate {
            Fate::Published => self.oracle.acked(will.id, self.now),
            Fate::TakenBack | Fate::Gone => self.oracle.refused(will.id),
        }
    }

    pub(super) fn will_leaves(&mut self, sender: usize, conn: MqttConn) {
        let standing = &mut self.senders[sender].wills.standing;
        if let Some(will) = standing.as_mut().filter(|will| will.conn == conn) {
            will.leaves = true;
        }
    }

    /// The broker has seen the end of a connection, or is no more. `for_certain`: whatever was sent on
    /// it had come.
    pub(super) fn will_cut(&mut self, sender: usize, conn: MqttConn, for_certain: bool) {
        let device = self.senders[sender].device;
        let life = self.devices[device].life;
        let standing = &mut self.senders[sender].wills.standing;
        let Some(will) = standing
            .as_mut()
            .filter(|w| w.conn == conn && w.end.is_none())
        else {
            return;
        };
        let end = match (will.leaves, for_certain) {
            (true, true) => End::Left,
            // It may have come or not.
            (true, false) => return *standing = None,
            (false, _) => End::Cut,
        };
        will.end = Some((end, self.now, life));
        let will = *will;
        if end == End::Left && !will.stays {
            *standing = None;
            self.judge_will(device, will, Fate::Gone);
        }
    }

    /// A publish was acknowledged by a process that lives: what was appended before it is durable.
    pub(super) fn wills_durable(&mut self, by: usize, acked: Id) {
        let device = self.senders[by].device;
        let attempt = &self.oracle.attempts[&acked];
        // One that was known by its id made no frame.
        if attempt.again || attempt.card != self.devices[device].card {
            return;
        }
        let sent_at = attempt.at;
        self.ends_durable(device, sent_at);
        let (here, started) = (self.devices[device].life, self.devices[device].started_at);
        let mut settled = Vec::new();
        for sender in self.senders.iter_mut().filter(|s| s.device == device) {
            let wills = &mut sender.wills;
            wills.due.retain(|will| {
                let Some((_, at, life)) = will.end else {
                    return false;
                };
                let durable = life == here && at < sent_at;
                if durable {
                    settled.push((*will, Fate::Published));
                }
                life == here && !durable
            });
            if wills.asked.is_some() {
                continue;
            }
            let Some((will, (end, at, life))) = wills.standing.and_then(|w| Some((w, w.end?)))
            else {
                continue;
            };
            let now = !will.stays || will.delay_ms == 0;
            let fate = match (end, life == here) {
                (End::Left, true) => (at < sent_at).then_some(Fate::Gone),
                (End::Cut, true) if now => (at < sent_at).then_some(Fate::Published),
                (End::Cut, same) if same || will.stays => {
                    let since = if same { at } else { started };
                    let due = since + will.delay_ms + LATE_MS;
                    (due < sent_at).then_some(Fate::Published)
                }
                _ => None,
            };
            if let Some(fate) = fate {
                settled.push((will, fate));
                wills.standing = None;
            }
        }
        for (will, fate) in settled {
            self.judge_will(device, will, fate);
        }
    }

    /// Sessions of the device's broker are older, or gone, or stand twice, and so do their wills.
    pub(super) fn wills_went_back(&mut self, device: DeviceId) {
        for sender in self.senders.iter_mut().filter(|s| s.device == device) {
            let wills = &mut sender.wills;
            wills.standing = None;
            wills.due.clear();
            if let Some((_, _, will)) = &mut wills.asked {
                *will = None;
            }
            for id in &wills.all {
                let attempt: Option<&mut Attempt> = self.oracle.attempts.get_mut(id);
                let attempt = attempt.expect("entered when it was sent");
                attempt.refused = false;
                attempt.may_repeat = true;
                attempt
                    .may_miss
                    .get_or_insert("the will of an older session");
            }
        }
    }
}

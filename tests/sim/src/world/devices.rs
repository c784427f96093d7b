//! Devices: a process on a card, started, stepped and killed.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use headwater_batch::TopicPartition;
use headwater_log::disk::Crash;
use headwater_proto::{AlarmKind, EdgeName};

use super::cards::{Card, CardId};
use super::logs::Fork;
use super::{Event, WALL_START_MS, World};
use crate::cloud::LinkConn;
use crate::edge::{Output, Settings, Setup, SimEdge, StartError, WorkKind};
use crate::now::{Ms, Now};

pub(super) type DeviceId = usize;

/// Devices that sync every few seconds have slow media: J7 leaves those a second.
const INTERVAL_SYNC_MS_MAX: Ms = 400;

pub(super) struct Device {
    pub name: EdgeName,
    pub card: CardId,
    pub settings: Settings,
    pub edge: Option<SimEdge>,
    /// Counts processes; what a past one announced is not done.
    pub life: u64,
    pub link: Option<LinkConn>,
    /// Its wall clock, less that of the world.
    pub wall_off_ms: i64,
    /// A start is on its way.
    pub starting: bool,
    /// Streams that the cloud set aside until an operator looks.
    pub halted: BTreeSet<TopicPartition>,
    /// The last process for which the power is to go late.
    pub late_cut: u64,
    /// No network before this.
    pub outage_until: Ms,
    /// When the last commit was handed to the disk, and the one before it.
    pub syncs: (Ms, Ms),
    /// When its process was started.
    pub started_at: Ms,
    /// When its last process ended.
    pub died_at: Ms,
    /// It was resumed beside itself, or is what was resumed: it does not stop any more.
    pub resumed: bool,
    /// What its process was told to become.
    pub forks: Vec<Fork>,
}

impl Device {
    pub fn deadline(&self) -> Option<Ms> {
        self.edge.as_ref().and_then(SimEdge::deadline)
    }
}

impl World {
    pub(super) fn add_device(&mut self) -> DeviceId {
        let number = self.devices.len();
        let name = EdgeName::new(&format!("gw-{number}")).expect("a plain name");
        let card = self.fresh_card();
        let unset = self.plan.faults.clocks && self.rng.one_in(2);
        let settings = self.plan.edge.clone();
        self.put_device(Device {
            name,
            card,
            settings,
            edge: None,
            life: 0,
            link: None,
            wall_off_ms: if unset { 10_000 - WALL_START_MS } else { 0 },
            starting: true,
            halted: BTreeSet::new(),
            late_cut: 0,
            outage_until: 0,
            syncs: (0, 0),
            started_at: 0,
            died_at: 0,
            resumed: false,
            forks: Vec::new(),
        })
    }

    pub(super) fn put_device(&mut self, device: Device) -> DeviceId {
        self.devices.push(device);
        self.devices.len() - 1
    }

    pub(super) fn card_of(&self, device: DeviceId) -> &Card {
        &self.cards[self.devices[device].card]
    }

    pub(super) fn now_of(&self, device: DeviceId) -> Now {
        Now {
            ms: self.now,
            wall_ms: WALL_START_MS + self.now as i64 + self.devices[device].wall_off_ms,
        }
    }

    /// Starts the process, on a disk that may go down in the middle of its recovery.
    pub(super) fn power_on(&mut self, device: DeviceId) {
        if self.devices[device].edge.is_some() {
            return;
        }
        self.devices[device].starting = false;
        let disk = self.card_of(device).disk.clone();
        self.start_disk(&disk, self.plan.faults.edge_crashes, "edge");
        let setup = Setup {
            name: self.devices[device].name.clone(),
            dir: Path::new("/edge").to_owned(),
            settings: self.devices[device].settings.clone(),
            rules: self.rules,
            seed: self.rng.u128(),
        };
        let now = self.now_of(device);
        self.devices[device].life += 1;
        self.devices[device].started_at = self.now;
        self.begins(device);
        let tape = self.keeps_tapes().then(|| (setup.clone(), disk.copy(0)));
        let started = SimEdge::start(setup, disk.clone(), now);
        if disk.is_down() {
            self.note("edge crash in recovery", || format!("device {device}"));
            // What the process before this one had not synced was still in the page cache.
            self.exempt_unsynced(device);
            return self.start_again(device);
        }
        match started {
            Ok(mut edge) => {
                if let Some((setup, disk)) = tape {
                    edge.keep_tape(setup, disk, now);
                }
                self.devices[device].edge = Some(edge);
                self.card_mut(device).bare = false;
                self.note("edge starts", || format!("device {device}"));
                self.drain(device);
            }
            Err(StartError::Crashed) => {
                self.oracle
                    .fail(format!("device {device} says it crashed; its disk is up"));
            }
            Err(StartError::Refused(why)) if self.card_of(device).faulty => {
                self.note("edge start refused", || format!("device {device}: {why}"));
                disk.crash(Crash::Kill);
                self.card_mut(device).faulty = false;
                disk.set_capacity(u64::MAX);
                self.start_again(device);
            }
            Err(StartError::Refused(why)) => {
                self.oracle
                    .fail(format!("NO START: device {device}: {why}"));
            }
        }
    }

    pub(super) fn start_again(&mut self, device: DeviceId) {
        if !self.devices[device].starting {
            self.devices[device].starting = true;
            let pause = 50 + self.rng.below(if self.calm { 200 } else { 3_000 });
            self.at(self.now + pause, Event::PowerOn(device));
        }
    }

    /// A call into the process, and what comes of it.
    pub(super) fn edge(&mut self, device: DeviceId, act: impl FnOnce(&mut SimEdge, Now)) {
        let now = self.now_of(device);
        if let Some(edge) = &mut self.devices[device].edge {
            act(edge, now);
            self.drain(device);
        }
    }

    fn drain(&mut self, device: DeviceId) {
        loop {
            if self.card_of(device).disk.is_down() {
                self.note("edge crash in an operation", || format!("device {device}"));
                return self.process_gone(device);
            }
            let Some(edge) = &mut self.devices[device].edge else {
                return;
            };
            match edge.output() {
                Some(output) => self.output(device, output),
                None => return,
            }
        }
    }

    fn output(&mut self, device: DeviceId, output: Output) {
        match output {
            Output::Mqtt { conn, bytes } => {
                let count = bytes.len();
                self.mqtt_down(conn, bytes);
                let now = self.now_of(device);
                if let Some(edge) = &mut self.devices[device].edge {
                    edge.mqtt_written(now, conn, count);
                }
            }
            Output::MqttClose { conn } => self.mqtt_hung_up(conn),
            Output::MqttPause { conn, paused } => self.mqtt_pause(conn, paused),
            Output::Dial => {
                let life = self.devices[device].life;
                let at = self.now + 1 + self.rng.below(self.delay_max);
                self.at(at, Event::Dialled { device, life });
            }
            Output::Uplink { channel, bytes } => self.send_up(device, channel, bytes),
            Output::UplinkClose { reason } => {
                if reason.contains("broke the protocol") {
                    let what = format!("device {device} ends the link: {reason}");
                    self.oracle.fail(what);
                }
                self.note("edge ends the link", || {
                    format!("device {device}: {reason}")
                });
                self.link_ended(device);
            }
            Output::Work { id, kind } => {
                let life = self.devices[device].life;
                let wait = match kind {
                    WorkKind::Sync => {
                        let syncs = &mut self.devices[device].syncs;
                        *syncs = (self.now, syncs.0);
                        let slow = !self.calm && self.plan.faults.stalls && self.rng.one_in(50);
                        match self.devices[device].settings.interval {
                            true => self.rng.between(100, INTERVAL_SYNC_MS_MAX),
                            false => self.rng.below(if slow { 6_000 } else { 20 }),
                        }
                    }
                    WorkKind::Uplink => self.rng.below(5),
                };
                self.at(self.now + wait, Event::Work { device, life, id });
            }
            Output::Alarm { tp, kind } => self.edge_alarm(device, tp, &kind),
            Output::Note { what, detail } => {
                if what == "recovery" && detail.contains("its lineage is lost") {
                    let what = format!("device {device}: {detail}");
                    self.oracle.fail(what);
                }
                self.hear_of_log(device, what, &detail);
                if what == "queue drops" {
                    self.listeners_lose(device);
                }
                if what == "refused full" {
                    self.oracle.refusing.insert(self.devices[device].card);
                }
                let reason = detail.rsplit(' ').next().unwrap_or_default();
                let name = match what {
                    "gap" => format!("edge: gap {}", reason.to_lowercase()),
                    what => format!("edge: {what}"),
                };
                self.note(&name, || format!("device {device}: {detail}"));
            }
            Output::Sealed {
                tp,
                incarnation,
                records,
            } => self.log_sealed(device, tp, incarnation, &records),
            Output::Gap { tp, gap } => self.log_gap(device, &tp, &gap),
            Output::Failed(why) => self.edge_failed(device, &why),
        }
    }

    fn edge_alarm(&mut self, device: DeviceId, tp: TopicPartition, kind: &AlarmKind) {
        let name = match kind {
            AlarmKind::CloudWentBack { .. } => "cloud went back",
            AlarmKind::Quarantine(_) => "quarantine",
            AlarmKind::Refused(_) => "refused",
            AlarmKind::TwoLive { .. } => "two live",
            AlarmKind::Forked { .. } => "forked",
            AlarmKind::Fenced => "fenced",
            AlarmKind::LogUnreadable { .. } => "log unreadable",
            AlarmKind::TooManyStreams { .. } => "too many streams",
            AlarmKind::LogUnwritable { .. } => "log unwritable",
            AlarmKind::DeadLetter { .. } => "dead letter",
        };
        self.note(&format!("alarm: {name}"), || {
            format!("device {device} {tp}: {kind:?}")
        });
        self.log_alarm(device, &tp, kind);
        let card = self.card_of(device);
        match kind {
            AlarmKind::CloudWentBack { .. } if !self.restored => self.oracle.fail(format!(
                "device {device} {tp}: the cloud went back: {kind:?}"
            )),
            AlarmKind::Forked { .. } if self.is_single(device) => {
                let what = format!("device {device} {tp}: {kind:?} of a single honest card");
                self.oracle.fail(what);
            }
            AlarmKind::TwoLive { .. } if self.is_single(device) => {
                let what = format!("device {device} {tp}: {kind:?} of a single honest card");
                self.oracle.fail(what);
            }
            AlarmKind::Forked { .. } => self.fork_fault(device),
            AlarmKind::CloudWentBack { acked, next } => {
                let edge = self.devices[device].name.as_str().to_owned();
                let lost = self.went_back.entry((edge, tp)).or_default();
                lost.push((next.0, acked.0));
            }
            AlarmKind::Refused(reason) if self.plan.uplink.crowd => {
                self.refused(device, tp, *reason);
            }
            AlarmKind::Quarantine(_) | AlarmKind::Refused(_) => {
                if !card.copied && !card.rotten && !self.restored {
                    let what = format!("device {device} {tp}: {kind:?} of an honest card");
                    self.oracle.fail(what);
                }
                self.devices[device].halted.insert(tp);
            }
            _ => {}
        }
    }

    /// The node ended by itself: rightly, if its disk did something to it.
    fn edge_failed(&mut self, device: DeviceId, why: &str) {
        if !self.card_of(device).faulty {
            return self
                .oracle
                .fail(format!("device {device} failed on a sound disk: {why}"));
        }
        self.note("edge stops itself", || format!("device {device}: {why}"));
        let how = if self.rng.one_in(2) {
            Crash::Kill
        } else {
            Crash::Power
        };
        self.card_of(device).disk.crash(how);
        self.process_gone(device);
    }

    /// The machine loses power, or its process is killed.
    pub(super) fn crash_edge(&mut self, device: DeviceId, how: Crash) {
        if self.devices[device].edge.is_none() || self.devices[device].resumed {
            return;
        }
        self.card_of(device).disk.crash(how);
        self.process_gone(device);
    }

    /// The process is no more; its connections learn of it in their own time.
    fn process_gone(&mut self, device: DeviceId) {
        self.devices[device].edge = None;
        self.devices[device].died_at = self.now;
        self.exempt_unsynced(device);
        self.devices[device].halted.clear();
        self.devices[device].forks.clear();
        self.link_lost(device);
        self.mqtt_lost(device);
        self.start_again(device);
    }

    /// Bytes of the process for the trace.
    pub(super) fn mix(&mut self, what: &'static str, conn: u64, bytes: &Bytes) {
        self.journal.mix(self.now, bytes);
        let count = bytes.len();
        self.journal
            .line(self.now, || format!("  {what} {conn}: {count} bytes"));
    }
}

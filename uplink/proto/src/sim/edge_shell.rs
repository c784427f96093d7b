//! The shell around each device's session: it dials, reads the log, and carries out what the machine
//! asks, each in its own time.

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};

use super::event::Event;
use super::link::{Conn, ConnId};
use super::log::{Answer, Id};
use super::world::World;
use crate::edge::{CloseReason, LogGap};
use crate::{
    AlarmKind, Channel, CloudConfig, CloudSession, EdgeConfig, EdgeEffect, EdgeName, EdgeSession,
    Incarnation, RefuseReason,
};

pub(super) fn edge_name() -> EdgeName {
    EdgeName::new("gw-1").unwrap()
}

impl World {
    pub(super) fn connect(&mut self, device: usize) {
        let now = self.now;
        let wall = 1_763_800_000_000 + now as i64;
        let cloud = CloudSession::new(CloudConfig::default(), edge_name(), now, wall);
        let delay_max = 1 + self.rng.below(if self.calm { 20 } else { 200 });
        let conn = self.conns.len();
        let run = self.devices[device].run;
        self.conns.push(Conn::new(device, run, cloud, delay_max));
        let mut config = EdgeConfig::new(edge_name());
        config.window_bytes = 200 + self.rng.below(2_000) as usize;
        config.stream_window_bytes = config.window_bytes / 2 + 1;
        config.read_bytes = 1 + self.rng.below(600) as usize;
        let mut session = EdgeSession::new(config, self.rng.u128(), now);
        let d = &mut self.devices[device];
        d.halted.clear();
        for log in &d.logs {
            session.add_stream(now, log.info());
        }
        d.session = Some((conn, session));
        self.note("connect", || {
            format!("device {device} as connection {conn}")
        });
        self.drain_edge(device);
    }

    /// The device's session, if it is still the one on this connection.
    pub(super) fn with_session(&mut self, conn: ConnId, act: impl FnOnce(&mut EdgeSession)) {
        let device = self.conns[conn].device;
        if let Some((mine, session)) = &mut self.devices[device].session {
            if *mine == conn {
                act(session);
                self.drain_edge(device);
            }
        }
    }

    pub(super) fn edge_sees(&mut self, conn: ConnId) {
        let Conn { device, .. } = self.conns[conn];
        self.conns[conn].edge_up = false;
        let d = &mut self.devices[device];
        if d.session.as_ref().is_some_and(|(mine, _)| *mine == conn) {
            d.session = None;
            let at = d.backoff.failed(self.now);
            self.note("edge sees the cut", || {
                format!("connection {conn}, next try at {at}")
            });
        }
    }

    pub(super) fn read(
        &mut self,
        device: usize,
        run: u64,
        conn: ConnId,
        tp: &TopicPartition,
        from: i64,
        batches: usize,
    ) {
        let failed = !self.calm && self.rng.below(60) == 0;
        let d = &mut self.devices[device];
        let (now, level) = (self.now, d.level);
        let Some((mine, session)) = &mut d.session else {
            return;
        };
        if d.run != run || *mine != conn {
            return;
        }
        let log = d.logs.iter().find(|l| l.tp == *tp).expect("logs stay");
        self.conns[conn].hists.insert(tp.clone(), log.hist.clone());
        if let Some(trace) = &mut self.trace {
            let (borders, gaps) = (&log.borders, &log.gaps);
            trace.push(format!(
                "{now:>7} read device {device} {tp} at {from}: {borders:?} {gaps:?}"
            ));
        }
        if failed {
            session.read_failed(now, tp);
            self.note("read failed", || format!("device {device} at {from}"));
        } else {
            match log.read(from, batches, level) {
                Answer::Batches(batches) => session.batches(now, tp, batches),
                Answer::Gap(from, to, reason) => {
                    let (from, to) = (Offset(from), Offset(to));
                    session.log_gap(
                        now,
                        LogGap {
                            tp: tp.clone(),
                            from,
                            to,
                            reason,
                        },
                    );
                }
            }
        }
        self.drain_edge(device);
    }

    pub(super) fn durable(&mut self, device: usize, run: u64, tp: &TopicPartition, to: i64) {
        let seal = self.rng.below(3) > 0;
        let d = &mut self.devices[device];
        if d.run != run {
            return;
        }
        let log = d.log(tp).expect("logs stay");
        if to <= log.durable {
            return; // a later group was synced first
        }
        let acked: Vec<Id> = log.hist[log.durable as usize..to as usize].to_vec();
        log.durable = to;
        if seal {
            log.seal();
        }
        for id in acked {
            self.pubacked.insert(id, tp.clone());
        }
        self.log_changed(device, tp);
    }

    pub(super) fn log_changed(&mut self, device: usize, tp: &TopicPartition) {
        let now = self.now;
        let d = &mut self.devices[device];
        let Some(info) = d.log(tp).map(|l| l.info()) else {
            return;
        };
        if let Some((_, session)) = &mut d.session {
            session.log_changed(now, tp, info.start, info.end);
            self.drain_edge(device);
        }
    }

    pub(super) fn forked(
        &mut self,
        device: usize,
        run: u64,
        tp: &TopicPartition,
        incarnation: Incarnation,
        at: i64,
    ) {
        let now = self.now;
        let d = &mut self.devices[device];
        if d.run != run {
            return;
        }
        if !self.calm && self.rng.below(3) == 0 {
            if let Some((_, session)) = &mut self.devices[device].session {
                session.fork_failed(now, tp);
                self.drain_edge(device);
            }
            return self.note("fork failed", || format!("device {device} {incarnation}"));
        }
        let d = &mut self.devices[device];
        let log = d.log(tp).expect("logs stay");
        log.fork(incarnation, at);
        let info = log.info();
        self.note("fork durable", || {
            format!("device {device} {incarnation} from {at}")
        });
        if let Some((_, session)) = &mut self.devices[device].session {
            session.fork_durable(now, info);
            self.drain_edge(device);
        }
    }

    /// Carries out what the edge's machine asks.
    pub(super) fn drain_edge(&mut self, device: usize) {
        while let Some((conn, session)) = &mut self.devices[device].session {
            let conn = *conn;
            let Some(effect) = session.poll_effect() else {
                return;
            };
            self.edge_effect(device, conn, effect);
        }
    }

    fn edge_effect(&mut self, device: usize, conn: ConnId, effect: EdgeEffect) {
        let (now, run) = (self.now, self.devices[device].run);
        match effect {
            EdgeEffect::Send { channel, bytes } => self.send_up(conn, channel, bytes),
            EdgeEffect::Read {
                tp,
                from,
                max_bytes,
            } => {
                let at = now + self.rng.below(5);
                let batches = 1 + max_bytes / 150;
                self.at(
                    at,
                    Event::Read {
                        device,
                        run,
                        conn,
                        tp,
                        from: from.0,
                        batches,
                    },
                );
            }
            EdgeEffect::Acked { tp, offset } => self.acked(device, &tp, offset.0),
            EdgeEffect::Verified { tp, at } => {
                let prune = self.rng.below(2) == 0;
                let log = self.devices[device].log(&tp).expect("logs stay");
                // A boot's span ends where the next one begins.
                while prune && log.boots.len() > 1 && log.boots[1].1 < at {
                    log.boots.remove(0);
                }
            }
            EdgeEffect::PersistFork {
                tp,
                incarnation,
                at,
                ..
            } => {
                let when = now + self.rng.below(50);
                self.at(
                    when,
                    Event::Forked {
                        device,
                        run,
                        tp,
                        incarnation,
                        at: at.0,
                    },
                );
            }
            EdgeEffect::DeadLetter { tp, from, to, code } => {
                let when = now + self.rng.below(50);
                let range = (from.0, to.0);
                self.at(
                    when,
                    Event::DeadLettered {
                        device,
                        run,
                        tp,
                        range,
                        code,
                    },
                );
            }
            EdgeEffect::Describe { tp } => {
                let d = &mut self.devices[device];
                let info = d.log(&tp).expect("logs stay").info();
                if let Some((_, session)) = &mut d.session {
                    session.described(now, info);
                }
            }
            EdgeEffect::Alarm { tp, kind } => self.edge_alarm(device, tp, &kind),
            EdgeEffect::Connected { .. } => self.devices[device].backoff.connected(),
            EdgeEffect::Close { reason } => {
                self.note("edge closes", || format!("connection {conn}: {reason}"));
                if !matches!(reason, CloseReason::Silent(_)) {
                    self.fail(format!("the edge closed: {reason}"));
                }
                self.conns[conn].cut = true;
                self.at(now + 1, Event::CloudSees { conn });
                self.edge_sees(conn);
            }
        }
    }

    fn edge_alarm(&mut self, device: usize, tp: TopicPartition, kind: &AlarmKind) {
        let d = &mut self.devices[device];
        // For want of a place is no reason to stop for good: somebody makes room.
        let full = matches!(kind, AlarmKind::Refused(RefuseReason::TooManyIncarnations));
        if !full && d.session.as_ref().is_some_and(|(_, s)| s.is_halted(&tp)) {
            d.halted.insert(tp.clone(), kind.clone());
        }
        let name = match kind {
            AlarmKind::CloudWentBack { .. } => "alarm: cloud went back",
            AlarmKind::Quarantine(_) => "alarm: quarantine",
            AlarmKind::Refused(RefuseReason::TooManyIncarnations) => "alarm: refused",
            AlarmKind::Refused(_) => "alarm: retired",
            AlarmKind::TwoLive { .. } => "alarm: two live",
            AlarmKind::Forked { .. } => "alarm: forked",
            AlarmKind::Fenced => "alarm: fenced",
            AlarmKind::LogUnreadable { .. } => "alarm: log unreadable",
            AlarmKind::DeadLetter { .. } => "alarm: dead letter",
            AlarmKind::TooManyStreams { .. } => "alarm: too many streams",
            AlarmKind::LogUnwritable { .. } => "alarm: log unwritable",
        };
        self.note(name, || format!("device {device}: {kind:?}"));
        if self.calm || self.rng.below(2) == 0 {
            self.give_up(device);
        }
    }

    fn send_up(&mut self, conn: ConnId, channel: Channel, mut bytes: Bytes) {
        while !bytes.is_empty() && !self.conns[conn].cut {
            let cut = 1 + self.rng.below(bytes.len() as u64) as usize;
            let whole = self.rng.below(3) > 0;
            let piece = bytes.split_to(if whole { bytes.len() } else { cut });
            let at = self.now + self.rng.below(self.conns[conn].delay_max);
            let at = self.conns[conn].arrival_up(channel, at);
            self.at(
                at,
                Event::Up {
                    conn,
                    channel,
                    bytes: piece,
                },
            );
        }
    }
}

//! What goes wrong, and the sensors that go on publishing.

use headwater_batch::TopicPartition;

use super::event::Event;
use super::world::{World, tp};
use crate::GapReason;

impl World {
    pub(super) fn chaos(&mut self) {
        if self.steps >= self.plan.steps {
            return;
        }
        self.steps += 1;
        let pause = match self.rng.below(4) {
            0 => self.rng.below(3_000),
            _ => self.rng.below(120),
        };
        self.at(self.now + 1 + pause, Event::Chaos);
        let device = self.rng.below(self.devices.len() as u64) as usize;
        let rush = self.plan.crowd && self.rng.below(3) == 0;
        match self.rng.below(100) {
            _ if rush => self.cards(device),
            0..40 => self.publish(device),
            40..52 => self.cut_link(device),
            52..57 => self.stall(),
            57..60 => self.restart_cloud(),
            60..66 => self.reboot(device),
            66..72 => self.trim(device),
            72..78 => self.drop_oldest(device),
            78..81 => self.rot(device),
            81..84 => self.new_partition(device),
            84..90 => self.cards(device),
            90..93 => self.recount(device),
            93..95 => self.black_hole(device),
            95..97 => self.running_image(),
            _ => self.cloud_backup(),
        }
    }

    fn publish(&mut self, device: usize) {
        let count = 1 + self.rng.below(6);
        let partition = self.rng.below(self.devices[device].logs.len() as u64) as usize;
        let d = &mut self.devices[device];
        if !d.running {
            return;
        }
        let (run, log) = (d.run, &mut d.logs[partition]);
        let from = log.next();
        for _ in 0..count {
            log.hist.push(self.next_id);
            self.next_id += 1;
        }
        let (to, tp) = (log.next(), log.tp.clone());
        self.note("publish", || format!("device {device} {tp} [{from}, {to})"));
        let at = self.now + self.rng.below(30);
        self.at(
            at,
            Event::Durable {
                device,
                run,
                tp,
                to,
            },
        );
    }

    fn cut_link(&mut self, device: usize) {
        let Some((conn, _)) = &self.devices[device].session else {
            return;
        };
        let conn = *conn;
        let (edge_in, cloud_in) = match self.rng.below(3) {
            0 => (0, 0),
            1 => (0, self.rng.below(5_000)), // the cloud holds a stale session
            _ => (self.rng.below(5_000), 0),
        };
        let stale = cloud_in > 0;
        self.note(if stale { "stale session" } else { "cut" }, || {
            format!("connection {conn}")
        });
        if stale {
            // What is under way still arrives, while the edge has long come back.
            self.conns[conn].edge_up = false;
            self.edge_sees(conn);
            return self.at(self.now + cloud_in, Event::CloudSees { conn });
        }
        self.lose_in_flight(conn);
        self.cut(conn, edge_in, cloud_in);
    }

    /// Nothing arrives any more, and nobody is told: only the edge's own patience ends it.
    fn black_hole(&mut self, device: usize) {
        let Some((conn, _)) = &self.devices[device].session else {
            return;
        };
        let conn = *conn;
        self.conns[conn].cut = true;
        self.note("black hole", || format!("connection {conn}"));
    }

    /// Bytes under way are lost, from some point on in each direction.
    fn lose_in_flight(&mut self, conn: usize) {
        let keep = self.now + self.rng.below(100);
        self.queue.retain(|(at, _), event| match event {
            Event::Up { conn: c, .. } | Event::Down { conn: c, .. } => *c != conn || *at < keep,
            _ => true,
        });
    }

    fn stall(&mut self) {
        self.stalled_until = self.now + self.rng.below(8_000);
        let until = self.stalled_until;
        if self.rng.below(2) == 0 {
            let hung = self.now + 25_000;
            self.conns.iter_mut().for_each(|c| c.hung_until = hung);
        }
        self.note("stall", || format!("until {until}"));
    }

    /// Sessions die; of what was proposed, some is in the journal and some is not.
    fn restart_cloud(&mut self) {
        self.note("cloud restarts", String::new);
        for conn in 0..self.conns.len() {
            if self.conns[conn].cloud.take().is_some() {
                self.lose_in_flight(conn);
                let edge_in = self.rng.below(500);
                self.cut(conn, edge_in, 0);
            }
        }
        let keep = self.rng.below(u64::MAX);
        self.queue.retain(|(_, seq), event| match event {
            Event::Apply { .. } => keep >> (seq % 64) & 1 == 0,
            _ => true,
        });
    }

    pub(super) fn reboot(&mut self, device: usize) {
        if self.devices[device].resumed || self.devices[device].stored {
            return;
        }
        self.power_off(device);
        self.note("power cut", || format!("device {device}"));
        self.start(device);
    }

    pub(super) fn power_off(&mut self, device: usize) {
        let keep = self.rng.below(64) as usize;
        if let Some((conn, _)) = self.devices[device].session.take() {
            self.conns[conn].edge_up = false;
            let stale = self.rng.below(5_000);
            self.at(self.now + stale, Event::CloudSees { conn });
        }
        let d = &mut self.devices[device];
        d.running = false;
        d.run += 1;
        d.logs.iter_mut().for_each(|l| l.power_cut(keep));
    }

    fn trim(&mut self, device: usize) {
        let partition = self.rng.below(self.devices[device].logs.len() as u64) as usize;
        let log = &mut self.devices[device].logs[partition];
        let (acked, tp) = (log.acked, log.tp.clone());
        if log.delete_to(acked).is_some() {
            self.note("trim", || format!("device {device} {tp} below {acked}"));
            self.log_changed(device, &tp);
        }
    }

    fn drop_oldest(&mut self, device: usize) {
        let partition = self.rng.below(self.devices[device].logs.len() as u64) as usize;
        let log = &self.devices[device].logs[partition];
        let span = (log.sealed() - log.start).max(1) as u64;
        let (to, tp) = (log.start, log.tp.clone());
        let to = to + 1 + self.rng.below(span) as i64;
        self.drop_to(device, &tp, to);
    }

    pub(super) fn drop_beyond(&mut self, device: usize, tp: &TopicPartition, beyond: i64) {
        let log = self.devices[device].log(tp);
        let border = log.and_then(|l| l.borders.iter().copied().find(|b| *b > beyond));
        if let Some(to) = border {
            self.drop_to(device, tp, to);
        }
    }

    fn drop_to(&mut self, device: usize, tp: &TopicPartition, to: i64) {
        if self.plan.running_image {
            return;
        }
        let log = self.devices[device].log(tp).expect("logs stay");
        let acked = log.acked_durable.max(log.acked);
        if let Some((old, start)) = log.delete_to(to) {
            let from = acked.max(old);
            if from < start {
                log.gaps.push((from, start, GapReason::Budget));
                self.note("drop oldest", || {
                    format!("device {device} [{from}, {start})")
                });
            }
            self.log_changed(device, tp);
        }
    }

    fn rot(&mut self, device: usize) {
        if self.plan.running_image {
            return;
        }
        let d = &mut self.devices[device];
        let log = &mut d.logs[0];
        let (Some(&to), from) = (
            log.borders.last(),
            log.borders.iter().rev().nth(1).copied().unwrap_or(0),
        ) else {
            return;
        };
        let free = log.gap_at(from).is_none() && log.gap_at(to - 1).is_none();
        if from >= log.start && free {
            log.gaps.push((from, to, GapReason::Corrupt));
            self.note("rot", || format!("device {device} [{from}, {to})"));
        }
    }

    fn new_partition(&mut self, device: usize) {
        let d = &self.devices[device];
        if d.logs.len() >= 3 || !d.running || self.plan.running_image {
            return;
        }
        let partition = d.logs.len() as u32;
        let mut log = self.fresh_log(partition);
        let now = self.now;
        let d = &mut self.devices[device];
        let running = d.logs[0]
            .boots
            .last()
            .expect("a running device has booted")
            .0;
        log.boot(running);
        if let Some((_, session)) = &mut d.session {
            session.add_stream(now, log.info());
        }
        d.logs.push(log);
        let count = d.logs.len() as u32;
        d.logs
            .iter_mut()
            .for_each(|l| l.partitions = l.partitions.max(count));
        self.note("new partition", || {
            format!("device {device} partition {partition}")
        });
        self.drain_edge(device);
    }

    fn cloud_backup(&mut self) {
        if !self.plan.cloud_back {
            return;
        }
        let Some(backup) = self.backup.take() else {
            self.backup = Some(self.sink.clone());
            return;
        };
        self.restart_cloud();
        self.queue.retain(|_, e| !matches!(e, Event::Apply { .. }));
        let kept: std::collections::BTreeSet<_> =
            backup.records.values().flatten().copied().collect();
        let had = self.sink.records.values().flatten();
        self.operator_lost
            .extend(had.filter(|id| !kept.contains(id)));
        // Ledger lines that went are forgotten losses: those records are gone all the same.
        for (tp, _, gap) in &self.sink.ledger {
            for d in &self.devices {
                for log in d.logs.iter().filter(|l| l.tp == *tp) {
                    let range = gap.from.0.max(0) as usize..(gap.to.0 as usize).min(log.hist.len());
                    self.operator_lost
                        .extend(log.hist.get(range).unwrap_or_default());
                }
            }
        }
        self.sink = backup;
        self.plan.cloud_back = false;
        self.note("cloud went back", String::new);
    }

    /// Ends all faults: every card is in a running device, every link works.
    pub(super) fn heal(&mut self) {
        self.calm = true;
        self.stalled_until = self.now;
        self.steps = self.plan.steps;
        self.empty_drawer();
        for device in 0..self.devices.len() {
            for partition in 0..self.devices[device].logs.len() {
                let tp = tp(partition as u32);
                if let Some(log) = self.devices[device].log(&tp) {
                    let to = log.next();
                    log.durable = to;
                    log.seal();
                    let ids = log.hist.clone();
                    self.pubacked
                        .extend(ids.into_iter().map(|id| (id, tp.clone())));
                    self.log_changed(device, &tp);
                }
            }
        }
    }
}

//! What must hold, looked at from outside the machines.

use std::collections::BTreeMap;

use headwater_batch::TopicPartition;

use super::link::ConnId;
use super::log::Id;
use super::world::World;
use crate::bounds::INCARNATIONS_MAX;
use crate::{GapReason, RefuseReason, StreamEntry, StreamKey, StreamOutcome};

impl World {
    /// After each applied entry: no record twice, no ledger line that lies.
    pub(super) fn check_applied(
        &mut self,
        conn: ConnId,
        key: &StreamKey,
        entry: &StreamEntry,
        outcome: &StreamOutcome,
    ) {
        match (outcome, entry) {
            (StreamOutcome::Append { .. }, StreamEntry::Data(data)) => {
                let records = &self.sink.records[&key.tp];
                let fresh = records.len() - (data.next.0 - data.base.0) as usize;
                let (old, new) = records.split_at(fresh);
                if let Some(twice) = new.iter().find(|id| old.contains(id)) {
                    self.fail(format!(
                        "DUPLICATE: record {twice} of {key} at {}",
                        data.base
                    ));
                }
            }
            (StreamOutcome::Ledger { gap, .. }, _) => {
                let device = self.conns[conn].device;
                // What the sender's card held when it last read for this connection.
                if let Some(hist) = self.conns[conn].hists.get(&key.tp) {
                    let to = (gap.to.0 as usize).min(hist.len());
                    self.ledgered
                        .extend(hist.get(gap.from.0 as usize..to).unwrap_or_default());
                }
                if self.devices[device].run != self.conns[conn].run {
                    return; // sent by an earlier life; the card may have changed since
                }
                let Some(log) = self.devices[device].log(&key.tp) else {
                    return;
                };
                // Given up are records that the edge was told are safe, and no longer has.
                let lost = |o: i64| match gap.reason {
                    GapReason::GivenUp => o < log.start,
                    reason => {
                        let mut gaps = log.gaps.iter();
                        gaps.any(|g| g.0 <= o && o < g.1 && g.2 == reason)
                    }
                };
                let spared = (gap.from.0..gap.to.0).find(|o| !lost(*o));
                let id = spared.and_then(|o| log.hist.get(o as usize)).copied();
                if let Some(id) = id {
                    self.fail(format!(
                        "NEEDLESS LOSS: record {id} of {key} was never dropped"
                    ));
                }
            }
            _ => {}
        }
    }

    /// U2: no more incarnations than the bound, none refused for want of a place while there is one,
    /// and a retired one is gone for good.
    pub(super) fn check_incarnations(&mut self, key: &StreamKey, outcome: &StreamOutcome) {
        let known = self.sink.streams[&key.tp].streams().len();
        let retired = self
            .sink
            .retired
            .contains(&(key.tp.clone(), key.incarnation));
        if known > INCARNATIONS_MAX {
            self.fail(format!("CROWD: {known} incarnations of {}", key.tp));
        }
        if known == INCARNATIONS_MAX {
            self.note("full", String::new);
        }
        match outcome {
            StreamOutcome::Refused(RefuseReason::TooManyIncarnations)
                if known < INCARNATIONS_MAX || retired =>
            {
                self.fail(format!("REFUSED: {key}, one of {known}"));
            }
            StreamOutcome::Refused(RefuseReason::Retired) if !retired => {
                self.fail(format!("REFUSED: {key} was never retired"));
            }
            StreamOutcome::Refused(_) | StreamOutcome::Rejected(_) => {}
            other if retired => {
                self.fail(format!("RETIRED, and back: {key}: {other:?}"));
            }
            _ => {}
        }
    }

    /// U6: one edge partition, one cloud partition, whatever the counts are now.
    pub(super) fn check_place(&mut self, key: &StreamKey) {
        if let Some(landed) = self.sink.landed.get(&key.tp).filter(|l| l.len() > 1) {
            let what = format!("TWO HOMES: {} is in {landed:?}", key.tp);
            self.fail(what);
        }
    }

    /// U3: what the cloud said it discards is not proposed. U6: equal counts keep the number.
    pub(super) fn check_proposed(
        &mut self,
        conn: ConnId,
        key: &StreamKey,
        entry: &StreamEntry,
        wish: Option<u32>,
    ) {
        let watch = &self.conns[conn].watch;
        match entry {
            StreamEntry::Data(_) | StreamEntry::Gap(_) if watch.discards(&key.tp) => {
                self.fail(format!("NOT DISCARDED: {key} on connection {conn}"));
            }
            StreamEntry::Session(session) => {
                let (edge, cloud) = (watch.partitions(&key.tp), self.sink.cloud_count);
                let equal = edge == Some(cloud) && cloud > 1;
                let wrong = match wish {
                    _ if edge != Some(session.partitions) => true,
                    Some(place) if equal => place != key.tp.partition,
                    Some(place) => place >= cloud,
                    None => true,
                };
                if equal {
                    self.note("equal counts", String::new);
                }
                if wrong {
                    let what = format!("MISMAPPED: {key}, {edge:?} to {cloud}: {wish:?}");
                    self.fail(what);
                }
            }
            _ => {}
        }
    }

    /// The edge was told that everything below `offset` is in the cloud: is it?
    pub(super) fn acked(&mut self, device: usize, tp: &TopicPartition, offset: i64) {
        let keep = self.rng.below(2) == 0;
        let log = self.devices[device].log(tp).expect("logs stay");
        let from = log.acked.min(offset);
        log.acked = log.acked.max(offset);
        if keep {
            log.acked_durable = log.acked;
        }
        let incarnation = log.incarnation;
        let range = from.max(0) as usize..(offset as usize).min(log.hist.len());
        let ids: Vec<(i64, Id)> = (from..).zip(log.hist[range].iter().copied()).collect();
        let covered = |o: i64| {
            self.sink
                .ledger
                .iter()
                .any(|(t, i, gap)| t == tp && *i == incarnation && gap.from.0 <= o && o < gap.to.0)
        };
        let stored = |id: &Id| self.sink.records.get(tp).is_some_and(|r| r.contains(id));
        let lost = ids
            .iter()
            .find(|(o, id)| !stored(id) && !covered(*o) && !self.operator_lost.contains(id));
        if let Some((o, id)) = lost {
            self.fail(format!(
                "ACK LIES: record {id} at {o} of device {device} is not in the cloud"
            ));
        }
    }

    /// Everything sent that can be sent.
    pub(super) fn is_quiet(&self) -> bool {
        self.devices.iter().all(|d| {
            d.logs
                .iter()
                .all(|l| d.halted.contains_key(&l.tp) || (l.acked >= l.next() && l.acked >= 0))
        })
    }

    pub(super) fn check_end(&mut self) {
        let problem = self
            .silent_loss()
            .or_else(|| self.reordered())
            .or_else(|| self.torn_tiles())
            .or_else(|| (!self.is_quiet()).then(|| self.stuck()));
        if let Some(problem) = problem {
            self.fail(problem);
        }
    }

    fn stuck(&self) -> String {
        let logs = self.devices.iter().flat_map(|d| &d.logs);
        let places: Vec<_> = logs
            .map(|l| format!("{} {}/{}", l.tp, l.acked, l.next()))
            .collect();
        format!("STUCK: not everything arrived after healing: {places:?}")
    }

    /// Acked to a publisher, held by a card, and yet neither in the cloud nor in the ledger.
    fn silent_loss(&self) -> Option<String> {
        for (id, tp) in &self.pubacked {
            let stored = self.sink.records.get(tp).is_some_and(|r| r.contains(id));
            let holders: Vec<_> = self.devices.iter().filter(|d| d.holds(*id)).collect();
            // A copy of the card gave it up: the ledger has it under that copy's incarnation.
            let exempt = self.operator_lost.contains(id)
                || self.ledgered.contains(id)
                || holders.is_empty() // the operator overwrote the only card that had it
                || holders.iter().any(|d| d.halted.contains_key(tp));
            if stored || exempt {
                continue;
            }
            let covered = holders.iter().flat_map(|d| &d.logs).any(|log| {
                let Some(o) = log.hist.iter().position(|i| i == id) else {
                    return false;
                };
                self.sink.ledger.iter().any(|(t, i, gap)| {
                    t == tp
                        && log.incarnations.contains(i)
                        && gap.from.0 <= o as i64
                        && (o as i64) < gap.to.0
                })
            });
            if !covered && self.is_quiet() {
                return Some(format!("SILENT LOSS: record {id} of {tp}"));
            }
        }
        None
    }

    /// Promise 3: a card's records stand in the cloud in the card's order. Across incarnations only
    /// while the cloud itself does not go back.
    fn reordered(&self) -> Option<String> {
        if self.fired.contains_key("cloud went back") {
            return None;
        }
        for log in self.devices.iter().flat_map(|d| &d.logs) {
            let Some(records) = self.sink.records.get(&log.tp) else {
                continue;
            };
            let place: BTreeMap<_, _> = records.iter().enumerate().map(|(n, id)| (id, n)).collect();
            let places: Vec<_> = log.hist.iter().filter_map(|id| place.get(id)).collect();
            if !places.is_sorted() {
                return Some(format!("REORDERED: {} of {}", log.tp, log.incarnation));
            }
        }
        None
    }

    /// Stored and lost ranges of a stream follow each other from its origin to `next`, without
    /// overlap: the ledger never names what is there.
    fn torn_tiles(&self) -> Option<String> {
        for ((tp, incarnation), tiles) in &self.sink.tiles {
            let Some(state) = self.sink.streams[tp].stream(*incarnation) else {
                continue;
            };
            let mut at = state.origin.0;
            for (from, to) in tiles {
                if *from != at {
                    return Some(format!(
                        "LEDGER LIES: {tp} {incarnation} at {at}: {tiles:?}"
                    ));
                }
                at = *to;
            }
            if at != state.next.0 {
                return Some(format!("LEDGER LIES: {tp} {incarnation} ends at {at}"));
            }
        }
        None
    }
}

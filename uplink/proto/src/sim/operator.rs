//! What a person does who reads the alarms: retires incarnations by name, gives lost records up, and
//! changes partition counts.

use headwater_batch::TopicPartition;

use super::event::Event;
use super::world::World;
use crate::{AlarmKind, Incarnation, RefuseReason, StreamEntry, StreamKey, StreamOutcome};

impl World {
    /// The cloud knows as many incarnations as it may: an alarm that somebody reads some time.
    pub(super) fn call_operator(&mut self, tp: &TopicPartition) {
        if !self.called.insert(tp.clone()) {
            return;
        }
        let at = self.now + self.rng.below(if self.calm { 5_000 } else { 20_000 });
        self.at(at, Event::Operator { tp: tp.clone() });
    }

    pub(super) fn operator(&mut self, tp: &TopicPartition) {
        self.called.remove(tp);
        let Some(incarnation) = self.choose(tp) else {
            return; // every one is still wanted; the refused ask again
        };
        let key = StreamKey {
            edge: super::edge_shell::edge_name(),
            incarnation,
            tp: tp.clone(),
        };
        let at_ms = self.now as i64;
        let outcome = self.sink.apply(&key, &StreamEntry::Retire { at_ms }, None);
        self.note("retired", || format!("{key} -> {outcome:?}"));
        match outcome {
            StreamOutcome::Retired => {
                self.sink.retired.insert((tp.clone(), incarnation));
            }
            StreamOutcome::Refused(RefuseReason::NotAllowed) => {}
            other => self.fail(format!("RETIRE of {key}: {other:?}")),
        }
    }

    /// The one not heard for longest; in the heat of it any. Once all is calm only one that no card
    /// needs any more.
    fn choose(&mut self, tp: &TopicPartition) -> Option<Incarnation> {
        let mut known: Vec<_> = self.sink.streams.get(tp)?.streams().to_vec();
        known.sort_by_key(|s| (s.last_at_ms, s.incarnation));
        if self.calm {
            let wanted = |i: Incarnation| {
                let logs = self.devices.iter().flat_map(|d| &d.logs);
                logs.filter(|l| l.tp == *tp && l.incarnation == i)
                    .any(|l| l.acked < l.next())
            };
            return known.iter().map(|s| s.incarnation).find(|i| !wanted(*i));
        }
        let pick = match self.rng.below(3) {
            0 => self.rng.below(known.len().max(1) as u64) as usize,
            _ => 0,
        };
        known.get(pick).map(|s| s.incarnation)
    }

    /// Somebody looks at a device that says that the cloud went back, and gives those records up.
    pub(super) fn give_up(&mut self, device: usize) {
        let now = self.now;
        let d = &mut self.devices[device];
        let went_back = d
            .halted
            .iter()
            .find(|(_, kind)| matches!(kind, AlarmKind::CloudWentBack { .. }));
        let (Some((tp, _)), Some((_, session))) = (went_back, &mut d.session) else {
            return;
        };
        let tp = tp.clone();
        session.give_up_lost(now, &tp);
        d.halted.remove(&tp);
        self.note("given up", || format!("device {device} {tp}"));
        self.drain_edge(device);
    }

    /// A route gets another partition count, or the cloud's topic does, which may also be deleted and
    /// made anew by the next data.
    pub(super) fn recount(&mut self, device: usize) {
        if self.rng.below(2) == 0 {
            let logs = &mut self.devices[device].logs;
            let count = logs.len() as u32 + self.rng.below(5) as u32;
            logs.iter_mut().for_each(|l| l.partitions = count);
            return self.note("edge recount", || format!("device {device}: {count}"));
        }
        let count = 1 + self.rng.below(6) as u32;
        self.sink.cloud_count = count;
        self.note("cloud recount", || count.to_string());
    }
}

//! What the owner of a store does in a life, one step at a time.

use headwater_batch::{NewRecord, Offset, TopicPartition};
use headwater_log::store::{Durability, Entry, SYNC_MS_MAX, Store};

use super::super::model::{Staged, op};
use super::{End, History};

impl History {
    pub(super) fn step(&mut self, store: &mut Store) -> Result<(), End> {
        match self.rng.below(20) {
            0..8 => self.stage(store),
            8..10 => self.commit(store),
            10 => self.begin(store),
            11 => self.finish(store),
            12..15 => self.tick(store),
            15 => self.checkpoint(store),
            16 | 17 => {
                self.ack(store);
                Ok(())
            }
            18 if self.rng.one_in(4) => self.fork(store),
            19 => {
                let up = self.rng.one_in(2);
                store.set_link(up);
                Ok(())
            }
            _ => self.pass_time(store),
        }
    }

    fn partition(&mut self) -> TopicPartition {
        ["a-0", "a-1", "b.c-0"][self.rng.below(3) as usize]
            .parse()
            .unwrap()
    }

    fn record(&mut self) -> NewRecord {
        let n = self.rng.draw();
        let size = if self.rng.one_in(10) {
            900
        } else {
            1 + self.rng.below(150) as usize
        };
        // Clocks are unset now and then.
        let timestamp = if self.rng.one_in(8) {
            5
        } else {
            1_780_000_000_000 + self.rng.below(1000) as i64
        };
        let mut record = NewRecord::new(timestamp, format!("k{}", n % 5), vec![n as u8; size]);
        if self.rng.one_in(3) {
            record = record.header("edge", n.to_be_bytes().to_vec());
        }
        if self.rng.one_in(9) {
            record.key = None;
        }
        record
    }

    fn stage(&mut self, store: &mut Store) -> Result<(), End> {
        for _ in 0..1 + self.rng.below(12) {
            let count = if self.rng.one_in(6) {
                self.rng.below(4)
            } else {
                1
            };
            let records: Vec<_> = (0..count)
                .map(|_| (self.partition(), self.record()))
                .collect();
            let (id, nonce) = (self.model.next_id, self.rng.draw());
            let durability = match self.rng.below(3) {
                0 => Durability::Interval,
                1 => Durability::Os,
                _ => Durability::Fsync,
            };
            let entry = Entry {
                records: records.clone(),
                op: op(id, nonce),
                durability,
            };
            match store.stage(entry, self.now) {
                Ok(staged) => {
                    self.seen.records += count;
                    let offsets = staged.offsets.iter().map(|offset| offset.0);
                    let placed = records.into_iter().zip(offsets);
                    let records = placed.map(|((tp, record), offset)| (tp, offset, record));
                    let (token, at) = (staged.token.0, self.now);
                    let records = records.collect();
                    self.model.staged(Staged {
                        id,
                        nonce,
                        token,
                        at,
                        records,
                    });
                }
                Err(refused) => {
                    self.seen.full += 1;
                    self.note(|| format!("refused: {refused}"));
                    if self.disk.is_down() {
                        return Err(End::Crashed);
                    }
                    break;
                }
            }
        }
        let id = self.model.next_id;
        self.note(|| format!("staged up to {}", id - 1));
        Ok(())
    }

    fn commit(&mut self, store: &mut Store) -> Result<(), End> {
        let committed = store.commit(self.now);
        if let Some(token) = self.tolerate(committed, "commit")? {
            self.model.acked_to(token.0);
            self.note(|| format!("committed {}", token.0));
        }
        Ok(())
    }

    fn begin(&mut self, store: &mut Store) -> Result<(), End> {
        if self.job.is_none() {
            let begun = store.begin_commit(self.now);
            self.job = self.tolerate(begun, "begin")?.flatten();
            self.note(|| "begun".to_owned());
        }
        Ok(())
    }

    fn finish(&mut self, store: &mut Store) -> Result<(), End> {
        if let Some(job) = self.job.take() {
            let finished = store.finish_commit(job.run(), self.now);
            let token = self.check(finished, "finish")?;
            self.model.acked_to(token.0);
            self.note(|| format!("finished {}", token.0));
        }
        Ok(())
    }

    fn tick(&mut self, store: &mut Store) -> Result<(), End> {
        let ticked = store.tick(self.now);
        self.tolerate(ticked, "tick")?;
        self.model.acked_to(store.durable().0);
        // J7, however little the owner commits.
        let oldest = self.model.maybe.first().map(|entry| entry.at);
        let late = oldest.is_some_and(|at| self.now - at > SYNC_MS_MAX);
        match late && self.job.is_none() {
            true => Err(End::Wrong("unsynced for more than 5 s".to_owned())),
            false => Ok(()),
        }
    }

    /// Time passes as the store asks for it.
    fn pass_time(&mut self, store: &mut Store) -> Result<(), End> {
        let until = self.now + self.rng.below(7_000);
        while self.now < until {
            let ticked = store.tick(self.now);
            let next = self.tolerate(ticked, "tick")?.unwrap_or(self.now + 100);
            self.now = next.clamp(self.now + 1, until);
            self.finish(store)?;
        }
        self.tick(store)
    }

    fn checkpoint(&mut self, store: &mut Store) -> Result<(), End> {
        let id = self.model.next_id - 1;
        let changes = vec![(b"id".to_vec(), Some(op(id, 0)))];
        let done = store.checkpoint(changes, self.now);
        if let Some(token) = self.tolerate(done, "checkpoint")? {
            self.seen.checkpoints += 1;
            self.model.acked_to(token.0);
            self.note(|| format!("checkpoint at {}", token.0));
        }
        Ok(())
    }

    fn ack(&mut self, store: &mut Store) {
        // Or there would always be something acked to delete first.
        if self.plan.drop_oldest && !self.rng.one_in(8) {
            return;
        }
        let tp = self.partition();
        let Some(end) = store.sealed_end(&tp) else {
            return;
        };
        let acked = store.acked(&tp).unwrap_or_default();
        let span = end.since(acked).unwrap_or(0);
        let to = acked.0 + self.rng.below(span + 1) as i64;
        store.set_acked(&tp, Offset(to), self.now);
        let most = self.model.acked.entry(tp.clone()).or_default();
        *most = (*most).max(to);
        self.note(|| format!("acked {tp} {to}"));
    }

    fn fork(&mut self, store: &mut Store) -> Result<(), End> {
        let tp = self.partition();
        let Some(next) = store.next(&tp) else {
            return Ok(());
        };
        let acked = store.acked(&tp).unwrap_or_default();
        let span = next.since(acked).unwrap_or(0);
        // Below `at` the cloud has everything, as the parent's.
        let at = Offset(acked.0 + self.rng.below(span / 4 + 1) as i64);
        let incarnation = u128::from(self.rng.draw());
        self.model
            .maybe_forks
            .entry(tp.clone())
            .or_default()
            .push(incarnation);
        let most = self.model.acked.entry(tp.clone()).or_default();
        *most = (*most).max(at.0);
        let forked = store.fork(&tp, incarnation, at, self.now);
        if self.tolerate(forked, "fork")?.is_some() {
            self.seen.forks += 1;
            self.note(|| format!("fork of {tp} at {at}"));
            // Finished commits of a life settle it; a crash leaves it open.
            self.finish(store)?;
            self.commit(store)?;
            if store.lineage(&tp).map(|lineage| lineage.incarnation) != Some(incarnation) {
                return Err(End::Wrong(format!("{tp}: the fork is not in force")));
            }
        }
        Ok(())
    }

    /// Everything staged becomes readable.
    pub(super) fn quiet(&mut self, store: &mut Store) -> Result<(), End> {
        self.finish(store)?;
        self.commit(store)?;
        self.seal(store)
    }

    pub(super) fn seal(&mut self, store: &mut Store) -> Result<(), End> {
        store.set_link(true);
        self.now += 2_000;
        for _ in 0..3 {
            let ticked = store.tick(self.now);
            self.check(ticked, "tick")?;
            let committed = store.commit(self.now);
            self.check(committed, "commit")?;
        }
        Ok(())
    }
}

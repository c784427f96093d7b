//! What others ask of the log: forks, gaps, checkpoints, the end.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use headwater_batch::TopicPartition;
use headwater_log::store::{Gap, Token as StoreToken};
use headwater_log::{ErrorKind, LogError};
use headwater_proto::Parent;
use headwater_quic::client::Fork;

use super::running::{Awaited, Checkpointing, Running};
use super::worker::{KEY_BROKER, KEY_PARENT, OP_PARENT, ParentOp};
use super::{Answer, Changes};

impl Running {
    /// Releases acknowledgements, and those who asked for something to be durable.
    pub(super) fn answer(&mut self, durable: StoreToken) {
        self.release(durable);
        let asked = std::mem::take(&mut self.answers);
        let (done, rest): (Vec<Awaited>, _) = asked.into_iter().partition(|a| a.needs <= durable);
        self.answers = rest;
        if done.is_empty() {
            return;
        }
        // A fork's new lineage is in force now: show it before the mirror reads it back.
        let forked = done.iter().filter_map(|asked| asked.forked.clone());
        self.worker.lineage_stale.extend(forked);
        self.show();
        for asked in done {
            let _ = asked.answer.send(Ok(()));
        }
    }

    fn await_durable(&mut self, needs: StoreToken, forked: Option<TopicPartition>, answer: Answer) {
        self.staged = self.staged.max(needs);
        self.answers.push(Awaited {
            needs,
            forked,
            answer,
        });
        self.answer(self.log().durable());
    }

    pub(super) fn fork(&mut self, fork: &Fork, answer: Answer, now: u64) {
        let parent = Parent {
            incarnation: fork.parent,
            fork: fork.at,
        };
        let op = ParentOp {
            tp: fork.tp.clone(),
            incarnation: fork.incarnation,
            parent,
        };
        let mut bytes = postcard::to_stdvec(&op).expect("plain data always encodes");
        bytes.push(OP_PARENT);
        // The parent goes first: a crash between the two leaves a note about a fork that is not
        // there, which nobody reads. The other way round the fork would not know its parent.
        // From the reserve: a log that is full gets room by sending, and this stream sends nothing
        // before its fork is durable.
        let staged = self.worker.log.stage_reserved(bytes, now);
        let staged = staged
            .map_err(|refused| refused.to_string())
            .and_then(|staged| {
                self.staged = self.staged.max(staged.token);
                let forked = self
                    .worker
                    .log
                    .fork(&fork.tp, fork.incarnation.0, fork.at, now);
                forked.map_err(|error| error.to_string())
            });
        match staged {
            Ok(token) => {
                self.worker
                    .parents
                    .insert(op.tp.clone(), (op.incarnation, parent));
                self.worker.parents_changed.push(op.tp.clone());
                self.await_durable(token, Some(op.tp), answer);
            }
            Err(text) => drop(answer.send(Err(text))),
        }
    }

    pub(super) fn checkpoint(&mut self, changes: Changes, now: u64) -> Result<(), LogError> {
        let mut all: Changes = changes
            .into_iter()
            .map(|(mut key, value)| {
                key.insert(0, KEY_BROKER);
                (key, value)
            })
            .collect();
        for tp in self.worker.parents_changed.drain(..) {
            let Some(&(incarnation, parent)) = self.worker.parents.get(&tp) else {
                continue;
            };
            let mut key = tp.to_string().into_bytes();
            key.insert(0, KEY_PARENT);
            let op = ParentOp {
                tp,
                incarnation,
                parent,
            };
            all.push((
                key,
                Some(postcard::to_stdvec(&op).expect("plain data always encodes")),
            ));
        }
        self.checkpointing = Checkpointing::No;
        let durable = match self.worker.log.checkpoint(all, now) {
            // The log keeps the changes and asks again; new records it refuses by itself (J6).
            Err(error) if error.kind() == ErrorKind::Full => {
                tracing::warn!(%error, "no room for a checkpoint");
                self.tick_at = now;
                return Ok(());
            }
            done => done?,
        };
        self.worker.counters.checkpoints.fetch_add(1, Relaxed);
        self.answer(durable);
        self.show();
        Ok(())
    }

    /// Everything is durable: a last checkpoint makes the next start quick.
    pub(super) fn finish(&mut self) -> Result<(), LogError> {
        let now = self.worker.clock.now_ms();
        if let Some(changes) = self.stopping.take() {
            self.checkpoint(changes, now)?;
        }
        let stopped = self.worker.clock_file.stop(self.worker.clock.now_ms());
        stopped.map_err(LogError::io("write", Path::new("clock")))
    }

    pub(super) fn gap(
        &mut self,
        tp: &TopicPartition,
        gap: Gap,
        answer: Answer,
        now: u64,
    ) -> Result<(), LogError> {
        match self.worker.log.add_gap(tp, gap, now) {
            Ok(token) => {
                self.await_durable(token, None, answer);
                Ok(())
            }
            Err(error) => {
                let _ = answer.send(Err(error.to_string()));
                // An error that only concerns the request ends nothing else.
                if error.kind() == ErrorKind::Fatal {
                    Err(error)
                } else {
                    Ok(())
                }
            }
        }
    }
}

//! The store as a machine: messages in, commits, ticks and checkpoints when they are due.
//!
//! It has no thread, no sleep and no clock of its own, so a simulation can drive the same code:
//! ```text
//! take(message)   for each message that is there
//! step()          then, and whenever deadline() has come
//! ```
//! What a step wants durable goes to the [`CommitRunner`], whose answer is a message as well.

use std::collections::VecDeque;
use std::path::Path;

use headwater_batch::TopicPartition;
use headwater_log::LogError;
use headwater_log::store::{Store, Token as StoreToken};
use headwater_mqtt::{Append, Token};
use tokio::sync::mpsc;

use super::held::Held;
use super::sync::CommitRunner;
use super::worker::Worker;
use super::{Answer, Changes, FromStore, ToStore};

/// The status page's numbers are at most this old.
const VIEW_EVERY_MS: u64 = 500;

/// A frame that waits for its turn to be staged.
pub(super) struct Waiting {
    pub(super) append: Append,
    pub(super) arrived_ms: i64,
    pub(super) refusals_seen: u64,
}

/// A staged frame whose acknowledgement waits.
pub(super) struct Unacked {
    pub(super) token: Token,
    pub(super) needs: StoreToken,
    pub(super) ack_now: bool,
}

/// Somebody who waits for a step to be durable.
pub(super) struct Awaited {
    pub(super) needs: StoreToken,
    /// Its lineage changes with the step.
    pub(super) forked: Option<TopicPartition>,
    pub(super) answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpointing {
    No,
    /// Nothing is staged until everything staged is durable.
    Draining,
    /// The broker was asked.
    Asked,
}

/// The store while it runs. See the [module](self).
pub struct Running {
    pub(super) worker: Worker,
    pub(super) runner: Box<dyn CommitRunner>,
    pub(super) to_broker: mpsc::UnboundedSender<FromStore>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) unacked: VecDeque<Unacked>,
    pub(super) held: Held,
    pub(super) answers: Vec<Awaited>,
    pub(super) staged: StoreToken,
    pub(super) in_flight: bool,
    pub(super) checkpointing: Checkpointing,
    pub(super) tick_at: u64,
    pub(super) view_at: u64,
    pub(super) stopping: Option<Changes>,
}

impl Running {
    /// From an opened log. The first step is due at once.
    pub fn start(
        worker: Worker,
        runner: Box<dyn CommitRunner>,
        to_broker: mpsc::UnboundedSender<FromStore>,
    ) -> Running {
        let staged = worker.log.durable();
        let mut running = Running {
            worker,
            runner,
            to_broker,
            waiting: VecDeque::new(),
            unacked: VecDeque::new(),
            held: Held::default(),
            answers: Vec::new(),
            staged,
            in_flight: false,
            checkpointing: Checkpointing::No,
            tick_at: 0,
            view_at: 0,
            stopping: None,
        };
        running.show();
        running
    }

    /// When the next [`step`](Running::step) is due if no message comes, by the node's clock.
    pub fn deadline(&self) -> u64 {
        let commit = self.worker.log.commit_due().filter(|_| self.may_commit());
        self.tick_at
            .min(self.view_at)
            .min(commit.unwrap_or(u64::MAX))
    }

    /// One commit at a time (J1). The checkpoint that was asked for commits what the uplink has wanted
    /// meanwhile: a commit in flight would be in its way.
    fn may_commit(&self) -> bool {
        !self.in_flight && self.checkpointing != Checkpointing::Asked
    }

    fn idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty() && self.log().durable() >= self.staged
    }

    /// The log, to look at.
    pub fn log(&self) -> &Store {
        &self.worker.log
    }

    /// Takes one message. After an error nothing more is promised: the node ends (rule J6).
    pub fn take(&mut self, message: ToStore) -> Result<(), LogError> {
        let now = self.worker.clock.now_ms();
        match message {
            ToStore::Append {
                appends,
                arrived_ms,
                refusals_seen,
            } => {
                let frames = appends.into_iter().map(|append| Waiting {
                    append,
                    arrived_ms,
                    refusals_seen,
                });
                self.waiting.extend(frames);
            }
            ToStore::Committed(done) => {
                self.in_flight = false;
                let durable = self.worker.log.finish_commit(done, now)?;
                self.answer(durable);
                self.tick_at = now;
            }
            ToStore::Acked(tp, offset) => {
                self.worker.log.set_acked(&tp, offset, now);
                let mut partitions = self.worker.view.partitions();
                if let Some(view) = partitions.get_mut(&tp) {
                    view.acked = view.acked.max(offset);
                }
            }
            ToStore::Link(up) => self.worker.log.set_link(up),
            ToStore::Fork(fork, answer) => self.fork(&fork, answer, now),
            ToStore::Gap(tp, gap, answer) => self.gap(&tp, gap, answer, now)?,
            ToStore::Checkpoint(changes) => self.checkpoint(changes, now)?,
            ToStore::Probe(probe) => {
                probe.passed_store();
                let _ = self.to_broker.send(FromStore::Probe(probe));
            }
            ToStore::Stop(changes) => {
                // The broker answers no more questions.
                self.checkpointing = Checkpointing::No;
                self.stopping = Some(changes);
            }
        }
        Ok(())
    }

    /// Does what is due. `true`: everything asked for by [`ToStore::Stop`] is done, and durable.
    /// After an error nothing more is promised: the node ends (rule J6).
    pub fn step(&mut self) -> Result<bool, LogError> {
        let now = self.worker.clock.now_ms();
        if self.checkpointing == Checkpointing::No {
            if self.worker.log.wants_checkpoint() && self.stopping.is_none() {
                self.checkpointing = Checkpointing::Draining;
            } else {
                self.stage_waiting(now)?;
            }
        }
        let due = self.worker.log.commit_due().is_some_and(|at| at <= now);
        let drain = self.checkpointing == Checkpointing::Draining || self.stopping.is_some();
        if self.may_commit() && (due || (drain && self.log().durable() < self.staged)) {
            if let Some(job) = self.worker.log.begin_commit(now)? {
                self.in_flight = true;
                self.runner.run(job);
            }
        }
        if self.tick_at <= now {
            self.tick_at = self.worker.log.tick(now)?.max(now + 1);
            self.show_ranges();
        }
        if self.checkpointing == Checkpointing::Draining
            && !self.in_flight
            && self.log().durable() >= self.staged
        {
            self.checkpointing = Checkpointing::Asked;
            let _ = self.to_broker.send(FromStore::WantCheckpoint);
        }
        if self.view_at <= now {
            self.show();
            let kept = self.worker.clock_file.keep_ahead(now);
            kept.map_err(LogError::io("write", Path::new("clock")))?;
            self.view_at = now + VIEW_EVERY_MS;
        }
        if self.stopping.is_some() && self.idle() {
            self.finish()?;
            return Ok(true);
        }
        Ok(false)
    }
}

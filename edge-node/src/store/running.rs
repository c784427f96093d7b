//! The store thread's loop: messages in, commits, ticks and checkpoints when they are due.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use headwater_batch::TopicPartition;
use headwater_log::LogError;
use headwater_log::store::{Store, Token as StoreToken};
use headwater_mqtt::{Append, Token};
use tokio::sync::mpsc;

use super::sync::SyncThread;
use super::worker::Worker;
use super::{Answer, Changes, FromStore, ToStore};

/// Messages handled before the loop looks at commits and deadlines again.
const MESSAGES_PER_TURN: usize = 256;
/// The status page's numbers are at most this old.
const VIEW_EVERY_MS: u64 = 500;

/// A frame that waits for its turn to be staged.
pub(super) struct Waiting {
    pub(super) append: Append,
    pub(super) arrived_ms: i64,
}

/// A staged frame whose acknowledgement waits.
pub(super) struct Unacked {
    pub(super) token: Token,
    pub(super) needs: StoreToken,
    pub(super) ack_now: bool,
}

/// Somebody who waits for a step to be durable.
pub(super) struct Asked {
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

/// The thread's state while it runs.
pub(super) struct Running {
    pub(super) worker: Worker,
    pub(super) sync: SyncThread,
    pub(super) to_broker: mpsc::UnboundedSender<FromStore>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) unacked: VecDeque<Unacked>,
    pub(super) answers: Vec<Asked>,
    pub(super) staged: StoreToken,
    pub(super) in_flight: bool,
    pub(super) checkpointing: Checkpointing,
    pub(super) tick_at: u64,
    pub(super) view_at: u64,
    pub(super) stopping: Option<Changes>,
}

impl Running {
    pub(super) fn start(
        worker: Worker,
        to_broker: mpsc::UnboundedSender<FromStore>,
    ) -> Result<Running, LogError> {
        let sync = SyncThread::start(worker.handle.clone(), worker.counters.clone())
            .map_err(LogError::io("start a thread for", Path::new("the journal")))?;
        let staged = worker.log.durable();
        let mut running = Running {
            worker,
            sync,
            to_broker,
            waiting: VecDeque::new(),
            unacked: VecDeque::new(),
            answers: Vec::new(),
            staged,
            in_flight: false,
            checkpointing: Checkpointing::No,
            tick_at: 0,
            view_at: 0,
            stopping: None,
        };
        running.show();
        Ok(running)
    }

    pub(super) fn run(mut self, messages: &Receiver<ToStore>) -> Result<(), LogError> {
        loop {
            match messages.recv_timeout(self.pause()) {
                Ok(message) => {
                    self.take(message)?;
                    for message in messages.try_iter().take(MESSAGES_PER_TURN) {
                        self.take(message)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Every handle is gone without a Stop: the node was dropped.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.step()?;
            if self.stopping.is_some() && self.idle() {
                return self.finish();
            }
        }
    }

    fn pause(&self) -> Duration {
        let now = self.worker.clock.now_ms();
        let commit = self.worker.log.commit_due().filter(|_| !self.in_flight);
        let next = self
            .tick_at
            .min(self.view_at)
            .min(commit.unwrap_or(u64::MAX));
        let idle_stop = self.stopping.is_some() && self.idle();
        Duration::from_millis(if idle_stop {
            0
        } else {
            next.saturating_sub(now)
        })
    }

    fn idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty() && self.log().durable() >= self.staged
    }

    pub(super) fn log(&self) -> &Store {
        &self.worker.log
    }

    fn take(&mut self, message: ToStore) -> Result<(), LogError> {
        let now = self.worker.clock.now_ms();
        match message {
            ToStore::Append {
                appends,
                arrived_ms,
            } => {
                let frames = appends
                    .into_iter()
                    .map(|append| Waiting { append, arrived_ms });
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
            ToStore::Stop(changes) => {
                // The broker answers no more questions.
                self.checkpointing = Checkpointing::No;
                self.stopping = Some(changes);
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), LogError> {
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
        if !self.in_flight && (due || (drain && self.log().durable() < self.staged)) {
            if let Some(job) = self.worker.log.begin_commit(now)? {
                self.in_flight = true;
                self.sync.run(job);
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
        Ok(())
    }
}

//! The journal's owner: one [`Writer`], run by a thread or by a task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use headwater_batch::Offset;
use headwater_log::{Durable, ErrorKind, LogError, Position};
use headwater_shard::At;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};

use super::frames::{self, Carried, FileHeader, KIND_CARRIED};
use super::local::{Command, GROUP_BYTES, Gauges, Mark, Proposal, Rows, SPARED_FILES, refusal};
use super::results::{Extent, Ledgered};
use super::{ProposeError, ShardId};
use crate::batches::peek;
use crate::machine::Machine;

/// Takes what is asked of the [`LocalLog`](super::LocalLog), one round at a time.
///
/// Production gives it to a thread ([`LocalLog::run_on_thread`](super::LocalLog::run_on_thread)). A
/// simulation runs [`Writer::serve`] as a task, or takes the steps itself: [`Writer::next`], a wait
/// for as long as its disk is slow, [`Writer::round`]. What comes meanwhile joins the group. Dropped
/// at any point it does what a power cut does, as far as its disk tells.
pub struct Writer {
    pub(super) durable: Durable,
    pub(super) machine: Arc<Machine>,
    pub(super) commands: UnboundedReceiver<Command>,
    pub(super) term: u64,
    pub(super) gauges: Arc<Gauges>,
    pub(super) failed: watch::Sender<Option<String>>,
    pub(super) results: Ledgered,
}

/// Something that the writer was asked.
#[derive(Debug)]
pub struct Asked(Command);

/// A staged entry on its way to be applied.
struct Staged {
    at: At,
    position: Position,
    proposal: Proposal,
}

impl Writer {
    /// Runs until it is told to stop, every handle is gone, or the journal fails. Blocks.
    pub fn run(mut self) {
        while let Some(command) = self.commands.blocking_recv() {
            if !self.round(Asked(command)) {
                return;
            }
        }
    }

    /// As [`Writer::run`], as a task: disk and apply run inside of a poll.
    pub async fn serve(mut self) {
        while let Some(asked) = self.next().await {
            if !self.round(asked) {
                return;
            }
        }
    }

    /// Waits for something to do. `None`: every handle is gone.
    pub async fn next(&mut self) -> Option<Asked> {
        self.commands.recv().await.map(Asked)
    }

    /// Handles it and what gathered behind it. False: it was told to stop, or the journal failed,
    /// which [`LocalLog::failed`](super::LocalLog::failed) tells.
    pub fn round(&mut self, asked: Asked) -> bool {
        let goes_on = self.commands_from(asked.0).unwrap_or_else(|error| {
            tracing::error!(%error, "the journal failed; this node stops");
            self.failed.send_replace(Some(error.to_string()));
            false
        });
        self.gauge();
        goes_on
    }

    pub(super) fn gauge(&self) {
        self.gauges
            .live_bytes
            .store(self.durable.live_bytes(), Ordering::Relaxed);
        self.gauges
            .room_bytes
            .store(self.durable.room_bytes_but(SPARED_FILES), Ordering::Relaxed);
    }

    /// False: stop.
    fn commands_from(&mut self, command: Command) -> Result<bool, LogError> {
        let (mut group, mut bytes, mut next) = (Vec::new(), 0, Some(command));
        while let Some(command) = next.take() {
            match command {
                Command::Propose(proposal) => {
                    bytes += proposal.encoded.len();
                    group.push(proposal);
                    if bytes < GROUP_BYTES {
                        next = self.commands.try_recv().ok();
                    }
                }
                other => {
                    // What was proposed before it comes before it.
                    self.commit_group(std::mem::take(&mut group))?;
                    return self.control(other);
                }
            }
        }
        self.commit_group(group)?;
        Ok(true)
    }

    fn control(&mut self, command: Command) -> Result<bool, LogError> {
        match command {
            Command::Propose(_) => unreachable!("proposals are gathered"),
            Command::Mark(answer) => {
                // The sealer looks while room is short, and nothing else may be let in until then.
                self.durable.refill()?;
                let _ = answer.send(self.mark());
            }
            Command::Carry(batches, answer) => {
                let result = self.carry(batches);
                reply(answer, result)?;
            }
            Command::Checkpoint(at, rows, answer) => {
                let result = self.checkpoint(at, rows);
                reply(answer, result)?;
            }
            Command::Stop => {
                // The last group of entries is not the last group then: it is known as synced.
                self.refresh_header()?;
                self.results.stage(&self.machine, &mut self.durable)?;
                self.sync()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One group: staged, synced, applied, answered, all in the order of arrival.
    fn commit_group(&mut self, group: Vec<Proposal>) -> Result<(), LogError> {
        let mut waiting = group.into_iter().peekable();
        while waiting.peek().is_some() {
            let mut staged: Vec<Staged> = Vec::new();
            self.refresh_header()?;
            self.results.stage(&self.machine, &mut self.durable)?;
            while let Some(proposal) = waiting.peek() {
                let at = self.next_at(proposal.shard, &staged);
                let parts = [&frames::prefix(at)[..], &proposal.encoded];
                match self.durable.stage_parts(proposal.shard.0, &parts) {
                    Ok(position) => {
                        let proposal = waiting.next().expect("peeked");
                        staged.push(Staged {
                            at,
                            position,
                            proposal,
                        });
                    }
                    Err(error) if error.kind() == ErrorKind::Busy && !staged.is_empty() => break,
                    // Results leave no room for it: they go first.
                    Err(error)
                        if error.kind() == ErrorKind::Busy && self.durable.has_unsynced() =>
                    {
                        self.sync()?;
                        self.refresh_header()?;
                    }
                    Err(error) if error.kind() == ErrorKind::Fatal => return Err(error),
                    Err(error) => {
                        let proposal = waiting.next().expect("peeked");
                        let _ = proposal.answer.send(Err(refusal(&error)));
                    }
                }
            }
            if !staged.is_empty() {
                self.sync()?;
                self.apply(staged);
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        let started = Instant::now();
        self.durable.commit()?;
        metrics::histogram!("headwater_journal_commit_seconds")
            .record(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn next_at(&self, shard: ShardId, staged: &[Staged]) -> At {
        let before = staged.iter().rev().find(|s| s.proposal.shard == shard);
        let index = match before {
            Some(staged) => staged.at.index,
            None => self.machine.shards.read(shard).applied().index,
        };
        At {
            index: index + 1,
            term: self.term,
        }
    }

    fn apply(&mut self, staged: Vec<Staged>) {
        let (mut extents, mut bytes) = (Vec::new(), 0);
        for Staged {
            at,
            position,
            proposal,
        } in staged
        {
            let Proposal {
                shard,
                entry,
                batch,
                answer,
                encoded,
                ..
            } = proposal;
            let (outcome, put) = self.machine.apply(shard, at, &entry, &batch, position.0);
            bytes += encoded.len() as u64;
            extents.extend(put.map(|(base, epoch)| Extent {
                position: position.0,
                base,
                epoch,
            }));
            // Who asked may be gone: a client that hung up.
            let _ = answer.send(Ok(outcome));
        }
        let (shards, to) = (&self.machine.shards, self.durable.end().0);
        self.results.applied(shards, bytes, extents, to);
    }

    /// J3: a journal file begins with where everything stood before it. Between groups all that is
    /// staged is applied, so the state says it.
    fn refresh_header(&mut self) -> Result<(), LogError> {
        if self.durable.wants_header() {
            self.durable.set_header(self.header())?;
            self.results.begin_file();
        }
        Ok(())
    }

    fn header(&self) -> Vec<u8> {
        let shards = &self.machine.shards;
        let guards: Vec<_> = shards.ids().map(|id| shards.read(id)).collect();
        FileHeader::of(guards.iter().map(|guard| &**guard)).encode()
    }

    fn mark(&mut self) -> Mark {
        let mut rows = Vec::new();
        for id in self.machine.shards.ids() {
            let changes = self.machine.shards.write(id).changes();
            let with_shard = |(key, value): (Vec<u8>, _)| (frames::row_key(id.0, &key), value);
            rows.extend(changes.into_iter().map(with_shard));
        }
        let hot = self.machine.hot.partitions().into_iter();
        let hot = hot.filter(|(_, log)| log.held().is_some());
        let hot = hot.map(|(tp, log)| (tp, log.marks().next)).collect();
        Mark {
            at: self.durable.end(),
            rows,
            hot,
        }
    }

    fn carry(&mut self, batches: Vec<Carried>) -> Result<(), LogError> {
        let mut moved: Vec<(Carried, Position)> = Vec::new();
        for carried in batches {
            let head = frames::carried_head(&carried.head);
            let parts = [&head[..], &carried.batch];
            let position = match self.durable.stage_parts(KIND_CARRIED, &parts) {
                Err(error) if error.kind() == ErrorKind::Busy => {
                    self.sync()?;
                    self.refresh_header()?;
                    self.durable.stage_parts(KIND_CARRIED, &parts)?
                }
                other => other?,
            };
            moved.push((carried, position));
        }
        self.sync()?;
        for (carried, position) in moved {
            let base = peek(&carried.batch).map_or(Offset::ZERO, |meta| meta.base);
            if let Some(log) = self.machine.hot.partition(&carried.head.tp) {
                log.moved(base, position.0);
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, at: Position, rows: Rows) -> Result<(), LogError> {
        let started = Instant::now();
        let header = self.header();
        self.durable.checkpoint(at, rows, header, &[])?;
        self.results.begin_file();
        self.results.stage(&self.machine, &mut self.durable)?;
        self.sync()?;
        self.gauge();
        self.machine.hot.drained.notify_waiters();
        metrics::histogram!("headwater_checkpoint_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Answers who asked; an error that leaves the journal unusable goes on to stop the node.
fn reply(
    answer: oneshot::Sender<Result<(), String>>,
    result: Result<(), LogError>,
) -> Result<(), LogError> {
    let _ = answer.send(result.as_ref().map(|_| ()).map_err(ToString::to_string));
    match result {
        Err(error) if error.kind() == ErrorKind::Fatal => Err(error),
        _ => Ok(()),
    }
}

impl Drop for Writer {
    /// Whoever still waits learns that the outcome is not known.
    fn drop(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Propose(proposal) = command {
                let _ = proposal.answer.send(Err(ProposeError::Stopped));
            }
        }
    }
}

//! The edge's machine with the log behind it: everything of a connection but the network.
//!
//! No socket, task or clock is in here, so a simulation runs the same code. After every call take
//! [`Relay::step`]s until there are none, and look at [`Relay::deadline`].

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_proto::edge::CloseReason;
use headwater_proto::{Channel, EdgeConfig, EdgeEffect, EdgeSession, Ms, RejectCode, StreamInfo};

use super::{Fork, LogRange, ReadAnswer, Source};

/// What the shell is to do, in this order.
#[derive(Debug)]
pub enum Step {
    /// Send the bytes on the channel.
    Send {
        /// Control, or a data lane.
        channel: Channel,
        /// In order on their channel.
        bytes: Bytes,
    },
    /// Do this, and hand in what came of it. It may take long.
    Work(Work),
    /// The cloud answered; the source knows already.
    Connected {
        /// More addresses of the cloud.
        addresses: Vec<String>,
    },
    /// The connection is of no more use.
    Close(CloseReason),
}

/// Slow work on the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// [`Source::read`].
    Read {
        /// The partition.
        tp: TopicPartition,
        /// The first offset wanted.
        from: Offset,
        /// Roughly how much.
        max_bytes: usize,
    },
    /// [`Source::persist_fork`].
    Fork(Fork),
    /// [`Source::dead_letter`].
    DeadLetter {
        /// The partition.
        tp: TopicPartition,
        /// The first offset.
        from: Offset,
        /// The offset after the last.
        to: Offset,
        /// Why the cloud does not take them.
        code: RejectCode,
    },
}

/// What came of [`Work`].
#[derive(Debug)]
pub enum Done {
    /// Of [`Work::Read`].
    Read(TopicPartition, ReadAnswer),
    /// Of [`Work::Fork`].
    Forked(TopicPartition, Result<StreamInfo, String>),
    /// Of [`Work::DeadLetter`].
    DeadLettered(TopicPartition, Result<(), String>),
}

impl Work {
    /// Does it, however long it takes.
    pub fn run(self, source: &dyn Source) -> Done {
        match self {
            Work::Read {
                tp,
                from,
                max_bytes,
            } => {
                let answer = source.read(&tp, from, max_bytes);
                Done::Read(tp, answer)
            }
            Work::Fork(fork) => {
                let tp = fork.tp.clone();
                Done::Forked(tp, source.persist_fork(fork))
            }
            Work::DeadLetter { tp, from, to, code } => {
                let done = source.dead_letter(&tp, from, to, code);
                Done::DeadLettered(tp, done)
            }
        }
    }
}

/// One connection's machine and what it knows of the log. See the [module](self).
#[derive(Debug)]
pub struct Relay {
    machine: EdgeSession,
    known: BTreeMap<TopicPartition, (Offset, Offset)>,
}

impl Relay {
    /// `seed` is fresh randomness: see [`EdgeSession::new`].
    pub fn new(config: EdgeConfig, seed: u128, now: Ms) -> Relay {
        Relay {
            machine: EdgeSession::new(config, seed, now),
            known: BTreeMap::new(),
        }
    }

    /// Tells the machine of new partitions and of ranges that moved.
    pub fn logs_changed(&mut self, now: Ms, source: &dyn Source) {
        for LogRange { tp, start, end } in source.logs() {
            match self.known.get(&tp) {
                Some(known) if *known == (start, end) => {}
                Some(_) => {
                    self.machine.log_changed(now, &tp, start, end);
                    self.known.insert(tp, (start, end));
                }
                None => {
                    if let Some(info) = source.stream(&tp) {
                        self.known.insert(tp, (info.start, info.end));
                        self.machine.add_stream(now, info);
                    }
                }
            }
        }
    }

    /// Bytes of the control channel.
    pub fn bytes(&mut self, now: Ms, bytes: Bytes) {
        self.machine.bytes(now, Channel::Control, bytes);
    }

    /// Takes what came of a [`Work`].
    pub fn done(&mut self, now: Ms, done: Done) {
        let machine = &mut self.machine;
        match done {
            Done::Read(tp, ReadAnswer::Batches(batches)) => machine.batches(now, &tp, batches),
            Done::Read(_, ReadAnswer::Gap(gap)) => machine.log_gap(now, gap),
            Done::Read(tp, ReadAnswer::Failed(reason)) => {
                tracing::error!(partition = %tp, reason, "the log cannot be read");
                machine.read_failed(now, &tp);
            }
            Done::Forked(_, Ok(info)) => machine.fork_durable(now, info),
            Done::DeadLettered(tp, Ok(())) => machine.dead_lettered(now, &tp),
            Done::Forked(tp, Err(reason)) => {
                tracing::error!(partition = %tp, reason, "fork not durable; tried again");
                machine.fork_failed(now, &tp);
            }
            Done::DeadLettered(tp, Err(reason)) => {
                tracing::error!(partition = %tp, reason, "dead letters not written; tried again");
                machine.dead_letter_failed(now, &tp);
            }
        }
    }

    /// Call at the deadline.
    pub fn timer(&mut self, now: Ms) {
        self.machine.timer(now);
    }

    /// When [`Relay::timer`] is due.
    pub fn deadline(&self) -> Option<Ms> {
        self.machine.deadline()
    }

    /// Bytes sent and not acknowledged.
    pub fn in_flight_bytes(&self) -> usize {
        self.machine.in_flight_bytes()
    }

    /// See [`EdgeSession::is_halted`].
    pub fn is_halted(&self, tp: &TopicPartition) -> bool {
        self.machine.is_halted(tp)
    }

    /// The next thing to do. What only concerns the log has been done already.
    pub fn step(&mut self, now: Ms, source: &dyn Source) -> Option<Step> {
        loop {
            match self.machine.poll_effect()? {
                EdgeEffect::Send { channel, bytes } => return Some(Step::Send { channel, bytes }),
                EdgeEffect::Read {
                    tp,
                    from,
                    max_bytes,
                } => {
                    let read = Work::Read {
                        tp,
                        from,
                        max_bytes,
                    };
                    return Some(Step::Work(read));
                }
                EdgeEffect::PersistFork {
                    tp,
                    parent,
                    incarnation,
                    at,
                } => {
                    let fork = Fork {
                        tp,
                        parent,
                        incarnation,
                        at,
                    };
                    return Some(Step::Work(Work::Fork(fork)));
                }
                EdgeEffect::DeadLetter { tp, from, to, code } => {
                    return Some(Step::Work(Work::DeadLetter { tp, from, to, code }));
                }
                EdgeEffect::Acked { tp, offset } => source.acked(&tp, offset),
                EdgeEffect::Verified { tp, at } => source.verified(&tp, at),
                EdgeEffect::Describe { tp } => {
                    if let Some(info) = source.stream(&tp) {
                        self.known.insert(tp, (info.start, info.end));
                        self.machine.described(now, info);
                    }
                }
                EdgeEffect::Alarm { tp, kind } => {
                    tracing::warn!(partition = %tp, ?kind, "uplink alarm");
                    source.alarm(&tp, kind);
                }
                EdgeEffect::Connected {
                    server_ms,
                    addresses,
                } => {
                    source.link(Some(server_ms));
                    return Some(Step::Connected { addresses });
                }
                EdgeEffect::Close { reason } => return Some(Step::Close(reason)),
            }
        }
    }
}

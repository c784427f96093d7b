//! One announced stream of a session.

use std::collections::VecDeque;

use headwater_batch::Offset;

use super::Ticket;
use crate::{Attempt, Epoch, StreamKey};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// SESSION is being committed; WELCOME follows.
    Opening,
    Live,
    /// Drops everything until RESUME with the stream's attempt.
    Discarding,
}

/// What a commit was for, so that its outcome can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Session {
        acked: Offset,
    },
    /// DATA or GAP.
    Range {
        base: Offset,
        next: Offset,
    },
    Probe,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) asked: Asked,
    /// The stream's attempt when it was handed over: a later attempt has made its failure moot.
    pub(super) attempt: Attempt,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: StreamKey,
    pub(super) phase: Phase,
    pub(super) epoch: Epoch,
    pub(super) attempt: Attempt,
    pub(super) acked: Offset,
    /// The data lane it came on first, and must stay on: order holds within a lane.
    pub(super) lane: Option<u64>,
    pub(super) pending: VecDeque<Pending>,
}

impl Stream {
    pub(super) fn new(key: StreamKey) -> Stream {
        Stream {
            key,
            phase: Phase::Opening,
            epoch: Epoch(0),
            attempt: Attempt(0),
            acked: Offset::ZERO,
            lane: None,
            pending: VecDeque::new(),
        }
    }

    pub(super) fn discard(&mut self) -> Attempt {
        self.phase = Phase::Discarding;
        self.attempt = Attempt(self.attempt.0 + 1);
        self.attempt
    }

    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        let at = self.pending.iter().position(|p| p.ticket == ticket)?;
        let pending = self.pending.remove(at);
        if self.pending.is_empty() {
            // An idle stream holds no buffer.
            self.pending = VecDeque::new();
        }
        pending
    }
}

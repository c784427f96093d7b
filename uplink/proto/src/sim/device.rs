//! An edge: a card with logs, and perhaps a running process with a session.

use std::collections::BTreeMap;

use headwater_batch::TopicPartition;

use super::link::ConnId;
use super::log::{Id, Log};
use crate::{AlarmKind, Backoff, EdgeSession};

#[derive(Debug)]
pub(super) struct Device {
    pub(super) logs: Vec<Log>,
    pub(super) running: bool,
    /// Counts the process's lives: answers to an earlier one are void.
    pub(super) run: u64,
    pub(super) session: Option<(ConnId, EdgeSession)>,
    pub(super) backoff: Backoff,
    /// Streams that halted with an alarm: not silent, so not a loss.
    pub(super) halted: BTreeMap<TopicPartition, AlarmKind>,
    pub(super) level: headwater_batch::Level,
    /// The card lies in a drawer.
    pub(super) stored: bool,
    /// Resumed from the image of a running machine.
    pub(super) resumed: bool,
}

impl Device {
    pub(super) fn log(&mut self, tp: &TopicPartition) -> Option<&mut Log> {
        self.logs.iter_mut().find(|l| l.tp == *tp)
    }

    pub(super) fn holds(&self, id: Id) -> bool {
        self.logs.iter().any(|l| l.hist.contains(&id))
    }
}

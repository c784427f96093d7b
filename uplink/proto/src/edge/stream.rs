//! One stream's place in the protocol, without the session around it.

use std::collections::VecDeque;

use headwater_batch::Offset;

use super::StreamInfo;
use crate::bounds::{LINEAGE_MAX, REANNOUNCE_MS_MAX, RESYNC_MS, SPANS_MAX};
use crate::frame::Announce;
use crate::{Attempt, BootSpan, BootStart, Incarnation, LastRecord, Ms, RejectCode, StreamId};

/// The states of PROTOCOL.md's edge diagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// ANNOUNCE is out.
    Announcing,
    /// Asks the shell for the log's state, then announces.
    Describing,
    /// Waits before Describing.
    Paused,
    /// WELCOME came: the last record stored is read and compared.
    Verifying {
        next: Offset,
        last: LastRecord,
    },
    Live,
    /// RETRY came: waits, then RESUME.
    Backing {
        attempt: Attempt,
    },
    /// Our RESYNC is out: nothing is sent until the cloud says where we are.
    Resyncing,
    /// Waits for the new incarnation to be durable.
    Forking {
        incarnation: Incarnation,
        at: Offset,
    },
    /// Waits for the dead-letter file to be durable.
    DeadLettering {
        attempt: Attempt,
        from: Offset,
        to: Offset,
        code: RejectCode,
    },
    /// Until the next connection, or the operator.
    Halted,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) info: StreamInfo,
    pub(super) id: StreamId,
    pub(super) lane: u64,
    pub(super) phase: Phase,
    /// The next offset to send.
    pub(super) cursor: Offset,
    /// What this session knows to be durable in the cloud.
    pub(super) acked: Offset,
    /// The end of what was ever sent in this session: no ACK lies beyond.
    pub(super) sent_max: Offset,
    /// End and bytes of what was sent and not acknowledged, in order.
    pub(super) in_flight: VecDeque<(Offset, usize)>,
    pub(super) in_flight_bytes: usize,
    /// How much of it may be out: one batch after a RETRY, growing again with ACKs.
    pub(super) window: usize,
    /// The read that is out: where from, and the bytes reserved for it.
    pub(super) read: Option<(Offset, usize)>,
    pub(super) last_progress: Ms,
    pub(super) wait_until: Option<Ms>,
    /// Grows while the stream gets nowhere.
    pub(super) pause: Ms,
    /// It halted because the cloud lost what the log no longer has.
    pub(super) went_back: bool,
    /// The operator gave up what the cloud acknowledged and lost.
    pub(super) given_up: bool,
    /// The cloud has no place for it; asks again now and then.
    pub(super) refused: bool,
    /// The log could not be read at the cursor: said once.
    pub(super) unreadable: bool,
    /// A fork or dead letters could not be made durable: said once.
    pub(super) unwritable: bool,
    pub(super) timer: Option<Ms>,
    pub(super) turn: Option<u64>,
}

const PAUSE_MS_MIN: Ms = 1_000;

impl Stream {
    pub(super) fn new(info: StreamInfo, id: StreamId, lane: u64, window: usize) -> Stream {
        let acked = info.origin;
        Stream {
            info,
            id,
            lane,
            phase: Phase::Announcing,
            cursor: acked,
            acked,
            sent_max: acked,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            window,
            read: None,
            last_progress: 0,
            wait_until: None,
            pause: PAUSE_MS_MIN,
            went_back: false,
            given_up: false,
            refused: false,
            unreadable: false,
            unwritable: false,
            timer: None,
            turn: None,
        }
    }

    pub(super) fn announce(&self) -> Announce {
        let info = &self.info;
        Announce {
            stream: self.id,
            tp: info.tp.clone(),
            partitions: info.partitions,
            incarnation: info.incarnation,
            origin: info.origin,
            parent: info.parent,
            start: info.start,
            end: info.end,
            acked: info.acked,
            spans: bounded_spans(&info.spans, info.origin),
        }
    }

    /// What the log should be asked for now, if anything: where from.
    pub(super) fn wants(&self) -> Option<Offset> {
        if self.read.is_some() || self.wait_until.is_some() {
            return None;
        }
        match self.phase {
            Phase::Verifying { last, .. } if self.info.end > last.offset => Some(last.offset),
            Phase::Live if self.cursor < self.info.end && self.in_flight_bytes < self.window => {
                Some(self.cursor)
            }
            _ => None,
        }
    }

    /// The cloud asks for records that it once acknowledged and that the log no longer has.
    pub(super) fn is_below_acked(&self) -> bool {
        self.cursor < self.info.start && self.cursor < self.info.acked && !self.given_up
    }

    pub(super) fn next_timer(&self) -> Option<Ms> {
        let resync = match self.phase {
            Phase::Live if !self.in_flight.is_empty() => Some(self.last_progress + RESYNC_MS),
            _ => None,
        };
        [resync, self.wait_until].into_iter().flatten().min()
    }

    /// The stream waits for an answer of the cloud.
    pub(super) fn awaits_cloud(&self) -> bool {
        matches!(self.phase, Phase::Announcing | Phase::Resyncing) || !self.in_flight.is_empty()
    }

    /// Forgets what is in flight; gives back its bytes.
    pub(super) fn clear_in_flight(&mut self) -> usize {
        self.in_flight = VecDeque::new();
        std::mem::take(&mut self.in_flight_bytes)
    }

    /// Drops the acknowledged front; gives back its bytes.
    pub(super) fn release_to(&mut self, acked: Offset) -> usize {
        let mut freed = 0;
        while self.in_flight.front().is_some_and(|(end, _)| *end <= acked) {
            freed += self.in_flight.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        if self.in_flight.is_empty() {
            // An idle stream holds no buffer.
            self.in_flight = VecDeque::new();
        }
        self.in_flight_bytes -= freed;
        freed
    }

    pub(super) fn grow_pause(&mut self) -> Ms {
        let pause = self.pause;
        self.pause = (pause * 2).min(REANNOUNCE_MS_MAX);
        pause
    }

    pub(super) fn progressed(&mut self, now: Ms) {
        self.last_progress = now;
        self.pause = PAUSE_MS_MIN;
    }

    /// The boot in force at `from` and those that begin before `to`.
    pub(super) fn lineage(&self, from: Offset, to: Offset) -> Vec<BootStart> {
        let spans = &self.info.spans;
        let first = spans.iter().rposition(|s| s.start <= from).unwrap_or(0);
        let mut pairs: Vec<BootStart> = Vec::new();
        for span in spans[first..]
            .iter()
            .take_while(|s| s.start < to || s.start <= from)
        {
            // Of several boots with one start, only the last can have written the record there.
            if pairs
                .last()
                .is_some_and(|earlier| earlier.start == span.start)
            {
                pairs.pop();
            }
            pairs.push(BootStart {
                boot: span.boot,
                start: span.start,
            });
        }
        // The cloud keeps 8: what is left out here it would have dropped at once.
        pairs[pairs.len().saturating_sub(LINEAGE_MAX)..].to_vec()
    }
}

/// Of a history that is too long, the first and the last half. A common boot lies near one of them: at
/// the last position verified, or among the newest that the cloud saw. What holds no record, or none of
/// this incarnation, comes first to go: the cloud has never heard of it, and a gateway that restarts
/// for ever fills a history with it.
fn bounded_spans(spans: &[BootSpan], origin: Offset) -> Vec<BootSpan> {
    if spans.len() <= SPANS_MAX {
        return spans.to_vec();
    }
    let (now, earlier) = spans.split_last().expect("longer than the bound");
    let held = |s: &&BootSpan| s.start < s.end && s.end > origin;
    let mut kept: Vec<BootSpan> = earlier.iter().filter(held).copied().collect();
    kept.push(*now);
    if kept.len() > SPANS_MAX {
        kept.drain(SPANS_MAX / 2..kept.len() - SPANS_MAX / 2);
    }
    kept
}

//! U1: where two histories part.
//!
//! A boot is a random number that was durable before its first record, so whoever knows a boot has
//! the same records below its start. Histories are a tree; what two copies share ends inside the
//! newest boot that both know.

use headwater_batch::Offset;

use super::StreamState;
use crate::bounds::BOOTS_KEPT_MAX;
use crate::{BootSpan, BootStart, QuarantineReason};

/// What HELLO's boots say against the cloud's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Fork(Offset),
    Quarantine(QuarantineReason),
}

/// Compares what the cloud holds of a stream with the history that an edge announces.
pub(super) fn compare(state: &StreamState, spans: &[BootSpan]) -> Verdict {
    if state.next == state.origin {
        return Verdict::Same;
    }
    let Some((ours, theirs)) = newest_common(&state.boots, spans) else {
        return no_common(state, spans);
    };
    if state.boots[ours].start != spans[theirs].start {
        return Verdict::Quarantine(QuarantineReason::BootMoved);
    }
    let our_end = state.boots.get(ours + 1).map_or(state.next, |b| b.start);
    let fork = our_end.min(spans[theirs].end);
    let runs_now = theirs + 1 == spans.len();
    match fork < state.next {
        false => Verdict::Same,
        // A process does not lose records of its own boot: this is the image of a running machine.
        true if runs_now && our_end == state.next => {
            Verdict::Quarantine(QuarantineReason::SameBootShorter)
        }
        true => Verdict::Fork(fork.max(state.origin)),
    }
}

/// Whether `other` holds some of the records `[from, to)` that were written under `pairs`.
pub(super) fn overlaps(other: &StreamState, from: Offset, to: Offset, pairs: &[BootStart]) -> bool {
    pairs.iter().enumerate().any(|(n, pair)| {
        let Some(at) = other.boots.iter().position(|b| b.boot == pair.boot) else {
            return false;
        };
        let held_from = other.boots[at].start.max(other.origin);
        let held_to = other.boots.get(at + 1).map_or(other.next, |b| b.start);
        let pair_to = pairs.get(n + 1).map_or(to, |b| b.start);
        held_from.max(from).max(pair.start) < held_to.min(pair_to)
    })
}

/// How far another incarnation's stream holds this edge's records, if they share a boot.
///
/// A card whose image was taken between DIVERGED and the durable fork comes back under its old
/// incarnation, while what it held has long been stored under the new one: its own stream alone
/// would have it sent again.
pub(super) fn shared(other: &StreamState, spans: &[BootSpan]) -> Option<Offset> {
    let (ours, theirs) = newest_common(&other.boots, spans)?;
    let our_end = other.boots.get(ours + 1).map_or(other.next, |b| b.start);
    (other.boots[ours].start == spans[theirs].start).then(|| our_end.min(spans[theirs].end))
}

fn newest_common(boots: &[BootStart], spans: &[BootSpan]) -> Option<(usize, usize)> {
    (0..boots.len()).rev().find_map(|ours| {
        let theirs = spans.iter().rposition(|s| s.boot == boots[ours].boot)?;
        Some((ours, theirs))
    })
}

/// All holders of an incarnation share what lies below its origin. If both sides know every boot
/// since then and none is common, the origin is where they part; if not, nobody can tell.
fn no_common(state: &StreamState, spans: &[BootSpan]) -> Verdict {
    let edge_complete = spans.first().is_some_and(|s| s.start <= state.origin);
    if state.boots_complete && edge_complete {
        Verdict::Fork(state.origin)
    } else {
        Verdict::Quarantine(QuarantineReason::NoCommonBoot)
    }
}

/// Adds the boots of stored or skipped records; keeps the last 8.
///
/// Invariant: `boots_complete` holds only if the boot of every record since the origin is known. An
/// edge forgets boots once they are verified; it may have to send from below them when the cloud
/// went back.
pub(super) fn extend(state: &mut StreamState, from: Offset, lineage: &[BootStart]) {
    if lineage.first().is_none_or(|pair| pair.start > from) {
        state.boots_complete = false;
    }
    for pair in lineage {
        if state
            .boots
            .last()
            .is_none_or(|last| last.start < pair.start)
        {
            state.boots.push(*pair);
        }
    }
    let over = state.boots.len().saturating_sub(BOOTS_KEPT_MAX);
    if over > 0 {
        state.boots.drain(..over);
        state.boots_complete = false;
    }
}

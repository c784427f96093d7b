//! The rules at apply: U1, U2, U3's fence, U4 and the dedup table of DESIGN.md.

use headwater_batch::Offset;

use super::lineage::{self, Verdict};
use super::{
    DataEntry, EdgeStreams, GapEntry, GapRecord, Opened, SessionEntry, StreamEntry, StreamOutcome,
    StreamState,
};
use crate::bounds::{INCARNATIONS_MAX, LIVE_MS, RETIRED_MAX};
use crate::rules::{self, Rule};
use crate::{
    AlarmKind, BootStart, Epoch, Incarnation, LastRecord, QuarantineReason, RefuseReason,
    RejectCode,
};

pub(super) fn apply(
    streams: &mut EdgeStreams,
    incarnation: Incarnation,
    entry: &StreamEntry,
) -> StreamOutcome {
    let incarnation = match rules::on(Rule::PerIncarnation) {
        true => incarnation,
        false => streams
            .streams
            .first()
            .map_or(incarnation, |s| s.incarnation),
    };
    let (epoch, range) = match entry {
        StreamEntry::Session(session) => return open(streams, incarnation, session),
        StreamEntry::Retire { .. } => return retire(streams, incarnation),
        StreamEntry::Data(d) => (d.epoch, Some((d.base, d.next, &d.lineage))),
        StreamEntry::Gap(g) => (g.epoch, Some((g.from, g.to, &g.lineage))),
        StreamEntry::Probe { epoch } => (*epoch, None),
    };
    if let Some(outcome) = obstacle(streams, incarnation, epoch) {
        return outcome;
    }
    if range
        .is_some_and(|(from, to, boots)| stored_elsewhere(streams, incarnation, from, to, boots))
    {
        return StreamOutcome::Fenced { by: epoch };
    }
    let state = streams.known(incarnation);
    match entry {
        StreamEntry::Data(d) => data(state, d),
        StreamEntry::Gap(g) => gap(state, g),
        _ => StreamOutcome::Position { next: state.next },
    }
}

/// What stands against an entry of this session: the stream was retired, or a later session fences
/// it.
fn obstacle(
    streams: &EdgeStreams,
    incarnation: Incarnation,
    epoch: Epoch,
) -> Option<StreamOutcome> {
    match streams.stream(incarnation) {
        None => Some(StreamOutcome::Refused(RefuseReason::Retired)),
        Some(state) if state.epoch != epoch && rules::on(Rule::Fencing) => {
            Some(StreamOutcome::Fenced { by: state.epoch })
        }
        Some(_) => None,
    }
}

fn open(
    streams: &mut EdgeStreams,
    incarnation: Incarnation,
    session: &SessionEntry,
) -> StreamOutcome {
    if streams.is_retired(incarnation) && rules::on(Rule::RetiredStays) {
        return StreamOutcome::Refused(RefuseReason::Retired);
    }
    let Some(at) = streams
        .streams
        .iter()
        .position(|s| s.incarnation == incarnation)
    else {
        return open_new(streams, incarnation, session);
    };
    let state = &streams.streams[at];
    if state.origin != session.origin && rules::on(Rule::PerIncarnation) {
        return StreamOutcome::Quarantine(QuarantineReason::OriginMoved);
    }
    if rules::on(Rule::Lineage) {
        match lineage::compare(state, &session.spans) {
            Verdict::Same => {
                if let Some(outcome) = parted(streams, incarnation, session, state.next) {
                    return outcome;
                }
            }
            Verdict::Fork(fork) => {
                let diverged = StreamOutcome::Diverged {
                    fork,
                    next: state.next,
                };
                return parted(streams, incarnation, session, fork).unwrap_or(diverged);
            }
            Verdict::Quarantine(reason) => return StreamOutcome::Quarantine(reason),
        }
    }
    let heard = state.last_at_ms;
    let rival = rival(streams, incarnation, session.at_ms, |other| {
        other.last_at_ms > heard
    });
    let alarm = rival.map(|other| AlarmKind::TwoLive { other });
    welcome(&mut streams.streams[at], session, alarm)
}

/// DIVERGED, if another incarnation's stream holds this edge's records beyond `next`.
fn parted(
    streams: &EdgeStreams,
    incarnation: Incarnation,
    session: &SessionEntry,
    next: Offset,
) -> Option<StreamOutcome> {
    let others = streams.others(incarnation);
    let fork = others
        .filter_map(|s| lineage::shared(s, &session.spans))
        .max()?;
    let parted = fork > next && rules::on(Rule::LineageAcross);
    parted.then_some(StreamOutcome::Diverged { fork, next })
}

/// Two copies of a card may fork at the same moment and hold the same records. A boot and an offset
/// name one record, so what another stream has under the same boot is there already: the session
/// ends, and the next one forks behind it.
fn stored_elsewhere(
    streams: &EdgeStreams,
    incarnation: Incarnation,
    from: Offset,
    to: Offset,
    pairs: &[BootStart],
) -> bool {
    let mut others = streams.others(incarnation);
    rules::on(Rule::LineageAcross) && others.any(|s| lineage::overlaps(s, from, to, pairs))
}

fn open_new(
    streams: &mut EdgeStreams,
    incarnation: Incarnation,
    session: &SessionEntry,
) -> StreamOutcome {
    if streams.streams.len() >= INCARNATIONS_MAX && rules::on(Rule::IncarnationBound) {
        return StreamOutcome::Refused(RefuseReason::TooManyIncarnations);
    }
    if let Some(outcome) = parted(streams, incarnation, session, session.origin) {
        return outcome;
    }
    let parent = session.parent.map(|p| p.incarnation);
    let rival = rival(streams, incarnation, session.at_ms, |o| {
        Some(o.incarnation) != parent
    });
    // A fork starts where the cloud said: if it holds nothing up to there, it has lost it since.
    let (origin, held) = (session.origin, held_of(streams, incarnation, session));
    let alarm = match held < origin {
        true => Some(AlarmKind::CloudWentBack {
            acked: origin,
            next: held,
        }),
        false => rival.map(|other| AlarmKind::TwoLive { other }),
    };
    streams.streams.push(StreamState {
        incarnation,
        origin,
        next: origin,
        epoch: Epoch(0),
        last: None,
        boots: Vec::new(),
        boots_complete: true,
        last_at_ms: session.at_ms,
    });
    let state = streams.streams.last_mut().expect("pushed above");
    let mut outcome = welcome(state, session, alarm);
    if let StreamOutcome::Opened(opened) = &mut outcome {
        opened.forked = session.parent;
    }
    outcome
}

/// Up to where this edge's records are held under other names: its parent's, or those of streams that
/// share a boot with it. A stream of another card says nothing, however far it reaches.
fn held_of(streams: &EdgeStreams, incarnation: Incarnation, session: &SessionEntry) -> Offset {
    let parent = session.parent.map(|p| p.incarnation);
    let held = streams.others(incarnation).filter_map(|other| {
        let is_parent = parent == Some(other.incarnation);
        let shared = lineage::shared(other, &session.spans);
        shared.max(is_parent.then_some(other.next))
    });
    held.max().unwrap_or_default()
}

/// Another incarnation that was heard a short time ago and that `counts`.
fn rival(
    streams: &EdgeStreams,
    incarnation: Incarnation,
    at_ms: i64,
    counts: impl Fn(&StreamState) -> bool,
) -> Option<Incarnation> {
    let recent = |s: &StreamState| at_ms.abs_diff(s.last_at_ms) < LIVE_MS;
    let others = streams
        .streams
        .iter()
        .filter(|s| s.incarnation != incarnation);
    others
        .filter(|s| recent(s) && counts(s))
        .map(|s| s.incarnation)
        .next()
}

fn welcome(
    state: &mut StreamState,
    session: &SessionEntry,
    alarm: Option<AlarmKind>,
) -> StreamOutcome {
    state.epoch = Epoch(state.epoch.0 + 1);
    state.last_at_ms = session.at_ms;
    StreamOutcome::Opened(Opened {
        epoch: state.epoch,
        next: state.next,
        last: state.last,
        forked: None,
        alarm,
    })
}

fn data(state: &mut StreamState, entry: &DataEntry) -> StreamOutcome {
    if entry.next <= entry.base {
        return StreamOutcome::Rejected(RejectCode::Malformed);
    }
    let next = state.next;
    if entry.base > next {
        return StreamOutcome::OutOfOrder { next };
    }
    if rules::on(Rule::Dedup) {
        if entry.next <= next {
            return StreamOutcome::Duplicate { next };
        }
        if entry.base < next {
            return StreamOutcome::OutOfOrder { next };
        }
    }
    lineage::extend(state, entry.base, &entry.lineage);
    state.next = entry.next.max(next);
    state.last = Some(LastRecord {
        offset: Offset(entry.next.0 - 1),
        digest: entry.digest,
    });
    state.last_at_ms = entry.at_ms;
    StreamOutcome::Append { next: state.next }
}

fn gap(state: &mut StreamState, entry: &GapEntry) -> StreamOutcome {
    if entry.to <= entry.from {
        return StreamOutcome::Rejected(RejectCode::Malformed);
    }
    let next = state.next;
    if entry.to <= next {
        return StreamOutcome::Duplicate { next };
    }
    if entry.from > next && rules::on(Rule::GapOrder) {
        return StreamOutcome::OutOfOrder { next };
    }
    let from = match rules::on(Rule::GapClip) {
        true => next,
        false => entry.from,
    };
    lineage::extend(state, entry.from, &entry.lineage);
    state.next = entry.to;
    state.last_at_ms = entry.at_ms;
    let gap = GapRecord {
        from,
        to: entry.to,
        reason: entry.reason,
    };
    StreamOutcome::Ledger {
        gap,
        next: state.next,
    }
}

/// Invariant: a retired incarnation never comes back as a new one, which would store all again.
fn retire(streams: &mut EdgeStreams, incarnation: Incarnation) -> StreamOutcome {
    if streams.is_retired(incarnation) {
        return StreamOutcome::Retired;
    }
    let mut known = streams.streams.iter();
    let Some(at) = known.position(|s| s.incarnation == incarnation) else {
        return StreamOutcome::Refused(RefuseReason::NotAllowed);
    };
    if streams.retired.len() >= RETIRED_MAX {
        return StreamOutcome::Refused(RefuseReason::TooManyIncarnations);
    }
    let state = streams.streams.remove(at);
    streams.retired.push(state);
    StreamOutcome::Retired
}

//! What a fork says about a cloud that went back.

use bytes::Bytes;
use headwater_batch::Offset;

use super::{DataEntry, EdgeStreams, Opened, SessionEntry, StreamEntry, StreamOutcome};
use crate::{AlarmKind, BootId, BootStart, Digest, Incarnation, Parent, boot_spans};

const CARD: Incarnation = Incarnation(1);
const OTHER_CARD: Incarnation = Incarnation(2);
const CHILD: Incarnation = Incarnation(3);
const FORK: Offset = Offset(41);

/// Opens `incarnation`, which began at `origin`, with one boot per pair.
fn open(
    streams: &mut EdgeStreams,
    incarnation: Incarnation,
    parent: Option<Parent>,
    boots: &[(u64, Offset)],
    end: Offset,
) -> Opened {
    let origin = parent.map_or(Offset::ZERO, |parent| parent.fork);
    let session = SessionEntry {
        partitions: 1,
        origin,
        parent,
        start: origin,
        end,
        acked: origin,
        spans: boot_spans(boots, end),
        at_ms: 0,
    };
    match streams.apply(incarnation, &StreamEntry::Session(session)) {
        StreamOutcome::Opened(opened) => opened,
        other => panic!("{other:?}"),
    }
}

/// A log of one boot, stored up to `next`.
fn stored(streams: &mut EdgeStreams, incarnation: Incarnation, boot: u64, next: Offset) {
    let opened = open(streams, incarnation, None, &[(boot, Offset::ZERO)], next);
    let first = BootStart {
        boot: BootId(boot),
        start: Offset::ZERO,
    };
    let data = DataEntry {
        epoch: opened.epoch,
        base: Offset::ZERO,
        next,
        lineage: vec![first],
        digest: Digest(7),
        at_ms: 0,
        batch: Bytes::new(),
    };
    let outcome = streams.apply(incarnation, &StreamEntry::Data(data));
    assert_eq!(outcome, StreamOutcome::Append { next });
}

fn went_back(opened: &Opened) -> Option<(Offset, Offset)> {
    match opened.alarm {
        Some(AlarmKind::CloudWentBack { acked, next }) => Some((next, acked)),
        _ => None,
    }
}

fn fork(streams: &mut EdgeStreams) -> Opened {
    let parent = Parent {
        incarnation: CARD,
        fork: FORK,
    };
    open(streams, CHILD, Some(parent), &[(12, FORK)], Offset(60))
}

#[test]
fn a_fork_of_what_the_cloud_holds_is_no_alarm() {
    let mut streams = EdgeStreams::default();
    stored(&mut streams, CARD, 10, FORK);
    assert_eq!(went_back(&fork(&mut streams)), None);
}

/// A cloud restored from an old copy knows another card of this edge, and nothing of the one that forked.
#[test]
fn what_another_card_brought_does_not_stand_for_what_is_lost() {
    for reach in [Offset(31), Offset(76)] {
        let mut streams = EdgeStreams::default();
        stored(&mut streams, OTHER_CARD, 20, reach);
        let lost = went_back(&fork(&mut streams));
        assert_eq!(
            lost,
            Some((Offset::ZERO, FORK)),
            "the other one at {reach:?}"
        );
    }
}

/// The parent was never opened: a copy that forked before had brought its records.
#[test]
fn what_a_copy_brought_is_held() {
    let mut streams = EdgeStreams::default();
    stored(&mut streams, OTHER_CARD, 10, FORK);
    let parent = Parent {
        incarnation: CARD,
        fork: FORK,
    };
    let boots = [(10, Offset::ZERO), (12, FORK)];
    let opened = open(&mut streams, CHILD, Some(parent), &boots, Offset(60));
    assert_eq!(went_back(&opened), None);
}

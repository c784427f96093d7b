//! Bounds and halts of the edge's machine that random histories seldom meet. The rest is shown by
//! `crate::sim`.

mod persist;

use headwater_batch::{BatchBuilder, NewRecord, TopicName};

use super::*;
use crate::bounds::SPANS_MAX;
use crate::cloud::{CloudConfig, CloudEffect, CloudSession};
use crate::frame::{Frame, ToEdge};
use crate::stream::{EdgeStreams, Opened, SessionEntry, StreamEntry, StreamOutcome};
use crate::{
    Attempt, BootId, BootSpan, BootStart, Digest, Epoch, GapReason, Incarnation, LastRecord,
    QuarantineReason, RefuseReason, RejectCode, boot_spans,
};

fn tp(partition: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("mqtt").unwrap(), partition)
}

/// A log of `[start, end)` under one boot.
fn info(partition: u32, start: i64, end: i64, acked: i64) -> StreamInfo {
    StreamInfo {
        tp: tp(partition),
        partitions: bounds::PARTITIONS_MAX,
        incarnation: Incarnation(1 + u128::from(partition)),
        origin: Offset(0),
        parent: None,
        start: Offset(start),
        end: Offset(end),
        acked: Offset(acked),
        spans: boot_spans(&[(7, Offset(0))], Offset(end)),
        priority: 0,
    }
}

fn rejected(base: i64, next: i64) -> ToEdge {
    ToEdge::Rejected {
        stream: StreamId(1),
        attempt: Attempt(1),
        base: Offset(base),
        next: Offset(next),
        code: RejectCode::Malformed,
    }
}

fn batch(base: i64, end: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(base), Level::None);
    for n in base..end {
        builder.push(&NewRecord::new(n, "k", "v")).unwrap();
    }
    builder.finish().into()
}

/// An edge's machine, and what the cloud's end of its connection reads and writes.
struct Edge {
    session: EdgeSession,
    cloud: Encoder,
    heard: BTreeMap<Channel, Decoder>,
    others: Vec<EdgeEffect>,
}

impl Edge {
    fn new() -> Edge {
        let config = EdgeConfig::new(EdgeName::new("gw-1").unwrap());
        let mut edge = Edge {
            session: EdgeSession::new(config, 1, 0),
            cloud: Encoder::default(),
            heard: BTreeMap::new(),
            others: Vec::new(),
        };
        assert_eq!(edge.sent().len(), 1, "HELLO");
        edge
    }

    /// Frames sent since the last look; other effects go to `others`.
    fn sent(&mut self) -> Vec<ToCloud> {
        let mut frames = Vec::new();
        while let Some(effect) = self.session.poll_effect() {
            let EdgeEffect::Send { channel, bytes } = effect else {
                self.others.push(effect);
                continue;
            };
            let heard = self.heard.entry(channel).or_default();
            heard.push(bytes);
            while let Some(frame) = heard.next_frame().unwrap() {
                frames.push(Frame::decode(&frame).unwrap());
            }
        }
        frames
    }

    fn others(&mut self) -> Vec<EdgeEffect> {
        assert!(self.sent().is_empty());
        std::mem::take(&mut self.others)
    }

    fn hears(&mut self, now: Ms, frame: &ToEdge) {
        let bytes = self.cloud.head(frame, 0);
        self.session.bytes(now, Channel::Control, bytes);
    }

    fn welcome(&mut self, stream: u32, next: i64) {
        let opened = Opened {
            epoch: Epoch(1),
            next: Offset(next),
            last: None,
            forked: None,
            alarm: None,
        };
        let stream = StreamId(stream);
        self.hears(0, &ToEdge::Welcome { stream, opened });
    }
}

/// A cloud that claims more than there is speaks of another log. What is not sent stays unsent.
#[test]
fn a_welcome_above_the_log_ends_the_session() {
    for (next, is_good) in [(20, true), (21, false), (i64::MAX, false)] {
        let mut edge = Edge::new();
        edge.session.add_stream(0, info(0, 0, 20, 10));
        edge.welcome(1, next);
        assert_eq!(edge.sent().len(), 1, "ANNOUNCE");
        let acked = |e: &EdgeEffect| matches!(e, EdgeEffect::Acked { .. });
        let closed = |e: &EdgeEffect| {
            let reason = CloseReason::Protocol(format!("WELCOME at {next}, of a log of 0..20"));
            *e == EdgeEffect::Close { reason }
        };
        let others = edge.others();
        assert_eq!(others.iter().any(acked), is_good, "{others:?}");
        assert_eq!(others.iter().any(closed), !is_good, "{others:?}");
    }
}

/// U1: the cloud stored a record that this log saw rejected: another machine has the log, too. What the
/// budget or rot took cannot be compared.
#[test]
fn a_stored_record_that_was_rejected_here_is_anothers() {
    let (code, other) = (RejectCode::Unacceptable, StreamId(1));
    for (reason, is_other) in [
        (GapReason::Rejected(code), true),
        (GapReason::Budget, false),
        (GapReason::Corrupt, false),
    ] {
        let mut edge = Edge::new();
        edge.session.add_stream(0, info(0, 0, 20, 0));
        let (offset, digest) = (Offset(6), Digest(1));
        let opened = Opened {
            epoch: Epoch(2),
            next: Offset(7),
            last: Some(LastRecord { offset, digest }),
            forked: None,
            alarm: None,
        };
        let stream = other;
        edge.hears(0, &ToEdge::Welcome { stream, opened });
        assert_eq!(edge.sent().len(), 1, "ANNOUNCE");
        let (tp, from, to) = (tp(0), Offset(5), Offset(9));
        let gap = LogGap {
            tp: tp.clone(),
            from,
            to,
            reason,
        };
        edge.session.log_gap(1, gap);
        let reason = QuarantineReason::OtherDigest;
        let told = ToCloud::Quarantined { stream, reason };
        assert_eq!(edge.sent().contains(&told), is_other, "{reason:?}");
        assert_eq!(edge.session.is_halted(&tp), is_other, "{reason:?}");
    }
}

/// U4: what the cloud acknowledged and lost becomes a GAP only when the operator gives it up, and
/// then only that.
#[test]
fn records_that_the_cloud_lost_become_a_gap_when_they_are_given_up() {
    let mut edge = Edge::new();
    edge.session.add_stream(0, info(0, 8, 20, 10));
    edge.welcome(1, 5);
    assert_eq!(edge.sent().len(), 1, "ANNOUNCE, and no GAP");
    let went_back = AlarmKind::CloudWentBack {
        acked: Offset(10),
        next: Offset(5),
    };
    assert!(
        edge.others()
            .iter()
            .any(|e| matches!(e, EdgeEffect::Alarm { kind, .. } if *kind == went_back))
    );
    assert!(edge.session.is_halted(&tp(0)));

    edge.session.give_up_lost(1, &tp(0));
    assert!(!edge.session.is_halted(&tp(0)));
    let [EdgeEffect::Read { from, .. }] = &edge.others()[..] else {
        panic!("no read");
    };
    assert_eq!(*from, Offset(5));
    edge.session.batches(2, &tp(0), vec![batch(8, 20)]);
    let sent = edge.sent();
    let [gap, data] = &sent[..] else {
        panic!("{sent:?}");
    };
    let given_up = ToCloud::Gap {
        stream: StreamId(1),
        from: Offset(5),
        to: Offset(8),
        reason: GapReason::GivenUp,
        lineage: vec![BootStart {
            boot: BootId(7),
            start: Offset(0),
        }],
    };
    assert_eq!(*gap, given_up);
    assert!(matches!(
        data,
        ToCloud::Data {
            base: Offset(8),
            next: Offset(20),
            ..
        }
    ));
}

/// A stream that halted for another reason, or not at all, gives nothing up.
#[test]
fn only_what_was_lost_can_be_given_up() {
    let mut edge = Edge::new();
    edge.session.add_stream(0, info(0, 8, 20, 10));
    let reason = RefuseReason::Retired;
    let stream = StreamId(1);
    edge.hears(0, &ToEdge::Refused { stream, reason });
    edge.session.give_up_lost(1, &tp(0));
    assert!(edge.session.is_halted(&tp(0)));
    edge.session.give_up_lost(1, &tp(9));
}

#[test]
fn with_an_answer_due_silence_closes_and_without_it_does_not() {
    let mut edge = Edge::new();
    assert_eq!(
        edge.session.deadline(),
        None,
        "HELLO alone waits for nothing"
    );
    edge.session.add_stream(5, info(0, 0, 4, 0));
    assert_eq!(edge.session.deadline(), Some(5 + SILENT_MS));
    edge.session.timer(4 + SILENT_MS);
    // Anything at all counts as life.
    let server = ToEdge::Server {
        wall_ms: 0,
        addresses: Vec::new(),
        window_bytes: 1 << 20,
    };
    edge.hears(6, &server);
    assert_eq!(edge.session.deadline(), Some(6 + SILENT_MS));
    edge.session.timer(5 + SILENT_MS);
    let closes = |e: &EdgeEffect| matches!(e, EdgeEffect::Close { .. });
    assert!(edge.sent().len() == 1 && !edge.others().iter().any(closes));
    edge.session.timer(6 + SILENT_MS);
    let reason = CloseReason::Silent(SILENT_MS);
    assert_eq!(edge.others(), [EdgeEffect::Close { reason }]);

    let mut idle = Edge::new();
    idle.session.add_stream(0, info(0, 0, 0, 0));
    idle.welcome(1, 0);
    assert_eq!(idle.session.deadline(), None);
    idle.session.timer(3_600_000);
    idle.sent();
    assert!(!idle.others().iter().any(closes));
}

/// REFUSED for want of a place: one alarm, and the stream asks again until there is one.
#[test]
fn a_stream_without_a_place_asks_again_and_says_so_once() {
    let mut edge = Edge::new();
    edge.session.add_stream(0, info(0, 0, 4, 0));
    let reason = RefuseReason::TooManyIncarnations;
    let (mut now, mut alarms) = (0, 0);
    for stream in 1..=10 {
        let stream = StreamId(stream);
        edge.sent();
        edge.hears(now, &ToEdge::Refused { stream, reason });
        assert!(edge.session.is_halted(&tp(0)));
        let at = edge.session.deadline().expect("it asks again");
        assert!(at <= now + bounds::REANNOUNCE_MS_MAX);
        now = at;
        edge.session.timer(now);
        edge.session.described(now, info(0, 0, 4, 0));
        let announced = edge.sent();
        assert!(
            matches!(announced[..], [ToCloud::Announce(_)]),
            "{announced:?}"
        );
        let alarm = |e: &EdgeEffect| matches!(e, EdgeEffect::Alarm { .. });
        alarms += edge.others().iter().filter(|e| alarm(e)).count();
    }
    assert_eq!(alarms, 1);
    edge.welcome(11, 0);
    assert!(!edge.session.is_halted(&tp(0)));
    assert!(matches!(
        edge.others()[..],
        [EdgeEffect::Verified { .. }, EdgeEffect::Read { .. }]
    ));
}

fn session_entry(announce: crate::frame::Announce) -> StreamEntry {
    StreamEntry::Session(SessionEntry {
        partitions: announce.partitions,
        origin: announce.origin,
        parent: announce.parent,
        start: announce.start,
        end: announce.end,
        acked: announce.acked,
        spans: announce.spans,
        at_ms: 0,
    })
}

fn announced(info: StreamInfo) -> crate::frame::Announce {
    let mut edge = Edge::new();
    edge.session.add_stream(0, info);
    match edge.sent().pop() {
        Some(ToCloud::Announce(announce)) => announce,
        other => panic!("{other:?}"),
    }
}

/// The cloud knows records `[0, 9)` of `boot`, under `incarnation`.
fn cloud_with(incarnation: Incarnation, boot: BootStart) -> EdgeStreams {
    let mut streams = EdgeStreams::default();
    let one = announced(StreamInfo {
        incarnation,
        spans: boot_spans(&[(boot.boot.0, boot.start)], Offset(9)),
        ..info(0, 0, 9, 0)
    });
    streams.apply(incarnation, &session_entry(one));
    let data = crate::stream::DataEntry {
        epoch: Epoch(1),
        base: Offset(0),
        next: Offset(9),
        lineage: vec![boot],
        digest: Digest(0),
        at_ms: 0,
        batch: Bytes::new(),
    };
    let outcome = streams.apply(incarnation, &StreamEntry::Data(data));
    assert_eq!(outcome, StreamOutcome::Append { next: Offset(9) });
    streams
}

/// A gateway that restarted hundreds of times without a record, before and after the boot that the
/// cloud knows: its history does not fit one ANNOUNCE, and is still found to be the same.
#[test]
fn a_history_of_more_than_512_boots_is_announced_and_recognised() {
    let known = BootStart {
        boot: BootId(1_000_000),
        start: Offset(0),
    };
    let mut boots: Vec<(u64, Offset)> = (1..=700).map(|b| (b, Offset(0))).collect();
    boots.push((known.boot.0, known.start));
    boots.extend((701..=1_400).map(|b| (b, Offset(9))));
    let long = StreamInfo {
        spans: boot_spans(&boots, Offset(12)),
        ..info(0, 0, 12, 9)
    };
    let announce = announced(long.clone());
    assert!(announce.spans.len() <= SPANS_MAX);
    let mut streams = cloud_with(long.incarnation, known);
    let outcome = streams.apply(long.incarnation, &session_entry(announce));
    assert!(
        matches!(&outcome, StreamOutcome::Opened(o) if o.next == Offset(9)),
        "{outcome:?}"
    );
}

/// Too many boots that all hold records: the first and the last half go, in one frame, and what the
/// cloud cannot place then is an alarm, never sent twice.
#[test]
fn a_history_too_long_to_tell_is_quarantined_or_forked_never_repeated() {
    let boots: Vec<(u64, Offset)> = (0..2_000).map(|b| (b + 1, Offset(b as i64))).collect();
    let long = StreamInfo {
        spans: boot_spans(&boots, Offset(2_000)),
        ..info(0, 0, 2_000, 0)
    };
    let announce = announced(long.clone());
    assert_eq!(announce.spans.len(), SPANS_MAX);
    let spans: Vec<BootSpan> = announce.spans.clone();
    assert_eq!(
        (spans[0].boot, spans[SPANS_MAX - 1].boot),
        (BootId(1), BootId(2_000))
    );
    let body = Encoder::default().head(&ToCloud::Announce(announce.clone()), 0);
    assert!(body.len() < bounds::FRAME_BODY_BYTES_MAX);
    for known in [1, 255, 256, 257, 1_000, 1_744, 1_745, 1_999] {
        let mut streams = EdgeStreams::default();
        streams.apply(long.incarnation, &session_entry(announce.clone()));
        let next = known as i64;
        let lineage: Vec<_> = (known.max(9) - 8..=known)
            .map(|b| BootStart {
                boot: BootId(b),
                start: Offset(b as i64 - 1),
            })
            .collect();
        let data = crate::stream::DataEntry {
            epoch: Epoch(1),
            base: Offset(0),
            next: Offset(next),
            lineage,
            digest: Digest(0),
            at_ms: 0,
            batch: Bytes::new(),
        };
        streams.apply(long.incarnation, &StreamEntry::Data(data));
        match streams.apply(long.incarnation, &session_entry(announce.clone())) {
            StreamOutcome::Opened(opened) => assert_eq!(opened.next, Offset(next)),
            StreamOutcome::Quarantine(_) => assert!((257..=1_744).contains(&known), "{known}"),
            // The newest boot of both is older than the cloud's newest: the fork shows the rest.
            StreamOutcome::Diverged { fork, .. } => {
                assert!((257..265).contains(&known), "{known}");
                let forked = announced(StreamInfo {
                    incarnation: Incarnation(99),
                    origin: fork,
                    ..long.clone()
                });
                let again = streams.apply(Incarnation(99), &session_entry(forked));
                let (fork, next) = (Offset(next), fork);
                assert_eq!(again, StreamOutcome::Diverged { fork, next });
            }
            other => panic!("{known}: {other:?}"),
        }
    }
}

/// As many streams as one connection carries, through both machines: all of them are stored, over 64
/// lanes. One more is an alarm and harms nobody.
#[test]
fn a_connection_carries_4096_streams_and_no_more() {
    let count = bounds::STREAMS_MAX as u32;
    let mut edge = Edge::new();
    let name = EdgeName::new("gw-1").unwrap();
    let mut cloud = CloudSession::new(CloudConfig::default(), name.clone(), 0, 0);
    let mut edge_session = EdgeSession::new(EdgeConfig::new(name), 2, 0);
    for partition in 0..count {
        edge_session.add_stream(0, info(partition, 0, 3, 0));
    }
    edge.session = edge_session;
    let mut streams: BTreeMap<TopicPartition, EdgeStreams> = BTreeMap::new();
    let (mut acked, mut lanes) = (BTreeSet::new(), BTreeSet::new());
    let mut alarms = Vec::new();
    loop {
        let mut idle = true;
        while let Some(effect) = edge.session.poll_effect() {
            idle = false;
            match effect {
                EdgeEffect::Send { channel, bytes } => {
                    lanes.insert(channel);
                    cloud.bytes(0, channel, bytes);
                }
                EdgeEffect::Read { tp, .. } => edge.session.batches(0, &tp, vec![batch(0, 3)]),
                EdgeEffect::Acked { tp, offset } => {
                    assert_eq!(offset, Offset(3));
                    acked.insert(tp);
                }
                EdgeEffect::Alarm { kind, .. } => alarms.push(kind),
                EdgeEffect::Close { reason } => panic!("the edge closes: {reason}"),
                _ => {}
            }
        }
        while let Some(effect) = cloud.poll_effect() {
            idle = false;
            match effect {
                CloudEffect::Send { bytes, .. } => edge.session.bytes(0, Channel::Control, bytes),
                CloudEffect::Commit { ticket, key, entry } => {
                    let known = streams.entry(key.tp.clone()).or_default();
                    let outcome = known.apply(key.incarnation, &entry);
                    cloud.committed(0, ticket, outcome);
                }
                CloudEffect::Close { reason } => panic!("the cloud closes: {reason}"),
                CloudEffect::Alarm { kind, .. } => panic!("{kind:?}"),
            }
        }
        if idle && alarms.is_empty() {
            assert_eq!(acked.len(), count as usize);
            assert_eq!(cloud.open_streams(), count as usize);
            edge.session.add_stream(0, info(count, 0, 3, 0));
        } else if idle {
            break;
        }
    }
    assert_eq!(alarms, [AlarmKind::TooManyStreams { bound: count }]);
    assert_eq!(lanes.len(), 1 + LANES_MAX);
    assert!(!acked.contains(&tp(count)));
}

//! What the cloud refuses, and what it costs while it waits. The rest is shown by `crate::sim`.

use bytes::Bytes;
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset, TopicName, TopicPartition};

use super::*;
use crate::bounds::PARTITIONS_MAX;
use crate::frame::{Announce, Encoder, Frame, FrameError, ToCloud};
use crate::stream::{EdgeStreams, Opened};
use crate::{Attempt, BootId, BootSpan, BootStart, Digest, Epoch, Incarnation, StreamOutcome};

struct Peer {
    cloud: CloudSession,
    control: Encoder,
    lane: Encoder,
    replies: Decoder,
}

fn name(name: &str) -> EdgeName {
    EdgeName::new(name).unwrap()
}

fn announce(stream: u32) -> Announce {
    Announce {
        stream: StreamId(stream),
        tp: TopicPartition {
            topic: TopicName::new("mqtt").unwrap(),
            partition: 0,
        },
        partitions: 1,
        incarnation: Incarnation(1),
        origin: Offset(0),
        parent: None,
        start: Offset(0),
        end: Offset(9),
        acked: Offset(0),
        spans: vec![BootSpan {
            boot: BootId(1),
            start: Offset(0),
            end: Offset(9),
        }],
    }
}

fn batch(base: i64, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(base), Level::None);
    for n in 0..count {
        builder.push(&NewRecord::new(n, "k", "v")).unwrap();
    }
    builder.finish().into()
}

impl Peer {
    fn new() -> Peer {
        let cloud = CloudSession::new(CloudConfig::default(), name("gw-1"), 0, 1_000);
        let (control, lane) = (Encoder::default(), Encoder::default());
        Peer {
            cloud,
            control,
            lane,
            replies: Decoder::default(),
        }
    }

    /// Greeted, with stream 1 open at 0.
    fn open() -> Peer {
        let mut peer = Peer::new();
        peer.hello();
        peer.control(&ToCloud::Announce(announce(1)));
        let tickets = peer.tickets();
        let opened = Opened {
            epoch: Epoch(1),
            next: Offset(0),
            last: None,
            forked: None,
            alarm: None,
        };
        peer.cloud
            .committed(0, tickets[0], StreamOutcome::Opened(opened));
        assert!(matches!(peer.replies()[..], [ToEdge::Welcome { .. }]));
        peer
    }

    fn hello(&mut self) {
        self.control(&ToCloud::Hello {
            edge: name("gw-1"),
            software: "t".into(),
        });
    }

    fn control(&mut self, frame: &ToCloud) {
        let bytes = self.control.head(frame, 0);
        self.cloud.bytes(0, Channel::Control, bytes);
    }

    fn lane(&mut self, frame: &ToCloud, tail: Bytes) {
        let head = self.lane.head(frame, tail.len());
        self.cloud.bytes(0, Channel::Data(0), head);
        self.cloud.bytes(0, Channel::Data(0), tail);
    }

    fn data(&mut self, base: i64, next: i64, tail: Bytes) {
        let (stream, digest) = (StreamId(1), Digest(0));
        let lineage = vec![BootStart {
            boot: BootId(1),
            start: Offset(0),
        }];
        let (base, next) = (Offset(base), Offset(next));
        self.lane(
            &ToCloud::Data {
                stream,
                base,
                next,
                lineage,
                digest,
            },
            tail,
        );
    }

    fn effects(&mut self) -> Vec<CloudEffect> {
        std::iter::from_fn(|| self.cloud.poll_effect()).collect()
    }

    fn tickets(&mut self) -> Vec<Ticket> {
        let ticket = |effect| match effect {
            CloudEffect::Commit { ticket, .. } => Some(ticket),
            CloudEffect::Send { bytes, .. } => {
                self.replies.push(bytes);
                while self.replies.next_frame().unwrap().is_some() {}
                None
            }
            _ => None,
        };
        std::iter::from_fn(|| self.cloud.poll_effect())
            .filter_map(ticket)
            .collect()
    }

    fn replies(&mut self) -> Vec<ToEdge> {
        let mut replies = Vec::new();
        for effect in self.effects() {
            if let CloudEffect::Send { bytes, .. } = effect {
                self.replies.push(bytes);
                while let Some(frame) = self.replies.next_frame().unwrap() {
                    replies.push(Frame::decode(&frame).unwrap());
                }
            }
        }
        replies
    }

    fn closed(&mut self) -> SessionError {
        let close = |effect| match effect {
            CloudEffect::Close { reason } => Some(reason),
            _ => None,
        };
        let reason = self
            .effects()
            .into_iter()
            .find_map(close)
            .expect("it closes");
        assert!(
            reason.to_string().contains("gw-1"),
            "{reason} does not say who"
        );
        reason
    }
}

#[test]
fn another_name_than_the_certificates_is_refused() {
    let mut peer = Peer::new();
    peer.control(&ToCloud::Hello {
        edge: name("gw-2"),
        software: "t".into(),
    });
    assert!(matches!(peer.closed(), SessionError::WrongName { claimed, .. } if claimed == "gw-2"));
}

#[test]
fn frames_out_of_place_are_refused() {
    let expect = |act: fn(&mut Peer), frame: &str, when: &str| {
        let mut peer = Peer::open();
        act(&mut peer);
        match peer.closed() {
            SessionError::Unexpected {
                frame: f, when: w, ..
            } => assert_eq!((f, w), (frame, when)),
            other => panic!("{other}"),
        }
    };
    expect(Peer::hello, "HELLO", "a second time");
    expect(
        |p| {
            p.control(&ToCloud::Resume {
                stream: StreamId(1),
                attempt: Attempt(1),
            })
        },
        "RESUME",
        "on the control stream",
    );
    expect(
        |p| p.lane(&ToCloud::Announce(announce(2)), Bytes::new()),
        "ANNOUNCE",
        "on a data lane",
    );
    expect(
        |p| {
            p.lane(
                &ToCloud::Resync {
                    stream: StreamId(7),
                },
                Bytes::new(),
            )
        },
        "RESYNC",
        "before ANNOUNCE",
    );
    expect(
        |p| {
            p.control(&ToCloud::Announce(announce(2)));
            p.lane(
                &ToCloud::Resync {
                    stream: StreamId(2),
                },
                Bytes::new(),
            );
        },
        "RESYNC",
        "before WELCOME",
    );
    let mut peer = Peer::new();
    peer.control(&ToCloud::Announce(announce(1)));
    assert!(matches!(
        peer.closed(),
        SessionError::Unexpected {
            when: "before HELLO",
            ..
        }
    ));
}

#[test]
fn replayed_empty_and_oversized_frames_are_refused() {
    let refused = |bytes: Vec<u8>| {
        let mut peer = Peer::open();
        peer.cloud.bytes(0, Channel::Data(0), bytes.into());
        match peer.closed() {
            SessionError::Frame { error, .. } => error,
            other => panic!("{other}"),
        }
    };
    let resync = ToCloud::Resync {
        stream: StreamId(1),
    };
    let good = Encoder::default().head(&resync, 0).to_vec();
    assert_eq!(
        refused([&good[..], &good[..]].concat()),
        FrameError::Sequence { want: 1, got: 0 }
    );
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    assert_eq!(refused(with(1, &[0; 4])), FrameError::Empty);
    assert_eq!(
        refused(with(1, &[0xff; 4])),
        FrameError::BodyTooLarge(u32::MAX)
    );
    assert_eq!(
        refused(with(5, &[0xff; 4])),
        FrameError::TailTooLarge(u32::MAX)
    );
    assert_eq!(refused(with(0, &[9])), FrameError::Version(9));
    assert!(matches!(
        refused(with(13, &[1, 2, 3, 4])),
        FrameError::Checksum { .. }
    ));
    // A frame without a batch that carries one, and DATA without.
    let head = Encoder::default().head(&resync, 3);
    assert_eq!(
        refused([&head[..], &[1, 2, 3]].concat()),
        FrameError::Tail("RESYNC", 3)
    );
}

#[test]
fn a_replayed_announce_is_refused() {
    let mut peer = Peer::open();
    peer.control(&ToCloud::Announce(announce(1)));
    assert!(matches!(
        peer.closed(),
        SessionError::BadAnnounce { stream: 1, .. }
    ));
}

/// U6: what the cloud maps by must be a count that can be true.
#[test]
fn an_announce_of_a_partition_its_topic_has_not_is_refused() {
    let with = |partition, partitions| {
        let mut peer = Peer::open();
        let mut announce = announce(2);
        announce.tp.partition = partition;
        announce.partitions = partitions;
        peer.control(&ToCloud::Announce(announce));
        peer
    };
    for (partition, partitions) in [
        (0, 0),
        (1, 1),
        (PARTITIONS_MAX, PARTITIONS_MAX + 1),
        (0, PARTITIONS_MAX + 1),
    ] {
        let error = with(partition, partitions).closed();
        assert!(
            matches!(error, SessionError::BadAnnounce { stream: 2, .. }),
            "{partition} of {partitions}: {error}"
        );
    }
    for (partition, partitions) in [(0, 1), (2, 3), (PARTITIONS_MAX - 1, PARTITIONS_MAX)] {
        let mut peer = with(partition, partitions);
        let session = std::iter::from_fn(|| peer.cloud.poll_effect()).find_map(|e| match e {
            CloudEffect::Commit {
                entry: StreamEntry::Session(session),
                key,
                ..
            } => Some((key.tp.partition, session.partitions)),
            _ => None,
        });
        assert_eq!(session, Some((partition, partitions)));
    }
}

#[test]
fn a_batch_broken_on_the_way_closes_and_a_wrong_one_is_rejected() {
    let mut peer = Peer::open();
    let mut broken = batch(0, 3).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    peer.data(0, 3, broken.into());
    assert!(matches!(
        peer.closed(),
        SessionError::Damaged { base: 0, .. }
    ));

    let mut peer = Peer::open();
    peer.data(0, 4, batch(0, 3));
    let replies = peer.replies();
    assert!(
        matches!(
            replies[..],
            [ToEdge::Rejected {
                base: Offset(0),
                next: Offset(4),
                ..
            }]
        ),
        "{replies:?}"
    );
    // Discards until RESUME with the right attempt.
    peer.data(0, 3, batch(0, 3));
    peer.lane(
        &ToCloud::Resume {
            stream: StreamId(1),
            attempt: Attempt(9),
        },
        Bytes::new(),
    );
    peer.data(0, 3, batch(0, 3));
    assert!(peer.tickets().is_empty());
    peer.lane(
        &ToCloud::Resume {
            stream: StreamId(1),
            attempt: Attempt(1),
        },
        Bytes::new(),
    );
    peer.data(0, 3, batch(0, 3));
    assert_eq!(peer.tickets().len(), 1);
}

#[test]
fn a_stalled_sink_is_bounded_and_answered_with_retry() {
    let mut peer = Peer::open();
    peer.cloud.config.pending_bytes_max = 1_000;
    for n in 0..50 {
        peer.data(n * 3, n * 3 + 3, batch(n * 3, 3));
    }
    assert!(peer.cloud.pending_bytes() < 2_000);
    let replies = peer.replies();
    assert!(
        matches!(
            replies[..],
            [ToEdge::Retry {
                attempt: Attempt(1),
                ..
            }]
        ),
        "{replies:?}"
    );
}

#[test]
fn a_sink_that_never_answers_is_an_unsure_outcome() {
    let mut peer = Peer::open();
    assert_eq!(peer.cloud.deadline(), None);
    peer.data(0, 3, batch(0, 3));
    let ticket = peer.tickets()[0];
    assert_eq!(peer.cloud.deadline(), Some(COMMIT_MS));
    peer.cloud.timer(COMMIT_MS);
    assert!(matches!(
        peer.replies()[..],
        [ToEdge::Resync {
            attempt: Attempt(1),
            ..
        }]
    ));
    assert_eq!(
        (peer.cloud.deadline(), peer.cloud.pending_bytes()),
        (None, 0)
    );
    // Too late, and harmless.
    peer.cloud
        .committed(COMMIT_MS, ticket, StreamOutcome::Append { next: Offset(3) });
    assert!(peer.replies().is_empty());
}

#[test]
fn acks_of_one_drain_travel_as_one_frame() {
    let mut peer = Peer::open();
    (0..5).for_each(|n| peer.data(n, n + 1, batch(n, 1)));
    for (n, ticket) in peer.tickets().into_iter().enumerate() {
        let next = Offset(n as i64 + 1);
        peer.cloud
            .committed(0, ticket, StreamOutcome::Append { next });
    }
    assert_eq!(
        peer.replies(),
        [ToEdge::Ack {
            acks: vec![(StreamId(1), Offset(5))]
        }]
    );
}

/// 100,000 edges: 10 kB of memory for an idle one, about 100 B durable, and no timer.
#[test]
fn an_idle_edge_costs_little() {
    let mut peer = Peer::open();
    peer.data(0, 3, batch(0, 3));
    let tickets = peer.tickets();
    peer.cloud
        .committed(0, tickets[0], StreamOutcome::Append { next: Offset(3) });
    peer.replies();
    let cloud = &peer.cloud;
    let buffers =
        cloud.control.capacity() + cloud.lanes.values().map(Decoder::capacity).sum::<usize>();
    assert_eq!(buffers, 0, "no buffer outlives its frame");
    assert_eq!(cloud.streams[&StreamId(1)].pending.capacity(), 0);
    assert_eq!(cloud.deadline(), None);
    let fixed = size_of::<CloudSession>() + size_of::<Stream>() + size_of::<Decoder>();
    assert!(fixed < 2_000, "{fixed} bytes");

    let mut streams = EdgeStreams::default();
    let session = crate::stream::SessionEntry {
        partitions: 1,
        origin: Offset(0),
        parent: None,
        start: Offset(0),
        end: Offset(9),
        acked: Offset(0),
        spans: announce(1).spans,
        at_ms: 1_763_800_000_000,
    };
    let incarnation = Incarnation(u128::MAX);
    streams.apply(incarnation, &StreamEntry::Session(session));
    let data = crate::stream::DataEntry {
        epoch: Epoch(1),
        base: Offset(0),
        next: Offset(1 << 40),
        lineage: vec![BootStart {
            boot: BootId(u64::MAX),
            start: Offset(0),
        }],
        digest: Digest(u64::MAX),
        at_ms: 1_763_800_000_000,
        batch: Bytes::new(),
    };
    streams.apply(incarnation, &StreamEntry::Data(data));
    let durable = postcard::to_stdvec(&streams).unwrap().len();
    assert!(durable < 100, "{durable} bytes");
}

//! Holds PROTOCOL.md to the code: bounds, frame numbers, and the bytes of every frame.

use headwater_batch::{Offset, TopicName, TopicPartition};

use crate::frame::{Announce, Encoder, ToCloud, ToEdge};
use crate::stream::Opened;
use crate::{
    Attempt, BootId, BootSpan, BootStart, Digest, EdgeName, Epoch, GapReason, Incarnation,
    LastRecord, Parent, QuarantineReason, RefuseReason, RejectCode, StreamId, bounds,
};

const TEXT: &str = include_str!("../PROTOCOL.md");

macro_rules! bounds {
    ($($name:ident)*) => { [$((stringify!($name), bounds::$name as u64)),*] };
}

#[test]
fn every_bound_is_stated() {
    let bounds = bounds![
        FRAME_VERSION FRAME_HEADER_BYTES FRAME_BODY_BYTES_MAX FRAME_TAIL_BYTES_MAX
        EDGE_NAME_BYTES_MAX BOOTS_KEPT_MAX SPANS_MAX LINEAGE_MAX INCARNATIONS_MAX RETIRED_MAX
        PARTITIONS_MAX STREAMS_MAX LANES_MAX WINDOW_BYTES STREAM_WINDOW_BYTES READ_BYTES PENDING_BYTES_MAX
        RESYNC_MS SILENT_MS COMMIT_MS RETRY_MS BACKOFF_MS_MIN BACKOFF_MS_MAX REANNOUNCE_MS_MAX
        LIVE_MS
    ];
    for (name, value) in bounds {
        let row = format!("| `{name}` | {value} |");
        assert!(TEXT.contains(&row), "PROTOCOL.md does not say {row}");
    }
    let stated = TEXT.split("## Bounds").nth(1).expect("the section");
    assert_eq!(
        stated.matches("| `").count(),
        bounds.len(),
        "a bound that the code does not have"
    );
    let declared = include_str!("bounds.rs").matches("pub const ").count();
    assert_eq!(
        declared,
        bounds.len(),
        "a bound that this test does not know"
    );
}

fn to_cloud() -> Vec<ToCloud> {
    let stream = StreamId(3);
    let tp = TopicPartition {
        topic: TopicName::new("mqtt").unwrap(),
        partition: 1,
    };
    let pair = BootStart {
        boot: BootId(7),
        start: Offset(4),
    };
    let parent = Parent {
        incarnation: Incarnation(1),
        fork: Offset(2),
    };
    vec![
        ToCloud::Hello {
            edge: EdgeName::new("gw-1").unwrap(),
            software: "0.1".into(),
        },
        ToCloud::Announce(Announce {
            stream,
            tp,
            partitions: 4,
            incarnation: Incarnation(9),
            origin: Offset(2),
            parent: Some(parent),
            start: Offset(3),
            end: Offset(8),
            acked: Offset(5),
            spans: vec![BootSpan {
                boot: BootId(7),
                start: Offset(4),
                end: Offset(9),
            }],
        }),
        ToCloud::Quarantined {
            stream,
            reason: QuarantineReason::OtherDigest,
        },
        ToCloud::Data {
            stream,
            base: Offset(5),
            next: Offset(8),
            lineage: vec![pair],
            digest: Digest(6),
        },
        ToCloud::Gap {
            stream,
            from: Offset(5),
            to: Offset(8),
            reason: GapReason::Rejected(RejectCode::TooLarge),
            lineage: vec![pair],
        },
        ToCloud::Resume {
            stream,
            attempt: Attempt(2),
        },
        ToCloud::Resync { stream },
    ]
}

fn to_edge() -> Vec<ToEdge> {
    let (stream, attempt, next) = (StreamId(3), Attempt(2), Offset(8));
    let opened = Opened {
        epoch: Epoch(4),
        next,
        last: Some(LastRecord {
            offset: Offset(7),
            digest: Digest(6),
        }),
        forked: None,
        alarm: None,
    };
    vec![
        ToEdge::Server {
            wall_ms: 1,
            addresses: vec!["a:1".into()],
            window_bytes: 300,
        },
        ToEdge::Welcome { stream, opened },
        ToEdge::Diverged { stream, fork: next },
        ToEdge::Quarantine {
            stream,
            reason: QuarantineReason::NoCommonBoot,
        },
        ToEdge::Refused {
            stream,
            reason: RefuseReason::Retired,
        },
        ToEdge::Fenced { stream },
        ToEdge::Ack {
            acks: vec![(stream, next)],
        },
        ToEdge::OutOfOrder {
            stream,
            attempt,
            next,
        },
        ToEdge::Resync { stream, attempt },
        ToEdge::Retry {
            stream,
            attempt,
            pause_ms: 200,
        },
        ToEdge::Rejected {
            stream,
            attempt,
            base: Offset(5),
            next,
            code: RejectCode::Malformed,
        },
        ToEdge::Goodbye { reason: "x".into() },
    ]
}

fn variant<T: std::fmt::Debug>(frame: &T) -> String {
    let text = format!("{frame:?}");
    text.split([' ', '(']).next().expect("a name").to_owned()
}

#[test]
fn frames_are_numbered_as_stated() {
    let (edge, cloud) = TEXT
        .split_once("## Frames from the cloud")
        .expect("both sections");
    let rows = |frames: Vec<String>, section: &str| {
        for (number, name) in frames.iter().enumerate() {
            let row = format!("| {number} | `{name}` |");
            assert!(section.contains(&row), "PROTOCOL.md does not say {row}");
        }
    };
    rows(to_cloud().iter().map(variant).collect(), edge);
    rows(to_edge().iter().map(variant).collect(), cloud);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of version 1, for ever: a change here is a new version.
#[test]
fn the_bytes_of_every_frame_are_kept() {
    let mut encoder = Encoder::default();
    let cloud = to_cloud()
        .into_iter()
        .map(|frame| hex(&encoder.head(&frame, 0)));
    let cloud: Vec<String> = cloud.collect();
    let mut encoder = Encoder::default();
    let edge: Vec<String> = to_edge().iter().map(|f| hex(&encoder.head(f, 0))).collect();
    let kept: Vec<&str> = include_str!("../fixtures/frames-v1.hex").lines().collect();
    let made = [cloud, edge].concat();
    assert_eq!(made, kept, "\n{}", made.join("\n"));
}

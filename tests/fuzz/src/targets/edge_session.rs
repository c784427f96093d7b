//! The edge's session machine: a cloud that keeps none of the rules, and a log that answers early,
//! late, with gaps, with failures, and moves meanwhile.
//!
//! Asserted: nothing is acknowledged that was never sent, and nothing follows a close.
//!
//! Memory: what is in flight is bounded by the window; a stated length may make serde reserve 1 MiB.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::{BatchBuilder, BatchView, Level, Limits, NewRecord, Offset, TopicPartition};
use headwater_proto::edge::LogGap;
use headwater_proto::frame::ToEdge;
use headwater_proto::stream::Opened;
use headwater_proto::{
    Attempt, BootId, BootSpan, Channel, EdgeConfig, EdgeEffect, EdgeName, EdgeSession, Epoch,
    GapReason, Incarnation, LastRecord, Ms, RejectCode, StreamId, StreamInfo, digest_of_record,
};

use super::cloud_session::tp;
use super::frames::{fixtures, framed};
use super::named;
use crate::Target;
use crate::input::{Input, Script};

pub const TARGET: Target = Target {
    name: "edge_session",
    run,
    seeds,
    input_bytes_max: 16 << 10,
    memory_bytes_max: 32 << 20,
};

const FRAME: u8 = 0;
const READ: u8 = 1;
const READ_GAP: u8 = 2;
const READ_FAILS: u8 = 3;
const PERSISTED: u8 = 4;
const LATER: u8 = 5;
const GROWN: u8 = 6;
const DESCRIBED: u8 = 7;
const GIVE_UP: u8 = 8;
const RAW: u8 = 9;
const PERSIST_FAILS: u8 = 10;
const STEPS: u8 = 11;

const PARTITIONS: u32 = 2;
/// Records in the log of each partition; a batch holds three.
const RECORDS: i64 = 30;

struct Run {
    session: EdgeSession,
    now: Ms,
    sequence: u32,
    logs: BTreeMap<TopicPartition, StreamInfo>,
    /// Reads that wait for an answer.
    reads: Vec<(TopicPartition, Offset)>,
    sent: BTreeMap<TopicPartition, Offset>,
    /// Asked for and not durable, with what the log becomes.
    forks: Vec<StreamInfo>,
    letters: Vec<TopicPartition>,
    describes: Vec<TopicPartition>,
    closed: bool,
}

fn info(partition: u32) -> StreamInfo {
    let (start, end) = (Offset(0), Offset(RECORDS));
    StreamInfo {
        tp: tp(partition),
        partitions: PARTITIONS,
        incarnation: Incarnation(7),
        origin: start,
        parent: None,
        start,
        end,
        acked: start,
        spans: vec![BootSpan {
            boot: BootId(1),
            start,
            end,
        }],
        priority: partition as i32,
    }
}

fn batch_at(base: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(base), Level::None);
    for n in base..base + 3 {
        builder.push(&record(n)).expect("it is small");
    }
    builder.finish().into()
}

fn record(n: i64) -> NewRecord {
    NewRecord::new(1_700_000_000_000 + n, "key", format!("value {n}"))
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let edge = EdgeName::new("gw-1").expect("a valid name");
    let mut run = Run {
        session: EdgeSession::new(EdgeConfig::new(edge), 1, 0),
        now: 0,
        sequence: 0,
        logs: BTreeMap::new(),
        reads: Vec::new(),
        sent: BTreeMap::new(),
        forks: Vec::new(),
        letters: Vec::new(),
        describes: Vec::new(),
        closed: false,
    };
    for partition in 0..PARTITIONS {
        run.logs.insert(tp(partition), info(partition));
        run.session.add_stream(0, info(partition));
    }
    run.drain();
    while !input.is_empty() {
        run.step(&mut input);
        run.drain();
    }
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % STEPS {
            FRAME => {
                let bytes = framed(self.sequence, input.bytes(), &[]);
                self.sequence += 1;
                self.session.bytes(self.now, Channel::Control, bytes.into());
            }
            READ => self.read(),
            READ_GAP => {
                let (before, after) = (i64::from(input.byte()), i64::from(input.byte()));
                if let Some((tp, from)) = self.reads.pop() {
                    let (from, to) = (Offset(from.0 - before.min(from.0)), Offset(from.0 + after));
                    let reason = GapReason::Corrupt;
                    self.session.log_gap(
                        self.now,
                        LogGap {
                            tp,
                            from,
                            to,
                            reason,
                        },
                    );
                }
            }
            READ_FAILS => {
                if let Some((tp, _)) = self.reads.pop() {
                    self.session.read_failed(self.now, &tp);
                }
            }
            PERSISTED => {
                if let Some(info) = self.forks.pop() {
                    let log = self.log(&info.tp);
                    log.incarnation = info.incarnation;
                    log.parent = info.parent;
                    (log.origin, log.acked) = (info.origin, info.acked);
                    log.end = log.end.max(info.origin);
                    let log = log.clone();
                    self.session.fork_durable(self.now, log);
                }
                if let Some(tp) = self.letters.pop() {
                    self.session.dead_lettered(self.now, &tp);
                }
            }
            PERSIST_FAILS => {
                if let Some(info) = self.forks.pop() {
                    self.session.fork_failed(self.now, &info.tp);
                }
                if let Some(tp) = self.letters.pop() {
                    self.session.dead_letter_failed(self.now, &tp);
                }
            }
            LATER => {
                self.now += u64::from(input.short());
                self.session.timer(self.now);
            }
            GROWN => {
                let which = tp(u32::from(input.byte()) % PARTITIONS);
                let (start, end) = (i64::from(input.byte() % 40), i64::from(input.byte()));
                let log = self.log(&which);
                log.start = log.start.max(Offset(start)).min(log.end);
                log.end = log.end.max(Offset(end / 3 * 3));
                let (start, end) = (log.start, log.end);
                self.session.log_changed(self.now, &which, start, end);
            }
            DESCRIBED => {
                if let Some(tp) = self.describes.pop() {
                    self.session.described(self.now, self.logs[&tp].clone());
                }
            }
            GIVE_UP => {
                let which = tp(u32::from(input.byte()) % PARTITIONS);
                self.session.give_up_lost(self.now, &which);
            }
            _ => {
                let bytes = Bytes::copy_from_slice(input.bytes());
                self.session.bytes(self.now, Channel::Control, bytes);
            }
        }
    }

    /// Two batches from the one that holds the offset.
    fn read(&mut self) {
        let Some((tp, from)) = self.reads.pop() else {
            return;
        };
        let end = self.logs[&tp].end;
        let first = from.0 / 3 * 3;
        let bases = (first..end.0).step_by(3).take(2);
        let batches = bases.map(batch_at).collect();
        self.session.batches(self.now, &tp, batches);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            assert!(!self.closed, "{effect:?} after the machine closed");
            match effect {
                EdgeEffect::Read { tp, from, .. } => {
                    assert!(from.0 >= 0);
                    assert!(
                        self.reads.iter().all(|(t, _)| *t != tp),
                        "two reads of {tp}"
                    );
                    self.reads.push((tp, from));
                }
                EdgeEffect::PersistFork {
                    tp,
                    parent,
                    incarnation,
                    at,
                } => {
                    let mut forked = self.log(&tp).clone();
                    assert_eq!(parent, forked.incarnation);
                    assert!(at >= Offset(0));
                    let out = self.forks.iter().any(|fork| fork.tp == tp);
                    assert!(!out, "two forks of {tp}");
                    forked.incarnation = incarnation;
                    forked.parent = Some(headwater_proto::Parent {
                        incarnation: parent,
                        fork: at,
                    });
                    (forked.origin, forked.acked) = (at, at);
                    self.forks.push(forked);
                }
                EdgeEffect::DeadLetter { tp, from, to, .. } => {
                    assert!(from < to);
                    self.letters.push(tp);
                }
                EdgeEffect::Describe { tp } => self.describes.push(tp),
                EdgeEffect::Acked { tp, offset } => {
                    let log = self.log(&tp);
                    assert!(offset > log.acked, "an ACK that goes back");
                    log.acked = offset;
                }
                EdgeEffect::Close { .. } => self.closed = true,
                EdgeEffect::Send { channel, bytes } => self.sent(channel, &bytes),
                EdgeEffect::Verified { .. }
                | EdgeEffect::Alarm { .. }
                | EdgeEffect::Connected { .. } => {}
            }
        }
    }

    fn log(&mut self, tp: &TopicPartition) -> &mut StreamInfo {
        self.logs.get_mut(tp).expect("every partition has a log")
    }

    /// A batch on its way is whole and has its CRC.
    fn sent(&mut self, channel: Channel, bytes: &Bytes) {
        let Channel::Data(lane) = channel else { return };
        if let Ok(view) = BatchView::parse(bytes, &Limits::UPLINK) {
            view.verify_crc().expect("the edge sends sound batches");
            let which = tp(lane as u32 % PARTITIONS);
            self.sent.insert(which, view.next_offset());
        }
    }
}

fn body(message: &ToEdge) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data always encodes")
}

fn server() -> Vec<u8> {
    let (addresses, window_bytes) = (vec!["a:1".into()], 1 << 20);
    body(&ToEdge::Server {
        wall_ms: 1,
        addresses,
        window_bytes,
    })
}

fn welcome(stream: u32, next: i64, last: Option<i64>) -> Vec<u8> {
    let last = last.map(|n| LastRecord {
        offset: Offset(n),
        digest: digest_of_record(&record(n).at(Offset(n))),
    });
    let opened = Opened {
        epoch: Epoch(1),
        next: Offset(next),
        last,
        forked: None,
        alarm: None,
    };
    body(&ToEdge::Welcome {
        stream: StreamId(stream),
        opened,
    })
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let stream = StreamId(1);
    let attempt = Attempt(1);
    let mut live = Script::default();
    live.byte(FRAME).bytes(&server());
    live.byte(FRAME).bytes(&welcome(1, 0, None)).byte(READ);
    live.byte(FRAME).bytes(&body(&ToEdge::Ack {
        acks: vec![(stream, Offset(3))],
    }));
    let mut rewound = Script(live.0.clone());
    let rejected = ToEdge::Rejected {
        stream,
        attempt,
        base: Offset(3),
        next: Offset(6),
        code: RejectCode::Malformed,
    };
    for message in [
        ToEdge::OutOfOrder {
            stream,
            attempt,
            next: Offset(4),
        },
        ToEdge::Resync { stream, attempt },
        ToEdge::Retry {
            stream,
            attempt,
            pause_ms: 200,
        },
        rejected.clone(),
    ] {
        rewound
            .byte(FRAME)
            .bytes(&body(&message))
            .byte(READ)
            .byte(LATER)
            .short(300);
        rewound.byte(PERSISTED).byte(READ);
    }
    rewound
        .byte(READ_GAP)
        .byte(1)
        .byte(5)
        .byte(READ_FAILS)
        .byte(LATER)
        .short(60_000);
    let mut verified = Script(vec![]);
    verified.byte(FRAME).bytes(&server());
    verified
        .byte(FRAME)
        .bytes(&welcome(2, 5, Some(4)))
        .byte(READ)
        .byte(READ);
    verified.byte(GROWN).byte(1).byte(4).byte(60).byte(READ);
    let mut forked = Script(vec![]);
    forked.byte(FRAME).bytes(&server());
    let fork = Offset(4);
    forked
        .byte(FRAME)
        .bytes(&body(&ToEdge::Diverged { stream, fork }))
        .byte(PERSISTED);
    let mut failed = Script(vec![]);
    for message in [ToEdge::Diverged { stream, fork }, rejected.clone()] {
        failed
            .byte(FRAME)
            .bytes(&body(&message))
            .byte(PERSIST_FAILS)
            .byte(LATER)
            .short(1_000)
            .byte(PERSISTED)
            .byte(FRAME)
            .bytes(&welcome(3, 0, None))
            .byte(READ);
    }
    forked.byte(FRAME).bytes(&welcome(3, 4, None)).byte(READ);
    forked.byte(FRAME).bytes(&body(&ToEdge::Fenced {
        stream: StreamId(2),
    }));
    forked
        .byte(LATER)
        .short(40_000)
        .byte(DESCRIBED)
        .byte(GIVE_UP)
        .byte(0);
    let mut every = Script(vec![]);
    for (body, _) in fixtures() {
        every.byte(FRAME).bytes(&body);
    }
    let mut raw = Script(vec![RAW]);
    raw.bytes(&framed(0, &server(), &[])[..20]);
    vec![
        named("live", live.0),
        named("rewound", rewound.0),
        named("verified", verified.0),
        named("forked", forked.0),
        named("failed", failed.0),
        named("every", every.0),
        named("raw", raw.0),
    ]
}

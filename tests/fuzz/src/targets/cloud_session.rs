//! The cloud's session machine with the shard's state machine as its sink: frames of an edge that
//! keeps none of the rules, in pieces, with the sink's answers early, late, never or refused.
//!
//! Frames are numbered and checksummed as an honest edge does, or it would all end at the CRC; one
//! step sends raw bytes.
//!
//! Asserted: what is committed survives its journal form, a stream's next offset never falls, and
//! nothing is committed after the machine has closed.
//!
//! Memory: a list's stated length may make serde reserve 1 MiB; batches wait in the machine.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_proto::cloud::Ticket;
use headwater_proto::frame::{Announce, ToCloud};
use headwater_proto::{
    BootId, BootSpan, BootStart, Channel, CloudConfig, CloudEffect, CloudSession, EdgeName,
    GapReason, Incarnation, Ms, RejectCode, StreamEntry, StreamId, StreamKey, StreamOutcome,
};
use headwater_shard::{At, Entry, Outcome, Shard, decode, encode};

use super::frames::{fixtures, framed};
use super::{batch, named};
use crate::Target;
use crate::input::{Input, Script};

pub const TARGET: Target = Target {
    name: "cloud_session",
    run,
    seeds,
    input_bytes_max: 16 << 10,
    memory_bytes_max: 16 << 20,
};

const LANES: u8 = 3;

const CONTROL: u8 = 0;
const DATA: u8 = 1;
const FITTED: u8 = 2;
const ANSWER: u8 = 3;
const RETRY: u8 = 4;
const REJECT: u8 = 5;
const LATER: u8 = 6;
const RAW: u8 = 7;
const RECONNECT: u8 = 8;
const STEPS: u8 = 9;

/// A commit that waits for the sink.
type Waiting = (Ticket, StreamKey, StreamEntry);

struct Run {
    session: CloudSession,
    now: Ms,
    /// Of each channel: control first.
    sequences: [u32; LANES as usize + 1],
    waiting: VecDeque<Waiting>,
    shard: Shard,
    next: BTreeMap<StreamKey, Offset>,
    closed: bool,
}

fn session(now: Ms) -> CloudSession {
    let edge = EdgeName::new("gw-1").expect("a valid name");
    let config = CloudConfig {
        pending_bytes_max: 4 << 10,
        ..CloudConfig::default()
    };
    CloudSession::new(config, edge, now, 1_700_000_000_000)
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut run = Run {
        session: session(0),
        now: 0,
        sequences: [0; LANES as usize + 1],
        waiting: VecDeque::new(),
        shard: Shard::new(),
        next: BTreeMap::new(),
        closed: false,
    };
    while !input.is_empty() {
        run.step(&mut input);
        run.drain();
    }
    while let Some(waiting) = run.waiting.pop_front() {
        run.apply(waiting);
        run.drain();
    }
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % STEPS {
            CONTROL => self.frame(0, input.bytes(), &[]),
            DATA => {
                let lane = 1 + input.byte() % LANES;
                self.frame(lane, input.bytes(), input.bytes());
            }
            FITTED => {
                let (lane, body) = (1 + input.byte() % LANES, input.bytes());
                let mut tail = input.bytes().to_vec();
                batch::fit(&mut tail);
                self.frame(lane, body, &tail);
            }
            ANSWER => {
                if let Some(waiting) = self.waiting.pop_front() {
                    self.apply(waiting);
                }
            }
            RETRY => {
                if let Some((ticket, ..)) = self.waiting.pop_front() {
                    self.session.retry(self.now, ticket);
                }
            }
            REJECT => {
                if let Some((ticket, ..)) = self.waiting.pop_front() {
                    let outcome = StreamOutcome::Rejected(RejectCode::Unacceptable);
                    self.session.committed(self.now, ticket, outcome);
                }
            }
            LATER => {
                self.now += u64::from(input.short());
                self.session.timer(self.now);
            }
            RAW => {
                let lane = input.byte() % (LANES + 1);
                self.bytes(lane, input.bytes());
            }
            _ => {
                self.session = session(self.now);
                self.sequences = Default::default();
                self.closed = false;
            }
        }
    }

    fn frame(&mut self, lane: u8, body: &[u8], tail: &[u8]) {
        let sequence = &mut self.sequences[usize::from(lane)];
        let bytes = framed(*sequence, body, tail);
        *sequence += 1;
        self.bytes(lane, &bytes);
    }

    fn bytes(&mut self, lane: u8, bytes: &[u8]) {
        let channel = match lane {
            0 => Channel::Control,
            n => Channel::Data(u64::from(n)),
        };
        let bytes = Bytes::copy_from_slice(bytes);
        self.session.bytes(self.now, channel, bytes);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.session.poll_effect() {
            assert!(!self.closed, "{effect:?} after the machine closed");
            match effect {
                CloudEffect::Commit { ticket, key, entry } => {
                    self.waiting.push_back((ticket, key, entry));
                }
                CloudEffect::Close { .. } => self.closed = true,
                CloudEffect::Send { .. } | CloudEffect::Alarm { .. } => {}
            }
        }
    }

    /// Through the journal's form, as the cloud does it.
    fn apply(&mut self, (ticket, key, entry): Waiting) {
        let (head, batch) = entry.encode();
        let again = StreamEntry::decode(&head, batch.clone());
        assert_eq!(again.as_ref(), Ok(&entry));
        let to = TopicPartition::new(key.tp.topic.clone(), 0);
        self.open(&to);
        let stored = Entry::Stream {
            to,
            key: key.clone(),
            head,
            at_ms: 5,
        };
        let bytes = Bytes::from(encode(&stored, &batch));
        let (stored, batch) = decode(&bytes).expect("what was encoded decodes");
        let applied = self.shard.apply(self.at(), &stored, &batch);
        self.check_next(&key);
        if let Outcome::Stream(outcome) = applied.outcome {
            self.session.committed(self.now, ticket, outcome);
        }
    }

    fn at(&self) -> At {
        At {
            index: self.shard.applied().index + 1,
            term: 1,
        }
    }

    fn open(&mut self, to: &TopicPartition) {
        let (tp, topic_id, epoch_base) = (to.clone(), 1, 0);
        let open = Entry::OpenPartition {
            tp,
            topic_id,
            epoch_base,
        };
        self.shard.apply(self.at(), &open, &Bytes::new());
    }

    fn check_next(&mut self, key: &StreamKey) {
        let streams = self.shard.streams_of(&key.edge, &key.tp);
        let Some(state) = streams.and_then(|s| s.stream(key.incarnation)) else {
            return;
        };
        let before = self.next.insert(key.clone(), state.next);
        assert!(
            before.is_none_or(|before| before <= state.next),
            "{key}: next fell"
        );
    }
}

fn body(message: &ToCloud) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data always encodes")
}

pub(super) fn tp(partition: u32) -> TopicPartition {
    format!("mqtt-{partition}")
        .parse()
        .expect("a valid partition")
}

fn hello() -> Vec<u8> {
    let edge = EdgeName::new("gw-1").expect("a valid name");
    body(&ToCloud::Hello {
        edge,
        software: "0.1".into(),
    })
}

fn announce(stream: u32, partition: u32, incarnation: u128) -> Vec<u8> {
    let boot = BootId(1);
    let (start, end) = (Offset(0), Offset(9));
    body(&ToCloud::Announce(Announce {
        stream: StreamId(stream),
        tp: tp(partition),
        partitions: 2,
        incarnation: Incarnation(incarnation),
        origin: start,
        parent: None,
        start,
        end,
        acked: start,
        spans: vec![BootSpan { boot, start, end }],
    }))
}

fn data(stream: u32, base: i64, next: i64) -> Vec<u8> {
    let lineage = vec![BootStart {
        boot: BootId(1),
        start: Offset(0),
    }];
    let digest = headwater_proto::Digest(7);
    let (base, next, stream) = (Offset(base), Offset(next), StreamId(stream));
    body(&ToCloud::Data {
        stream,
        base,
        next,
        lineage,
        digest,
    })
}

fn gap(stream: u32, from: i64, to: i64) -> Vec<u8> {
    let (from, to, stream) = (Offset(from), Offset(to), StreamId(stream));
    let lineage = vec![BootStart {
        boot: BootId(1),
        start: Offset(0),
    }];
    body(&ToCloud::Gap {
        stream,
        from,
        to,
        reason: GapReason::Budget,
        lineage,
    })
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let batch_at = |base: i64| {
        use headwater_batch::{BatchBuilder, Level, NewRecord};
        let mut builder = BatchBuilder::new(Offset(base), Level::None);
        for n in 0..3 {
            builder
                .push(&NewRecord::new(n, "k", "v"))
                .expect("it is small");
        }
        builder.finish()
    };
    let mut open = Script::default();
    open.byte(CONTROL).bytes(&hello());
    open.byte(CONTROL).bytes(&announce(1, 0, 1)).byte(ANSWER);
    let mut sent = Script(open.0.clone());
    for base in [0, 3, 3, 6] {
        let lane = 0;
        sent.byte(DATA)
            .byte(lane)
            .bytes(&data(1, base, base + 3))
            .bytes(&batch_at(base));
        sent.byte(ANSWER);
    }
    sent.byte(DATA)
        .byte(0)
        .bytes(&gap(1, 9, 12))
        .bytes(&[])
        .byte(ANSWER);
    sent.byte(FITTED)
        .byte(0)
        .bytes(&data(1, 12, 15))
        .bytes(&batch_at(12))
        .byte(REJECT);
    let resume = body(&ToCloud::Resume {
        stream: StreamId(1),
        attempt: headwater_proto::Attempt(1),
    });
    sent.byte(DATA).byte(0).bytes(&resume).bytes(&[]);
    let mut again = Script(open.0.clone());
    again
        .byte(CONTROL)
        .bytes(&announce(2, 1, 9))
        .byte(LATER)
        .short(6_000);
    again.byte(RETRY).byte(RECONNECT);
    again.0.extend(&open.0);
    again
        .byte(DATA)
        .byte(0)
        .bytes(&body(&ToCloud::Resync {
            stream: StreamId(1),
        }))
        .bytes(&[]);
    again.byte(ANSWER);
    let mut every = Script(open.0.clone());
    for (body, tail) in fixtures() {
        every
            .byte(DATA)
            .byte(1)
            .bytes(&body)
            .bytes(&tail)
            .byte(RECONNECT);
        every.byte(CONTROL).bytes(&body);
    }
    let mut raw = Script(vec![RAW, 0]);
    raw.bytes(&framed(0, &hello(), &[])[..20]);
    vec![
        named("sent", sent.0),
        named("again", again.0),
        named("every", every.0),
        named("raw", raw.0),
    ]
}

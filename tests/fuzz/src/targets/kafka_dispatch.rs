//! Whole Kafka frames, one after the other, into dispatch and the group coordinator, with time and
//! commits that come late.
//!
//! Memory: as for one decoder, and what the group coordinator keeps of the requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_kafka::group::{
    CommitToken, Coordinator, GroupConfig, GroupEffect, GroupEntry, GroupEvent, RequestToken,
};
use headwater_kafka::{GroupPending, Outcome, serve, wire};

use super::kafka::node::{FakeNode, frame, requests};
use super::kafka::{answer, check, peer};
use super::named;
use crate::Target;
use crate::input::{Input, Script};

const INPUT_BYTES_MAX: usize = 16 << 10;

pub const TARGET: Target = Target {
    name: "kafka_dispatch",
    run,
    seeds,
    input_bytes_max: INPUT_BYTES_MAX,
    memory_bytes_max: (24 << 20) + 4_096 * INPUT_BYTES_MAX,
};

const FRAME: u8 = 0;
const PREFIX: u8 = 1;
const COMMITTED: u8 = 2;
const LATER: u8 = 3;
const CONFIRM: u8 = 4;
const STEPS: u8 = 5;

struct Run {
    node: FakeNode,
    groups: Coordinator,
    now: u64,
    token: RequestToken,
    pending: BTreeMap<RequestToken, GroupPending>,
    commits: Vec<(CommitToken, GroupEntry)>,
    /// The member id that the coordinator gave last.
    member: String,
}

fn run(data: &[u8]) {
    let config = GroupConfig {
        initial_rebalance_delay_ms: 10,
        ..GroupConfig::default()
    };
    let mut run = Run {
        node: FakeNode::default(),
        groups: Coordinator::new(config, 1),
        now: 1_000,
        token: 0,
        pending: BTreeMap::new(),
        commits: Vec::new(),
        member: String::new(),
    };
    let mut input = Input::new(data);
    while !input.is_empty() {
        run.step(&mut input);
    }
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % STEPS {
            FRAME => self.frame(Bytes::copy_from_slice(input.bytes())),
            PREFIX => {
                let prefix = [input.byte(), input.byte(), input.byte(), input.byte()];
                if let Ok(n) = wire::frame_bytes(prefix, wire::REQUEST_BYTES_MAX) {
                    assert!(n <= wire::REQUEST_BYTES_MAX);
                }
            }
            COMMITTED => {
                if !self.commits.is_empty() {
                    let (token, _) = self.commits.remove(0);
                    self.event(GroupEvent::Committed { token });
                }
            }
            LATER => {
                let end = self.now + u64::from(input.short());
                while let Some(at) = self.groups.deadline().filter(|at| *at <= end) {
                    self.now = self.now.max(at);
                    self.event(GroupEvent::Timer);
                }
                self.now = end;
            }
            // A request with the member id put where the input says, as a real member has it.
            _ => {
                let (at, bytes) = (usize::from(input.short()), input.bytes());
                let mut bytes = bytes.to_vec();
                let at = at.min(bytes.len());
                bytes.splice(at..at, self.member.bytes());
                self.frame(bytes.into());
            }
        }
    }

    fn frame(&mut self, frame: Bytes) {
        wire::asked(&frame);
        match serve(&self.node, &peer(), frame) {
            Outcome::Group(plan) => {
                self.token += 1;
                self.pending.insert(self.token, plan.pending);
                let (token, request) = (self.token, plan.request);
                self.event(GroupEvent::Request { token, request });
            }
            other => {
                if let Some(reply) = answer(&self.node, other) {
                    check(&reply);
                }
            }
        }
    }

    fn event(&mut self, event: GroupEvent) {
        let mut effects = Vec::new();
        self.groups.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                GroupEffect::Commit { token, entry } => self.commits.push((token, entry)),
                GroupEffect::Reply { token, response } => {
                    if let headwater_kafka::group::GroupResponse::Join(joined) = &response {
                        self.member.clone_from(&joined.member_id);
                    }
                    let pending = self.pending.remove(&token).expect("one reply to a request");
                    check(&pending.respond(response));
                }
            }
        }
    }
}

/// All versions of one API after the other, with two elements in each array.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut scripts: BTreeMap<String, Script> = BTreeMap::new();
    for sample in requests::samples(2) {
        let last = wire::served(sample.api as i16).expect("it is served").max;
        if sample.version < last - 1 {
            continue;
        }
        let script = scripts.entry(format!("{:?}", sample.api)).or_default();
        let frame = frame(sample.api, sample.version, &sample.body);
        script
            .byte(FRAME)
            .bytes(&frame)
            .byte(LATER)
            .short(20)
            .byte(COMMITTED);
    }
    let mut group = Script::default();
    for sample in requests::samples(1) {
        let api = sample.api as i16;
        let last = wire::served(api).expect("it is served").max;
        if (8..=16).contains(&api) && sample.version == last {
            let frame = frame(sample.api, sample.version, &sample.body);
            group
                .byte(CONFIRM)
                .short(24)
                .bytes(&frame)
                .byte(LATER)
                .short(4_000);
        }
    }
    group
        .byte(PREFIX)
        .byte(0x7f)
        .byte(0xff)
        .byte(0xff)
        .byte(0xff);
    scripts.insert("group".into(), group);
    scripts
        .into_iter()
        .map(|(name, script)| named(name, script.0))
        .collect()
}

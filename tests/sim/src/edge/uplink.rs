//! The uplink of a device: dials when it has no connection, and drives the relay on the one it has.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use edge_node::mirror::Begun;
use headwater_batch::TopicPartition;
use headwater_proto::{Backoff, Channel, EdgeConfig};
use headwater_quic::client::{Done, Relay, Source, Step, Work};

use super::tap::Tap;
use super::{Output, WorkKind};
use crate::now::Ms;

/// As the product's default.
const BACKOFF_MAX_MS: Ms = 2_000;

pub(super) struct Uplink {
    config: EdgeConfig,
    seed: u128,
    backoff: Backoff,
    dial_at: Option<Ms>,
    dialling: bool,
    sessions: u128,
    relay: Option<Relay>,
    /// Announced, not begun, with the session that wants it.
    works: BTreeMap<u64, (u128, Work)>,
    /// Begun: the store must make something durable first.
    begun: VecDeque<(u128, Begun<Done>)>,
}

impl Uplink {
    pub(super) fn new(config: EdgeConfig, seed: u128, now: Ms) -> Uplink {
        Uplink {
            config,
            seed,
            backoff: Backoff::new(seed),
            dial_at: Some(now),
            dialling: false,
            sessions: 0,
            relay: None,
            works: BTreeMap::new(),
            begun: VecDeque::new(),
        }
    }

    pub(super) fn up(&mut self, now: Ms) {
        if !std::mem::take(&mut self.dialling) {
            return;
        }
        self.sessions += 1;
        let step: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060;
        let seed = self.seed.wrapping_add(self.sessions.wrapping_mul(step));
        self.relay = Some(Relay::new(self.config.clone(), seed, now));
    }

    /// The connection is gone, or the dial failed.
    pub(super) fn down(&mut self, now: Ms, tap: &Tap) {
        self.dialling = false;
        if self.relay.take().is_some() {
            tap.link(None);
        }
        let at = self.backoff.deadline().unwrap_or(now);
        self.dial_at = Some(at.clamp(now, now + BACKOFF_MAX_MS));
    }

    /// The node stops: no more dials.
    pub(super) fn end(&mut self) {
        self.relay = None;
        self.dial_at = None;
        self.dialling = false;
    }

    pub(super) fn received(&mut self, now: Ms, channel: Channel, bytes: Bytes) {
        if let Some(relay) = self.relay.as_mut().filter(|_| channel == Channel::Control) {
            relay.bytes(now, bytes);
        }
    }

    pub(super) fn is_halted(&self, tp: &TopicPartition) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.is_halted(tp))
    }

    pub(super) fn deadline(&self) -> Option<Ms> {
        let relay = self.relay.as_ref().and_then(Relay::deadline);
        relay.into_iter().chain(self.dial_at).min()
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.works.contains_key(&id)
    }

    pub(super) fn waits(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Begins announced work.
    pub(super) fn work(&mut self, id: u64, tap: &Tap) {
        if let Some((session, work)) = self.works.remove(&id) {
            self.begun.push_back((session, tap.mirror.begin(work)));
        }
    }

    /// Does what is there to do. Work that a session before this one wanted is done all the same,
    /// as by a thread, and its answer dropped.
    pub(super) fn run(
        &mut self,
        now: Ms,
        tap: &Tap,
        out: &mut VecDeque<Output>,
        next_work: &mut u64,
    ) {
        let mut answers = Vec::new();
        for (session, begun) in std::mem::take(&mut self.begun) {
            match begun.poll() {
                Ok(done) if session == self.sessions => answers.push(done),
                Ok(_) => {}
                Err(begun) => self.begun.push_back((session, begun)),
            }
        }
        if self.dial_at.is_some_and(|at| at <= now) {
            self.dial_at = None;
            self.dialling = true;
            self.backoff.failed(now);
            out.push_back(Output::Dial);
        }
        let Some(relay) = &mut self.relay else { return };
        answers.into_iter().for_each(|done| relay.done(now, done));
        relay.logs_changed(now, tap);
        if relay.deadline().is_some_and(|at| at <= now) {
            relay.timer(now);
        }
        while let Some(step) = relay.step(now, tap) {
            match step {
                Step::Send { channel, bytes } => out.push_back(Output::Uplink { channel, bytes }),
                Step::Work(work) => {
                    let id = *next_work;
                    *next_work += 1;
                    self.works.insert(id, (self.sessions, work));
                    let kind = WorkKind::Uplink;
                    out.push_back(Output::Work { id, kind });
                }
                Step::Connected { .. } => self.backoff.connected(),
                Step::Close(reason) => {
                    let reason = reason.to_string();
                    out.push_back(Output::UplinkClose { reason });
                    self.down(now, tap);
                    return;
                }
            }
        }
    }
}

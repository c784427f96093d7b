//! One connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::rate::Rate;
use crate::codec::{Connect, PublishIn, REASON_STRING_BYTES_MAX, Version};
use crate::limits;
use crate::state::Delivery;
use crate::state::session::Sid;
use crate::{ConnInfo, Stats};

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// CONNECT has not come.
    New,
    /// The shell checks the login.
    Authenticating(Box<Connect>),
    /// The session's frame is not durable yet.
    Connecting,
    Ready,
}

/// A new subscription that is to get the retained messages it matches, from `after` on.
#[derive(Debug)]
pub(super) struct Retained {
    pub qos: crate::QoS,
    pub identifiers: Vec<u32>,
    pub after: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub info: ConnInfo,
    pub stage: Stage,
    /// It is one of its listener's connections: its CONNECT has come.
    pub counted: bool,
    pub version: Version,
    pub sid: Sid,
    pub client_id: Arc<str>,
    pub username: Option<String>,
    /// Bytes read and not yet decoded.
    pub input: BytesMut,
    /// Bytes encoded in this step.
    pub output: BytesMut,
    /// Bytes handed to the shell and not reported written.
    pub unwritten: usize,
    /// 1.5 times the keep-alive; 0: none.
    pub silence_ms: u64,
    pub heard_ms: u64,
    /// Bytes that came since, and made no packet.
    pub unheard: usize,
    /// When its one timer is due.
    pub timer_ms: u64,
    /// The shell was told to stop reading.
    pub paused: bool,
    /// The peer is gone, and what it had sent is still worked on.
    pub hung_up: bool,
    /// Nothing more is decoded before this frame of ours is durable (a subscription's or the
    /// session's), so that packets take effect in order.
    pub waiting: bool,
    /// Appends under way, and their bytes.
    pub appends: usize,
    pub append_bytes: usize,
    /// QoS 1 publishes not acknowledged.
    pub qos1_open: usize,
    /// On v5: QoS 2 ids of publishes on this connection, until PUBCOMP.
    pub qos2_open: BTreeSet<u16>,
    /// The client's limits.
    pub window: u16,
    pub packet_bytes_max: usize,
    /// It wants to read why something was refused.
    pub problem_information: bool,
    /// Topics by the aliases that it chose, and the other way round by those that we chose.
    pub aliases: BTreeMap<u16, Arc<str>>,
    pub own_aliases: BTreeMap<Arc<str>, u16>,
    pub own_aliases_max: u16,
    /// The last topic published to, so that its name is not made again.
    pub last_topic: Option<Arc<str>>,
    /// Publishes to the client that wait for PUBACK or PUBCOMP, and the next of its queue to send.
    pub inflight: usize,
    pub cursor: u64,
    /// Ids of those that a full queue dropped under way: the client has not answered them, so they
    /// take their part of its window and are not used again.
    pub orphans: BTreeSet<u16>,
    /// QoS 0 deliveries that wait for the socket.
    pub backlog: VecDeque<Delivery>,
    pub backlog_bytes: usize,
    /// By filter: a filter subscribed to again begins again, so there are never more of them than
    /// subscriptions.
    pub retained: BTreeMap<String, Retained>,
    pub enqueues: usize,
    /// The same in bytes.
    pub enqueue_bytes: usize,
    /// v3.1.1 publishes that the log refused, offered again later.
    pub held: VecDeque<PublishIn>,
    /// For [`crate::ClientView`]: accepted then, publishes from it, to it, and missed by it.
    pub since_ms: u64,
    pub received: u64,
    pub sent: u64,
    pub dropped: u64,
    /// In the list of connections to look after at the end of the step.
    pub touched: bool,
    pub rate: Rate,
}

impl Conn {
    pub fn new(info: ConnInfo, now_ms: u64) -> Conn {
        Conn {
            info,
            stage: Stage::New,
            counted: false,
            version: Version::V3,
            sid: Sid(0),
            client_id: "".into(),
            username: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unwritten: 0,
            silence_ms: 0,
            heard_ms: now_ms,
            unheard: 0,
            timer_ms: 0,
            paused: false,
            hung_up: false,
            waiting: false,
            appends: 0,
            append_bytes: 0,
            qos1_open: 0,
            qos2_open: BTreeSet::new(),
            window: 0,
            packet_bytes_max: usize::MAX,
            problem_information: false,
            aliases: BTreeMap::new(),
            own_aliases: BTreeMap::new(),
            own_aliases_max: 0,
            last_topic: None,
            inflight: 0,
            cursor: 0,
            orphans: BTreeSet::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            retained: BTreeMap::new(),
            enqueues: 0,
            enqueue_bytes: 0,
            held: VecDeque::new(),
            since_ms: now_ms,
            received: 0,
            sent: 0,
            dropped: 0,
            touched: false,
            rate: Rate::default(),
        }
    }

    /// What a full queue dropped of this connection's session.
    pub fn adopt(&mut self, dropped: &mut Vec<(u64, u16)>) {
        let sent = dropped.drain(..).filter(|(seq, _)| *seq < self.cursor);
        self.orphans.extend(sent.map(|(_, id)| id));
    }

    pub fn ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    /// Whether more of its input may be worked on.
    pub fn may_read(&self) -> bool {
        let over = |n: usize, max: usize| if self.paused { n > max / 2 } else { n >= max };
        !(self.waiting
            || self.rate.is_exceeded()
            || matches!(self.stage, Stage::Authenticating(_) | Stage::Connecting)
            || over(self.appends, limits::APPEND_MESSAGES_MAX)
            || over(self.append_bytes, limits::APPEND_BYTES_MAX)
            || over(self.unsent(), limits::UNWRITTEN_BYTES_MAX)
            || !self.held.is_empty())
    }

    /// Bytes came that need not make a packet. A large one on its way over a slow link is a sign of
    /// life as well; a byte now and then is none.
    pub fn heard(&mut self, bytes: usize, now_ms: u64) {
        self.unheard += bytes;
        if self.unheard >= limits::SIGN_OF_LIFE_BYTES {
            self.heard_packet(now_ms);
        }
    }

    pub fn heard_packet(&mut self, now_ms: u64) {
        (self.heard_ms, self.unheard) = (now_ms, 0);
    }

    /// Writes a packet. One that is larger than the client takes is not sent, and nothing else
    /// changes [MQTT-3.1.2-24, MQTT-3.1.2-25]. Whether it was.
    pub fn say(&mut self, stats: &mut Stats, write: impl FnOnce(Version, &mut BytesMut)) -> bool {
        let before = self.output.len();
        write(self.version, &mut self.output);
        let bytes = self.output.len() - before;
        if bytes > self.packet_bytes_max {
            self.output.truncate(before);
            return false;
        }
        // 3.1.1 has no word for some.
        stats.packets_sent += u64::from(bytes > 0);
        true
    }

    /// A text for a packet to it that is not longer than `bytes` without one; empty: none.
    pub fn text<'a>(&self, text: &'a str, bytes: usize) -> &'a str {
        let fits = text.len() <= REASON_STRING_BYTES_MAX
            && bytes + 4 + text.len() <= self.packet_bytes_max;
        if fits { text } else { "" }
    }

    pub fn unsent(&self) -> usize {
        self.unwritten + self.output.len()
    }

    /// Whether publishes may be written to it now.
    pub fn may_send(&self) -> bool {
        !self.hung_up && self.unsent() < limits::UNWRITTEN_BYTES_MAX
    }

    /// The topic's name as a shared string.
    pub fn topic(&mut self, bytes: &Bytes) -> Option<Arc<str>> {
        if let Some(last) = &self.last_topic {
            if last.as_bytes() == bytes.as_ref() {
                return Some(last.clone());
            }
        }
        let name: Arc<str> = std::str::from_utf8(bytes).ok()?.into();
        self.last_topic = Some(name.clone());
        Some(name)
    }
}

//! `$SYS/broker/...`: what the broker says of itself, under Mosquitto's names (mosquitto(8)).
//!
//! Nothing is sent, counted on or woken up for while nobody subscribes to it. A new subscriber gets
//! every value at once, as if it were retained; after that whatever has changed, every
//! [`crate::Config::sys_interval_s`]. Neither journal nor log holds any of it, and clients may not
//! publish there.
//!
//! Left out: `heap/...`, which the machine cannot know.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::timers::Timer;
use crate::codec::Filter;
use crate::state::Delivery;
use crate::state::session::Message;
use crate::{ConnId, Publish, QoS, topic};

/// Where all of it stands.
pub(super) const ROOT: &str = "$SYS";

/// Of the mean rates, in minutes.
const SPANS_MIN: [u32; 3] = [1, 5, 15];

/// A counter's mean rate per minute over each span, weighted towards now. Between two looks the rate
/// is taken to have been even, so they may be any time apart.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    counted: u64,
    per_min: [f64; 3],
}

impl Load {
    fn look(&mut self, count: u64, passed_ms: u64) {
        if passed_ms == 0 {
            return;
        }
        let passed_min = passed_ms as f64 / 60_000.0;
        let rate = count.saturating_sub(self.counted) as f64 / passed_min;
        self.counted = count;
        for (mean, span) in self.per_min.iter_mut().zip(SPANS_MIN) {
            let fades = (-passed_min / f64::from(span)).exp();
            *mean = rate + fades * (*mean - rate);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Sys {
    started_ms: u64,
    looked_ms: u64,
    loads: BTreeMap<&'static str, Load>,
    /// What was said last.
    said: BTreeMap<String, String>,
    armed: bool,
}

impl Sys {
    pub fn new(now_ms: u64) -> Sys {
        Sys {
            started_ms: now_ms,
            looked_ms: now_ms,
            ..Sys::default()
        }
    }
}

/// Whether a topic is the broker's own.
pub(super) fn is_ours(topic: &str) -> bool {
    topic.split('/').next() == Some(ROOT)
}

impl Broker {
    /// Every topic below `$SYS/broker/` with its value now.
    fn sys_values(&mut self) -> BTreeMap<String, String> {
        let stats = self.stats();
        let sum = |by_qos: [u64; 3]| by_qos.iter().sum::<u64>();
        let dropped = stats.dropped_qos0
            + stats.dropped_queued
            + stats.dropped_expired
            + stats.dropped_too_large;
        let counters = [
            ("messages/received", stats.packets_received),
            ("messages/sent", stats.packets_sent),
            ("publish/received", sum(stats.published)),
            ("publish/sent", sum(stats.delivered)),
            ("publish/dropped", dropped),
            ("bytes/received", stats.bytes_received),
            ("bytes/sent", stats.bytes_sent),
            ("connections", stats.connects),
            ("sockets", stats.sockets),
        ];
        let passed_ms = self.now_ms - self.sys.looked_ms;
        self.sys.looked_ms = self.now_ms;
        let mut values = BTreeMap::new();
        for (name, count) in counters {
            let load = self.sys.loads.entry(name).or_default();
            load.look(count, passed_ms);
            for (mean, span) in load.per_min.iter().zip(SPANS_MIN) {
                values.insert(format!("load/{name}/{span}min"), format!("{mean:.2}"));
            }
        }
        let disconnected = stats.sessions.saturating_sub(stats.connected);
        let numbers = [
            ("messages/received", stats.packets_received),
            ("messages/sent", stats.packets_sent),
            ("publish/messages/received", sum(stats.published)),
            ("publish/messages/sent", sum(stats.delivered)),
            ("publish/messages/dropped", dropped),
            ("publish/bytes/received", stats.payload_received),
            ("publish/bytes/sent", stats.payload_sent),
            ("bytes/received", stats.bytes_received),
            ("bytes/sent", stats.bytes_sent),
            ("clients/total", stats.sessions),
            ("clients/connected", stats.connected),
            ("clients/active", stats.connected),
            ("clients/disconnected", disconnected),
            ("clients/inactive", disconnected),
            ("clients/maximum", stats.connected_max),
            ("clients/expired", stats.sessions_expired),
            ("subscriptions/count", stats.subscriptions),
            ("shared_subscriptions/count", self.state.shares.len() as u64),
            ("retained messages/count", stats.retained),
            ("store/messages/count", stats.queued + stats.retained),
            (
                "store/messages/bytes",
                stats.queued_bytes + stats.retained_bytes,
            ),
        ];
        values.extend(numbers.map(|(name, n)| (name.to_owned(), n.to_string())));
        let uptime_s = (self.now_ms - self.sys.started_ms) / 1000;
        values.insert("uptime".into(), format!("{uptime_s} seconds"));
        let version = concat!("headwater edge-node ", env!("CARGO_PKG_VERSION"));
        values.insert("version".into(), version.into());
        values
    }

    /// A subscription that may be to `$SYS` is granted: its connection gets the values.
    pub(super) fn subscribed_to_sys(
        &mut self,
        id: ConnId,
        filter: &Filter,
        identifier: Option<u32>,
    ) {
        if !is_ours(&filter.filter) || self.config.sys_interval_s == 0 {
            return;
        }
        let Some(sid) = self.conns.get(&id).map(|conn| conn.sid) else {
            return;
        };
        let values = self.sys_values();
        for (name, value) in &values {
            let message = said(name, value);
            if topic::matches(&filter.filter, &message.publish.topic) {
                let delivery = Delivery {
                    sid,
                    message: Some(message),
                    retain: true,
                    identifiers: identifier.into_iter().collect(),
                };
                self.send_qos0(id, delivery);
            }
        }
        if !self.sys.armed {
            self.sys.said = values;
            self.arm_sys();
        }
    }

    fn arm_sys(&mut self) {
        self.sys.armed = true;
        let interval_ms = u64::from(self.config.sys_interval_s) * 1000;
        self.set_timer(self.now_ms + interval_ms, Timer::Sys);
    }

    /// Says what has changed, as long as anybody listens.
    pub(super) fn say_sys(&mut self) {
        self.sys.armed = false;
        if !self.state.tree.begins(ROOT) && !self.state.shares.begins(ROOT) {
            self.sys.said.clear();
            return;
        }
        let values = self.sys_values();
        let before = std::mem::take(&mut self.sys.said);
        for (name, value) in &values {
            if before.get(name) != Some(value) {
                self.serve(&said(name, value));
            }
        }
        self.sys.said = values;
        self.arm_sys();
    }
}

fn said(name: &str, value: &str) -> Arc<Message> {
    let publish = Publish {
        topic: format!("{ROOT}/broker/{name}").into(),
        payload: Bytes::copy_from_slice(value.as_bytes()),
        qos: QoS::AtMostOnce,
        retain: true,
        dup: false,
        properties: None,
        client_id: "".into(),
    };
    Arc::new(Message {
        publish,
        expires_at_ms: None,
    })
}

//! The connections of MQTT clients, as the hub sees them: queues to and from the world.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use edge_node::broker::Outlet;
use headwater_mqtt::{CloseReason, ConnId, ConnInfo, Event, Limits, Login};

use super::{MqttConn, Output};

/// What the listeners let a session's queue hold. More than any is seen to hold: a session takes another
/// bound with another connection, which is journaled with the rest, and loses nothing by it.
const QUEUE_BYTES_MAX: [usize; 3] = [usize::MAX, 4 << 20, 6 << 20];

#[derive(Default)]
pub(super) struct Clients {
    open: BTreeSet<MqttConn>,
    events: VecDeque<Event>,
    pub(super) out: VecDeque<Output>,
}

impl Clients {
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn opened(&mut self, conn: MqttConn) {
        self.open.insert(conn);
        let listener = (conn % QUEUE_BYTES_MAX.len() as u64) as u16;
        self.events.push_back(Event::Opened {
            conn: ConnId(conn),
            info: ConnInfo {
                listener,
                limits: Limits {
                    queue_bytes_max: QUEUE_BYTES_MAX[usize::from(listener)],
                    ..Limits::default()
                },
                ..ConnInfo::default()
            },
        });
    }

    pub(super) fn received(&mut self, conn: MqttConn, bytes: &Bytes) {
        if self.open.contains(&conn) {
            self.events.push_back(Event::Received {
                conn: ConnId(conn),
                bytes: (&bytes[..]).into(),
            });
        }
    }

    pub(super) fn written(&mut self, conn: MqttConn, bytes: usize) {
        if self.open.contains(&conn) {
            self.events.push_back(Event::Written {
                conn: ConnId(conn),
                bytes,
            });
        }
    }

    pub(super) fn closed(&mut self, conn: MqttConn) {
        if self.open.remove(&conn) {
            self.events.push_back(Event::Closed { conn: ConnId(conn) });
        }
    }
}

impl Outlet for Clients {
    fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn queue(&mut self, conn: ConnId, bytes: Bytes) {
        if self.open.contains(&conn.0) {
            self.out.push_back(Output::Mqtt {
                conn: conn.0,
                bytes,
            });
        }
    }

    fn close(&mut self, conn: ConnId, reason: &CloseReason) {
        if self.open.remove(&conn.0) {
            self.out.push_back(Output::MqttClose { conn: conn.0 });
            self.out.push_back(Output::Note {
                what: "client closed",
                detail: reason.to_string(),
            });
        }
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        if self.open.contains(&conn.0) {
            self.out.push_back(Output::MqttPause {
                conn: conn.0,
                paused,
            });
        }
    }

    fn authenticate(&mut self, _: ConnId, _: ConnInfo, _: Login) {
        unreachable!("the simulated machine's settings do not say authenticate");
    }

    /// The world says what the sockets took, with [`Clients::written`].
    fn flush(&mut self, _written: &mut Vec<Event>) {}

    fn end_turn(&mut self) {}
}

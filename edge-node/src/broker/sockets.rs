//! The hub's connections in production: tokio's sockets, and the loop that drives the hub.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use headwater_gate::Refusals;
use headwater_mqtt::{CloseReason, ConnId, Event};
use tokio::sync::oneshot;

use super::conn::Conn;
use super::hub::{Hub, Outlet};
use super::inbox::Inbox;
use crate::clock::Clock;
use crate::store::FromStoreReceiver;

/// What an orderly stop may wait for the disk.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_250);

/// What it may wait for clients to take their good-bye.
const GOOD_BYE: Duration = Duration::from_millis(250);

/// Every open connection, by what the listener called it.
pub(super) struct Sockets {
    inbox: Rc<Inbox>,
    conns: HashMap<ConnId, Rc<Conn>>,
    dirty: Vec<Rc<Conn>>,
    refusals: Refusals,
}

impl Sockets {
    pub(super) fn new(inbox: Rc<Inbox>) -> Sockets {
        Sockets {
            inbox,
            conns: HashMap::new(),
            dirty: Vec::new(),
            refusals: Refusals::new("mqtt"),
        }
    }
}

impl Outlet for Sockets {
    fn next_event(&mut self) -> Option<Event> {
        let event = self.inbox.pop()?;
        match &event {
            // A connection is introduced before its event is pushed.
            Event::Opened { .. } => {
                for conn in self.inbox.introduced() {
                    self.conns.insert(conn.id, conn);
                }
            }
            Event::Closed { conn } => drop(self.conns.remove(conn)),
            _ => {}
        }
        Some(event)
    }

    fn queue(&mut self, conn: ConnId, bytes: Bytes) {
        if let Some(conn) = self.conns.get(&conn) {
            conn.queue(bytes);
            if !conn.dirty.replace(true) {
                self.dirty.push(conn.clone());
            }
        }
    }

    fn close(&mut self, conn: ConnId, reason: &CloseReason) {
        if let Some(conn) = self.conns.remove(&conn) {
            match reason {
                CloseReason::Disconnected
                | CloseReason::KeepAlive
                | CloseReason::TakenOver
                | CloseReason::Kicked
                | CloseReason::Shutdown => {
                    tracing::debug!(remote = %conn.remote, %reason, "MQTT connection closed");
                }
                _ => self.refusals.say(conn.remote, reason),
            }
            conn.close();
        }
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        if let Some(conn) = self.conns.get(&conn) {
            conn.pause(paused);
        }
    }

    fn flush(&mut self, written: &mut Vec<Event>) {
        for conn in self.dirty.drain(..) {
            conn.dirty.set(false);
            match conn.flush() {
                Ok(flushed) => {
                    if flushed.rest {
                        conn.write_later();
                    }
                    if flushed.bytes > 0 {
                        let bytes = flushed.bytes;
                        written.push(Event::Written {
                            conn: conn.id,
                            bytes,
                        });
                    }
                }
                // The connection's task meets the same error when it reads.
                Err(error) => {
                    tracing::debug!(conn = conn.id.0, %error, "MQTT write");
                    conn.close();
                    self.inbox.push(Event::Closed { conn: conn.id });
                }
            }
        }
    }

    fn end_turn(&mut self) {
        for conn in self.dirty.drain(..) {
            conn.dirty.set(false);
            conn.write_later();
        }
    }
}

/// A hub on sockets, with what wakes it.
pub(super) struct Driver {
    pub(super) hub: Hub<Sockets>,
    pub(super) clock: Clock,
    pub(super) inbox: Rc<Inbox>,
    pub(super) from_store: FromStoreReceiver,
}

impl Driver {
    /// Turns until asked to stop.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Result<(), String> {
        loop {
            let pause = self.clock.until(self.hub.deadline());
            tokio::select! {
                biased;
                _ = &mut stop => return self.stop().await,
                report = self.from_store.recv() => match report {
                    Some(report) => self.hub.reported(report),
                    None => return Err("the store thread has ended".to_owned()),
                },
                () = self.inbox.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.turn();
            if let Some(reason) = self.hub.failed() {
                // No acknowledgement leaves after a failed sync: the connections just end.
                return Err(reason.to_owned());
            }
        }
    }

    fn turn(&mut self) {
        while let Ok(report) = self.from_store.try_recv() {
            self.hub.reported(report);
        }
        self.hub.turn();
        if !self.inbox.is_empty() && self.hub.has_room() {
            self.inbox.wake.notify_one();
        }
    }

    /// Says good-bye to clients, waits for what is not durable yet, ends the store.
    async fn stop(mut self) -> Result<(), String> {
        self.turn();
        self.hub.shut_down();
        self.turn();
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        while !self.hub.is_settled() && self.hub.failed().is_none() {
            match tokio::time::timeout_at(deadline, self.from_store.recv()).await {
                Ok(Some(report)) => self.hub.reported(report),
                Ok(None) | Err(_) => break,
            }
            self.turn();
        }
        if let Some(reason) = self.hub.failed() {
            return Err(reason.to_owned());
        }
        self.hub.stop_store();
        // A client that has read its good-bye closes. One that still sends would be reset otherwise,
        // and a reset can overtake the good-bye.
        let gone = async {
            while self.inbox.connections() > 0 {
                self.inbox.gone.notified().await;
            }
        };
        let _ = tokio::time::timeout(GOOD_BYE, gone).await;
        Ok(())
    }
}

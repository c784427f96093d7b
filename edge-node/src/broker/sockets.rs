//! The hub's connections in production: tokio's sockets, and the loop that drives the hub.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_gate::Refusals;
use headwater_mqtt::{CloseReason, ConnId, ConnInfo, Event, Login};
use tokio::sync::{mpsc, oneshot};

use super::conn::Conn;
use super::door::Door;
use super::hub::{Hub, Outlet};
use super::inbox::Inbox;
use crate::access::ByAcl;
use crate::access::files::News;
use crate::access::logins::{Answer, Asked, Logins, Proof};
use crate::access::passwords::Passwords;
use crate::clock::Clock;
use crate::store::FromStoreReceiver;
use crate::tls::Tls;

/// Reasons in CONNACK and DISCONNECT (MQTT 5 section 2.4).
const NOT_AUTHORISED: u8 = 0x87;
const SERVER_BUSY: u8 = 0x89;
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
    doors: Vec<Rc<Door>>,
    /// `None`: there is no password file.
    logins: Option<Logins>,
}

impl Sockets {
    pub(super) fn new(inbox: Rc<Inbox>, doors: Vec<Rc<Door>>, logins: Option<Logins>) -> Sockets {
        Sockets {
            inbox,
            conns: HashMap::new(),
            dirty: Vec::new(),
            refusals: Refusals::new("mqtt"),
            doors,
            logins,
        }
    }

    fn let_in(&self, conn: ConnId, accepted: bool) {
        self.inbox.push(Event::Authenticated { conn, accepted });
    }

    fn proved(&self, conn: ConnId, proof: Proof) {
        if let Some(conn) = self.conns.get(&conn) {
            *conn.proof.borrow_mut() = Some(Box::new(proof));
        }
        self.let_in(conn, true);
    }

    /// A password was checked.
    pub(super) fn answered(&mut self, answer: Answer) {
        let conn = answer.conn;
        match self.logins.as_mut().and_then(|l| l.answered(answer)) {
            Some(proof) => self.proved(conn, proof),
            None => self.let_in(conn, false),
        }
    }

    /// Takes a new password file: who is not in it with the same password any more is closed.
    pub(super) fn replace_passwords(&mut self, passwords: Arc<Passwords>) {
        let Some(logins) = &mut self.logins else {
            return;
        };
        logins.replace(passwords);
        let holds = |conn: &Conn| conn.proof.borrow().as_ref().is_none_or(|p| logins.holds(p));
        let gone = self.conns.values().filter(|conn| !holds(conn));
        gone.for_each(|conn| refuse(&self.inbox, conn.id, NOT_AUTHORISED));
    }

    /// Takes new files of a listener: whose certificate they do not accept any more is closed.
    pub(super) fn replace_tls(&mut self, listener: u16, tls: &Tls) {
        if let Some(door) = self.doors.get(usize::from(listener)) {
            *door.tls.borrow_mut() = Some(tls.clone());
        }
        let holds = |conn: &Conn| {
            let wire = conn.wire.as_ref().map(|wire| wire.borrow());
            let chain = wire.as_ref().and_then(|wire| wire.client_chain());
            conn.listener != listener || chain.is_none_or(|chain| tls.accepts(chain))
        };
        let gone = self.conns.values().filter(|conn| !holds(conn));
        gone.for_each(|conn| refuse(&self.inbox, conn.id, NOT_AUTHORISED));
    }
}

fn refuse(inbox: &Inbox, conn: ConnId, reason: u8) {
    inbox.push(Event::Refuse { conn, reason });
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

    fn authenticate(&mut self, conn: ConnId, info: ConnInfo, login: Login) {
        if info.certificate_user.is_some() {
            return self.let_in(conn, true);
        }
        let door = self.doors.get(usize::from(info.listener));
        let anonymous = door.is_some_and(|door| door.anonymous);
        let remote = self.conns.get(&conn).map(|conn| conn.remote.ip());
        match (login.username, &mut self.logins, remote) {
            (Some(user), Some(logins), Some(remote)) => {
                let password = login.password.unwrap_or_default();
                match logins.ask(conn, remote, &user, password) {
                    Asked::Good(proof) => self.proved(conn, proof),
                    Asked::Later => {}
                    Asked::Busy => refuse(&self.inbox, conn, SERVER_BUSY),
                }
            }
            // A name that nobody can prove is no name: see `ByAcl`.
            _ if anonymous => self.let_in(conn, true),
            _ => refuse(&self.inbox, conn, NOT_AUTHORISED),
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
    /// Passwords that were checked.
    pub(super) answers: mpsc::UnboundedReceiver<Answer>,
    /// Files that changed.
    pub(super) news: mpsc::UnboundedReceiver<News>,
    /// Whether user names in CONNECT are checked.
    pub(super) passwords: bool,
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
                Some(answer) = self.answers.recv() => self.hub.outlet().answered(answer),
                Some(news) = self.news.recv() => self.changed(news),
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

    /// A file changed.
    pub(super) fn changed(&mut self, news: News) {
        match news {
            News::Tls { listener, tls } => self.hub.outlet().replace_tls(listener, &tls),
            News::Passwords(passwords) => self.hub.outlet().replace_passwords(passwords),
            News::Acl(acl) => self
                .hub
                .set_access(Box::new(ByAcl::new(acl, self.passwords))),
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

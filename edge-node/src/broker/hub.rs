//! The hub: turns events into the machine's effects and does them.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headwater_mqtt::{Append, Broker, ConnId, Effect, Event, Token};
use tokio::sync::oneshot;

use super::conn::Conn;
use super::inbox::Inbox;
use super::{BrokerView, CLIENTS_SHOWN_MAX, IN_FLIGHT_BYTES_MAX};
use crate::clock::{Clock, wall_ms};
use crate::store::{FromStore, FromStoreReceiver, StoreHandle, ToStore};

/// The status page's numbers are at most this old while something happens.
const VIEW_EVERY: Duration = Duration::from_millis(500);
/// The list of sessions is at most this old.
const CLIENTS_EVERY: Duration = Duration::from_secs(3);
/// A wake-up that nobody needs, so that a missed one does no harm.
const IDLE: Duration = Duration::from_secs(60);
/// Events handled in one turn: acknowledgements must not wait for an endless stream of input.
const EVENTS_PER_TURN: usize = 512;
/// What an orderly stop may wait for the disk.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_500);

pub(super) struct Hub {
    broker: Broker,
    clock: Clock,
    store: StoreHandle,
    from_store: FromStoreReceiver,
    inbox: Rc<Inbox>,
    view: Arc<Mutex<BrokerView>>,
    conns: HashMap<ConnId, Rc<Conn>>,
    dirty: Vec<Rc<Conn>>,
    effects: Vec<Effect>,
    appends: Vec<Append>,
    /// Appends that are not durable, with their size.
    in_flight: VecDeque<(Token, usize)>,
    in_flight_bytes: usize,
    timer_at_ms: Option<u64>,
    viewed: Instant,
    clients_viewed: Instant,
    /// Something happened since the status page's numbers were taken.
    unseen: bool,
    failed: Option<String>,
    want_checkpoint: bool,
}

impl Hub {
    pub(super) fn new(
        broker: Broker,
        clock: Clock,
        store: StoreHandle,
        from_store: FromStoreReceiver,
        inbox: Rc<Inbox>,
        view: Arc<Mutex<BrokerView>>,
    ) -> Hub {
        Hub {
            broker,
            clock,
            store,
            from_store,
            inbox,
            view,
            conns: HashMap::new(),
            dirty: Vec::new(),
            effects: Vec::new(),
            appends: Vec::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            timer_at_ms: Some(0),
            viewed: Instant::now(),
            clients_viewed: Instant::now(),
            unseen: true,
            failed: None,
            want_checkpoint: false,
        }
    }

    /// Turns until asked to stop.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Result<(), String> {
        loop {
            let timer = self.next_timer();
            tokio::select! {
                biased;
                _ = &mut stop => return self.stop().await,
                report = self.from_store.recv() => match report {
                    Some(report) => self.reported(report),
                    None => return Err("the store thread has ended".to_owned()),
                },
                () = self.inbox.wake.notified() => {}
                () = tokio::time::sleep_until(timer.into()) => {}
            }
            self.turn();
            if let Some(reason) = self.failed {
                // No acknowledgement leaves after a failed sync: the connections just end.
                return Err(reason);
            }
        }
    }

    /// One turn: reports, events, timer; then appends and writes go out.
    fn turn(&mut self) {
        while let Ok(report) = self.from_store.try_recv() {
            self.reported(report);
        }
        let now = self.clock.now_ms();
        for conn in self.inbox.introduced() {
            self.conns.insert(conn.id, conn);
        }
        for _ in 0..EVENTS_PER_TURN {
            if self.in_flight_bytes > IN_FLIGHT_BYTES_MAX {
                break;
            }
            let Some(event) = self.inbox.pop() else { break };
            if let Event::Closed { conn } = &event {
                self.conns.remove(conn);
            }
            self.handle(now, event);
        }
        if self.timer_at_ms.is_some_and(|at| at <= now) {
            self.timer_at_ms = None;
            self.handle(now, Event::Timer);
        }
        self.ship();
        self.flush(now);
        self.ship();
        if std::mem::take(&mut self.want_checkpoint) {
            let changes = self.broker.checkpoint_changes();
            self.store.send(ToStore::Checkpoint(changes));
        }
        if !self.inbox.is_empty() && self.in_flight_bytes <= IN_FLIGHT_BYTES_MAX {
            self.inbox.wake.notify_one();
        }
        self.show();
    }

    /// An idle broker sleeps until the machine's timer.
    fn next_timer(&self) -> Instant {
        let armed = self.timer_at_ms.map(|at| self.clock.instant(at));
        let view = if self.unseen {
            self.viewed + VIEW_EVERY
        } else {
            self.viewed + IDLE
        };
        armed.map_or(view, |at| at.min(view))
    }

    fn reported(&mut self, report: FromStore) {
        let now = self.clock.now_ms();
        match report {
            FromStore::Durable(token) => {
                let done = self.in_flight.partition_point(|(t, _)| *t <= token);
                for (_, bytes) in self.in_flight.drain(..done) {
                    self.in_flight_bytes -= bytes;
                }
                self.handle(now, Event::Durable(token));
            }
            FromStore::Refused(token, reason) => {
                if let Ok(at) = self.in_flight.binary_search_by_key(&token, |(t, _)| *t) {
                    let removed = self.in_flight.remove(at);
                    self.in_flight_bytes -= removed.map_or(0, |(_, bytes)| bytes);
                }
                self.handle(now, Event::Refused { token, reason });
            }
            FromStore::WantCheckpoint => self.want_checkpoint = true,
            FromStore::Failed(reason) => self.failed = Some(reason),
        }
    }

    fn handle(&mut self, now: u64, event: Event) {
        self.unseen = true;
        self.broker.handle(now, event, &mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        self.effects = effects;
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { conn, bytes } => {
                if let Some(conn) = self.conns.get(&conn) {
                    conn.queue(bytes);
                    if !conn.dirty.replace(true) {
                        self.dirty.push(conn.clone());
                    }
                }
            }
            Effect::Append(append) => {
                let payload = append
                    .publish
                    .as_ref()
                    .map_or(0, |p| p.payload.len() + p.topic.len());
                let bytes = payload + append.op.len() + 64;
                self.in_flight.push_back((append.token, bytes));
                self.in_flight_bytes += bytes;
                self.appends.push(append);
            }
            Effect::Close { conn, reason } => {
                if let Some(conn) = self.conns.remove(&conn) {
                    tracing::debug!(conn = conn.id.0, %reason, "MQTT connection closed");
                    conn.close();
                }
            }
            Effect::PauseReading(conn) => self.pause(conn, true),
            Effect::ResumeReading(conn) => self.pause(conn, false),
            Effect::ArmTimer { at_ms } => self.timer_at_ms = Some(at_ms),
            // Never asked: `authenticate` is off in the machine's settings.
            Effect::Authenticate { conn, .. } => {
                self.inbox.push(Event::Authenticated {
                    conn,
                    accepted: false,
                });
            }
        }
    }

    fn pause(&self, conn: ConnId, paused: bool) {
        if let Some(conn) = self.conns.get(&conn) {
            conn.pause(paused);
        }
    }

    /// One message for everything this turn appended.
    fn ship(&mut self) {
        if !self.appends.is_empty() {
            let appends = std::mem::take(&mut self.appends);
            self.store.send(ToStore::Append {
                appends,
                arrived_ms: wall_ms(),
            });
        }
    }

    /// Writes what this turn sent, one call per connection, then what that gave room for.
    fn flush(&mut self, now: u64) {
        // A second round serves queues that the first made room for; the rest is for the next turn.
        for _ in 0..2 {
            for conn in std::mem::take(&mut self.dirty) {
                conn.dirty.set(false);
                match conn.flush() {
                    Ok(flushed) => {
                        if flushed.rest {
                            conn.write_later();
                        }
                        if flushed.bytes > 0 {
                            let bytes = flushed.bytes;
                            self.handle(
                                now,
                                Event::Written {
                                    conn: conn.id,
                                    bytes,
                                },
                            );
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
        for conn in &self.dirty {
            conn.dirty.set(false);
            conn.write_later();
        }
        self.dirty.clear();
    }

    fn show(&mut self) {
        if !self.unseen || self.viewed.elapsed() < VIEW_EVERY {
            return;
        }
        self.viewed = Instant::now();
        self.unseen = false;
        // Listing all sessions costs; their numbers do not.
        let list = self.clients_viewed.elapsed() >= CLIENTS_EVERY;
        let clients = list.then(|| {
            self.clients_viewed = self.viewed;
            let mut clients = self.broker.clients();
            clients.truncate(CLIENTS_SHOWN_MAX);
            clients
        });
        // A list that is left out now is due even if nothing more happens.
        self.unseen = !list;
        let stats = self.broker.stats();
        let mut view = self
            .view
            .lock()
            .expect("no code panics while it holds this lock");
        view.stats = stats;
        if let Some(clients) = clients {
            view.clients = clients;
        }
    }

    /// Says good-bye to clients, waits for what is not durable yet, ends the store.
    async fn stop(mut self) -> Result<(), String> {
        self.turn();
        self.handle(self.clock.now_ms(), Event::Shutdown);
        self.turn();
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        while !self.in_flight.is_empty() && self.failed.is_none() {
            match tokio::time::timeout_at(deadline, self.from_store.recv()).await {
                Ok(Some(report)) => self.reported(report),
                Ok(None) | Err(_) => break,
            }
            self.turn();
        }
        if let Some(reason) = self.failed {
            return Err(reason);
        }
        let changes = if self.in_flight.is_empty() {
            self.broker.checkpoint_changes()
        } else {
            // The journal holds what is missing here.
            Vec::new()
        };
        self.store.send(ToStore::Stop(changes));
        // Lets the connection tasks write their good-byes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

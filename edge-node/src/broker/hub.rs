//! The hub: turns events into the machine's effects and does them.
//!
//! It has no socket, no thread and no clock of its own, so a simulation can drive the same code:
//! connections are behind an [`Outlet`], the log is behind a [`StoreHandle`].
//! ```text
//! reported(report)    for each report of the store
//! turn()              then, when events are there, and whenever deadline() has come
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use headwater_mqtt::{
    Access, Append, Broker, CloseReason, ConnId, ConnInfo, Effect, Event, Login, Token,
};

use super::{BrokerView, CLIENTS_SHOWN_MAX, IN_FLIGHT_BYTES_MAX};
use crate::clock::Clock;
use crate::store::{Changes, FromStore, StoreHandle, ToStore};
use crate::taps::Taps;

/// The status page's numbers are at most this old while something happens.
const VIEW_EVERY_MS: u64 = 500;
/// The list of sessions is at most this old.
const CLIENTS_EVERY_MS: u64 = 3_000;
/// A wake-up that nobody needs, so that a missed one does no harm.
const IDLE_MS: u64 = 60_000;
/// Events handled in one turn: acknowledgements must not wait for an endless stream of input.
const EVENTS_PER_TURN: usize = 512;

/// The connections, as the hub sees them.
pub trait Outlet {
    /// The next thing that happened on any connection, in order.
    fn next_event(&mut self) -> Option<Event>;
    /// Queues bytes for the connection; they leave with the next flush. Of one that is gone, nothing.
    fn queue(&mut self, conn: ConnId, bytes: bytes::Bytes);
    /// Closes once what is queued is written.
    fn close(&mut self, conn: ConnId, reason: &CloseReason);
    /// Stops reading the connection, or goes on.
    fn pause(&mut self, conn: ConnId, paused: bool);
    /// Checks a login: [`Event::Authenticated`] or [`Event::Refuse`] follows. Asked only if the
    /// machine's settings say `authenticate`.
    fn authenticate(&mut self, conn: ConnId, info: ConnInfo, login: Login);
    /// Writes what the connections take now and says how much it was, with [`Event::Written`].
    fn flush(&mut self, written: &mut Vec<Event>);
    /// The turn is over: what is still queued is written when there is room.
    fn end_turn(&mut self);
}

/// The broker machine between connections and log. See the [module](self).
pub struct Hub<O> {
    broker: Broker,
    clock: Clock,
    store: StoreHandle,
    outlet: O,
    view: Arc<Mutex<BrokerView>>,
    taps: Arc<Taps>,
    effects: Vec<Effect>,
    appends: Vec<Append>,
    written: Vec<Event>,
    /// Appends that are not durable, with their size.
    in_flight: VecDeque<(Token, usize)>,
    in_flight_bytes: usize,
    /// Refusals that the machine was told of.
    refusals_seen: u64,
    timer_at_ms: Option<u64>,
    viewed_ms: u64,
    clients_viewed_ms: u64,
    /// Something happened since the status page's numbers were taken.
    unseen: bool,
    failed: Option<String>,
    want_checkpoint: bool,
}

impl<O: Outlet> Hub<O> {
    /// Around a restored machine. The first turn is due at once.
    pub fn new(
        broker: Broker,
        clock: Clock,
        store: StoreHandle,
        outlet: O,
        view: Arc<Mutex<BrokerView>>,
    ) -> Hub<O> {
        let now = clock.now_ms();
        Hub {
            broker,
            clock,
            store,
            outlet,
            view,
            taps: Arc::default(),
            effects: Vec::new(),
            appends: Vec::new(),
            written: Vec::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            refusals_seen: 0,
            timer_at_ms: Some(0),
            viewed_ms: now,
            clients_viewed_ms: now,
            unseen: true,
            failed: None,
            want_checkpoint: false,
        }
    }

    /// Shows messages to those who watch.
    pub fn watched_by(mut self, taps: Arc<Taps>) -> Hub<O> {
        self.taps = taps;
        self
    }

    /// The connections.
    pub fn outlet(&mut self) -> &mut O {
        &mut self.outlet
    }

    /// The machine, to look at.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// One turn: events, timer; then appends and writes go out.
    pub fn turn(&mut self) {
        let now = self.clock.now_ms();
        for _ in 0..EVENTS_PER_TURN {
            if !self.has_room() {
                break;
            }
            let Some(event) = self.outlet.next_event() else {
                break;
            };
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
        self.show(now);
    }

    /// When the next turn is due if nothing happens, by the node's clock. An idle broker sleeps
    /// until the machine's timer.
    pub fn deadline(&self) -> u64 {
        let view = if self.unseen { VIEW_EVERY_MS } else { IDLE_MS };
        let view = self.viewed_ms + view;
        self.timer_at_ms.map_or(view, |at| at.min(view))
    }

    /// Whether events are taken: what is handed to the log and not durable is bounded.
    pub fn has_room(&self) -> bool {
        self.in_flight_bytes <= IN_FLIGHT_BYTES_MAX
    }

    /// Takes a report of the store.
    pub fn reported(&mut self, report: FromStore) {
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
                // What was appended without knowing of it says so.
                self.ship();
                self.refusals_seen += 1;
                if let Ok(at) = self.in_flight.binary_search_by_key(&token, |(t, _)| *t) {
                    let removed = self.in_flight.remove(at);
                    self.in_flight_bytes -= removed.map_or(0, |(_, bytes)| bytes);
                }
                self.handle(now, Event::Refused { token, reason });
            }
            FromStore::WantCheckpoint => self.want_checkpoint = true,
            FromStore::Probe(probe) => probe.answer(),
            FromStore::Failed(reason) => self.failed = Some(reason),
        }
    }

    /// Why the log failed, if it did. No acknowledgement may leave after a failed sync: the
    /// connections just end.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Takes the access rules, for those that are connected too.
    pub fn set_access(&mut self, access: Box<dyn Access>) {
        self.broker.set_access(access);
        self.handle(self.clock.now_ms(), Event::AccessChanged);
    }

    /// Says good-bye to every client. The next turn writes it.
    pub fn shut_down(&mut self) {
        self.handle(self.clock.now_ms(), Event::Shutdown);
    }

    /// Whether everything that was appended is durable or refused.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Ends the store: what is durable is checkpointed, the journal holds the rest.
    pub fn stop_store(&mut self) {
        let changes = if self.is_settled() {
            self.broker.checkpoint_changes()
        } else {
            Changes::new()
        };
        self.store.send(ToStore::Stop(changes));
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
            Effect::Send { conn, bytes } => self.outlet.queue(conn, bytes),
            Effect::Append(append) => {
                if let Some(publish) = &append.publish {
                    self.taps.offer(publish, || self.clock.wall_ms());
                }
                let payload = append
                    .publish
                    .as_ref()
                    .map_or(0, |p| p.payload.len() + p.topic.len());
                let bytes = payload + append.op.len() + 64;
                self.in_flight.push_back((append.token, bytes));
                self.in_flight_bytes += bytes;
                self.appends.push(append);
            }
            Effect::Close { conn, reason } => self.outlet.close(conn, &reason),
            Effect::PauseReading(conn) => self.outlet.pause(conn, true),
            Effect::ResumeReading(conn) => self.outlet.pause(conn, false),
            Effect::ArmTimer { at_ms } => self.timer_at_ms = Some(at_ms),
            Effect::Authenticate { conn, info, login } => {
                self.outlet.authenticate(conn, info, login);
            }
        }
    }

    /// One message for everything this turn appended.
    fn ship(&mut self) {
        if !self.appends.is_empty() {
            let appends = std::mem::take(&mut self.appends);
            self.store.send(ToStore::Append {
                appends,
                arrived_ms: self.clock.wall_ms(),
                refusals_seen: self.refusals_seen,
            });
        }
    }

    /// Writes what this turn sent, one call per connection, then what that gave room for.
    fn flush(&mut self, now: u64) {
        // A second round serves queues that the first made room for; the rest is for the next turn.
        for _ in 0..2 {
            let mut written = std::mem::take(&mut self.written);
            self.outlet.flush(&mut written);
            for event in written.drain(..) {
                self.handle(now, event);
            }
            self.written = written;
        }
        self.outlet.end_turn();
    }

    fn show(&mut self, now: u64) {
        let age = now - self.viewed_ms;
        if !self.unseen && age < IDLE_MS || age < VIEW_EVERY_MS {
            return;
        }
        // Also when nothing happened: a wake-up that leaves its deadline in the past comes again
        // at once, for ever.
        self.viewed_ms = now;
        self.unseen = false;
        // Listing all sessions costs; their numbers do not.
        let list = now - self.clients_viewed_ms >= CLIENTS_EVERY_MS;
        let clients = list.then(|| {
            self.clients_viewed_ms = now;
            let mut clients = self.broker.clients();
            clients.sort_by_key(|client| !client.connected);
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
}

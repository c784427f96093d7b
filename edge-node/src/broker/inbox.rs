//! What connection tasks hand to the hub. Lives on the broker thread alone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use headwater_mqtt::{ConnId, Event};
use tokio::sync::Notify;

use super::conn::Conn;
use super::{INBOX_BYTES_MAX, READ_BYTES};

pub(super) struct Inbox {
    events: RefCell<VecDeque<Event>>,
    opened: RefCell<Vec<Rc<Conn>>>,
    bytes: Cell<usize>,
    connections: Cell<usize>,
    next_id: Cell<u64>,
    /// Wakes the hub.
    pub(super) wake: Notify,
    /// Wakes connections that wait for room.
    pub(super) room: Notify,
    /// Says that a connection's task ended.
    pub(super) gone: Notify,
    /// Read buffer of every connection: nothing is kept in it across an await.
    pub(super) scratch: RefCell<Box<[u8]>>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            events: RefCell::default(),
            opened: RefCell::default(),
            bytes: Cell::new(0),
            connections: Cell::new(0),
            next_id: Cell::new(1),
            wake: Notify::new(),
            room: Notify::new(),
            gone: Notify::new(),
            scratch: RefCell::new(vec![0; READ_BYTES].into()),
        }
    }

    pub(super) fn push(&self, event: Event) {
        if let Event::Received { bytes, .. } = &event {
            self.bytes.set(self.bytes.get() + bytes.len());
        }
        self.events.borrow_mut().push_back(event);
        self.wake.notify_one();
    }

    pub(super) fn pop(&self) -> Option<Event> {
        let event = self.events.borrow_mut().pop_front()?;
        if let Event::Received { bytes, .. } = &event {
            let before = self.bytes.get();
            self.bytes.set(before - bytes.len());
            if before > INBOX_BYTES_MAX && self.has_room() {
                self.room.notify_waiters();
            }
        }
        Some(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.borrow().is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.get() <= INBOX_BYTES_MAX
    }

    /// Introduces a connection; its `Opened` event follows.
    pub(super) fn introduce(&self, conn: Rc<Conn>) {
        self.opened.borrow_mut().push(conn);
    }

    pub(super) fn introduced(&self) -> Vec<Rc<Conn>> {
        std::mem::take(&mut *self.opened.borrow_mut())
    }

    /// A connection was accepted.
    pub(super) fn entered(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// A connection's task ended.
    pub(super) fn left(&self) {
        self.connections.set(self.connections.get() - 1);
        self.gone.notify_one();
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.get()
    }

    pub(super) fn new_id(&self) -> ConnId {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        ConnId(id)
    }
}

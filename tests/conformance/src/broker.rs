//! The broker under test, as one case sees it: an address, names that nobody else uses, and a record
//! of what went over the wire.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::client::Client;
use crate::packets::{Connect, Message, Will};
use crate::registry::Failure;
use crate::run::Target;
use crate::stream::{InFrames, Stream};
use crate::wire::{Frame, Packet, Properties, Version, kind, property};

/// Life of the sessions that cases leave behind on 5.0 until they are tidied up.
const SESSION_S: u32 = 300;

/// One case's view of the broker.
pub struct Broker {
    pub version: Version,
    pub wait: Duration,
    target: Target,
    tag: String,
    names: Cell<u32>,
    clients: Cell<u32>,
    trace: RefCell<Vec<String>>,
    sessions: RefCell<Vec<String>>,
    retained: RefCell<Vec<String>>,
}

impl Broker {
    pub fn new(target: Target, version: Version) -> Broker {
        static CASES: AtomicU32 = AtomicU32::new(0);
        let case = CASES.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis() & 0xff_ffff;
        Broker {
            version,
            wait: target.wait,
            target,
            tag: format!("{now:x}{:x}n{case}", std::process::id()),
            names: Cell::new(0),
            clients: Cell::new(0),
            trace: RefCell::default(),
            sessions: RefCell::default(),
            retained: RefCell::default(),
        }
    }

    /// A topic, or the first levels of one, that no other case and no other run uses.
    pub fn topic(&self) -> String {
        format!("conformance/{}", self.name())
    }

    /// A client id that no other case and no other run uses, of 23 letters and digits at most.
    pub fn name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("c{}x{}", self.tag, self.names.get())
    }

    /// A CONNECT that starts anew.
    pub fn fresh(&self, id: &str) -> Connect {
        Connect::new(self.version, id)
    }

    /// A CONNECT that goes on with a session, or starts one that outlives the connection.
    pub fn lasting(&self, id: &str) -> Connect {
        let expiry = Properties::new().four(property::SESSION_EXPIRY, SESSION_S);
        let mut connect = self.fresh(id).properties(expiry);
        connect.clean = false;
        self.remember(id);
        connect
    }

    /// A CONNECT with a will at QoS 0.
    pub fn willing(&self, topic: &str, payload: &str) -> Connect {
        self.fresh(&self.name()).will(Will::new(topic, payload))
    }

    /// This session is to be ended when the case is over.
    pub fn remember(&self, id: &str) {
        self.sessions.borrow_mut().push(id.to_owned());
    }

    /// This topic's retained message is to be removed when the case is over.
    pub fn remember_retained(&self, topic: &str) {
        self.retained.borrow_mut().push(topic.to_owned());
    }

    /// A connection, nothing sent yet.
    pub fn dial(&self) -> Result<Client<'_>, Failure> {
        if self.target.over_websocket {
            let client = self.websocket(&["mqtt"])?;
            return client.ok_or_else(|| Failure(crate::cases::NO_ADDRESS.into()));
        }
        let address = self.target.address;
        let stream = Stream::tcp(address, self.wait);
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        Ok(self.connected(Stream::Tcp(stream)))
    }

    /// A WebSocket with these sub-protocols on offer, if it is known where the broker has one.
    pub fn websocket(&self, offered: &[&str]) -> Result<Option<Client<'_>>, Failure> {
        let Some(address) = self.target.websocket else {
            return Ok(None);
        };
        let stream = Stream::tcp(address, self.wait);
        let stream = stream.map_err(|error| format!("{address}: {error}"))?;
        let frames = InFrames::open(stream, offered)?;
        Ok(Some(self.connected(Stream::WebSocket(Box::new(frames)))))
    }

    fn connected(&self, stream: Stream) -> Client<'_> {
        self.clients.set(self.clients.get() + 1);
        Client::new(self, stream, self.clients.get())
    }

    /// A connection on which this was sent and nothing read yet.
    pub fn send(&self, connect: &Connect) -> Result<Client<'_>, Failure> {
        let mut client = self.dial()?;
        client.version = connect.version;
        client.send(&connect.frame());
        Ok(client)
    }

    /// A connection whose first bytes these are.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<Client<'_>, Failure> {
        let mut client = self.dial()?;
        client.send_bytes(bytes);
        Ok(client)
    }

    /// A connection that the broker has accepted.
    pub fn open(&self, connect: &Connect) -> Result<Client<'_>, Failure> {
        let mut client = self.send(connect)?;
        match client.packet()? {
            Packet::ConnAck {
                flags,
                code: 0,
                properties,
            } => {
                client.session_present = flags & 1 == 1;
                client.connack = properties;
                Ok(client)
            }
            other => Err(Failure(format!("{other} instead of a CONNACK 0x00"))),
        }
    }

    /// A client that is back, and finds its session.
    pub fn resumed(&self, id: &str) -> Result<Client<'_>, Failure> {
        let client = self.open(&self.lasting(id))?;
        if client.session_present {
            return Ok(client);
        }
        Err(Failure("no session present".into()))
    }

    /// A client of its own id with a fresh session.
    pub fn client(&self) -> Result<Client<'_>, Failure> {
        self.open(&self.fresh(&self.name()))
    }

    /// A client that takes what is published to `filter`.
    pub fn subscriber(&self, filter: &str, qos: u8) -> Result<Client<'_>, Failure> {
        let mut client = self.client()?;
        client.subscribe(filter, qos)?;
        Ok(client)
    }

    /// Publishes as a client of its own and waits until the broker has it.
    pub fn put(&self, message: &Message) -> Result<(), Failure> {
        self.client()?.put(message)
    }

    /// The connection of a client that was sent this, when the broker is to have had enough of it.
    pub fn after(&self, frame: &Frame) -> Result<String, Failure> {
        let mut client = self.client()?;
        client.send(frame);
        client.closed()
    }

    /// Lets time pass, where what is to be shown is what time does.
    pub fn pass(&self, time: Duration) {
        self.note(format!("  {} ms pass", time.as_millis()));
        std::thread::sleep(time);
    }

    /// Adds a line to the record.
    pub fn note(&self, line: String) {
        self.trace.borrow_mut().push(line);
    }

    pub fn take_trace(&self) -> Vec<String> {
        self.trace.take()
    }

    /// Removes the sessions and retained messages of the case, as well as that can be done.
    pub fn tidy(&self) {
        for id in self.sessions.take() {
            if let Ok(mut client) = self.open(&self.fresh(&id)) {
                client.send(&Frame::new(kind::DISCONNECT));
            }
        }
        let topics = self.retained.take();
        let Some(Ok(mut client)) = (!topics.is_empty()).then(|| self.client()) else {
            return;
        };
        for topic in topics {
            client.send(&Message::new(&topic, "").retain().frame(self.version));
        }
        let _ = client.ping();
    }
}

//! Accepting connections, and their handshakes below MQTT.
//!
//! A handshake runs in the connection's own task, so it holds up nobody. It has
//! [`HANDSHAKE_TIME_MAX`], and of one listener [`HANDSHAKES_MAX`] are under way at most: one more
//! ends the oldest.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use headwater_gate::{Heard, Newcomers};
use headwater_mqtt::Event;
use tokio::net::tcp::OwnedReadHalf;

use super::conn::{self, Conn};
use super::door::{Arrival, Door, Place};
use super::inbox::Inbox;

/// See the module's docs.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// See the module's docs.
const HANDSHAKES_MAX: usize = 256;
/// Out of file descriptors or the like: wait for some connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn accept(
    listener: TcpListener,
    door: Rc<Door>,
    hard_limit: usize,
    inbox: Rc<Inbox>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut handshakes = Newcomers::new(HANDSHAKES_MAX);
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting MQTT connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if inbox.connections() >= hard_limit {
            door.refusals.say(remote, "too many connections");
            continue;
        }
        let refuse = match door.arrival(Instant::now()) {
            Arrival::Welcome => None,
            Arrival::Refused(reason) => Some(reason),
            Arrival::Dropped => {
                door.refusals
                    .say(remote, "too many new connections a second");
                continue;
            }
        };
        // Acknowledgements are small and must not wait for more.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let place = Place::new(&inbox, &door, remote);
        let (id, layered) = (inbox.new_id(), door.is_layered());
        if !layered {
            let conn = Rc::new(Conn::new(id, &place, write, None));
            open(&conn, &door, &inbox, refuse);
            tokio::task::spawn_local(conn::serve(conn, read, inbox.clone(), place));
            continue;
        }
        match door.wire() {
            Ok(wire) => {
                let conn = Rc::new(Conn::new(id, &place, write, Some(wire)));
                let heard = Heard::default();
                let meet = meet(conn, read, inbox.clone(), place, heard.clone(), refuse);
                let task = tokio::task::spawn_local(meet).abort_handle();
                if let Some(oldest) = handshakes.admit(remote, heard, task) {
                    let why = "the oldest of too many unfinished handshakes";
                    door.refusals.say(oldest, why);
                }
            }
            Err(error) => door.refusals.say(remote, error),
        }
    }
}

/// Hands the connection to the hub.
fn open(conn: &Rc<Conn>, door: &Door, inbox: &Inbox, refuse: Option<u8>) {
    let wire = conn.wire.as_ref().map(|wire| wire.borrow());
    let info = door.info(conn.remote, wire.as_deref(), refuse);
    inbox.introduce(conn.clone());
    inbox.push(Event::Opened {
        conn: conn.id,
        info,
    });
}

/// A connection that begins with handshakes. Once they are over it makes room for nobody: the machine
/// has bounds of its own for those that send no CONNECT.
async fn meet(
    conn: Rc<Conn>,
    mut read: OwnedReadHalf,
    inbox: Rc<Inbox>,
    place: Place,
    heard: Heard,
    refuse: Option<u8>,
) {
    // In memory of its own, which goes with the handshake.
    let greeting = Box::pin(conn::greet(&conn, &mut read, &inbox));
    let greeted = tokio::time::timeout(HANDSHAKE_TIME_MAX, greeting).await;
    let early = greeted.unwrap_or_else(|_| {
        let why = "the handshake below MQTT took too long";
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    });
    match early {
        Ok(early) => {
            heard.set();
            open(&conn, &place.door, &inbox, refuse);
            push_early(&conn, early, &inbox);
            conn::serve(conn, read, inbox, place).await;
        }
        Err(error) => {
            // Whoever looks whether a port is open says nothing, and is not worth a line.
            if error.kind() != io::ErrorKind::UnexpectedEof {
                place.door.refusals.say(conn.remote, &error);
            }
            if error.kind() == io::ErrorKind::InvalidData {
                conn::linger(&conn, &mut read, &inbox).await;
            }
        }
    }
}

fn push_early(conn: &Conn, bytes: BytesMut, inbox: &Inbox) {
    if !bytes.is_empty() {
        let conn = conn.id;
        inbox.push(Event::Received { conn, bytes });
    }
}

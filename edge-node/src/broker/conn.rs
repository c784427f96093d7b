//! One connection: a small task that reads, and writes what the hub could not write at once. TLS and
//! WebSocket, where there are, stand between it and the socket ([`super::wire`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use headwater_mqtt::{ConnId, Event};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::door::Place;
use super::inbox::Inbox;
use super::wire::Wire;
use crate::access::logins::Proof;

/// Buffers handed to one write.
const SLICES_MAX: usize = 64;
/// A peer that does not take its last packets is cut off.
const LINGER: Duration = Duration::from_secs(5);

pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) remote: SocketAddr,
    /// The listener it came in by.
    pub(super) listener: u16,
    /// `None`: bare MQTT.
    pub(super) wire: Option<Box<RefCell<Wire>>>,
    /// What it logged in with.
    pub(super) proof: RefCell<Option<Box<Proof>>>,
    /// Something was ever to be written.
    spoken: Cell<bool>,
    /// `None` once closed: dropping the half shuts the sending side down.
    write: RefCell<Option<OwnedWriteHalf>>,
    out: RefCell<VecDeque<Bytes>>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    /// Set while the hub has this connection on its list for the end of the turn.
    pub(super) dirty: Cell<bool>,
    /// Something above changed.
    changed: Notify,
}

/// What a write came to.
pub(super) struct Flushed {
    pub(super) bytes: usize,
    pub(super) rest: bool,
}

impl Conn {
    pub(super) fn new(
        id: ConnId,
        place: &Place,
        write: OwnedWriteHalf,
        wire: Option<Wire>,
    ) -> Conn {
        Conn {
            id,
            remote: place.remote,
            listener: place.door.number,
            wire: wire.map(|wire| Box::new(RefCell::new(wire))),
            proof: RefCell::default(),
            spoken: Cell::new(false),
            write: RefCell::new(Some(write)),
            out: RefCell::default(),
            paused: Cell::new(false),
            closing: Cell::new(false),
            dirty: Cell::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn queue(&self, bytes: Bytes) {
        self.spoken.set(true);
        self.out.borrow_mut().push_back(bytes);
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.changed.notify_one();
    }

    /// What is queued is still written.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.changed.notify_one();
    }

    /// The task is to wait for the socket and write the rest.
    pub(super) fn write_later(&self) {
        self.changed.notify_one();
    }

    /// Writes as much as the socket takes now.
    pub(super) fn flush(&self) -> io::Result<Flushed> {
        let write = self.write.borrow();
        let write = write.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let mut out = self.out.borrow_mut();
        if let Some(wire) = &self.wire {
            return flush_wire(&mut wire.borrow_mut(), &mut out, write);
        }
        let mut bytes = 0;
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = out.len().min(SLICES_MAX);
            for (slice, piece) in slices.iter_mut().zip(out.iter()) {
                *slice = IoSlice::new(piece);
            }
            match write.try_write_vectored(&slices[..filled]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes += written;
                    advance(&mut out, written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed {
            bytes,
            rest: !out.is_empty(),
        })
    }
}

/// The same through TLS and WebSocket, which take no more than they can hold.
fn flush_wire(
    wire: &mut Wire,
    out: &mut VecDeque<Bytes>,
    write: &OwnedWriteHalf,
) -> io::Result<Flushed> {
    let mut bytes = 0;
    loop {
        match wire.write_to(&mut Socket(write)) {
            Ok(()) if out.is_empty() => break,
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // It holds nothing now, so it has room, unless its good-bye is said.
        let taken = wire.take(out);
        if taken == 0 && !out.is_empty() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        bytes += taken;
    }
    Ok(Flushed {
        bytes,
        rest: !out.is_empty() || wire.has_output(),
    })
}

/// What the socket takes now.
struct Socket<'a>(&'a OwnedWriteHalf);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Conn {
    /// Whether something waits for the socket.
    fn has_rest(&self) -> bool {
        !self.out.borrow().is_empty()
            || self
                .wire
                .as_ref()
                .is_some_and(|wire| wire.borrow().has_output())
    }

    /// The peer said that nothing more follows, by TLS or WebSocket.
    fn is_ended(&self) -> bool {
        self.wire
            .as_ref()
            .is_some_and(|wire| wire.borrow().is_ended())
    }

    /// Waits until the socket takes more. The half is only taken out by the task that waits here.
    async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| match self.write.borrow().as_ref() {
            Some(write) => {
                let stream: &TcpStream = write.as_ref();
                stream.poll_write_ready(context)
            }
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        })
        .await
    }
}

fn advance(out: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = out.front_mut() {
        if front.len() > written {
            front.advance(written);
            return;
        }
        written -= front.len();
        out.pop_front();
    }
}

/// Runs the connection to its end; `place` is held as long.
pub(super) async fn serve(conn: Rc<Conn>, mut read: OwnedReadHalf, inbox: Rc<Inbox>, place: Place) {
    if let Err(error) = work(&conn, &mut read, &inbox).await {
        inbox.push(Event::Closed { conn: conn.id });
        if error.kind() == io::ErrorKind::InvalidData {
            place.door.refusals.say(conn.remote, error);
        }
        // The peer is told why, or that its good-bye was heard.
        if conn.wire.is_some() {
            Box::pin(linger(&conn, &mut read, &inbox)).await;
        }
    }
}

/// Does the handshakes of TLS and WebSocket. Gives the MQTT bytes that came right behind them.
pub(super) async fn greet(
    conn: &Conn,
    read: &mut OwnedReadHalf,
    inbox: &Inbox,
) -> io::Result<BytesMut> {
    let mut early = BytesMut::new();
    loop {
        while conn.flush()?.rest {
            conn.writable().await?;
        }
        if conn
            .wire
            .as_ref()
            .is_none_or(|wire| wire.borrow().is_open())
        {
            return Ok(early);
        }
        match receive(conn, read, inbox).await? {
            Some(bytes) => early.extend_from_slice(&bytes),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// `Ok`: closed as the hub asked. `Err`: the peer or the network ended it.
async fn work(conn: &Conn, read: &mut OwnedReadHalf, inbox: &Inbox) -> io::Result<()> {
    loop {
        if conn.closing.get() {
            // A peer that was never answered has nothing to read.
            if conn.spoken.get() || conn.wire.is_some() {
                // In memory of its own: an idle connection holds none for its end.
                Box::pin(linger(conn, read, inbox)).await;
            }
            return Ok(());
        }
        let rest = conn.has_rest() && !conn.dirty.get();
        let may_read = !conn.paused.get() && inbox.has_room();
        tokio::select! {
            biased;
            () = conn.changed.notified() => {}
            writable = conn.writable(), if rest => {
                writable?;
                let flushed = conn.flush()?;
                if flushed.bytes > 0 {
                    inbox.push(Event::Written { conn: conn.id, bytes: flushed.bytes });
                }
            }
            received = receive(conn, read, inbox), if may_read => match received? {
                Some(bytes) => {
                    if !bytes.is_empty() {
                        inbox.push(Event::Received { conn: conn.id, bytes });
                    }
                    if conn.is_ended() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            () = inbox.room.notified(), if !may_read && !conn.paused.get() => {}
        }
    }
}

/// Reads into the shared buffer and copies out what came, so that an idle connection holds none.
/// `None`: the stream ended. Nothing may be in what came through TLS or a WebSocket; what they get
/// wrong is an error of the kind `InvalidData`.
async fn receive(
    conn: &Conn,
    read: &mut OwnedReadHalf,
    inbox: &Inbox,
) -> io::Result<Option<BytesMut>> {
    poll_fn(|context| {
        let mut scratch = inbox.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(&mut *read).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(())) => Poll::Ready(plain(conn, buffer.filled()).map(Some)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn plain(conn: &Conn, bytes: &[u8]) -> io::Result<BytesMut> {
    let Some(wire) = &conn.wire else {
        return Ok(BytesMut::from(bytes));
    };
    let mut plain = BytesMut::new();
    let received = wire.borrow_mut().received(bytes, &mut plain);
    received.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(plain)
}

/// Writes what is left, says good-bye, and waits for the peer to have read it: closing with unread
/// input would reset the connection and take the last packets with it.
pub(super) async fn linger(conn: &Conn, read: &mut OwnedReadHalf, inbox: &Inbox) {
    let bye = async {
        while conn.flush()?.rest {
            conn.writable().await?;
        }
        if let Some(wire) = &conn.wire {
            wire.borrow_mut().say_good_bye();
            while conn.flush()?.rest {
                conn.writable().await?;
            }
        }
        *conn.write.borrow_mut() = None;
        loop {
            read.readable().await?;
            match read.try_read(&mut inbox.scratch.borrow_mut()) {
                Ok(0) => return io::Result::Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, bye).await;
}

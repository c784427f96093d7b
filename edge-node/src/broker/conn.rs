//! One connection: a small task that reads, and writes what the hub could not write at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
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

use super::inbox::Inbox;

/// Buffers handed to one write.
const SLICES_MAX: usize = 64;
/// A peer that does not take its last packets is cut off.
const LINGER: Duration = Duration::from_secs(5);

pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) remote: SocketAddr,
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
    pub(super) fn new(id: ConnId, remote: SocketAddr, write: OwnedWriteHalf) -> Conn {
        Conn {
            id,
            remote,
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

impl Conn {
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

/// Runs the connection to its end.
pub(super) async fn serve(conn: Rc<Conn>, mut read: OwnedReadHalf, inbox: Rc<Inbox>) {
    if work(&conn, &mut read, &inbox).await.is_err() {
        inbox.push(Event::Closed { conn: conn.id });
    }
    inbox.left();
}

/// `Ok`: closed as the hub asked. `Err`: the peer or the network ended it.
async fn work(conn: &Conn, read: &mut OwnedReadHalf, inbox: &Inbox) -> io::Result<()> {
    loop {
        if conn.closing.get() {
            // A peer that was never answered has nothing to read.
            if !conn.spoken.get() {
                return Ok(());
            }
            return linger(conn, read).await;
        }
        let rest = !conn.out.borrow().is_empty() && !conn.dirty.get();
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
            received = receive(read, inbox), if may_read => match received? {
                Some(bytes) => inbox.push(Event::Received { conn: conn.id, bytes }),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            () = inbox.room.notified(), if !may_read && !conn.paused.get() => {}
        }
    }
}

/// Reads into the shared buffer and copies out what came, so that an idle connection holds none.
async fn receive(read: &mut OwnedReadHalf, inbox: &Inbox) -> io::Result<Option<BytesMut>> {
    poll_fn(|context| {
        let mut scratch = inbox.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(&mut *read).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Some(BytesMut::from(buffer.filled())))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Writes what is left, says good-bye, and waits for the peer to have read it: closing with unread
/// input would reset the connection and take the last packets with it.
async fn linger(conn: &Conn, read: &mut OwnedReadHalf) -> io::Result<()> {
    let bye = async {
        while conn.flush()?.rest {
            conn.writable().await?;
        }
        *conn.write.borrow_mut() = None;
        let mut sink = [0u8; 1024];
        loop {
            read.readable().await?;
            match read.try_read(&mut sink) {
                Ok(0) => return io::Result::Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, bye).await;
    Ok(())
}

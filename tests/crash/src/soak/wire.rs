//! A client's connection that counts every byte and packet into the [`Tally`] of the process that it
//! talks to, and that may be read a little at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use e2e::mqtt::{Packet, Version, packet, parse, string};

use super::lives::{Lives, Tally};

/// Longest wait for a CONNACK: on a loaded machine it waits for a commit.
const CONNACK: Duration = Duration::from_secs(30);
const CHUNK: usize = 64 << 10;

/// A CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    pub version: Version,
    pub id: &'a str,
    /// The session outlives the connection.
    pub keep: bool,
    /// Topic and payload, at QoS 1.
    pub will: Option<(&'a str, &'a [u8])>,
}

/// What came of a try to connect.
pub enum Met {
    Accepted(Wire),
    /// The edge said no: it has no room for a session.
    Refused,
    Failed(io::Error),
    /// There is no process.
    Nobody,
}

pub struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    at: usize,
    out: Vec<u8>,
    version: Version,
    wait: Duration,
    pub session_present: bool,
    pub tally: Arc<Tally>,
    /// The reason of a DISCONNECT that came.
    pub told: Option<u8>,
}

impl Wire {
    pub fn connect(lives: &Lives, broker: SocketAddr, hello: Hello<'_>) -> Met {
        let met = lives.connect(|tally| Wire::meet(tally, broker, hello));
        match met {
            None => Met::Nobody,
            Some(Err(error)) => Met::Failed(error),
            Some(Ok(None)) => Met::Refused,
            Some(Ok(Some(wire))) => Met::Accepted(wire),
        }
    }

    fn meet(tally: Arc<Tally>, broker: SocketAddr, hello: Hello<'_>) -> io::Result<Option<Wire>> {
        let stream = TcpStream::connect_timeout(&broker, CONNACK)?;
        stream.set_nodelay(true)?;
        let mut wire = Wire {
            stream,
            input: Vec::new(),
            at: 0,
            out: Vec::new(),
            version: hello.version,
            wait: Duration::ZERO,
            session_present: false,
            tally,
            told: None,
        };
        Tally::add(&wire.tally.open, 1);
        packet(&mut wire.out, 0x10, &hello.body());
        wire.flush()?;
        match wire.poll(CONNACK)? {
            Some(Packet::ConnAck {
                session_present,
                code: 0,
            }) => {
                Tally::add(&wire.tally.connects, 1);
                wire.session_present = session_present;
                Ok(Some(wire))
            }
            // 3.1.1: unavailable; 5.0: quota exceeded.
            Some(Packet::ConnAck {
                code: 0x03 | 0x97, ..
            }) => {
                Tally::add(&wire.tally.connects_refused, 1);
                Ok(None)
            }
            other => Err(io::Error::other(format!(
                "in place of a CONNACK: {other:?}"
            ))),
        }
    }

    /// Puts a PUBLISH into the buffer.
    pub fn publish(&mut self, topic: &str, payload: &[u8], flags: u8, id: u16) {
        let qos = flags >> 1 & 3;
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 5);
        string(&mut body, topic);
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        if self.version == Version::V5 {
            body.push(0);
        }
        body.extend(payload);
        packet(&mut self.out, 0x30 | flags, &body);
        Tally::add(&self.tally.sent[usize::from(qos)], 1);
    }

    pub fn subscribe(&mut self, id: u16, filters: &[&str], qos: u8) {
        let mut body = id.to_be_bytes().to_vec();
        if self.version == Version::V5 {
            body.push(0);
        }
        for filter in filters {
            string(&mut body, filter);
            body.push(qos);
        }
        packet(&mut self.out, 0x82, &body);
    }

    pub fn unsubscribe(&mut self, id: u16, filters: &[&str]) {
        let mut body = id.to_be_bytes().to_vec();
        if self.version == Version::V5 {
            body.push(0);
        }
        for filter in filters {
            string(&mut body, filter);
        }
        packet(&mut self.out, 0xa2, &body);
    }

    /// PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70.
    pub fn answer(&mut self, first: u8, id: u16) {
        packet(&mut self.out, first, &id.to_be_bytes());
    }

    pub fn ping(&mut self) {
        packet(&mut self.out, 0xc0, &[]);
    }

    pub fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&self.out)?;
        Tally::add(&self.tally.bytes_out, self.out.len());
        self.out.clear();
        Ok(())
    }

    /// Whether a whole packet may be there already.
    pub fn has_input(&self) -> bool {
        self.at < self.input.len()
    }

    /// The next packet, or `None` if none is whole after one read of at most `wait`.
    pub fn poll(&mut self, wait: Duration) -> io::Result<Option<Packet>> {
        if let Some(packet) = self.buffered()? {
            return Ok(Some(packet));
        }
        let wait = wait.max(Duration::from_millis(1));
        if wait != self.wait {
            self.stream.set_read_timeout(Some(wait))?;
            self.wait = wait;
        }
        self.input.drain(..self.at);
        self.at = 0;
        let start = self.input.len();
        self.input.resize(start + CHUNK, 0);
        let read = self.stream.read(&mut self.input[start..]);
        self.input.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                Tally::add(&self.tally.bytes_in, n);
                self.buffered()
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(None),
                io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn buffered(&mut self) -> io::Result<Option<Packet>> {
        let bytes = &self.input[self.at..];
        let Some((head, length)) = header(bytes) else {
            return Ok(None);
        };
        let Some(body) = bytes.get(head..head + length) else {
            return Ok(None);
        };
        let first = bytes[0];
        if first >> 4 == 14 {
            self.told = Some(body.first().copied().unwrap_or(0));
        }
        let what = || io::Error::new(io::ErrorKind::InvalidData, format!("packet {first:#x}"));
        let packet = parse(self.version, first, body).ok_or_else(what)?;
        self.at += head + length;
        if let Packet::Publish { qos, .. } = packet {
            Tally::add(&self.tally.received[usize::from(qos)], 1);
        }
        Ok(Some(packet))
    }

    /// DISCONNECT, and everything that still comes.
    pub fn leave(mut self) -> io::Result<()> {
        packet(&mut self.out, 0xe0, &[]);
        self.flush()?;
        self.stream.shutdown(Shutdown::Write)?;
        loop {
            match self.poll(CONNACK) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends without a word, as a client that lost power: its will is published.
    pub fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether the edge closed this connection by itself, with its process going on.
    pub fn was_closed_by_edge(&self) -> bool {
        !self.tally.ending.load(Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.tally.open.fetch_sub(1, Relaxed);
    }
}

impl Hello<'_> {
    fn body(&self) -> Vec<u8> {
        let is_v5 = self.version == Version::V5;
        let mut body = b"\0\x04MQTT".to_vec();
        let will = if self.will.is_some() { 0b1100 } else { 0 };
        let clean = if self.keep { 0 } else { 0b10 };
        // No keep-alive: some clients are silent on purpose.
        body.extend([if is_v5 { 5 } else { 4 }, will | clean, 0, 0]);
        if is_v5 {
            body.extend([5, 0x11]);
            let expiry = if self.keep { u32::MAX } else { 0 };
            body.extend(expiry.to_be_bytes());
        }
        string(&mut body, self.id);
        if let Some((topic, payload)) = self.will {
            if is_v5 {
                body.push(0);
            }
            string(&mut body, topic);
            body.extend(u16::try_from(payload.len()).unwrap_or(0).to_be_bytes());
            body.extend(payload);
        }
        body
    }
}

/// Length of a packet's head, and of its body (MQTT 5, 2.1.4).
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for at in 1..5 {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Some((at + 1, length));
        }
    }
    None
}

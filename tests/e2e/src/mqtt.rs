//! A blocking MQTT client (3.1.1 and 5.0) that gives the test every packet: which ids were sent,
//! which acknowledged, which refused, which not. Packet formats: MQTT 3.1.1 and MQTT 5.0, sections 2
//! and 3.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Which protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3,
    V5,
}

/// What the broker sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        session_present: bool,
        code: u8,
    },
    Publish {
        topic: String,
        payload: Vec<u8>,
        qos: u8,
        id: Option<u16>,
        dup: bool,
        retain: bool,
    },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    /// MQTT 5: a PUBACK or PUBREC with this reason, 0x80 or above. The broker did not take it.
    Refused {
        id: u16,
        reason: u8,
    },
    SubAck {
        id: u16,
        codes: Vec<u8>,
    },
    Other(u8),
}

/// One connection.
pub struct Client {
    read: BufReader<TcpStream>,
    write: TcpStream,
    out: Vec<u8>,
    version: Version,
}

impl Client {
    /// Connects with MQTT 3.1.1 and waits for the CONNACK, which must accept.
    pub fn connect(broker: SocketAddr, id: &str, clean: bool) -> io::Result<Client> {
        Client::connect_as(Version::V3, broker, id, clean)
    }

    /// As [`Client::connect`]. An MQTT 5 session that is not clean never expires.
    pub fn connect_as(
        version: Version,
        broker: SocketAddr,
        id: &str,
        clean: bool,
    ) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&broker, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut client = Client {
            read: BufReader::with_capacity(1 << 16, stream.try_clone()?),
            write: stream,
            out: Vec::new(),
            version,
        };
        let mut body = b"\0\x04MQTT".to_vec();
        let level = if version == Version::V5 { 5 } else { 4 };
        body.extend([level, if clean { 2 } else { 0 }, 0, 60]);
        if version == Version::V5 {
            // Session Expiry Interval (3.1.2.11.2).
            let expiry = if clean { 0 } else { u32::MAX };
            body.extend([5, 0x11]);
            body.extend(expiry.to_be_bytes());
        }
        string(&mut body, id);
        packet(&mut client.out, 0x10, &body);
        client.flush()?;
        match client.receive()? {
            Packet::ConnAck { code: 0, .. } => Ok(client),
            other => Err(io::Error::other(format!(
                "not an accepting CONNACK: {other:?}"
            ))),
        }
    }

    /// Reads give up with `WouldBlock` after `limit`.
    pub fn read_timeout(&self, limit: Duration) -> io::Result<()> {
        self.write.set_read_timeout(Some(limit))
    }

    /// A second handle, to read on one thread and write on another.
    pub fn split(self) -> io::Result<(Client, Client)> {
        let reader = Client {
            write: self.write.try_clone()?,
            read: self.read,
            out: Vec::new(),
            version: self.version,
        };
        let idle = BufReader::with_capacity(1, self.write.try_clone()?);
        Ok((
            reader,
            Client {
                read: idle,
                write: self.write,
                out: self.out,
                version: self.version,
            },
        ))
    }

    /// Puts a PUBLISH into the buffer; `flush` sends it.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, id: u16, dup: bool) {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
        string(&mut body, topic);
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        self.no_properties(&mut body);
        body.extend(payload);
        packet(&mut self.out, 0x30 | u8::from(dup) << 3 | qos << 1, &body);
    }

    pub fn subscribe(&mut self, id: u16, filter: &str, qos: u8) {
        let mut body = id.to_be_bytes().to_vec();
        self.no_properties(&mut body);
        string(&mut body, filter);
        body.push(qos);
        packet(&mut self.out, 0x82, &body);
    }

    pub fn puback(&mut self, id: u16) {
        packet(&mut self.out, 0x40, &id.to_be_bytes());
    }

    pub fn pubrec(&mut self, id: u16) {
        packet(&mut self.out, 0x50, &id.to_be_bytes());
    }

    pub fn pubrel(&mut self, id: u16) {
        packet(&mut self.out, 0x62, &id.to_be_bytes());
    }

    pub fn pubcomp(&mut self, id: u16) {
        packet(&mut self.out, 0x70, &id.to_be_bytes());
    }

    pub fn ping(&mut self) {
        packet(&mut self.out, 0xc0, &[]);
    }

    pub fn disconnect(mut self) -> io::Result<()> {
        packet(&mut self.out, 0xe0, &[]);
        self.flush()
    }

    fn no_properties(&self, body: &mut Vec<u8>) {
        if self.version == Version::V5 {
            body.push(0);
        }
    }

    /// Bytes waiting for `flush`.
    pub fn buffered(&self) -> usize {
        self.out.len()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.write.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Whether `receive` would not touch the socket.
    pub fn has_buffered_input(&self) -> bool {
        !self.read.buffer().is_empty()
    }

    /// The next packet.
    pub fn receive(&mut self) -> io::Result<Packet> {
        let mut first = [0; 1];
        self.read.read_exact(&mut first)?;
        let mut length = 0usize;
        for shift in [0, 7, 14, 21] {
            let mut byte = [0; 1];
            self.read.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.read.read_exact(&mut body)?;
        parse(self.version, first[0], &body).ok_or_else(|| malformed(first[0]))
    }
}

/// Of a kind of its own: a broken connection is no fault of the broker, this is.
fn malformed(first: u8) -> io::Error {
    let what = format!("malformed packet {first:#x}");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A packet from its first byte and what follows its length; `None` if it is malformed.
pub fn parse(version: Version, first: u8, body: &[u8]) -> Option<Packet> {
    let is_v5 = version == Version::V5;
    let reason = body
        .get(2)
        .copied()
        .filter(|reason| is_v5 && *reason >= 0x80);
    let id = || Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    Some(match first >> 4 {
        2 => Packet::ConnAck {
            session_present: body.first()? & 1 == 1,
            code: *body.get(1)?,
        },
        3 => {
            let qos = first >> 1 & 3;
            let (topic, mut rest) = body.get(2..)?.split_at_checked(usize::from(id()?))?;
            let topic = String::from_utf8(topic.to_vec()).ok()?;
            let mut id = None;
            if qos > 0 {
                id = Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
                rest = &rest[2..];
            }
            let payload = if is_v5 {
                behind_properties(rest)?
            } else {
                rest
            };
            Packet::Publish {
                topic,
                payload: payload.to_vec(),
                qos,
                id,
                dup: first & 8 != 0,
                retain: first & 1 != 0,
            }
        }
        4 | 5 if reason.is_some() => Packet::Refused {
            id: id()?,
            reason: reason?,
        },
        4 => Packet::PubAck(id()?),
        5 => Packet::PubRec(id()?),
        6 => Packet::PubRel(id()?),
        7 => Packet::PubComp(id()?),
        9 => Packet::SubAck {
            id: id()?,
            codes: {
                let codes = body.get(2..)?;
                let codes = if is_v5 {
                    behind_properties(codes)?
                } else {
                    codes
                };
                codes.to_vec()
            },
        },
        other => Packet::Other(other),
    })
}

/// What follows a property block (MQTT 5, 2.2.2).
fn behind_properties(bytes: &[u8]) -> Option<&[u8]> {
    let (mut length, mut at) = (0usize, 0);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * at);
        at += 1;
        if byte & 0x80 == 0 || at == 4 {
            return bytes.get(at + length..);
        }
    }
}

/// Adds a string with its length (MQTT 5, 1.5.4).
pub fn string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("test strings are short");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

/// Adds a packet: its first byte, its length, and `body`.
pub fn packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
}

//! A small MQTT 3.1.1 client that shows every step, so that a test decides what is resent.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Where a publish of ours stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// PUBACK or PUBREC is awaited.
    Published,
    /// PUBCOMP is awaited.
    Released,
}

#[derive(Debug, Clone)]
struct Inflight {
    topic: String,
    payload: String,
    qos: u8,
    step: Step,
    sent_before: bool,
}

/// A client whose session outlives its connections.
pub struct Client {
    address: SocketAddr,
    id: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    inflight: BTreeMap<u16, Inflight>,
    next_id: u16,
    /// Payloads acknowledged to the end.
    pub acked: Vec<String>,
    /// Payloads of publishes received, with their QoS.
    pub received: Vec<(String, u8)>,
    /// Publishes sent again with DUP.
    pub resent: usize,
}

impl Client {
    pub fn new(address: SocketAddr, id: &str) -> Client {
        Client {
            address,
            id: id.to_owned(),
            stream: None,
            buffer: Vec::new(),
            inflight: BTreeMap::new(),
            next_id: 1,
            acked: Vec::new(),
            received: Vec::new(),
            resent: 0,
        }
    }

    /// Connects, keeping the session, and sends again what was not acknowledged (section 4.4).
    pub fn connect(&mut self) -> io::Result<()> {
        self.stream = None;
        self.buffer.clear();
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        self.stream = Some(stream);
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0];
        put_text(&mut body, &self.id);
        self.send(0x10, &body)?;
        let (kind, answer) = self.packet()?;
        if kind != 0x20 || answer[1] != 0 {
            return Err(io::Error::other(format!("CONNACK {answer:?}")));
        }
        let waiting: Vec<(u16, Inflight)> = self
            .inflight
            .iter()
            .map(|(id, inflight)| (*id, inflight.clone()))
            .collect();
        for (id, inflight) in waiting {
            match inflight.step {
                Step::Published => self.send_publish(id, &inflight)?,
                Step::Released => self.send(0x62, &id.to_be_bytes())?,
            }
        }
        Ok(())
    }

    pub fn publish(&mut self, topic: &str, payload: String, qos: u8) -> io::Result<()> {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let (topic, step) = (topic.to_owned(), Step::Published);
        let mut inflight = Inflight {
            topic,
            payload,
            qos,
            step,
            sent_before: false,
        };
        let sent = self.send_publish(id, &inflight);
        inflight.sent_before = true;
        if qos > 0 {
            self.inflight.insert(id, inflight);
        }
        sent
    }

    fn send_publish(&mut self, id: u16, inflight: &Inflight) -> io::Result<()> {
        let mut body = Vec::new();
        put_text(&mut body, &inflight.topic);
        if inflight.qos > 0 {
            body.extend(id.to_be_bytes());
        }
        body.extend(inflight.payload.as_bytes());
        self.resent += usize::from(inflight.sent_before);
        self.send(
            0x30 | inflight.qos << 1 | u8::from(inflight.sent_before) << 3,
            &body,
        )
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        let mut body = vec![0, 1];
        put_text(&mut body, filter);
        body.push(qos);
        self.send(0x82, &body)?;
        loop {
            let (kind, body) = self.packet()?;
            if kind == 0x90 {
                assert_eq!(body[2], qos);
                return Ok(());
            }
            self.handle(kind, &body)?;
        }
    }

    pub fn inflight(&self) -> usize {
        self.inflight.len()
    }

    /// Handles one packet from the broker.
    pub fn step(&mut self) -> io::Result<()> {
        let (kind, body) = self.packet()?;
        self.handle(kind, &body)
    }

    fn handle(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let id = || u16::from_be_bytes([body[0], body[1]]);
        match kind >> 4 {
            3 => self.received_publish(kind, body),
            4 | 7 => {
                let done = self
                    .inflight
                    .remove(&id())
                    .expect("an answer to something sent");
                self.acked.push(done.payload);
                Ok(())
            }
            5 => {
                let inflight = self
                    .inflight
                    .get_mut(&id())
                    .expect("an answer to something sent");
                inflight.step = Step::Released;
                self.send(0x62, &body[..2])
            }
            6 => self.send(0x70, &body[..2]),
            other => panic!("packet type {other}"),
        }
    }

    fn received_publish(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let qos = (kind >> 1) & 3;
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let payload_at = topic_end + if qos > 0 { 2 } else { 0 };
        let payload = String::from_utf8(body[payload_at..].to_vec()).unwrap();
        self.received.push((payload, qos));
        match qos {
            1 => self.send(0x40, &body[topic_end..payload_at]),
            2 => self.send(0x50, &body[topic_end..payload_at]),
            _ => Ok(()),
        }
    }

    pub fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![kind];
        let mut length = body.len();
        loop {
            let more = if length > 127 { 0x80 } else { 0 };
            packet.push((length % 128) as u8 | more);
            length /= 128;
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream
            .as_mut()
            .ok_or(io::ErrorKind::NotConnected)?
            .write_all(&packet)
    }

    /// The next packet: its first byte and its body.
    pub fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((kind, start, end)) = frame(&self.buffer) {
                let body = self.buffer[start..end].to_vec();
                self.buffer.drain(..end);
                return Ok((kind, body));
            }
            let mut chunk = [0; 4096];
            let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            match stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend(&chunk[..n]),
                // A read with a timeout ends when another test stops a thread of its node.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

pub fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let mut length = 0;
    for at in 1..5 {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let (start, end) = (at + 1, at + 1 + length);
            return (bytes.len() >= end).then_some((bytes[0], start, end));
        }
    }
    panic!("a length of more than four bytes")
}

pub fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}

/// As much of MQTT 5 as the budget's test needs.
impl Client {
    pub fn connect_v5(&mut self) -> io::Result<()> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        self.stream = Some(stream);
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0];
        put_text(&mut body, &self.id);
        self.send(0x10, &body)?;
        let (kind, answer) = self.packet()?;
        assert_eq!((kind, answer[1]), (0x20, 0));
        Ok(())
    }

    /// Publishes at QoS 1; gives PUBACK's reason code.
    pub fn publish_v5(&mut self, id: u16, payload: &[u8]) -> io::Result<u8> {
        let mut body = Vec::new();
        put_text(&mut body, "noise");
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend(payload);
        self.send(0x32, &body)?;
        let (kind, answer) = self.packet()?;
        assert_eq!(kind, 0x40);
        Ok(answer.get(2).copied().unwrap_or(0))
    }
}

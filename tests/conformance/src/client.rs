//! A client that does what it is told, one packet at a time, and waits on the socket by a deadline.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::packets::{self, Message};
use crate::read;
use crate::registry::Failure;
use crate::stream::Stream;
use crate::wire::{Delivery, Frame, Packet, Properties, Received, Version, kind};

/// How long a connection is watched after a PINGRESP for something that must not come.
const QUIET: Duration = Duration::from_millis(150);

/// Bytes of a packet that the record shows.
const SHOWN_BYTES: usize = 48;

/// A connection. Dropped without more ado it ends as if the network had failed.
pub struct Client<'b> {
    pub version: Version,
    /// What the CONNACK said.
    pub session_present: bool,
    pub connack: Received,
    /// Length of the packet that was read last, with its header.
    pub last_bytes: usize,
    broker: &'b Broker,
    number: u32,
    stream: Stream,
    buffer: Vec<u8>,
    passed_over: VecDeque<Packet>,
    ids: u16,
}

/// What the socket had to say.
enum Heard {
    Packet(Packet),
    Closed,
    Nothing,
}

impl<'b> Client<'b> {
    pub fn new(broker: &'b Broker, stream: Stream, number: u32) -> Client<'b> {
        Client {
            version: broker.version,
            session_present: false,
            connack: Received::default(),
            last_bytes: 0,
            broker,
            number,
            stream,
            buffer: Vec::new(),
            passed_over: VecDeque::new(),
            ids: 0,
        }
    }

    /// What the broker's answer to a WebSocket's opening chose.
    pub fn sub_protocol(&self) -> Option<&str> {
        match &self.stream {
            Stream::Tcp(_) => None,
            Stream::WebSocket(frames) => frames.protocol.as_deref(),
        }
    }

    /// A text frame, where there are frames.
    pub fn send_text(&mut self, text: &str) {
        self.broker
            .note(format!("{} > text frame {text:?}", self.number));
        if let Stream::WebSocket(frames) = &mut self.stream {
            if let Err(error) = frames.send_text(text) {
                self.broker.note(format!("{} > {error}", self.number));
            }
        }
    }

    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    /// Sends anything. That the broker has closed already is seen when reading.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let shown: String = bytes
            .iter()
            .take(SHOWN_BYTES)
            .map(|b| format!(" {b:02x}"))
            .collect();
        let more = if bytes.len() > SHOWN_BYTES {
            " ..."
        } else {
            ""
        };
        let name = kind::name(bytes.first().map_or(0, |first| first >> 4));
        let (number, length) = (self.number, bytes.len());
        self.broker
            .note(format!("{number} > {name} {length} B:{shown}{more}"));
        if let Err(error) = self.stream.write_all(bytes) {
            self.broker.note(format!("{number} > {error}"));
        }
    }

    /// A packet identifier that this client has not used yet.
    pub fn id(&mut self) -> u16 {
        self.ids += 1;
        self.ids
    }

    fn hear(&mut self, within: Duration) -> Result<Heard, Failure> {
        let deadline = Instant::now() + within;
        loop {
            if let Some((packet, length)) = read::packet(self.version, &self.buffer)? {
                self.buffer.drain(..length);
                self.last_bytes = length;
                self.broker.note(format!("{} < {packet}", self.number));
                return Ok(Heard::Packet(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Heard::Nothing);
            }
            let set = self.stream.set_read_timeout(left);
            set.map_err(|error| format!("a socket option: {error}"))?;
            let mut chunk = [0; 16384];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    let number = self.number;
                    self.broker
                        .note(format!("{number} < the connection is closed"));
                    return Ok(Heard::Closed);
                }
                Ok(length) => self.buffer.extend(&chunk[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => {
                        self.broker.note(format!("{} < {error}", self.number));
                        return Ok(Heard::Closed);
                    }
                },
            }
        }
    }

    /// The next packet.
    pub fn packet(&mut self) -> Result<Packet, Failure> {
        match self.passed_over.pop_front() {
            Some(packet) => Ok(packet),
            None => self.due("a packet"),
        }
    }

    fn due(&mut self, what: &str) -> Result<Packet, Failure> {
        match self.hear(self.broker.wait)? {
            Heard::Packet(packet) => Ok(packet),
            Heard::Closed => Err(Failure(format!("closed while {what} was due"))),
            Heard::Nothing => Err(Failure(format!("{what} was due and did not come"))),
        }
    }

    /// The first packet that fits; what comes before it waits for [`Client::packet`].
    pub fn find(&mut self, what: &str, fits: impl Fn(&Packet) -> bool) -> Result<Packet, Failure> {
        if let Some(place) = self.passed_over.iter().position(&fits) {
            return Ok(self
                .passed_over
                .remove(place)
                .expect("the place was just found"));
        }
        loop {
            let packet = self.due(what)?;
            if fits(&packet) {
                return Ok(packet);
            }
            self.passed_over.push_back(packet);
        }
    }

    /// The next packet, which must be a message; it is not acknowledged.
    pub fn delivery(&mut self) -> Result<Delivery, Failure> {
        match self.packet()? {
            Packet::Publish(delivery) => Ok(delivery),
            other => Err(Failure(format!("{other} instead of a PUBLISH"))),
        }
    }

    /// The next message, acknowledged to the end.
    pub fn take(&mut self) -> Result<Delivery, Failure> {
        let delivery = self.delivery()?;
        self.acknowledge(&delivery)?;
        Ok(delivery)
    }

    pub fn acknowledge(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        match delivery.qos {
            1 => self.send(&packets::ack(kind::PUBACK, delivery.id)),
            2 => {
                self.send(&packets::ack(kind::PUBREC, delivery.id));
                self.acked(kind::PUBREL, delivery.id)?;
                self.send(&packets::ack(kind::PUBCOMP, delivery.id));
            }
            _ => {}
        }
        Ok(())
    }

    /// The next message must carry this payload; acknowledged to the end.
    pub fn take_payload(&mut self, payload: &str) -> Result<Delivery, Failure> {
        let delivery = self.take()?;
        let came = String::from_utf8_lossy(&delivery.payload).into_owned();
        if came == payload {
            return Ok(delivery);
        }
        Err(Failure(format!(
            "the message {came:?} came instead of {payload:?}"
        )))
    }

    /// Waits for an acknowledgement and returns its reason code, 0 on 3.1.1.
    pub fn acked(&mut self, wanted: u8, wanted_id: u16) -> Result<u8, Failure> {
        let what = format!("{} id {wanted_id}", kind::name(wanted));
        let fits = |packet: &Packet| matches!(packet, Packet::Ack { kind, id, .. } if *kind == wanted && *id == wanted_id);
        match self.find(&what, fits)? {
            Packet::Ack { code, .. } => Ok(code),
            other => Err(Failure(format!("{other} instead of {what}"))),
        }
    }

    /// Publishes and waits until the broker has taken the message over for good.
    pub fn put(&mut self, message: &Message) -> Result<(), Failure> {
        let mut message = message.clone();
        if message.qos > 0 && message.id == 0 {
            message.id = self.id();
        }
        if message.retain {
            self.broker
                .remember_retained(&String::from_utf8_lossy(&message.topic));
        }
        self.send(&message.frame(self.version));
        let steps: &[u8] = match message.qos {
            0 => &[],
            1 => &[kind::PUBACK],
            _ => &[kind::PUBREC, kind::PUBCOMP],
        };
        for step in steps {
            let code = self.acked(*step, message.id)?;
            if code >= 0x80 {
                return Err(Failure(format!("{} with 0x{code:02x}", kind::name(*step))));
            }
            if *step == kind::PUBREC {
                self.send(&packets::ack(kind::PUBREL, message.id));
            }
        }
        Ok(())
    }

    /// Subscribes to one filter with these options, which must be granted.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> Result<(), Failure> {
        let codes = self.subscribe_all(&[(filter, options)], &Properties::new())?;
        if codes == [options & 3] {
            return Ok(());
        }
        Err(Failure(format!(
            "SUBACK {codes:02x?} for QoS {}",
            options & 3
        )))
    }

    /// Subscribes and returns the codes of the SUBACK.
    pub fn subscribe_all(
        &mut self,
        filters: &[(impl AsRef<[u8]>, u8)],
        properties: &Properties,
    ) -> Result<Vec<u8>, Failure> {
        let id = self.id();
        self.send(&packets::subscribe(self.version, id, properties, filters));
        self.suback(id)
    }

    /// Waits for a SUBACK and returns its codes.
    pub fn suback(&mut self, wanted: u16) -> Result<Vec<u8>, Failure> {
        let fits = |packet: &Packet| matches!(packet, Packet::SubAck { .. });
        match self.find("a SUBACK", fits)? {
            Packet::SubAck { id, codes, .. } if id == wanted => Ok(codes),
            other => Err(Failure(format!("{other} for SUBSCRIBE id {wanted}"))),
        }
    }

    /// Unsubscribes and returns the codes of the UNSUBACK, none on 3.1.1.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<u8>, Failure> {
        let id = self.id();
        self.send(&packets::unsubscribe(self.version, id, filters));
        let fits = |packet: &Packet| matches!(packet, Packet::UnsubAck { .. });
        match self.find("an UNSUBACK", fits)? {
            Packet::UnsubAck { id: got, codes, .. } if got == id => Ok(codes),
            other => Err(Failure(format!("{other} for UNSUBSCRIBE id {id}"))),
        }
    }

    /// Asks for a sign of life. Everything sent before is then processed by a broker that works on
    /// one packet of a connection after the other.
    pub fn ping(&mut self) -> Result<(), Failure> {
        self.send(&Frame::new(kind::PINGREQ));
        let pong = self.find("a PINGRESP", |packet| *packet == Packet::PingResp)?;
        debug_assert_eq!(pong, Packet::PingResp);
        Ok(())
    }

    /// Everything that has come and is still to come, up to a PINGRESP and a short silence.
    pub fn rest(&mut self) -> Result<Vec<Packet>, Failure> {
        self.ping()?;
        while let Heard::Packet(packet) = self.hear(QUIET)? {
            self.passed_over.push_back(packet);
        }
        Ok(self.passed_over.drain(..).collect())
    }

    /// Nothing has come that nobody asked for, nor does it.
    pub fn silent(&mut self) -> Result<(), Failure> {
        match self.rest()?.first() {
            None => Ok(()),
            Some(packet) => Err(Failure(format!("{packet} although nothing was due"))),
        }
    }

    /// Everything up to the end of the connection, which must come.
    pub fn until_closed(&mut self) -> Result<Vec<Packet>, Failure> {
        loop {
            match self.hear(self.broker.wait)? {
                Heard::Packet(packet) => self.passed_over.push_back(packet),
                Heard::Closed => return Ok(self.passed_over.drain(..).collect()),
                Heard::Nothing => {
                    let came: Vec<_> = self.passed_over.iter().map(Packet::to_string).collect();
                    let came = if came.is_empty() {
                        "nothing".into()
                    } else {
                        came.join(", ")
                    };
                    return Err(Failure(format!("not closed; what came: {came}")));
                }
            }
        }
    }

    /// How many packets came before the end of the connection, if it has come by then.
    pub fn closed_within(&mut self, time: Duration) -> Result<Option<usize>, Failure> {
        loop {
            match self.hear(time)? {
                Heard::Packet(packet) => self.passed_over.push_back(packet),
                Heard::Closed => return Ok(Some(self.passed_over.len())),
                Heard::Nothing => return Ok(None),
            }
        }
    }

    /// The broker has closed the connection, and said nothing but a DISCONNECT on 5.0.
    pub fn closed(&mut self) -> Result<String, Failure> {
        let packets = self.until_closed()?;
        match packets.as_slice() {
            [] => Ok("closed".into()),
            [Packet::Disconnect { code, .. }] if *code >= 0x80 => {
                Ok(format!("DISCONNECT 0x{code:02x}, closed"))
            }
            [other, ..] => Err(Failure(format!("{other} before the connection was closed"))),
        }
    }

    /// The broker has refused the CONNECT, with a CONNACK or without one, and closed.
    pub fn refused(&mut self) -> Result<String, Failure> {
        let packets = self.until_closed()?;
        match packets.as_slice() {
            [] => Ok("closed without a CONNACK".into()),
            [Packet::ConnAck { flags: 0, code, .. }] if *code > 0 => {
                Ok(format!("CONNACK 0x{code:02x}, closed"))
            }
            [other, ..] => Err(Failure(format!("{other} before the connection was closed"))),
        }
    }

    /// Says DISCONNECT and waits until the broker has seen the end.
    pub fn disconnect(mut self) -> Result<(), Failure> {
        self.send(&Frame::new(kind::DISCONNECT));
        self.end()
    }

    /// Ends the connection as a failed network does, and waits until the broker has seen it.
    pub fn cut(mut self) -> Result<(), Failure> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Failure> {
        let _ = self.stream.end();
        self.until_closed().map(drop)
    }
}

//! Bytes of MQTT: a writer that can break every rule, and the shapes of what a broker sends.
//!
//! Nothing here is shared with any broker. The writer knows lengths and byte order and nothing else;
//! the strict reader is [`crate::read`].

use std::fmt;

/// Which of the two protocols a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3,
    V5,
}

impl Version {
    /// The protocol level of CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Version::V3 => 4,
            Version::V5 => 5,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V3 => "v3",
            Version::V5 => "v5",
        })
    }
}

/// Packet types (table 2.1 of both specifications).
pub mod kind {
    pub const CONNECT: u8 = 1;
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const SUBSCRIBE: u8 = 8;
    pub const SUBACK: u8 = 9;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const UNSUBACK: u8 = 11;
    pub const PINGREQ: u8 = 12;
    pub const PINGRESP: u8 = 13;
    pub const DISCONNECT: u8 = 14;
    pub const AUTH: u8 = 15;

    /// The name of a type, for people.
    pub fn name(kind: u8) -> &'static str {
        const NAMES: [&str; 16] = [
            "RESERVED",
            "CONNECT",
            "CONNACK",
            "PUBLISH",
            "PUBACK",
            "PUBREC",
            "PUBREL",
            "PUBCOMP",
            "SUBSCRIBE",
            "SUBACK",
            "UNSUBSCRIBE",
            "UNSUBACK",
            "PINGREQ",
            "PINGRESP",
            "DISCONNECT",
            "AUTH",
        ];
        NAMES[usize::from(kind & 15)]
    }
}

/// Property identifiers (table 2-4 of MQTT 5.0).
pub mod property {
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0b;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTH_METHOD: u8 = 0x15;
    pub const AUTH_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub const SHARED_AVAILABLE: u8 = 0x2a;
}

/// A variable byte integer in its shortest form (section 1.5.5).
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A packet under construction: the first byte and everything after the remaining length.
#[derive(Debug, Clone)]
pub struct Frame {
    first: u8,
    body: Vec<u8>,
}

impl Frame {
    /// A packet of this type with the flags that the specifications demand.
    pub fn new(kind: u8) -> Frame {
        let flags = match kind {
            kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => 2,
            _ => 0,
        };
        Frame::flagged(kind, flags)
    }

    /// A packet with any flags.
    pub fn flagged(kind: u8, flags: u8) -> Frame {
        Frame {
            first: kind << 4 | flags,
            body: Vec::new(),
        }
    }

    pub fn flags(mut self, flags: u8) -> Frame {
        self.first = self.first & 0xf0 | flags;
        self
    }

    pub fn u8(mut self, value: u8) -> Frame {
        self.body.push(value);
        self
    }

    pub fn u16(self, value: u16) -> Frame {
        self.raw(&value.to_be_bytes())
    }

    pub fn raw(mut self, bytes: &[u8]) -> Frame {
        self.body.extend(bytes);
        self
    }

    /// A string or binary field with its length before it; the bytes need not be UTF-8.
    pub fn field(self, bytes: impl AsRef<[u8]>) -> Frame {
        let bytes = bytes.as_ref();
        self.u16(bytes.len() as u16).raw(bytes)
    }

    /// The properties with their length on 5.0, nothing on 3.1.1.
    pub fn properties(self, version: Version, properties: &Properties) -> Frame {
        match version {
            Version::V3 => self,
            Version::V5 => self.raw(&varint(properties.0.len())).raw(&properties.0),
        }
    }

    /// The bytes to send.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_after(&varint(self.body.len()))
    }

    /// The bytes to send with another remaining length than the true one.
    pub fn bytes_after(&self, remaining_length: &[u8]) -> Vec<u8> {
        [&[self.first], remaining_length, &self.body].concat()
    }
}

/// Properties as bytes, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Properties(pub Vec<u8>);

impl Properties {
    pub fn new() -> Properties {
        Properties::default()
    }

    pub fn byte(self, id: u8, value: u8) -> Properties {
        self.raw(&[id, value])
    }

    pub fn two(self, id: u8, value: u16) -> Properties {
        self.raw(&[id]).raw(&value.to_be_bytes())
    }

    pub fn four(self, id: u8, value: u32) -> Properties {
        self.raw(&[id]).raw(&value.to_be_bytes())
    }

    pub fn variable(self, id: u8, value: usize) -> Properties {
        self.raw(&[id]).raw(&varint(value))
    }

    /// A string or binary property; the bytes need not be UTF-8.
    pub fn field(self, id: u8, bytes: impl AsRef<[u8]>) -> Properties {
        let bytes = bytes.as_ref();
        self.raw(&[id])
            .raw(&(bytes.len() as u16).to_be_bytes())
            .raw(bytes)
    }

    /// A user property.
    pub fn pair(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Properties {
        let value = value.as_ref();
        self.field(property::USER, name)
            .raw(&(value.len() as u16).to_be_bytes())
            .raw(value)
    }

    pub fn raw(mut self, bytes: &[u8]) -> Properties {
        self.0.extend(bytes);
        self
    }
}

/// A property that a broker sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Number(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

/// Properties that a broker sent, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received(pub Vec<(u8, Value)>);

impl Received {
    pub fn has(&self, id: u8) -> bool {
        self.0.iter().any(|(i, _)| *i == id)
    }

    pub fn number(&self, id: u8) -> Option<u32> {
        self.0.iter().find_map(|(i, value)| match value {
            Value::Number(n) if *i == id => Some(*n),
            _ => None,
        })
    }

    pub fn text(&self, id: u8) -> Option<&str> {
        self.0.iter().find_map(|(i, value)| match value {
            Value::Text(text) if *i == id => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn binary(&self, id: u8) -> Option<&[u8]> {
        self.0.iter().find_map(|(i, value)| match value {
            Value::Binary(bytes) if *i == id => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// User properties in order.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
            _ => None,
        });
        pairs.collect()
    }

    /// Subscription identifiers, smallest first.
    pub fn subscription_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .0
            .iter()
            .filter_map(|(id, value)| match value {
                Value::Number(n) if *id == property::SUBSCRIPTION_ID => Some(*n),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }
}

/// A message as a broker delivers it. `id` is 0 at QoS 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: u16,
    pub properties: Received,
    pub payload: Vec<u8>,
}

/// A packet that only a broker sends, or that it sends as a sender or receiver of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        flags: u8,
        code: u8,
        properties: Received,
    },
    Publish(Delivery),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack {
        kind: u8,
        id: u16,
        code: u8,
        properties: Received,
    },
    SubAck {
        id: u16,
        codes: Vec<u8>,
        properties: Received,
    },
    UnsubAck {
        id: u16,
        codes: Vec<u8>,
        properties: Received,
    },
    PingResp,
    Disconnect {
        code: u8,
        properties: Received,
    },
    Auth {
        code: u8,
        properties: Received,
    },
}

impl Packet {
    /// Its properties, if packets of its type have some.
    pub fn properties(&self) -> Option<&Received> {
        match self {
            Packet::Publish(delivery) => Some(&delivery.properties),
            Packet::PingResp => None,
            Packet::ConnAck { properties, .. }
            | Packet::Ack { properties, .. }
            | Packet::SubAck { properties, .. }
            | Packet::UnsubAck { properties, .. }
            | Packet::Disconnect { properties, .. }
            | Packet::Auth { properties, .. } => Some(properties),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packet::ConnAck { flags, code, .. } => {
                write!(f, "CONNACK 0x{code:02x} session present {flags}")?;
            }
            Packet::Publish(d) => {
                let topic: String = d.topic.chars().take(48).collect();
                write!(f, "PUBLISH QoS {} id {} {topic:?}", d.qos, d.id)?;
                write!(f, " {} B", d.payload.len())?;
                if d.dup {
                    f.write_str(" DUP")?;
                }
                if d.retain {
                    f.write_str(" RETAIN")?;
                }
            }
            Packet::Ack { kind, id, code, .. } => {
                write!(f, "{} id {id} 0x{code:02x}", kind::name(*kind))?;
            }
            Packet::SubAck { id, codes, .. } => write!(f, "SUBACK id {id} {codes:02x?}")?,
            Packet::UnsubAck { id, codes, .. } => write!(f, "UNSUBACK id {id} {codes:02x?}")?,
            Packet::PingResp => f.write_str("PINGRESP")?,
            Packet::Disconnect { code, .. } => write!(f, "DISCONNECT 0x{code:02x}")?,
            Packet::Auth { code, .. } => write!(f, "AUTH 0x{code:02x}")?,
        }
        for (id, value) in self.properties().iter().flat_map(|p| &p.0) {
            write!(f, " [{id:02x}")?;
            match value {
                Value::Number(n) => write!(f, " {n}]")?,
                Value::Text(text) => write!(f, " {text:?}]")?,
                Value::Binary(bytes) => write!(f, " {} B]", bytes.len())?,
                Value::Pair(name, value) => write!(f, " {name:?}={value:?}]")?,
            }
        }
        Ok(())
    }
}

//! What an MQTT client writes and reads, 3.1.1 and 5. Packet formats: sections 2 and 3 of both
//! specifications. Of its own make, so that the broker's codec is not judged by itself.

use bytes::Bytes;

use crate::payload::Id;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V4,
    V5,
}

/// What the broker sent, as far as these clients care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        session_present: bool,
        code: u8,
    },
    /// `code` is 0 on 3.1.1.
    PubAck {
        id: u16,
        code: u8,
    },
    PubRec {
        id: u16,
        code: u8,
    },
    PubComp {
        id: u16,
        code: u8,
    },
    SubAck {
        id: u16,
        code: u8,
    },
    Publish {
        topic: String,
        payload: Vec<u8>,
        qos: u8,
        id: u16,
        dup: bool,
        retain: bool,
        /// What the user property [`ID`] names, version 5 only.
        named: Option<Id>,
    },
    PubRel {
        id: u16,
    },
    /// On version 5 the broker may end a session with a reason.
    Disconnect {
        code: u8,
    },
    Other(u8),
}

const SESSION_EXPIRY: u8 = 0x11;
const WILL_DELAY: u8 = 0x18;
const RECEIVE_MAXIMUM: u8 = 0x21;
const USER_PROPERTY: u8 = 0x26;
/// The user property that names an attempt whose payload is empty.
pub const ID: &str = "id";

/// What a CONNECT says.
#[derive(Debug, Clone, Copy)]
pub struct Connect<'a> {
    pub version: Version,
    pub client_id: &'a str,
    /// On version 5 the session also ends with the connection.
    pub clean: bool,
    /// Version 5, of a session that outlives its connection, in seconds.
    pub expiry_s: u32,
    pub receive_maximum: Option<u16>,
    pub will: Option<Will<'a>>,
}

/// What a CONNECT leaves behind (section 3.1.2.5).
#[derive(Debug, Clone, Copy)]
pub struct Will<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    /// Version 5 only.
    pub delay_s: u32,
}

pub fn connect(connect: Connect<'_>) -> Bytes {
    let Connect { version, will, .. } = connect;
    let mut body = Vec::new();
    string(&mut body, "MQTT");
    body.push(match version {
        Version::V4 => 4,
        Version::V5 => 5,
    });
    let clean = if connect.clean { 2 } else { 0 };
    let left = will.map_or(0, |w| 4 | w.qos << 3 | u8::from(w.retain) << 5);
    body.push(clean | left);
    body.extend([0, 0]);
    if version == Version::V5 {
        let mut properties = Vec::new();
        if !connect.clean {
            properties.push(SESSION_EXPIRY);
            properties.extend(connect.expiry_s.to_be_bytes());
        }
        if let Some(most) = connect.receive_maximum {
            properties.push(RECEIVE_MAXIMUM);
            properties.extend(most.to_be_bytes());
        }
        length(&mut body, properties.len());
        body.extend(properties);
    }
    string(&mut body, connect.client_id);
    if let Some(will) = will {
        if version == Version::V5 {
            length(&mut body, 5);
            body.push(WILL_DELAY);
            body.extend(will.delay_s.to_be_bytes());
        }
        string(&mut body, will.topic);
        binary(&mut body, will.payload);
    }
    packet(0x10, &body)
}

/// What a PUBLISH says.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
    /// Version 5 only.
    pub user_property: Option<(&'a str, &'a str)>,
}

pub fn publish(version: Version, publish: Publish<'_>) -> Bytes {
    let Publish {
        topic,
        payload,
        qos,
        id,
        dup,
        retain,
        user_property,
    } = publish;
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 32);
    string(&mut body, topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    if version == Version::V5 {
        let mut properties = Vec::new();
        if let Some((name, value)) = user_property {
            properties.push(USER_PROPERTY);
            string(&mut properties, name);
            string(&mut properties, value);
        }
        length(&mut body, properties.len());
        body.extend(properties);
    }
    body.extend(payload);
    packet(
        0x30 | u8::from(dup) << 3 | qos << 1 | u8::from(retain),
        &body,
    )
}

/// Retained messages are asked for each time (retain handling 0).
pub fn subscribe(version: Version, id: u16, filter: &str, qos: u8) -> Bytes {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

pub fn puback(id: u16) -> Bytes {
    packet(0x40, &id.to_be_bytes())
}

pub fn pubrec(id: u16) -> Bytes {
    packet(0x50, &id.to_be_bytes())
}

pub fn pubcomp(id: u16) -> Bytes {
    packet(0x70, &id.to_be_bytes())
}

pub fn pubrel(id: u16) -> Bytes {
    packet(0x62, &id.to_be_bytes())
}

pub fn disconnect() -> Bytes {
    packet(0xe0, &[])
}

/// Version 5: with a session expiry of 0.
pub fn disconnect_for_good() -> Bytes {
    packet(0xe0, &[0, 5, SESSION_EXPIRY, 0, 0, 0, 0])
}

/// Gathers bytes into packets.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The next whole packet; the error says what the broker should not have sent.
    pub fn next(&mut self, version: Version) -> Result<Option<Packet>, String> {
        let Some((header, total)) = sizes(&self.bytes)? else {
            return Ok(None);
        };
        let parsed = parse(version, self.bytes[0], &self.bytes[header..total]);
        let packet = parsed.ok_or_else(|| format!("malformed: {:02x?}", &self.bytes[..total]))?;
        self.bytes.drain(..total);
        Ok(Some(packet))
    }
}

/// Bytes of the fixed header, and of the whole packet; `None`: not all there.
fn sizes(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut remaining = 0usize;
    for at in 0..4 {
        let Some(byte) = bytes.get(1 + at) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let total = 2 + at + remaining;
            return Ok((bytes.len() >= total).then_some((2 + at, total)));
        }
    }
    Err(format!(
        "a length of more than 4 bytes: {:02x?}",
        &bytes[..5]
    ))
}

fn parse(version: Version, first: u8, body: &[u8]) -> Option<Packet> {
    let id = || Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    // Section 3.4.2.1: a reason of 0 may be left out.
    let code = || match version {
        Version::V4 => 0,
        Version::V5 => body.get(2).copied().unwrap_or(0),
    };
    Some(match first >> 4 {
        3 => return parse_publish(version, first, body),
        2 => Packet::ConnAck {
            session_present: body.first()? & 1 == 1,
            code: *body.get(1)?,
        },
        4 => Packet::PubAck {
            id: id()?,
            code: code(),
        },
        5 => Packet::PubRec {
            id: id()?,
            code: code(),
        },
        7 => Packet::PubComp {
            id: id()?,
            code: code(),
        },
        6 => Packet::PubRel { id: id()? },
        9 => Packet::SubAck {
            id: id()?,
            code: *body.last()?,
        },
        14 => Packet::Disconnect {
            code: body.first().copied().unwrap_or(0),
        },
        other => Packet::Other(other),
    })
}

fn parse_publish(version: Version, first: u8, body: &[u8]) -> Option<Packet> {
    let qos = first >> 1 & 3;
    let (head, rest) = body.split_at_checked(2)?;
    let topic = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let (topic, mut rest) = rest.split_at_checked(topic)?;
    let (mut id, mut named) = (0, None);
    if qos > 0 {
        let (bytes, after) = rest.split_at_checked(2)?;
        (id, rest) = (u16::from_be_bytes([bytes[0], bytes[1]]), after);
    }
    if version == Version::V5 {
        let bytes = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let (length, after) = rest.split_at(bytes);
        let length = length.iter().rev();
        let length = length.fold(0, |n, byte| n << 7 | usize::from(byte & 0x7f));
        let properties;
        (properties, rest) = after.split_at_checked(length)?;
        named = named_in(properties);
    }
    Some(Packet::Publish {
        topic: String::from_utf8(topic.to_vec()).ok()?,
        payload: rest.to_vec(),
        qos,
        id,
        dup: first & 8 != 0,
        retain: first & 1 != 0,
        named,
    })
}

/// The attempt that a user property names: no other property of a publish holds these bytes.
fn named_in(properties: &[u8]) -> Option<Id> {
    let mut mark = vec![USER_PROPERTY];
    string(&mut mark, ID);
    let at = properties.windows(mark.len()).position(|w| w == mark)? + mark.len();
    let bytes = properties.get(at..at + 2)?;
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let text = properties.get(at + 2..at + 2 + length)?;
    Some(Id(std::str::from_utf8(text).ok()?.parse().ok()?))
}

fn string(out: &mut Vec<u8>, text: &str) {
    binary(out, text.as_bytes());
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("strings of the simulation are short");
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

fn length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

fn packet(first: u8, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first);
    length(&mut out, body.len());
    out.extend_from_slice(body);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let mut sent = vec![0x20, 2, 1, 0];
        sent.extend([0x40, 2, 0, 7, 0x50, 4, 0, 8, 0x97, 0]);
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        for byte in sent {
            reader.push(&[byte]);
            seen.extend(reader.next(Version::V5).unwrap());
        }
        let code = 0x97;
        let expected = vec![
            Packet::ConnAck {
                session_present: true,
                code: 0,
            },
            Packet::PubAck { id: 7, code: 0 },
            Packet::PubRec { id: 8, code },
        ];
        assert_eq!(seen, expected);
    }
}

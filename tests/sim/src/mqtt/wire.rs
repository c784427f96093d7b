//! What an MQTT client writes and reads, 3.1.1 and 5. Packet formats: sections 2 and 3 of both
//! specifications. Of its own make, so that the broker's codec is not judged by itself.

use bytes::Bytes;

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

/// A session that outlives its connections does so for ever.
const SESSION_EXPIRY_NEVER: u32 = u32::MAX;
const SESSION_EXPIRY: u8 = 0x11;
const RECEIVE_MAXIMUM: u8 = 0x21;
const USER_PROPERTY: u8 = 0x26;

pub fn connect(
    version: Version,
    client_id: &str,
    clean: bool,
    receive_maximum: Option<u16>,
) -> Bytes {
    let mut body = Vec::new();
    string(&mut body, "MQTT");
    body.push(match version {
        Version::V4 => 4,
        Version::V5 => 5,
    });
    body.push(if clean { 2 } else { 0 });
    body.extend([0, 0]);
    if version == Version::V5 {
        let mut properties = Vec::new();
        if !clean {
            properties.push(SESSION_EXPIRY);
            properties.extend(SESSION_EXPIRY_NEVER.to_be_bytes());
        }
        if let Some(most) = receive_maximum {
            properties.push(RECEIVE_MAXIMUM);
            properties.extend(most.to_be_bytes());
        }
        length(&mut body, properties.len());
        body.extend(properties);
    }
    string(&mut body, client_id);
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
    packet(0x30 | u8::from(dup) << 3 | qos << 1, &body)
}

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
    let mut id = 0;
    if qos > 0 {
        let (bytes, after) = rest.split_at_checked(2)?;
        (id, rest) = (u16::from_be_bytes([bytes[0], bytes[1]]), after);
    }
    if version == Version::V5 {
        let bytes = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let (length, after) = rest.split_at(bytes);
        let length = length.iter().rev();
        let length = length.fold(0, |n, byte| n << 7 | usize::from(byte & 0x7f));
        rest = after.split_at_checked(length)?.1;
    }
    Some(Packet::Publish {
        topic: String::from_utf8(topic.to_vec()).ok()?,
        payload: rest.to_vec(),
        qos,
        id,
        dup: first & 8 != 0,
    })
}

fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = u16::try_from(text.len()).expect("strings of the simulation are short");
    out.extend(bytes.to_be_bytes());
    out.extend(text.as_bytes());
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

//! The strict reader of a broker's packets: whatever breaks a rule of the format is an error, so
//! every case of the suite also watches the form of all that the broker says.

use crate::wire::{Delivery, Packet, Received, Value, Version, kind, property, varint};

/// A packet at the start of `buffer` and its length in bytes; `None` while it is not all there.
pub fn packet(version: Version, buffer: &[u8]) -> Result<Option<(Packet, usize)>, String> {
    let Some((remaining, header)) = length(buffer)? else {
        return Ok(None);
    };
    let Some(body) = buffer.get(header..header + remaining) else {
        return Ok(None);
    };
    let (kind, flags) = (buffer[0] >> 4, buffer[0] & 15);
    let wrong = |what: String| format!("{}: {what}", kind::name(kind));
    let wanted = if kind == kind::PUBREL { 2 } else { 0 };
    if kind != kind::PUBLISH && flags != wanted {
        return Err(wrong(format!("flags {flags} of the fixed header")));
    }
    let mut cursor = Cursor {
        version,
        kind,
        left: body,
    };
    let packet = cursor.packet(flags).map_err(wrong)?;
    if !cursor.left.is_empty() {
        return Err(wrong(format!("{} bytes too many", cursor.left.len())));
    }
    Ok(Some((packet, header + remaining)))
}

/// The remaining length, and where the variable header starts.
fn length(buffer: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut cursor = Cursor {
        version: Version::V5,
        kind: 0,
        left: buffer.get(1..).unwrap_or_default(),
    };
    let complete = cursor.left.iter().take(4).any(|byte| byte & 0x80 == 0);
    if !complete && cursor.left.len() < 4 {
        return Ok(None);
    }
    let remaining = cursor.varint()?;
    Ok(Some((remaining, buffer.len() - cursor.left.len())))
}

struct Cursor<'a> {
    version: Version,
    kind: u8,
    left: &'a [u8],
}

impl Cursor<'_> {
    fn packet(&mut self, flags: u8) -> Result<Packet, String> {
        Ok(match self.kind {
            kind::CONNACK => Packet::ConnAck {
                flags: self.u8()?,
                code: self.code()?,
                properties: self.properties()?,
            },
            kind::PUBLISH => Packet::Publish(self.delivery(flags)?),
            kind @ (kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP) => {
                let id = self.id()?;
                let (code, properties) = self.reason()?;
                Packet::Ack {
                    kind,
                    id,
                    code,
                    properties,
                }
            }
            kind::SUBACK => Packet::SubAck {
                id: self.id()?,
                properties: self.properties()?,
                codes: self.codes()?,
            },
            kind::UNSUBACK => Packet::UnsubAck {
                id: self.id()?,
                properties: self.properties()?,
                codes: self.codes()?,
            },
            kind::PINGRESP => Packet::PingResp,
            kind::DISCONNECT if self.version == Version::V5 => {
                let (code, properties) = self.reason()?;
                Packet::Disconnect { code, properties }
            }
            kind::AUTH if self.version == Version::V5 => {
                let (code, properties) = self.reason()?;
                Packet::Auth { code, properties }
            }
            _ => return Err("no broker sends this".into()),
        })
    }

    fn delivery(&mut self, flags: u8) -> Result<Delivery, String> {
        let qos = flags >> 1 & 3;
        if qos == 3 {
            return Err("QoS 3".into());
        }
        if qos == 0 && flags & 8 != 0 {
            return Err("DUP at QoS 0".into());
        }
        let topic = self.text()?;
        let id = if qos == 0 { 0 } else { self.id()? };
        let properties = self.properties()?;
        if topic.contains(['+', '#']) {
            return Err(format!("a wildcard in the topic name {topic:?}"));
        }
        if topic.is_empty() && !properties.has(property::TOPIC_ALIAS) {
            return Err("no topic name".into());
        }
        Ok(Delivery {
            dup: flags & 8 != 0,
            qos,
            retain: flags & 1 != 0,
            topic,
            id,
            properties,
            payload: std::mem::take(&mut self.left).to_vec(),
        })
    }

    /// A reason code and properties, both of which 5.0 lets away when there is nothing to say.
    fn reason(&mut self) -> Result<(u8, Received), String> {
        if self.version == Version::V3 || self.left.is_empty() {
            return Ok((0, Received::default()));
        }
        let code = self.code()?;
        if self.left.is_empty() && self.kind != kind::AUTH {
            return Ok((code, Received::default()));
        }
        Ok((code, self.properties()?))
    }

    fn code(&mut self) -> Result<u8, String> {
        let code = self.u8()?;
        if !codes(self.version, self.kind).contains(&code) {
            return Err(format!("the unknown code 0x{code:02x}"));
        }
        Ok(code)
    }

    fn codes(&mut self) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        while !self.left.is_empty() {
            all.push(self.code()?);
        }
        Ok(all)
    }

    fn properties(&mut self) -> Result<Received, String> {
        let mut all = Received::default();
        if self.version == Version::V3 {
            return Ok(all);
        }
        let length = self.varint()?;
        let end = self
            .left
            .len()
            .checked_sub(length)
            .ok_or("a property length beyond the packet's end")?;
        while self.left.len() > end {
            let id = self.u8()?;
            if !allowed(self.kind).contains(&id) {
                return Err(format!("the property 0x{id:02x}, which it cannot have"));
            }
            let repeats = matches!(id, property::USER | property::SUBSCRIPTION_ID);
            if all.has(id) && !repeats {
                return Err(format!("the property 0x{id:02x} twice"));
            }
            let value = self.value(id)?;
            all.0.push((id, value));
        }
        if self.left.len() < end {
            return Err("a property that goes beyond the property length".into());
        }
        Ok(all)
    }

    fn value(&mut self, id: u8) -> Result<Value, String> {
        Ok(match id {
            property::PAYLOAD_FORMAT
            | property::MAXIMUM_QOS
            | property::RETAIN_AVAILABLE
            | property::WILDCARD_AVAILABLE
            | property::SUBSCRIPTION_IDS_AVAILABLE
            | property::SHARED_AVAILABLE => {
                let value = self.u8()?;
                if value > 1 {
                    return Err(format!("the property 0x{id:02x} with the value {value}"));
                }
                Value::Number(u32::from(value))
            }
            property::SERVER_KEEP_ALIVE | property::TOPIC_ALIAS_MAXIMUM => {
                Value::Number(u32::from(self.u16()?))
            }
            property::RECEIVE_MAXIMUM | property::TOPIC_ALIAS => {
                Value::Number(u32::from(self.id()?))
            }
            property::MESSAGE_EXPIRY | property::SESSION_EXPIRY => {
                Value::Number(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
            }
            property::MAXIMUM_PACKET_SIZE => {
                let size = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
                if size == 0 {
                    return Err("a maximum packet size of 0".into());
                }
                Value::Number(size)
            }
            property::SUBSCRIPTION_ID => {
                let value = self.varint()?;
                if value == 0 {
                    return Err("a subscription identifier 0".into());
                }
                Value::Number(value as u32)
            }
            property::CORRELATION_DATA | property::AUTH_DATA => {
                let length = usize::from(self.u16()?);
                Value::Binary(self.take(length)?.to_vec())
            }
            property::USER => Value::Pair(self.text()?, self.text()?),
            _ => Value::Text(self.text()?),
        })
    }

    fn take(&mut self, length: usize) -> Result<&[u8], String> {
        if self.left.len() < length {
            return Err("it ends inside a field".into());
        }
        let (taken, left) = self.left.split_at(length);
        self.left = left;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        let two = self.take(2)?;
        Ok(u16::from_be_bytes([two[0], two[1]]))
    }

    /// A number that must not be 0.
    fn id(&mut self) -> Result<u16, String> {
        match self.u16()? {
            0 => Err("a 0 where a packet identifier, alias or maximum stands".into()),
            id => Ok(id),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let length = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.take(length)?);
        let text = text.map_err(|_| "a string that is not UTF-8")?.to_owned();
        if text.contains('\0') {
            return Err("a string with U+0000".into());
        }
        Ok(text)
    }

    fn varint(&mut self) -> Result<usize, String> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if varint(value).len() != place + 1 {
                    return Err("a variable byte integer that is longer than needed".into());
                }
                return Ok(value);
            }
        }
        Err("a variable byte integer of more than four bytes".into())
    }
}

/// The codes that a broker may send in packets of this type.
fn codes(version: Version, kind: u8) -> &'static [u8] {
    match (version, kind) {
        (Version::V3, kind::CONNACK) => &[0, 1, 2, 3, 4, 5],
        (Version::V3, _) => &[0, 1, 2, 0x80],
        (_, kind::CONNACK) => &[
            0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95,
            0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
        ],
        (_, kind::PUBACK | kind::PUBREC) => &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        (_, kind::PUBREL | kind::PUBCOMP) => &[0, 0x92],
        (_, kind::SUBACK) => &[
            0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2,
        ],
        (_, kind::UNSUBACK) => &[0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91],
        (_, kind::AUTH) => &[0, 0x18],
        _ => &[
            0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95,
            0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
        ],
    }
}

/// The properties that a broker may put into packets of this type (table 2-4).
fn allowed(kind: u8) -> &'static [u8] {
    use property::*;
    match kind {
        kind::CONNACK => &[
            SESSION_EXPIRY,
            RECEIVE_MAXIMUM,
            MAXIMUM_QOS,
            RETAIN_AVAILABLE,
            MAXIMUM_PACKET_SIZE,
            ASSIGNED_CLIENT_ID,
            TOPIC_ALIAS_MAXIMUM,
            REASON_STRING,
            USER,
            WILDCARD_AVAILABLE,
            SUBSCRIPTION_IDS_AVAILABLE,
            SHARED_AVAILABLE,
            SERVER_KEEP_ALIVE,
            RESPONSE_INFORMATION,
            SERVER_REFERENCE,
            AUTH_METHOD,
            AUTH_DATA,
        ],
        kind::PUBLISH => &[
            PAYLOAD_FORMAT,
            MESSAGE_EXPIRY,
            TOPIC_ALIAS,
            RESPONSE_TOPIC,
            CORRELATION_DATA,
            USER,
            SUBSCRIPTION_ID,
            CONTENT_TYPE,
        ],
        // The session expiry interval is the client's to change [MQTT-3.14.2-2].
        kind::DISCONNECT => &[REASON_STRING, USER, SERVER_REFERENCE],
        kind::AUTH => &[AUTH_METHOD, AUTH_DATA, REASON_STRING, USER],
        _ => &[REASON_STRING, USER],
    }
}

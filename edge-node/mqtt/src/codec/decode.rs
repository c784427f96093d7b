//! Bytes to packets.

use bytes::{Bytes, BytesMut};
use rumqttd::protocol::{self as crate_codec, Protocol, v4::V4, v5::V5};

use super::cursor::Cursor;
use super::property::{self, Place};
use super::{CodecError, Connect, Filter, Packet, PublishIn, Subscribe, Version, Will};
use crate::limits::PACKET_BYTES_MAX;
use crate::{Properties, QoS};

/// Takes the next whole packet off the buffer, if there is one. `version` is None until CONNECT;
/// then only CONNECT is taken. Never panics and reserves nothing, whatever the bytes.
pub fn next(version: Option<Version>, buffer: &mut BytesMut) -> Result<Option<Packet>, CodecError> {
    next_within(PACKET_BYTES_MAX, version, buffer)
}

/// The same with a lower limit on the packet's size.
pub fn next_within(
    packet_bytes_max: usize,
    version: Option<Version>,
    buffer: &mut BytesMut,
) -> Result<Option<Packet>, CodecError> {
    let Some(&first) = buffer.first() else {
        return Ok(None);
    };
    check_first(version, first)?;
    let max = packet_bytes_max.min(PACKET_BYTES_MAX);
    let Some((header, len)) = frame(max, version, buffer)? else {
        return Ok(None);
    };
    let frame = buffer.split_to(len);
    let packet = match (first >> 4, version) {
        (1, _) => connect(frame, header)?,
        (3, Some(v)) => publish(v, frame, header)?,
        (4..=7, Some(v)) => acknowledgement(v, &frame, header)?,
        (8, Some(v)) => subscribe(v, frame, header)?,
        (10, Some(v)) => unsubscribe(v, frame, header)?,
        (12, _) if len == header => Packet::PingReq,
        (14, Some(v)) => disconnect(v, &frame, header)?,
        (15, _) => auth(&frame, header)?,
        _ => return Err(CodecError::Malformed("PINGREQ with a body")),
    };
    Ok(Some(packet))
}

/// Packet type and flags (sections 2.1.2, 2.1.3), before a byte more is awaited.
fn check_first(version: Option<Version>, first: u8) -> Result<(), CodecError> {
    let flags = first & 0x0f;
    let wanted = match (first >> 4, version) {
        (1, None) => 0,
        (_, None) => return Err(CodecError::Protocol("the first packet is not CONNECT")),
        (1, Some(_)) => return Err(CodecError::Protocol("a second CONNECT")),
        (3, _) => {
            if flags & 0b0110 == 0b0110 {
                return Err(CodecError::Malformed("QoS 3"));
            }
            if flags & 0b1110 == 0b1000 {
                return Err(CodecError::Malformed("DUP at QoS 0"));
            }
            flags
        }
        (6 | 8 | 10, _) => 0b0010,
        (4 | 5 | 7 | 12 | 14, _) | (15, Some(Version::V5)) => 0,
        (2 | 9 | 11 | 13, _) => {
            return Err(CodecError::Protocol("a packet that only a server sends"));
        }
        _ => return Err(CodecError::Malformed("a reserved packet type")),
    };
    if flags != wanted {
        return Err(CodecError::Malformed("reserved flags"));
    }
    Ok(())
}

/// Length of the fixed header and of the whole frame, once it is all there.
fn frame(
    packet_bytes_max: usize,
    version: Option<Version>,
    buffer: &[u8],
) -> Result<Option<(usize, usize)>, CodecError> {
    let mut remaining = 0usize;
    for i in 0..4 {
        let Some(&byte) = buffer.get(1 + i) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 != 0 {
            continue;
        }
        // 3.1.1 does not ask for the shortest form.
        if byte == 0 && i > 0 && version == Some(Version::V5) {
            return Err(CodecError::Malformed("the remaining length is too long"));
        }
        let header = 2 + i;
        let len = header + remaining;
        if len > packet_bytes_max {
            return Err(CodecError::TooLarge);
        }
        return Ok((buffer.len() >= len).then_some((header, len)));
    }
    Err(CodecError::Malformed(
        "the remaining length has more than four bytes",
    ))
}

/// The crate's decoder, on a frame that was checked.
fn by_crate(version: Version, mut frame: BytesMut) -> Result<crate_codec::Packet, CodecError> {
    let read = match version {
        Version::V3 => V4.read_mut(&mut frame, PACKET_BYTES_MAX),
        Version::V5 => V5.read_mut(&mut frame, PACKET_BYTES_MAX),
    };
    read.map_err(|_| CodecError::Malformed("refused by the codec"))
}

const WRONG: CodecError = CodecError::Malformed("the codec took it for another packet");

struct ConnectShape {
    version: Version,
    flags_at: usize,
    username: Option<String>,
    password: Option<(usize, usize)>,
}

fn check_connect(frame: &[u8], header: usize) -> Result<ConnectShape, CodecError> {
    let mut c = Cursor::new(frame, header);
    let name = c.binary()?;
    let level = c.u8()?;
    let version = match (name, level) {
        (b"MQTT", 4) => Version::V3,
        (b"MQTT", 5) => Version::V5,
        (b"MQTT" | b"MQIsdp", _) => return Err(CodecError::Version { level }),
        _ => return Err(CodecError::Protocol("the protocol name is not MQTT")),
    };
    let flags_at = c.at();
    let flags = c.u8()?;
    let (will, will_qos, will_retain) = (flags & 4 != 0, (flags >> 3) & 3, flags & 0x20 != 0);
    if flags & 1 != 0 {
        return Err(CodecError::Malformed("the reserved connect flag"));
    }
    if will_qos == 3 || (!will && (will_qos != 0 || will_retain)) {
        return Err(CodecError::Malformed("will flags"));
    }
    if version == Version::V3 && flags & 0xc0 == 0x40 {
        return Err(CodecError::Malformed("a password without a user name"));
    }
    c.u16()?;
    if version == Version::V5 {
        property::check(&mut c, Place::Connect)?;
    }
    c.string()?;
    if will {
        if version == Version::V5 {
            property::check(&mut c, Place::Will)?;
        }
        c.string()?;
        c.binary()?;
    }
    let username = if flags & 0x80 != 0 {
        Some(c.string()?.to_owned())
    } else {
        None
    };
    let password = if flags & 0x40 != 0 {
        let len = c.binary()?.len();
        Some((c.at() - len, c.at()))
    } else {
        None
    };
    c.end()?;
    Ok(ConnectShape {
        version,
        flags_at,
        username,
        password,
    })
}

fn connect(mut frame: BytesMut, header: usize) -> Result<Packet, CodecError> {
    let shape = check_connect(&frame, header)?;
    let password = shape
        .password
        .map(|(from, to)| Bytes::copy_from_slice(&frame[from..to]));
    // The crate reads passwords as UTF-8: the login is read here and hidden from it.
    frame[shape.flags_at] &= 0x3f;
    let crate_codec::Packet::Connect(connect, props, will, will_props, _) =
        by_crate(shape.version, frame)?
    else {
        return Err(WRONG);
    };
    let will = will.map(|w| will_from(w, will_props)).transpose()?;
    let props = props.as_ref();
    Ok(Packet::Connect(Box::new(Connect {
        version: shape.version,
        clean_start: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        client_id: connect.client_id,
        session_expiry_s: props.and_then(|p| p.session_expiry_interval),
        receive_maximum: props.and_then(|p| p.receive_maximum),
        packet_bytes_max: props.and_then(|p| p.max_packet_size),
        topic_alias_maximum: props.and_then(|p| p.topic_alias_max).unwrap_or(0),
        problem_information: props.and_then(|p| p.request_problem_info) != Some(0),
        auth_method: props.and_then(|p| p.authentication_method.clone()),
        will,
        username: shape.username,
        password,
    })))
}

fn will_from(
    will: crate_codec::LastWill,
    props: Option<crate_codec::LastWillProperties>,
) -> Result<Will, CodecError> {
    let topic = std::str::from_utf8(&will.topic)
        .map_err(|_| WRONG)?
        .to_owned();
    let delay_s = props.as_ref().and_then(|p| p.delay_interval).unwrap_or(0);
    let properties = props
        .map(|p| Properties {
            payload_format: p.payload_format_indicator,
            message_expiry_s: p.message_expiry_interval,
            content_type: p.content_type,
            response_topic: p.response_topic,
            // Wills live long: nothing of theirs may pin the read buffer.
            correlation_data: p.correlation_data.map(|d| Bytes::copy_from_slice(&d)),
            user: p.user_properties,
        })
        .filter(|p| !p.is_empty())
        .map(Box::new);
    Ok(Will {
        topic,
        payload: Bytes::copy_from_slice(&will.message),
        qos: QoS::from_bits(will.qos as u8).ok_or(WRONG)?,
        retain: will.retain,
        delay_s,
        properties,
    })
}

fn publish(version: Version, frame: BytesMut, header: usize) -> Result<Packet, CodecError> {
    let first = frame[0];
    let qos = QoS::from_bits((first >> 1) & 3).ok_or(CodecError::Malformed("QoS 3"))?;
    let mut c = Cursor::new(&frame, header);
    c.string()?;
    let id = if qos == QoS::AtMostOnce {
        0
    } else {
        c.packet_id()?
    };
    if version == Version::V5 {
        property::check(&mut c, Place::Publish)?;
    }
    let crate_codec::Packet::Publish(publish, props) = by_crate(version, frame)? else {
        return Err(WRONG);
    };
    let alias = props.as_ref().and_then(|p| p.topic_alias);
    let properties = props
        .map(|p| Properties {
            payload_format: p.payload_format_indicator,
            message_expiry_s: p.message_expiry_interval,
            content_type: p.content_type,
            response_topic: p.response_topic,
            correlation_data: p.correlation_data,
            user: p.user_properties,
        })
        .filter(|p| !p.is_empty())
        .map(Box::new);
    Ok(Packet::Publish(PublishIn {
        dup: first & 8 != 0,
        qos,
        retain: publish.retain,
        id,
        topic: publish.topic,
        alias,
        payload: publish.payload,
        properties,
    }))
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP: an id, and on v5 perhaps a reason and properties of which the
/// machine needs none. Read here: the crate would add nothing.
fn acknowledgement(version: Version, frame: &[u8], header: usize) -> Result<Packet, CodecError> {
    let kind = frame[0] >> 4;
    let mut c = Cursor::new(frame, header);
    let id = c.packet_id()?;
    let mut reason = 0;
    if version == Version::V5 && c.left() > 0 {
        reason = c.u8()?;
        let known = match kind {
            4 | 5 => {
                matches!(
                    reason,
                    0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
                )
            }
            _ => matches!(reason, 0 | 0x92),
        };
        if !known {
            return Err(CodecError::Malformed("an unknown reason code"));
        }
        if c.left() > 0 {
            property::check(&mut c, Place::Ack)?;
        }
    }
    c.end()?;
    Ok(match kind {
        4 => Packet::PubAck { id, reason },
        5 => Packet::PubRec { id, reason },
        6 => Packet::PubRel { id, reason },
        _ => Packet::PubComp { id, reason },
    })
}

fn subscribe(version: Version, frame: BytesMut, header: usize) -> Result<Packet, CodecError> {
    let mut c = Cursor::new(&frame, header);
    let id = c.packet_id()?;
    let mut subscription_id = None;
    if version == Version::V5 {
        subscription_id = property::check(&mut c, Place::Subscribe)?.subscription_id;
    }
    if c.left() == 0 {
        return Err(CodecError::Protocol("a SUBSCRIBE without a filter"));
    }
    let mut filters = Vec::new();
    while c.left() > 0 {
        let filter = c.string()?.to_owned();
        let options = c.u8()?;
        let qos = QoS::from_bits(options & 3).ok_or(CodecError::Protocol("QoS 3"))?;
        let reserved = if version == Version::V3 { 0xfc } else { 0xc0 };
        if options & reserved != 0 {
            return Err(CodecError::Malformed("reserved subscription options"));
        }
        if options & 0x30 == 0x30 {
            return Err(CodecError::Protocol("retain handling 3"));
        }
        filters.push(Filter {
            filter,
            qos,
            no_local: options & 4 != 0,
            retain_as_published: options & 8 != 0,
            retain_handling: (options >> 4) & 3,
        });
    }
    Ok(Packet::Subscribe(Subscribe {
        id,
        subscription_id,
        filters,
    }))
}

fn unsubscribe(version: Version, frame: BytesMut, header: usize) -> Result<Packet, CodecError> {
    let mut c = Cursor::new(&frame, header);
    let id = c.packet_id()?;
    if version == Version::V5 {
        property::check(&mut c, Place::Unsubscribe)?;
    }
    if c.left() == 0 {
        return Err(CodecError::Protocol("an UNSUBSCRIBE without a filter"));
    }
    while c.left() > 0 {
        c.string()?;
    }
    let crate_codec::Packet::Unsubscribe(unsubscribe, _) = by_crate(version, frame)? else {
        return Err(WRONG);
    };
    Ok(Packet::Unsubscribe {
        id,
        filters: unsubscribe.filters,
    })
}

fn disconnect(version: Version, frame: &[u8], header: usize) -> Result<Packet, CodecError> {
    let mut c = Cursor::new(frame, header);
    let mut reason = 0;
    let mut session_expiry_s = None;
    if version == Version::V5 && c.left() > 0 {
        reason = c.u8()?;
        // The codes a client may send (table 3-10).
        let known = matches!(reason, 0 | 4 | 0x80..=0x83 | 0x90 | 0x93..=0x99);
        if !known {
            return Err(CodecError::Malformed("an unknown reason code"));
        }
        if c.left() > 0 {
            session_expiry_s = property::check(&mut c, Place::Disconnect)?.session_expiry_s;
        }
    }
    c.end()?;
    Ok(Packet::Disconnect {
        reason,
        session_expiry_s,
    })
}

/// AUTH, which the crate does not know (section 3.15).
fn auth(frame: &[u8], header: usize) -> Result<Packet, CodecError> {
    let mut c = Cursor::new(frame, header);
    let mut reason = 0;
    if c.left() > 0 {
        reason = c.u8()?;
        if !matches!(reason, 0 | 0x18 | 0x19) {
            return Err(CodecError::Malformed("an unknown reason code"));
        }
        if c.left() > 0 {
            property::check(&mut c, Place::Auth)?;
        }
    }
    c.end()?;
    Ok(Packet::Auth { reason })
}

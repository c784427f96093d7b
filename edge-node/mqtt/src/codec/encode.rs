//! Packets to bytes. The seldom ones go through the crate; PUBLISH, whose qos and id it hides, and
//! the two- and four-byte replies of the hot path are written here.

use bytes::{BufMut, BytesMut};
use rumqttd::protocol::{
    self as crate_codec, ConnectReturnCode as C, Protocol, SubscribeReasonCode as S,
    UnsubAckReason as U, v4::V4, v5::V5,
};

use super::Version;
use crate::limits::{PACKET_BYTES_MAX, TOPIC_ALIAS_MAXIMUM};
use crate::{Properties, QoS};

/// The four acknowledgements by their packet type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    PubAck = 0x40,
    PubRec = 0x50,
    PubRel = 0x62,
    PubComp = 0x70,
}

/// Writes an acknowledgement. The reason is left out on v3.1.1, which has none, and where it is 0;
/// `text` goes with it, if there is any.
pub fn ack(version: Version, kind: Ack, id: u16, reason: u8, text: &str, out: &mut BytesMut) {
    out.put_u8(kind as u8);
    if reason == 0 || version == Version::V3 {
        out.put_u8(2);
        return out.put_u16(id);
    }
    let properties = reason_string_len(text);
    out.put_u8(3 + properties as u8);
    out.put_u16(id);
    out.put_u8(reason);
    put_reason_string(text, out);
}

/// Bytes of a property list that holds this reason string; none: no list. In one byte, as the lengths
/// around it: our texts are short.
fn reason_string_len(text: &str) -> usize {
    debug_assert!(text.len() <= REASON_STRING_BYTES_MAX);
    if text.is_empty() { 0 } else { 4 + text.len() }
}

fn put_reason_string(text: &str, out: &mut BytesMut) {
    if !text.is_empty() {
        out.put_u8(3 + text.len() as u8);
        out.put_u8(31);
        put_field(out, text.as_bytes());
    }
}

/// No reason string is longer.
pub const REASON_STRING_BYTES_MAX: usize = 100;

/// What a reason code means here, for people who read the client's log.
pub fn reason_text(reason: u8) -> &'static str {
    match reason {
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "the log cannot take this message",
        0x84 => "only MQTT 3.1.1 and 5.0 are spoken here",
        0x85 => "the client identifier is not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorised",
        0x88 => "the server is not available",
        0x8a => "banned",
        0x8c => "no authentication method is supported",
        0x8f => "the topic filter is not valid",
        0x90 => "the topic name is not valid",
        0x97 => "quota exceeded: the disk budget is used up, or a limit is reached",
        0x9f => "too many connects per second",
        _ => "",
    }
}

pub fn pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// A PUBLISH on its way to a client.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub id: u16,
    pub topic: &'a str,
    /// Whether an alias stands for the topic, and whether the client knows it already.
    pub alias: Option<(u16, bool)>,
    pub properties: Option<&'a Properties>,
    /// What is left of the message expiry interval.
    pub expiry_s: Option<u32>,
    pub subscription_ids: &'a [u32],
    pub payload_bytes: usize,
}

impl Outgoing<'_> {
    /// Length of the whole packet.
    pub fn len(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + varint_len(remaining) + remaining
    }

    fn remaining(&self, version: Version) -> usize {
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let mut len = 2 + self.topic_field().len() + id + self.payload_bytes;
        if version == Version::V5 {
            let properties = self.properties_len();
            len += varint_len(properties) + properties;
        }
        len
    }

    fn topic_field(&self) -> &str {
        match self.alias {
            Some((_, true)) => "",
            _ => self.topic,
        }
    }

    fn properties_len(&self) -> usize {
        let mut len = if self.expiry_s.is_some() { 5 } else { 0 };
        len += if self.alias.is_some() { 3 } else { 0 };
        len += self
            .subscription_ids
            .iter()
            .map(|id| 1 + varint_len(*id as usize))
            .sum::<usize>();
        let Some(p) = self.properties else { return len };
        let text = |t: &Option<String>| t.as_ref().map_or(0, |t| 3 + t.len());
        len += if p.payload_format.is_some() { 2 } else { 0 };
        len += text(&p.content_type) + text(&p.response_topic);
        len += p.correlation_data.as_ref().map_or(0, |d| 3 + d.len());
        len + p
            .user
            .iter()
            .map(|(k, v)| 5 + k.len() + v.len())
            .sum::<usize>()
    }

    fn put_properties(&self, out: &mut BytesMut) {
        put_varint(out, self.properties_len());
        if let Some(expiry) = self.expiry_s {
            out.put_u8(2);
            out.put_u32(expiry);
        }
        if let Some((alias, _)) = self.alias {
            out.put_u8(35);
            out.put_u16(alias);
        }
        for id in self.subscription_ids {
            out.put_u8(11);
            put_varint(out, *id as usize);
        }
        let Some(p) = self.properties else { return };
        if let Some(format) = p.payload_format {
            out.put_slice(&[1, format]);
        }
        for (property, text) in [(3, &p.content_type), (8, &p.response_topic)] {
            if let Some(text) = text {
                out.put_u8(property);
                put_field(out, text.as_bytes());
            }
        }
        if let Some(data) = &p.correlation_data {
            out.put_u8(9);
            put_field(out, data);
        }
        for (key, value) in &p.user {
            out.put_u8(38);
            put_field(out, key.as_bytes());
            put_field(out, value.as_bytes());
        }
    }
}

/// Writes everything of a PUBLISH but its payload, which the caller appends or sends as a slice.
pub fn publish(version: Version, p: &Outgoing<'_>, out: &mut BytesMut) {
    out.put_u8(0x30 | u8::from(p.dup) << 3 | (p.qos as u8) << 1 | u8::from(p.retain));
    put_varint(out, p.remaining(version));
    put_field(out, p.topic_field().as_bytes());
    if p.qos != QoS::AtMostOnce {
        out.put_u16(p.id);
    }
    if version == Version::V5 {
        p.put_properties(out);
    }
}

fn put_field(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u16(u16::try_from(bytes.len()).expect("read from a field of at most 65,535 bytes"));
    out.put_slice(bytes);
}

fn varint_len(n: usize) -> usize {
    match n {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

fn put_varint(out: &mut BytesMut, mut n: usize) {
    while n > 127 {
        out.put_u8(0x80 | (n & 0x7f) as u8);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

/// What a v5 CONNACK says beside its reason; v3.1.1 has none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    /// As on v5; translated for v3.1.1.
    pub reason: u8,
    /// Why it is refused; may be empty.
    pub text: &'static str,
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: u16,
    pub assigned_client_id: Option<String>,
    pub keep_alive_s: Option<u16>,
    /// What the client may send at most.
    pub packet_bytes_max: usize,
}

pub fn connack(version: Version, ack: &ConnAck, out: &mut BytesMut) {
    let session_present = ack.session_present && ack.reason == 0;
    let written = match version {
        Version::V3 => {
            let code = match ack.reason {
                0 => C::Success,
                0x84 => C::RefusedProtocolVersion,
                0x85 => C::ClientIdentifierNotValid,
                0x86 => C::BadUserNamePassword,
                0x87 | 0x8a => C::NotAuthorized,
                _ => C::ServiceUnavailable,
            };
            let connack = crate_codec::ConnAck {
                session_present,
                code,
            };
            V4.write(crate_codec::Packet::ConnAck(connack, None), out)
        }
        Version::V5 => {
            let connack = crate_codec::ConnAck {
                session_present,
                code: connect_code(ack.reason),
            };
            let properties = match ack.reason {
                0 => connack_properties(ack),
                _ => crate_codec::ConnAckProperties {
                    reason_string: Some(ack.text.to_owned()).filter(|t| !t.is_empty()),
                    ..Default::default()
                },
            };
            V5.write(crate_codec::Packet::ConnAck(connack, Some(properties)), out)
        }
    };
    written.expect("a CONNACK is far below the largest packet");
}

fn connack_properties(ack: &ConnAck) -> crate_codec::ConnAckProperties {
    crate_codec::ConnAckProperties {
        session_expiry_interval: ack.session_expiry_s,
        receive_max: Some(ack.receive_maximum),
        max_packet_size: Some(ack.packet_bytes_max.min(PACKET_BYTES_MAX) as u32),
        assigned_client_identifier: ack.assigned_client_id.clone(),
        topic_alias_max: Some(TOPIC_ALIAS_MAXIMUM),
        server_keep_alive: ack.keep_alive_s,
        ..Default::default()
    }
}

fn connect_code(reason: u8) -> C {
    match reason {
        0 => C::Success,
        0x81 => C::MalformedPacket,
        0x82 => C::ProtocolError,
        0x83 => C::ImplementationSpecificError,
        0x84 => C::UnsupportedProtocolVersion,
        0x85 => C::ClientIdentifierNotValid,
        0x86 => C::BadUserNamePassword,
        0x87 => C::NotAuthorized,
        0x88 => C::ServerUnavailable,
        0x89 => C::ServerBusy,
        0x8a => C::Banned,
        0x8c => C::BadAuthenticationMethod,
        0x90 => C::TopicNameInvalid,
        0x95 => C::PacketTooLarge,
        0x97 => C::QuotaExceeded,
        0x9f => C::ConnectionRateExceeded,
        _ => C::UnspecifiedError,
    }
}

/// Writes a SUBACK; `reasons` as on v5. v3.1.1 knows only 0, 1, 2 and 0x80.
pub fn suback(version: Version, id: u16, reasons: &[u8], out: &mut BytesMut) {
    let return_codes = reasons
        .iter()
        .map(|r| subscribe_code(version, *r))
        .collect();
    let suback = crate_codec::SubAck {
        pkid: id,
        return_codes,
    };
    let packet = crate_codec::Packet::SubAck(suback, None);
    let written = match version {
        Version::V3 => V4.write(packet, out),
        Version::V5 => V5.write(packet, out),
    };
    written.expect("shorter than the SUBSCRIBE it answers");
}

fn subscribe_code(version: Version, reason: u8) -> S {
    match (reason, version) {
        (0, _) => S::QoS0,
        (1, _) => S::QoS1,
        (2, _) => S::QoS2,
        (_, Version::V3) => S::Failure,
        (0x83, _) => S::ImplementationSpecific,
        (0x87, _) => S::NotAuthorized,
        (0x8f, _) => S::TopicFilterInvalid,
        (0x97, _) => S::QuotaExceeded,
        (0x9e, _) => S::SharedSubscriptionsNotSupported,
        _ => S::Unspecified,
    }
}

/// Writes an UNSUBACK; v3.1.1 has no reasons.
pub fn unsuback(version: Version, id: u16, reasons: &[u8], out: &mut BytesMut) {
    let reasons = reasons.iter().map(|r| match r {
        0 => U::Success,
        0x11 => U::NoSubscriptionExisted,
        0x83 => U::ImplementationSpecificError,
        0x87 => U::NotAuthorized,
        0x8f => U::TopicFilterInvalid,
        _ => U::UnspecifiedError,
    });
    let unsuback = crate_codec::UnsubAck {
        pkid: id,
        reasons: reasons.collect(),
    };
    let packet = crate_codec::Packet::UnsubAck(unsuback, None);
    let written = match version {
        Version::V3 => V4.write(packet, out),
        Version::V5 => V5.write(packet, out),
    };
    written.expect("shorter than the UNSUBSCRIBE it answers");
}

/// Writes a DISCONNECT with a reason. v3.1.1 has none from a server: nothing is written.
/// Written here: the crate leaves the reason out if there are no properties, or only empty ones.
pub fn disconnect(version: Version, reason: u8, text: &str, out: &mut BytesMut) {
    if version == Version::V3 {
        return;
    }
    let properties = reason_string_len(text).max(1);
    out.put_slice(&[0xe0, 1 + properties as u8, reason]);
    match text {
        "" => out.put_u8(0),
        text => put_reason_string(text, out),
    }
}

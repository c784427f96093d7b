//! The packets a client may send, as the machine wants them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Properties, QoS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1, protocol level 4.
    V3,
    /// 5.0, protocol level 5.
    V5,
}

impl Version {
    pub fn name(self) -> &'static str {
        match self {
            Version::V3 => "3.1.1",
            Version::V5 => "5.0",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    Connect(Box<Connect>),
    Publish(PublishIn),
    PubAck {
        id: u16,
        reason: u8,
    },
    PubRec {
        id: u16,
        reason: u8,
    },
    PubRel {
        id: u16,
        reason: u8,
    },
    PubComp {
        id: u16,
        reason: u8,
    },
    Subscribe(Subscribe),
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    PingReq,
    Disconnect {
        reason: u8,
        session_expiry_s: Option<u32>,
    },
    Auth {
        reason: u8,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    pub version: Version,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub client_id: String,
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub topic_alias_maximum: u16,
    /// Reason strings are wanted (request problem information).
    pub problem_information: bool,
    pub auth_method: Option<String>,
    pub will: Option<Will>,
    pub username: Option<String>,
    pub password: Option<Bytes>,
}

/// A will (section 3.1.2.5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Will {
    pub topic: String,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    pub delay_s: u32,
    pub properties: Option<Box<Properties>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PublishIn {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// 0 at QoS 0.
    pub id: u16,
    /// Checked to be UTF-8 without U+0000. Empty: the alias says.
    pub topic: Bytes,
    pub alias: Option<u16>,
    pub payload: Bytes,
    pub properties: Option<Box<Properties>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    pub id: u16,
    pub subscription_id: Option<u32>,
    pub filters: Vec<Filter>,
}

/// One topic filter with its options (section 3.8.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    pub filter: String,
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0 send, 1 send if the subscription is new, 2 do not send.
    pub retain_handling: u8,
}

/// Why bytes are not a packet that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    #[error("packet above the size limit")]
    TooLarge,
    /// Neither 3.1.1 nor 5.0; a level above 5 is answered in the form of 5.0.
    #[error("protocol level {level} is not spoken here")]
    Version { level: u8 },
}

impl CodecError {
    /// The reason code of the DISCONNECT or CONNACK that answers it.
    pub fn reason(self) -> u8 {
        match self {
            CodecError::Malformed(_) => 0x81,
            CodecError::Protocol(_) => 0x82,
            CodecError::TooLarge => 0x95,
            CodecError::Version { .. } => 0x84,
        }
    }
}

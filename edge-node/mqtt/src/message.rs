//! A message as the machine and the shell see it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Quality of service (section 4.3 of both specifications).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum QoS {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    /// From the two bits of a packet; 3 is malformed [MQTT-3.3.1-4].
    pub fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// The properties of a v5 PUBLISH or will that travel with the message, byte for byte
/// (sections 3.3.2.3 and 3.1.3.2). User properties keep their order [MQTT-3.3.2-18].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// 0 bytes, 1 UTF-8.
    pub payload_format: Option<u8>,
    /// As sent; what is left of it is worked out on delivery.
    pub message_expiry_s: Option<u32>,
    pub content_type: Option<String>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Bytes>,
    pub user: Vec<(String, String)>,
}

impl Properties {
    pub fn is_empty(&self) -> bool {
        *self == Properties::default()
    }
}

/// A message a client published (or its will): what the shell routes into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The topic, with an alias already resolved. Valid UTF-8, no wildcard, not empty.
    pub topic: Arc<str>,
    /// A slice of the read buffer.
    pub payload: Bytes,
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag: the client sent it before and saw no acknowledgement.
    pub dup: bool,
    /// None: v3.1.1, or v5 without properties.
    pub properties: Option<Box<Properties>>,
    /// Who published it.
    pub client_id: Arc<str>,
}

//! What stands in a journal frame's op, and how.
//!
//! ```text
//! +---------+---------------------------------------------+
//! | version | postcard: token u64, list of operations     |
//! | u8 = 1  |                                             |
//! +---------+---------------------------------------------+
//! ```
//! Tokens rise; an op whose token the checkpoint already holds is skipped. Operations on a session
//! that is gone do nothing. The order of the variants is the format: new ones go to the end, and
//! any other change is a new version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::session::{Message, Sid};
use crate::QoS;
use crate::codec::{Filter, Will};

/// The version byte of ops and of the checkpoint.
pub const VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// A client connected to a session that outlives the connection. `fresh`: whatever session it
    /// had ends first.
    Start {
        sid: Sid,
        client_id: Arc<str>,
        fresh: bool,
        expiry_s: u32,
        will: Option<Will>,
    },
    End {
        sid: Sid,
    },
    Expiry {
        sid: Sid,
        expiry_s: u32,
    },
    /// The will was published or is not to be.
    WillGone {
        sid: Sid,
    },
    Subscribe {
        sid: Sid,
        identifier: Option<u32>,
        filters: Vec<Filter>,
    },
    Unsubscribe {
        sid: Sid,
        filters: Vec<String>,
    },
    /// A message arrived. `from`: the session and packet id of a QoS 2 publish. `message` is there
    /// if it is retained or a durable session gets it.
    Publish {
        from: Option<(Sid, u16)>,
        message: Option<Arc<Message>>,
    },
    /// PUBREL from a publisher: the id is free again.
    Release {
        sid: Sid,
        id: u16,
    },
    /// A retained message for a new subscription.
    Enqueue {
        sid: Sid,
        qos: QoS,
        identifiers: Vec<u32>,
        message: Arc<Message>,
    },
    /// PUBACK or PUBCOMP from a subscriber (or the message cannot be delivered): done with.
    Done {
        sid: Sid,
        id: u16,
    },
    /// PUBREC from a subscriber.
    Received {
        sid: Sid,
        id: u16,
    },
}

pub(crate) fn encode(token: u64, ops: &[Op]) -> Vec<u8> {
    let out = vec![VERSION];
    postcard::to_extend(&(token, ops), out).expect("a vector takes everything")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<(u64, Vec<Op>), String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|e| e.to_string()),
        Some((v, _)) => Err(format!("version {v} is not known")),
        None => Err("it is empty".into()),
    }
}

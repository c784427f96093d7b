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
use super::shares::Deal;
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
    /// A message arrived that shared subscriptions match: a `Publish`, and whom it was dealt to.
    Dealt {
        from: Option<(Sid, u16)>,
        message: Arc<Message>,
        deals: Vec<Deal>,
    },
    /// A message goes to another member of its group, from the queue of one that has left.
    Forward {
        sid: Sid,
        id: u16,
        deal: Deal,
    },
    /// The same, from a session that is gone.
    Deal {
        message: Arc<Message>,
        deal: Deal,
    },
    /// A retained message has expired, unless another has taken its place.
    Expired {
        topic: Arc<str>,
        expires_at_ms: u64,
    },
    /// What the queue of a session may hold by the listener that its client came by last; None: what any
    /// may. Stands behind the `Start` of that connection, if the session had another bound.
    Queue {
        sid: Sid,
        bytes_max: Option<u64>,
    },
}

impl Op {
    /// Whether the state is smaller after it, or a step on the way there.
    pub(crate) fn frees_room(&self) -> bool {
        match self {
            Op::Start { fresh: true, .. }
            | Op::Subscribe { .. }
            | Op::Publish { .. }
            | Op::Dealt { .. }
            | Op::Deal { .. }
            | Op::Enqueue { .. } => false,
            // Who comes back, if with another will, takes what waits for it.
            Op::Start { fresh: false, .. }
            | Op::End { .. }
            | Op::Expiry { .. }
            | Op::WillGone { .. }
            | Op::Unsubscribe { .. }
            | Op::Release { .. }
            | Op::Done { .. }
            | Op::Forward { .. }
            | Op::Expired { .. }
            | Op::Queue { .. }
            | Op::Received { .. } => true,
        }
    }

    /// Whether the op holds the message that its frame is about.
    pub(crate) fn carries(&self) -> bool {
        matches!(
            self,
            Op::Publish {
                message: Some(_),
                ..
            } | Op::Dealt { .. }
        )
    }

    /// Whom it gives something by shared subscriptions.
    pub(crate) fn deals(&self) -> &[Deal] {
        match self {
            Op::Dealt { deals, .. } => deals,
            Op::Deal { deal, .. } | Op::Forward { deal, .. } => std::slice::from_ref(deal),
            _ => &[],
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Journals written by this version are read for ever: change the version, not these bytes.
    #[test]
    fn the_bytes_of_version_1_stay_as_they_are() {
        let publish = crate::Publish {
            topic: "t/1".into(),
            payload: bytes::Bytes::from_static(b"21.4"),
            qos: QoS::ExactlyOnce,
            retain: true,
            dup: false,
            properties: None,
            client_id: "c".into(),
        };
        let message = Arc::new(Message {
            publish,
            expires_at_ms: Some(300),
        });
        let ops = [
            Op::Publish {
                from: Some((Sid(1), 300)),
                message: Some(message),
            },
            Op::Release {
                sid: Sid(1),
                id: 300,
            },
            Op::Done { sid: Sid(2), id: 1 },
        ];
        let golden = b"\x01\x07\x03\x06\x01\x01\xac\x02\x01\x03t/1\x0421.4\x02\x01\x00\x00\x01c\
            \x01\xac\x02\x07\x01\xac\x02\x09\x02\x01";
        assert_eq!(encode(7, &ops), golden);
        assert_eq!(decode(golden), Ok((7, ops.to_vec())));
        let later = [(Some(300), &b"\x01\xac\x02"[..]), (None, b"\x00")];
        for (bytes_max, bound) in later {
            let ops = [Op::Queue {
                sid: Sid(1),
                bytes_max,
            }];
            let golden = [b"\x01\x07\x01\x0f\x01", bound].concat();
            assert_eq!(encode(7, &ops), golden);
            assert_eq!(decode(&golden), Ok((7, ops.to_vec())));
        }
    }

    #[test]
    fn damaged_ops_are_errors_that_say_so() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[9, 0, 0]).unwrap_err().contains("version 9"));
        let whole = encode(3, &[Op::Release { sid: Sid(1), id: 2 }]);
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut]).is_err());
        }
        assert!(
            decode(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(),
            "reserves nothing"
        );
    }
}

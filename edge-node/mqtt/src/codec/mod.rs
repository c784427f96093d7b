//! Bytes to packets and back: the only place that knows `rumqttd::protocol`.
//!
//! The crate's decoder trusts its input in places, so a frame is checked here first, field by field
//! (`decode`, `property`, `cursor`), and only then given to it. What the crate gets wrong or hides
//! is read or written here instead:
//! - qos, dup and packet id of a PUBLISH are private in the crate, in both directions;
//! - a client's CONNACK or UNSUBACK ends in `unreachable!` on v5, an AUTH is unknown;
//! - passwords are read as UTF-8 (they are binary), an empty user name as none;
//! - a SUBSCRIBE's subscription identifier is counted one byte too long, so that properties behind
//!   it are read as filters;
//! - DISCONNECT with a reason but no property length is refused on reading, and written without
//!   its reason;
//! - acknowledgements with an id of 0, reserved flags, bytes behind the last field, properties
//!   twice or past their list's end pass unseen;
//! - v3.1.1 packets with properties panic on writing.

mod cursor;
mod decode;
mod encode;
mod packet;
mod property;

pub use decode::{next, next_within};
pub use encode::{Ack, ConnAck, Outgoing, REASON_STRING_BYTES_MAX};
pub use encode::{ack, connack, disconnect, pingresp, publish, reason_text, suback, unsuback};
pub use packet::{CodecError, Connect, Filter, Packet, PublishIn, Subscribe, Version, Will};

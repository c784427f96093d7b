//! The cases, one file for each packet or section.

mod alias;
mod allowed;
mod auth;
mod connack;
mod connect;
mod data;
mod disconnect;
mod errors;
mod flow;
mod login;
mod options;
mod order;
mod overlap;
mod ping;
mod properties;
mod publish;
mod qos1;
mod qos2;
mod refusal;
mod retain;
mod session;
mod shared;
mod size;
mod subscribe;
mod topics;
mod transport;
mod unsubscribe;
mod websocket;
mod will;

use crate::registry::Rule;

/// Every rule that has a case, by the file that it is in.
pub const ALL: &[(&str, &[Rule])] = &[
    ("data", data::RULES),
    ("transport", transport::RULES),
    ("connect", connect::RULES),
    ("login", login::RULES),
    ("refusal", refusal::RULES),
    ("connack", connack::RULES),
    ("will", will::RULES),
    ("session", session::RULES),
    ("ping", ping::RULES),
    ("publish", publish::RULES),
    ("properties", properties::RULES),
    ("alias", alias::RULES),
    ("allowed", allowed::RULES),
    ("retain", retain::RULES),
    ("overlap", overlap::RULES),
    ("qos1", qos1::RULES),
    ("qos2", qos2::RULES),
    ("order", order::RULES),
    ("flow", flow::RULES),
    ("size", size::RULES),
    ("subscribe", subscribe::RULES),
    ("options", options::RULES),
    ("unsubscribe", unsubscribe::RULES),
    ("shared", shared::RULES),
    ("topics", topics::RULES),
    ("disconnect", disconnect::RULES),
    ("auth", auth::RULES),
    ("errors", errors::RULES),
    ("websocket", websocket::RULES),
];

/// Why a case of section 6 has no object.
pub const NO_ADDRESS: &str = "no --websocket address is given";

/// What nearly every case needs.
mod prelude {
    pub use std::time::Duration;

    pub use crate::broker::Broker;
    pub use crate::client::Client;
    pub use crate::demand;
    pub use crate::packets::{Connect, Message, Will, ack, flag, option, subscribe, unsubscribe};
    pub use crate::registry::{Failure, Outcome, Rule, both, held, not_offered, v3, v5};
    pub use crate::wire::{Delivery, Frame, Packet, Properties, Version, kind, property, varint};
}

//! A conformance suite for MQTT brokers, 3.1.1 and 5.0, over raw sockets: one case for each normative
//! statement that a broker can break and that can be seen from outside.
//!
//! | module | what it is |
//! |---|---|
//! | [`wire`] | bytes: a writer that can break every rule, and what a broker's packets look like |
//! | [`read`] | the strict reader of a broker's packets |
//! | [`packets`] | the packets that clients send |
//! | [`client`] | one connection, one packet at a time |
//! | [`broker`] | the broker under test as one case sees it |
//! | [`registry`] | which case holds which statement |
//! | `cases` | the cases, one file for each packet or section |
//! | [`run`] | runs them side by side |
//! | [`statements`] | the numbers of all statements |
//! | [`known`] | the statements that `edge-node` is known to break |
//!
//! What is absent: any broker's code. The suite knows a broker by its address only. A transport other
//! than TCP would enter in [`broker::Broker::dial`] and nowhere else.

pub mod broker;
mod cases;
pub mod client;
pub mod known;
pub mod packets;
pub mod read;
pub mod registry;
pub mod run;
pub mod statements;
pub mod stream;
pub mod wire;

//! Every API's messages, by kafka-protocol's client side at every served version.
#![allow(clippy::unwrap_used)] // A test may.

mod admin;
mod batches;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod configs;
mod fetch;
mod groups;
mod offsets;
mod produce;
mod unserved;

use common::{FakeNode, frame};
use headwater_kafka::{Outcome, Peer};
use kafka_protocol::messages::{ApiKey, TopicName};
use kafka_protocol::protocol::StrBytes;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.into())
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn raw(api: ApiKey, version: i16, body: &[u8]) -> Outcome {
    headwater_kafka::serve(
        &FakeNode::default(),
        &Peer::default(),
        frame(api, version, body),
    )
}

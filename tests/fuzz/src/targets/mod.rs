//! The targets, one a file. Each says what it feeds, and why its memory bound is what it is.

mod batch;
mod bundle;
mod checkpoint;
mod cloud_session;
mod config;
mod edge_session;
mod entries;
mod files;
mod frames;
mod journal;
mod kafka;
mod kafka_dispatch;
mod mqtt_broker;
mod mqtt_codec;
mod store;

use crate::Target;

/// Every target.
pub static TARGETS: &[Target] = &[
    mqtt_codec::TARGET,
    mqtt_broker::TARGET,
    batch::TARGET,
    frames::TARGET,
    cloud_session::TARGET,
    edge_session::TARGET,
    kafka::TARGET,
    kafka_dispatch::TARGET,
    journal::TARGET,
    store::TARGET,
    checkpoint::TARGET,
    entries::TARGET,
    bundle::TARGET,
    config::TARGET,
];

/// A seed with a name.
fn named(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.into(), bytes.into())
}

//! Kafka clients: real request and response frames, by `kafka-protocol`'s encoders.

pub mod consumer;
pub mod groups;
pub mod member;
pub mod produce;
pub mod producer;
pub mod requests;

//! Kafka clients: real request and response frames, by `kafka-protocol`'s encoders.

pub mod consumer;
pub mod requests;

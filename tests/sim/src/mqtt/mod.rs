//! MQTT clients: real bytes, and a memory of what was promised to them.

pub mod publisher;
pub mod subscriber;
pub mod wire;

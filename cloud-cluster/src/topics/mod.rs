//! Topics: as Kafka clients see them, and changing them.

mod cache;
mod ops;

pub use cache::TopicCache;
pub use ops::{TopicError, Topics};

//! Errors: the code a client gets, with words for people where the protocol has room for them.

pub use kafka_protocol::ResponseError as ErrorCode;

/// An error that is answered to a client, for one topic, partition, group or resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}", message.as_deref().unwrap_or("no details"))]
pub struct KafkaError {
    pub code: ErrorCode,
    /// Sent where the response has a field for it.
    pub message: Option<String>,
}

impl KafkaError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }
}

impl From<ErrorCode> for KafkaError {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

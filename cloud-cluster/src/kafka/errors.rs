//! Refusals as Kafka's error codes. Codes are chosen by what clients do with them: see trap 15 to
//! 18 of the project's Kafka notes.

use headwater_kafka::{ErrorCode, KafkaError};
use headwater_shard::Refusal;

use crate::shardlog::ProposeError;
use crate::topics::TopicError;

pub fn of_refusal(refusal: &Refusal) -> KafkaError {
    let code = match refusal {
        Refusal::TopicExists => ErrorCode::TopicAlreadyExists,
        // Retriable: a partition is opened a moment after its topic is made.
        Refusal::UnknownTopic | Refusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Refusal::InvalidPartitions(_) | Refusal::TooManyTopics => ErrorCode::InvalidPartitions,
        Refusal::BadBatch(_) => ErrorCode::CorruptMessage,
        Refusal::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        Refusal::DuplicateSequence => ErrorCode::DuplicateSequenceNumber,
        Refusal::ProducerFenced { .. } => ErrorCode::InvalidProducerEpoch,
        Refusal::StaleGeneration { .. } => ErrorCode::IllegalGeneration,
        Refusal::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        Refusal::TooManyGroups => ErrorCode::CoordinatorNotAvailable,
        Refusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        _ => ErrorCode::UnknownServerError,
    };
    KafkaError::new(code, refusal.to_string())
}

pub fn of_propose(error: &ProposeError) -> KafkaError {
    let code = match error {
        // Retriable, and nothing was written.
        ProposeError::Full(_) => ErrorCode::KafkaStorageError,
        ProposeError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        // The outcome is not known: exactly what this code means.
        ProposeError::Stopped => ErrorCode::RequestTimedOut,
    };
    KafkaError::new(code, error.to_string())
}

pub fn of_topic(error: &TopicError) -> KafkaError {
    match error {
        TopicError::Refused(refusal) => of_refusal(refusal),
        TopicError::Log(error) => of_propose(error),
    }
}

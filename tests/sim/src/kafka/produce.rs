//! InitProducerId and Produce, as an idempotent producer sends them.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::requests::{answer, frame};

const INIT_PRODUCER_ID: i16 = 4;
const PRODUCE: i16 = 9;

pub fn init(correlation: i32) -> Bytes {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000);
    frame(
        ApiKey::InitProducerId,
        INIT_PRODUCER_ID,
        correlation,
        &request,
    )
}

/// Producer id and epoch, or the error.
pub fn initiated(correlation: i32, frame: &Bytes) -> Result<Result<(i64, i16), i16>, String> {
    let response: InitProducerIdResponse = answer(INIT_PRODUCER_ID, correlation, frame)?;
    Ok(match response.error_code {
        0 => Ok((response.producer_id.0, response.producer_epoch)),
        error => Err(error),
    })
}

/// One batch, to be answered once it is durable.
pub fn produce(correlation: i32, topic: &str, partition: i32, batch: &Bytes) -> Bytes {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic]);
    frame(ApiKey::Produce, PRODUCE, correlation, &request)
}

/// Error and base offset.
pub fn produced(correlation: i32, frame: &Bytes) -> Result<(i16, i64), String> {
    let response: ProduceResponse = answer(PRODUCE, correlation, frame)?;
    let topic = response.responses.first();
    let found = topic.and_then(|topic| topic.partition_responses.first());
    let found = found.ok_or("Produce answers nothing")?;
    Ok((found.error_code, found.base_offset))
}

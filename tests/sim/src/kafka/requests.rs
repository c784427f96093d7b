//! The requests that the simulation's clients send, and what they take from the answers.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, FetchRequest, FetchResponse, GroupId, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use uuid::Uuid;

pub const METADATA: i16 = 12;
pub const LIST_OFFSETS: i16 = 7;
pub const OFFSET_COMMIT: i16 = 8;
pub const OFFSET_FETCH: i16 = 7;
pub const CREATE_TOPICS: i16 = 6;
pub const DELETE_TOPICS: i16 = 5;
/// Before 13 topics are named, from then on they are ids.
pub const FETCH_BY_NAME: i16 = 12;
pub const FETCH_BY_ID: i16 = 13;

/// A partition of one life of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: String,
    pub id: Uuid,
    pub partition: i32,
}

/// A frame without its length, as the node's `Service` takes it.
pub fn frame<Q: Encodable + HeaderVersion>(
    key: ApiKey,
    version: i16,
    correlation: i32,
    request: &Q,
) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("sim")));
    let mut body = BytesMut::new();
    header
        .encode(&mut body, Q::header_version(version))
        .expect("a header of ours encodes");
    request
        .encode(&mut body, version)
        .expect("a request of ours encodes");
    body.freeze()
}

/// The answer to request `correlation`.
pub fn answer<R: Decodable + HeaderVersion>(
    version: i16,
    correlation: i32,
    frame: &Bytes,
) -> Result<R, String> {
    let mut bytes = frame.clone();
    let header = ResponseHeader::decode(&mut bytes, R::header_version(version))
        .map_err(|e| format!("a response header: {e}"))?;
    if header.correlation_id != correlation {
        return Err(format!(
            "answer {} to request {correlation}",
            header.correlation_id
        ));
    }
    let response = R::decode(&mut bytes, version).map_err(|e| format!("a response: {e}"))?;
    match bytes.len() {
        0 => Ok(response),
        extra => Err(format!("{extra} bytes after a response")),
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub fn metadata(correlation: i32) -> Bytes {
    let request = MetadataRequest::default()
        .with_topics(None)
        .with_allow_auto_topic_creation(false);
    frame(ApiKey::Metadata, METADATA, correlation, &request)
}

/// Every partition that can be read, and topics that answered with an error.
pub fn places(correlation: i32, frame: &Bytes) -> Result<Vec<Place>, String> {
    let response: MetadataResponse = answer(METADATA, correlation, frame)?;
    let mut places = Vec::new();
    for topic in response.topics {
        let text = topic.name.ok_or("a topic without a name")?.to_string();
        for partition in topic.partitions.iter().filter(|p| p.error_code == 0) {
            places.push(Place {
                topic: text.clone(),
                id: topic.topic_id,
                partition: partition.partition_index,
            });
        }
    }
    Ok(places)
}

/// What a fetch asks of one partition.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub place: Place,
    pub offset: i64,
}

pub fn fetch(version: i16, correlation: i32, wanted: &[Wanted], wait_ms: i32, bytes: i32) -> Bytes {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for Wanted { place, offset } in wanted {
        let partition = FetchPartition::default()
            .with_partition(place.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(*offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(bytes);
        let mut topic = FetchTopic::default().with_partitions(vec![partition]);
        if version >= FETCH_BY_ID {
            topic.topic_id = place.id;
        } else {
            topic.topic = name(&place.topic);
        }
        topics.push(topic);
    }
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(topics);
    frame(ApiKey::Fetch, version, correlation, &request)
}

/// One partition of a fetch's answer.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub error: i16,
    pub high_watermark: i64,
    pub log_start: i64,
    pub records: Bytes,
}

/// In the order of the request; the error is one that covers the whole answer.
pub fn fetched(
    version: i16,
    correlation: i32,
    wanted: &[Wanted],
    frame: &Bytes,
) -> Result<Result<Vec<Fetched>, i16>, String> {
    let response: FetchResponse = answer(version, correlation, frame)?;
    if response.error_code != 0 {
        return Ok(Err(response.error_code));
    }
    let mut all = Vec::with_capacity(wanted.len());
    for Wanted { place, .. } in wanted {
        let of_topic = |t: &&kafka_protocol::messages::fetch_response::FetchableTopicResponse| {
            if version >= FETCH_BY_ID {
                t.topic_id == place.id
            } else {
                *t.topic.0 == *place.topic
            }
        };
        let mut partitions = response
            .responses
            .iter()
            .filter(of_topic)
            .flat_map(|t| &t.partitions);
        let found = partitions.find(|p| p.partition_index == place.partition);
        let found = found.ok_or_else(|| format!("a fetch does not answer for {place:?}"))?;
        all.push(Fetched {
            error: found.error_code,
            high_watermark: found.high_watermark,
            log_start: found.log_start_offset,
            records: found.records.clone().unwrap_or_default(),
        });
    }
    Ok(Ok(all))
}

pub fn latest(correlation: i32, place: &Place) -> Bytes {
    let asked = ListOffsetsPartition::default()
        .with_partition_index(place.partition)
        .with_timestamp(-1);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(name(&place.topic))
                .with_partitions(vec![asked]),
        ]);
    frame(ApiKey::ListOffsets, LIST_OFFSETS, correlation, &request)
}

pub fn latest_is(correlation: i32, frame: &Bytes) -> Result<Result<i64, i16>, String> {
    let response: ListOffsetsResponse = answer(LIST_OFFSETS, correlation, frame)?;
    let found = response.topics.first().and_then(|t| t.partitions.first());
    let found = found.ok_or("ListOffsets answers nothing")?;
    Ok(match found.error_code {
        0 => Ok(found.offset),
        error => Err(error),
    })
}

fn group(text: &str) -> GroupId {
    GroupId(StrBytes::from_string(text.to_owned()))
}

pub fn commit(correlation: i32, group_id: &str, offsets: &[(Place, i64)]) -> Bytes {
    let topics = offsets.iter().map(|(place, offset)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(place.partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1);
        OffsetCommitRequestTopic::default()
            .with_name(name(&place.topic))
            .with_partitions(vec![partition])
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(group(group_id))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    frame(ApiKey::OffsetCommit, OFFSET_COMMIT, correlation, &request)
}

/// Error codes in the order of the request.
pub fn committed(
    correlation: i32,
    offsets: &[(Place, i64)],
    frame: &Bytes,
) -> Result<Vec<i16>, String> {
    let response: OffsetCommitResponse = answer(OFFSET_COMMIT, correlation, frame)?;
    let code = |place: &Place| {
        let topics = response.topics.iter().filter(|t| *t.name.0 == *place.topic);
        let mut partitions = topics.flat_map(|t| &t.partitions);
        partitions
            .find(|p| p.partition_index == place.partition)
            .map(|p| p.error_code)
            .ok_or_else(|| format!("a commit does not answer for {place:?}"))
    };
    offsets.iter().map(|(place, _)| code(place)).collect()
}

pub fn offsets(correlation: i32, group_id: &str) -> Bytes {
    let request = OffsetFetchRequest::default()
        .with_group_id(group(group_id))
        .with_topics(None);
    frame(ApiKey::OffsetFetch, OFFSET_FETCH, correlation, &request)
}

/// `(topic, partition, offset)` of all that is committed.
#[allow(clippy::type_complexity)]
pub fn offsets_are(
    correlation: i32,
    frame: &Bytes,
) -> Result<Result<Vec<(String, i32, i64)>, i16>, String> {
    let response: OffsetFetchResponse = answer(OFFSET_FETCH, correlation, frame)?;
    if response.error_code != 0 {
        return Ok(Err(response.error_code));
    }
    let mut all = Vec::new();
    for topic in response.topics {
        for partition in topic.partitions.iter().filter(|p| p.error_code == 0) {
            let (index, offset) = (partition.partition_index, partition.committed_offset);
            all.push((topic.name.to_string(), index, offset));
        }
    }
    Ok(Ok(all))
}

pub fn create_topic(correlation: i32, topic: &str, partitions: i32) -> Bytes {
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    frame(ApiKey::CreateTopics, CREATE_TOPICS, correlation, &request)
}

pub fn created(correlation: i32, frame: &Bytes) -> Result<i16, String> {
    let response: CreateTopicsResponse = answer(CREATE_TOPICS, correlation, frame)?;
    let found = response.topics.first().map(|t| t.error_code);
    found.ok_or_else(|| "CreateTopics answers nothing".into())
}

pub fn delete_topic(correlation: i32, topic: &str) -> Bytes {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![name(topic)])
        .with_timeout_ms(10_000);
    frame(ApiKey::DeleteTopics, DELETE_TOPICS, correlation, &request)
}

pub fn deleted(correlation: i32, frame: &Bytes) -> Result<i16, String> {
    let response: DeleteTopicsResponse = answer(DELETE_TOPICS, correlation, frame)?;
    let found = response.responses.first().map(|t| t.error_code);
    found.ok_or_else(|| "DeleteTopics answers nothing".into())
}

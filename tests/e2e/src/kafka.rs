//! A blocking Kafka consumer for tests: it reads by topic and offset, checks every CRC and every
//! offset, and remembers nothing between calls. It can also produce, a record at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_batch::{BatchBuilder, Decoder, Level, Limits, NewRecord, Offset, batches};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 9;
const PRODUCE_VERSION: i16 = 9;

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// The node answered with an error code.
#[derive(Debug)]
pub struct Refused {
    pub what: String,
    pub code: i16,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: error {}", self.what, self.code)
    }
}

impl std::error::Error for Refused {}

fn check(code: i16, what: impl FnOnce() -> String) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Box::new(Refused { what: what(), code })),
    }
}

/// One connection to one node.
pub struct Consumer {
    stream: TcpStream,
    correlation: i32,
}

impl Consumer {
    pub fn connect(node: SocketAddr) -> Result<Consumer> {
        let stream = TcpStream::connect_timeout(&node, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Consumer {
            stream,
            correlation: 0,
        })
    }

    /// The number of partitions of `topic`, 0 when it does not exist.
    pub fn partitions(&mut self, topic: &str) -> Result<i32> {
        self.metadata(topic, false)
    }

    /// Makes `topic` as a producer does that is the first to name it, unless it is there.
    pub fn create(&mut self, topic: &str) -> Result<()> {
        self.metadata(topic, true).map(drop)
    }

    fn metadata(&mut self, topic: &str, create: bool) -> Result<i32> {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![
                MetadataRequestTopic::default().with_name(Some(name(topic))),
            ]))
            .with_allow_auto_topic_creation(create);
        let response: MetadataResponse = self.call(ApiKey::Metadata, METADATA_VERSION, &request)?;
        let found = response
            .topics
            .first()
            .ok_or("Metadata answered no topic")?;
        Ok(if found.error_code == 0 {
            i32::try_from(found.partitions.len())?
        } else {
            0
        })
    }

    /// The first (`timestamp` -2) or the next offset (-1), or the first one at or after a time.
    pub fn offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(name(topic))
                    .with_partitions(vec![asked]),
            ]);
        let response: ListOffsetsResponse =
            self.call(ApiKey::ListOffsets, LIST_OFFSETS_VERSION, &request)?;
        let answer = &response
            .topics
            .first()
            .and_then(|t| t.partitions.first())
            .ok_or("ListOffsets answered nothing")?;
        check(answer.error_code, || {
            format!("ListOffsets {topic}-{partition}")
        })?;
        Ok(answer.offset)
    }

    /// Records from `from` on, waiting up to `wait` for the first.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
        wait: Duration,
    ) -> Result<Vec<Record>> {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(from)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(4 << 20);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(wait.as_millis())?)
            .with_min_bytes(1)
            .with_max_bytes(8 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![
                FetchTopic::default()
                    .with_topic(name(topic))
                    .with_partitions(vec![asked]),
            ]);
        let response: FetchResponse = self.call(ApiKey::Fetch, FETCH_VERSION, &request)?;
        let answer = response
            .responses
            .first()
            .and_then(|t| t.partitions.first())
            .ok_or("Fetch answered nothing")?;
        check(answer.error_code, || {
            format!("Fetch {topic}-{partition} at {from}")
        })?;
        records(
            partition,
            from,
            answer.records.as_deref().unwrap_or_default(),
        )
    }

    /// Appends one record with acks=all and returns its offset; [`Refused`] when the node does not
    /// take it.
    pub fn produce(&mut self, topic: &str, partition: i32, value: &str) -> Result<i64> {
        let mut builder = BatchBuilder::new(Offset::ZERO, Level::Zstd(3));
        builder.push(&NewRecord::new(1_763_800_000_000, "key", value.to_owned()))?;
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(builder.finish().into()));
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(name(topic))
                    .with_partition_data(vec![data]),
            ]);
        let response: ProduceResponse = self.call(ApiKey::Produce, PRODUCE_VERSION, &request)?;
        let answer = response
            .responses
            .first()
            .and_then(|t| t.partition_responses.first())
            .ok_or("Produce answered nothing")?;
        check(answer.error_code, || format!("Produce {topic}-{partition}"))?;
        Ok(answer.base_offset)
    }

    /// Everything that `topic` holds now, partition by partition, in order. Offsets are checked to
    /// be without holes.
    pub fn read_all(&mut self, topic: &str) -> Result<Vec<Record>> {
        let mut all = Vec::new();
        for partition in 0..self.partitions(topic)? {
            let mut next = self.offset(topic, partition, -2)?;
            let end = self.offset(topic, partition, -1)?;
            while next < end {
                for record in self.fetch(topic, partition, next, Duration::from_secs(1))? {
                    if record.offset != next {
                        return Err(format!(
                            "{topic}-{partition}: offset {} where {next} was due",
                            record.offset
                        )
                        .into());
                    }
                    next += 1;
                    all.push(record);
                }
            }
        }
        Ok(all)
    }

    fn call<Q, R>(&mut self, key: ApiKey, version: i16, request: &Q) -> Result<R>
    where
        Q: Encodable + HeaderVersion,
        R: Decodable + HeaderVersion,
    {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("headwater-tests")));
        let mut body = BytesMut::new();
        header.encode(&mut body, Q::header_version(version))?;
        request.encode(&mut body, version)?;
        let mut frame = u32::try_from(body.len())?.to_be_bytes().to_vec();
        frame.extend(&body);
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, R::header_version(version))?;
        if header.correlation_id != self.correlation {
            return Err(format!(
                "answer {} to request {}",
                header.correlation_id, self.correlation
            )
            .into());
        }
        Ok(R::decode(&mut answer, version)?)
    }
}

/// The records of whole batches from `from` on; a cut last batch, which Kafka allows, is left out.
fn records(partition: i32, from: i64, bytes: &[u8]) -> Result<Vec<Record>> {
    let limits = Limits::default();
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for batch in batches(bytes, &limits) {
        let batch = batch?;
        batch.verify_crc()?;
        for record in batch.records(&mut decoder, &limits)? {
            let record = record?;
            if record.offset.0 < from {
                continue;
            }
            let mut headers = Vec::new();
            for header in record.headers.iter() {
                headers.push((
                    String::from_utf8(header.key.to_vec())?,
                    header.value.unwrap_or_default().to_vec(),
                ));
            }
            found.push(Record {
                partition,
                offset: record.offset.0,
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers,
            });
        }
    }
    Ok(found)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

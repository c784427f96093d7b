//! Produce: which batches are taken, which refused with what error, and the answers.

use bytes::{Bytes, BytesMut};
use headwater_batch::layout::{ATTRIBUTES, MAX_TIMESTAMP};
use headwater_batch::{BatchBuilder, BatchView, Level, Limits, NewRecord, Offset};
use headwater_kafka::{Acks, Appended, ErrorCode, KafkaError, Outcome, ProducePlan};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::batches::{batch_in, gzip, lz4, seal, snappy, xerial};
use crate::common::{FakeNode, batch_of, decode, serve, versions};
use crate::name;

fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let part = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1500)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(name(topic))
                .with_partition_data(vec![part]),
        ])
}

fn produce(version: i16, request: &ProduceRequest) -> ProducePlan {
    match serve(&FakeNode::default(), ApiKey::Produce, version, request) {
        Outcome::Produce(plan) => plan,
        other => panic!("{other:?}"),
    }
}

/// The error of the only partition when nothing could be appended.
fn refusal(version: i16, request: &ProduceRequest) -> Option<ErrorCode> {
    let plan = produce(version, request);
    assert!(plan.appends.is_empty(), "{:?}", plan.appends);
    let reply = plan.respond(Vec::new()).unwrap().unwrap();
    let response: ProduceResponse = decode(ApiKey::Produce, version, &reply);
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.base_offset, -1);
    ErrorCode::try_from_code(partition.error_code)
}

fn refused_at(topic: &str, records: Bytes) -> Option<ErrorCode> {
    refusal(9, &produce_request(topic, 0, records))
}

#[test]
fn produce_at_every_version() {
    for version in versions(ApiKey::Produce) {
        let records = if version >= 7 {
            batch_of(3)
        } else {
            batch_in(0, 3, <[u8]>::to_vec)
        };
        let plan = produce(version, &produce_request("readings", 2, records.clone()));
        assert_eq!((plan.acks, plan.timeout_ms), (Acks::All, 1500));
        let append = &plan.appends[0];
        assert_eq!(
            (append.tp.to_string().as_str(), append.info.records),
            ("readings-2", 3)
        );
        assert_eq!(append.info.max_timestamp, 1_700_000_000_002);
        assert_eq!(append.batch, records);
        let done = Appended {
            base_offset: 40,
            log_append_time_ms: -1,
            log_start: 5,
        };
        let reply = plan.respond(vec![Ok(done)]).unwrap().unwrap();
        let response: ProduceResponse = decode(ApiKey::Produce, version, &reply);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(
            (partition.index, partition.error_code, partition.base_offset),
            (2, 0, 40)
        );
        if version >= 5 {
            assert_eq!(partition.log_start_offset, 5);
        }
    }
}

#[test]
fn every_codec_is_read() {
    let all: [(u8, Bytes); 5] = [
        (0, batch_in(0, 50, <[u8]>::to_vec)),
        (1, batch_in(1, 50, gzip)),
        (2, batch_in(2, 50, snappy)),
        (2, batch_in(2, 50, xerial)),
        (3, batch_in(3, 50, lz4)),
    ];
    for (codec, records) in all {
        let plan = produce(3, &produce_request("readings", 0, records));
        assert_eq!(
            (plan.appends[0].info.codec, plan.appends[0].info.records),
            (codec, 50)
        );
    }
}

#[test]
fn a_bomb_is_too_large_and_garbage_is_corrupt() {
    let zeros = vec![0; 8 << 20];
    for (codec, bomb) in [(1, gzip(&zeros)), (2, snappy(&zeros)), (3, lz4(&zeros))] {
        let records = batch_in(codec, 1, |_| bomb.clone());
        let error = refused_at("readings", records);
        assert_eq!(error, Some(ErrorCode::MessageTooLarge), "codec {codec}");
        let records = batch_in(codec, 1, |_| vec![0xee; 40]);
        let error = refused_at("readings", records);
        assert_eq!(error, Some(ErrorCode::CorruptMessage), "codec {codec}");
    }
}

#[test]
fn what_kafka_refuses_is_refused() {
    let good = batch_of(3);
    let mut flipped = BytesMut::from(&good[..]);
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(
        refused_at("readings", flipped.freeze()),
        Some(ErrorCode::CorruptMessage)
    );
    assert_eq!(
        refused_at("readings", good.slice(..good.len() - 1)),
        Some(ErrorCode::CorruptMessage)
    );
    assert_eq!(
        refused_at("readings", Bytes::new()),
        Some(ErrorCode::CorruptMessage)
    );

    let two = Bytes::from([good.clone(), good.clone()].concat());
    assert_eq!(refused_at("readings", two), Some(ErrorCode::InvalidRecord));

    let with_attribute = |bits: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[ATTRIBUTES.start + 1] |= bits;
        seal(bytes)
    };
    let transactional = refused_at("readings", with_attribute(1 << 4));
    assert_eq!(
        transactional,
        Some(ErrorCode::TransactionalIdAuthorizationFailed)
    );
    assert_eq!(
        refused_at("readings", with_attribute(1 << 5)),
        Some(ErrorCode::InvalidRecord)
    );
    assert_eq!(
        refused_at("readings", with_attribute(1 << 3)),
        Some(ErrorCode::InvalidTimestamp)
    );

    let mut magic = BytesMut::from(&good[..]);
    magic[16] = 1;
    assert_eq!(
        refused_at("readings", magic.freeze()),
        Some(ErrorCode::InvalidRecord)
    );

    // Three records, but the header says that the last has delta 3: a hole.
    let mut hole = BytesMut::from(&good[..]);
    hole[26] = 3;
    assert_eq!(
        refused_at("readings", seal(hole)),
        Some(ErrorCode::InvalidRecord)
    );

    assert_eq!(
        refused_at("small", batch_in(0, 50, <[u8]>::to_vec)),
        Some(ErrorCode::MessageTooLarge)
    );
    assert_eq!(
        refusal(6, &produce_request("readings", 0, good.clone())),
        Some(ErrorCode::UnsupportedCompressionType)
    );
    assert_eq!(
        refused_at("nowhere", good.clone()),
        Some(ErrorCode::UnknownTopicOrPartition)
    );
    assert_eq!(
        refused_at("elsewhere", good.clone()),
        Some(ErrorCode::NotLeaderOrFollower)
    );
    let far = produce_request("readings", 3, good.clone());
    assert_eq!(refusal(9, &far), Some(ErrorCode::UnknownTopicOrPartition));
    let negative = produce_request("readings", -1, good.clone());
    assert_eq!(
        refusal(9, &negative),
        Some(ErrorCode::UnknownTopicOrPartition)
    );

    let mut keyless = BatchBuilder::new(Offset(0), Level::Zstd(3));
    let record = NewRecord {
        key: None,
        ..NewRecord::new(1, "", "value")
    };
    keyless.push(&record).unwrap();
    let keyless = Bytes::from(keyless.finish().to_vec());
    assert_eq!(
        refused_at("compacted", keyless.clone()),
        Some(ErrorCode::InvalidRecord)
    );
    assert_eq!(
        produce(9, &produce_request("readings", 0, keyless))
            .appends
            .len(),
        1
    );

    let mut request = produce_request("readings", 0, good.clone());
    request.transactional_id = Some(TransactionalId(StrBytes::from_static_str("tx")));
    assert_eq!(
        refusal(9, &request),
        Some(ErrorCode::TransactionalIdAuthorizationFailed)
    );
    let strange = produce_request("readings", 0, good).with_acks(2);
    assert_eq!(refusal(9, &strange), Some(ErrorCode::InvalidRequiredAcks));
}

#[test]
fn a_wrong_largest_timestamp_is_set_right() {
    let mut bytes = BytesMut::from(&batch_of(3)[..]);
    bytes[MAX_TIMESTAMP].copy_from_slice(&0i64.to_be_bytes());
    let plan = produce(9, &produce_request("stamped", 0, seal(bytes)));
    let append = &plan.appends[0];
    let view = BatchView::parse(&append.batch, &Limits::UPLINK).unwrap();
    view.verify_crc().unwrap();
    assert_eq!(view.max_timestamp(), 1_700_000_000_002);
    assert!(append.log_append_time);
}

#[test]
fn acks_0_says_nothing_and_closes_on_failure() {
    let request = produce_request("readings", 0, batch_of(1)).with_acks(0);
    let done = Appended {
        base_offset: 0,
        log_append_time_ms: -1,
        log_start: 0,
    };
    assert!(matches!(
        produce(9, &request).respond(vec![Ok(done)]),
        Ok(None)
    ));
    let failed = KafkaError::from(ErrorCode::NotLeaderOrFollower);
    assert!(produce(9, &request).respond(vec![Err(failed)]).is_err());
}

#[test]
fn a_partition_may_appear_once_and_unanswered_appends_time_out() {
    let part = PartitionProduceData::default().with_records(Some(batch_of(1)));
    let data = TopicProduceData::default()
        .with_name(name("readings"))
        .with_partition_data(vec![part.clone(), part]);
    let request = ProduceRequest::default()
        .with_acks(1)
        .with_topic_data(vec![data]);
    let plan = produce(11, &request);
    assert_eq!(plan.appends.len(), 1);
    let reply = plan.respond(Vec::new()).unwrap().unwrap();
    let response: ProduceResponse = decode(ApiKey::Produce, 11, &reply);
    let codes: Vec<_> = response.responses[0]
        .partition_responses
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::RequestTimedOut.code(),
            ErrorCode::InvalidRequest.code()
        ]
    );
}

#[test]
fn not_leader_names_the_leader() {
    let plan = produce(10, &produce_request("elsewhere", 0, batch_of(1)));
    let reply = plan.respond(Vec::new()).unwrap().unwrap();
    let response: ProduceResponse = decode(ApiKey::Produce, 10, &reply);
    let leader = &response.responses[0].partition_responses[0].current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (BrokerId(2), 7));
    assert_eq!(response.node_endpoints[1].port, 9093);
}

//! Produce, Fetch, ListOffsets and OffsetForLeaderEpoch, by kafka-protocol's client side at every
//! served version.
#![allow(clippy::unwrap_used)] // A test may.

mod common;

use bytes::{Bytes, BytesMut};
use common::{FakeNode, READINGS_ID, batch_of, decode, frame, serve, versions};
use headwater_batch::layout::{
    ATTRIBUTES, BATCH_LENGTH, CRC, CRC_FROM, HEADER_BYTES, MAX_TIMESTAMP,
};
use headwater_batch::{BatchBuilder, BatchView, Level, Limits, NewRecord, Offset};
use headwater_kafka::{
    Acks, Appended, EpochEnd, ErrorCode, Fetched, FoundOffset, KafkaError, OffsetAt, Outcome, Peer,
    ProducePlan,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.into()))
}

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

/// The plain batch of `n` records with its records compressed by `codec` and its CRC set right.
fn batch_in(codec: u8, n: usize, compress: impl Fn(&[u8]) -> Vec<u8>) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(0), Level::None);
    for i in 0..n {
        builder
            .push(&NewRecord::new(
                1_700_000_000_000 + i as i64,
                "key",
                "value",
            ))
            .unwrap();
    }
    let plain = builder.finish().to_vec();
    let mut bytes = BytesMut::from(&plain[..HEADER_BYTES]);
    bytes.extend_from_slice(&compress(&plain[HEADER_BYTES..]));
    let length = (bytes.len() - 12) as i32;
    bytes[BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
    bytes[ATTRIBUTES.start + 1] |= codec;
    seal(bytes)
}

fn seal(mut bytes: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut from = flate2::read::GzEncoder::new(data, flate2::Compression::fast());
    std::io::Read::read_to_end(&mut from, &mut out).unwrap();
    out
}

fn lz4(data: &[u8]) -> Vec<u8> {
    let mut to = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut to, data).unwrap();
    to.finish().unwrap()
}

fn snappy(data: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(data).unwrap()
}

/// As the Java library frames it: a header, then blocks with their lengths.
fn xerial(data: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
    for block in data.chunks(10) {
        let block = snappy(block);
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    out
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

fn fetch_request(version: i16, topic: &str, offset: i64) -> FetchRequest {
    let part = FetchPartition::default()
        .with_partition(1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let mut topics = FetchTopic::default().with_partitions(vec![part]);
    if version >= 13 {
        topics.topic_id = FakeNode::default().topics[topic].id;
    } else {
        topics.topic = name(topic);
    }
    FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(if version >= 7 { 0 } else { -1 })
        .with_topics(vec![topics])
}

fn fetch(version: i16, request: &FetchRequest) -> headwater_kafka::FetchPlan {
    match serve(&FakeNode::default(), ApiKey::Fetch, version, request) {
        Outcome::Fetch(plan) => plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fetch_at_every_version_carries_the_bytes_uncopied() {
    for version in versions(ApiKey::Fetch) {
        let plan = fetch(version, &fetch_request(version, "readings", 3));
        assert_eq!(plan.partitions[0].tp.to_string(), "readings-1");
        assert_eq!((plan.max_wait_ms, plan.min_bytes), (500, 1));
        assert!(!plan.is_satisfied(&[Fetched::default()]));
        let records = vec![batch_in(0, 2, <[u8]>::to_vec), batch_in(1, 5, gzip)];
        let fetched = Fetched {
            error: None,
            high_watermark: 9,
            log_start: 1,
            records: records.clone(),
        };
        assert!(plan.is_satisfied(std::slice::from_ref(&fetched)));
        let reply = plan.respond(vec![fetched]);
        for chunk in &records {
            assert!(
                reply.chunks().iter().any(|c| c.as_ptr() == chunk.as_ptr()),
                "v{version} copied"
            );
        }
        let response: FetchResponse = decode(ApiKey::Fetch, version, &reply);
        assert_eq!(response.session_id, 0);
        let topic = &response.responses[0];
        match version {
            13.. => assert_eq!(topic.topic_id, READINGS_ID),
            _ => assert_eq!(topic.topic, name("readings")),
        }
        let part = &topic.partitions[0];
        assert_eq!(
            (part.partition_index, part.error_code, part.high_watermark),
            (1, 0, 9)
        );
        assert_eq!(part.last_stable_offset, 9);
        assert_eq!(part.aborted_transactions, None);
        if version >= 5 {
            assert_eq!(part.log_start_offset, 1);
        }
        assert_eq!(
            part.records.as_ref().unwrap(),
            &Bytes::from(records.concat())
        );
    }
}

#[test]
fn an_empty_fetch_has_empty_records_and_read_committed_an_empty_list() {
    for version in versions(ApiKey::Fetch) {
        let mut request = fetch_request(version, "readings", 9);
        request.isolation_level = 1;
        let fetched = Fetched {
            high_watermark: 9,
            ..Fetched::default()
        };
        let reply = fetch(version, &request).respond(vec![fetched]);
        let response: FetchResponse = decode(ApiKey::Fetch, version, &reply);
        let part = &response.responses[0].partitions[0];
        assert_eq!(part.records, Some(Bytes::new()));
        assert_eq!(part.aborted_transactions.as_ref().map(Vec::len), Some(0));
    }
}

#[test]
fn zstd_is_refused_to_old_fetches_alone() {
    for version in versions(ApiKey::Fetch) {
        let records = vec![Bytes::from(
            [batch_in(0, 2, <[u8]>::to_vec), batch_of(3)].concat(),
        )];
        let fetched = Fetched {
            high_watermark: 9,
            records,
            ..Fetched::default()
        };
        let reply = fetch(version, &fetch_request(version, "readings", 3)).respond(vec![fetched]);
        let response: FetchResponse = decode(ApiKey::Fetch, version, &reply);
        let part = &response.responses[0].partitions[0];
        let error = (version < 10).then_some(ErrorCode::UnsupportedCompressionType);
        assert_eq!(
            ErrorCode::try_from_code(part.error_code),
            error,
            "v{version}"
        );
        assert_eq!(part.records.as_ref().unwrap().is_empty(), version < 10);
    }
}

#[test]
fn fetch_errors_come_at_once_and_name_the_leader() {
    for version in versions(ApiKey::Fetch) {
        let plan = fetch(version, &fetch_request(version, "elsewhere", 3));
        assert!(plan.partitions.is_empty());
        assert_eq!(plan.max_wait_ms, 0);
        let response: FetchResponse = decode(ApiKey::Fetch, version, &plan.respond(Vec::new()));
        let part = &response.responses[0].partitions[0];
        assert_eq!(part.error_code, ErrorCode::NotLeaderOrFollower.code());
        if version >= 12 {
            assert_eq!(
                (
                    part.current_leader.leader_id,
                    part.current_leader.leader_epoch
                ),
                (BrokerId(2), 7)
            );
        }
        if version >= 16 {
            assert_eq!(
                (
                    response.node_endpoints.len(),
                    response.node_endpoints[1].port
                ),
                (2, 9093)
            );
        }
    }
    let mut request = fetch_request(13, "readings", 3);
    request.topics[0].topic_id = uuid::Uuid::from_u128(99);
    let response: FetchResponse =
        decode(ApiKey::Fetch, 13, &fetch(13, &request).respond(Vec::new()));
    assert_eq!(
        response.responses[0].partitions[0].error_code,
        ErrorCode::UnknownTopicId.code()
    );

    for (epoch, error) in [
        (6, ErrorCode::FencedLeaderEpoch),
        (8, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = fetch_request(12, "readings", 3);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let response: FetchResponse =
            decode(ApiKey::Fetch, 12, &fetch(12, &request).respond(Vec::new()));
        assert_eq!(response.responses[0].partitions[0].error_code, error.code());
    }
    let negative = fetch(12, &fetch_request(12, "readings", -5));
    let response: FetchResponse = decode(ApiKey::Fetch, 12, &negative.respond(Vec::new()));
    assert_eq!(
        response.responses[0].partitions[0].error_code,
        ErrorCode::OffsetOutOfRange.code()
    );
}

#[test]
fn fetch_sessions_are_not_continued() {
    let with = |id, epoch| {
        let request = fetch_request(12, "readings", 0)
            .with_session_id(id)
            .with_session_epoch(epoch);
        let response: FetchResponse = decode(
            ApiKey::Fetch,
            12,
            &fetch(12, &request).respond(vec![Fetched::default()]),
        );
        assert_eq!(response.session_id, 0);
        (response.error_code, response.responses.len())
    };
    assert_eq!(with(0, -1), (0, 1));
    assert_eq!(with(0, 0), (0, 1));
    assert_eq!(with(5, 1), (ErrorCode::FetchSessionIdNotFound.code(), 0));
    assert_eq!(with(0, 1), (ErrorCode::InvalidFetchSessionEpoch.code(), 0));
}

#[test]
fn fetch_limits() {
    let mut request = fetch_request(12, "readings", 0);
    request.max_bytes = 1000;
    request.min_bytes = 5000;
    request.topics[0].partitions[0].partition_max_bytes = 300;
    request.max_wait_ms = i32::MAX;
    let plan = fetch(12, &request);
    assert_eq!(plan.min_bytes, 1000, "more than max_bytes would never come");
    assert_eq!(plan.max_wait_ms, 60_000);
    assert_eq!(plan.allowance(0, 0), (300, true));
    assert_eq!(plan.allowance(0, 800), (200, false));
    assert_eq!(plan.allowance(0, 2000), (0, false));
    assert!(plan.is_satisfied(&[Fetched::failed(ErrorCode::NotLeaderOrFollower)]));
}

#[test]
fn list_offsets_at_every_version() {
    for version in versions(ApiKey::ListOffsets) {
        let asks = [-1, -2, 1234, -3, -4, -5, -9];
        let partition = |t: &i64| ListOffsetsPartition::default().with_timestamp(*t);
        let request = ListOffsetsRequest::default().with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(name("readings"))
                .with_partitions(asks.iter().map(partition).collect()),
        ]);
        let Outcome::ListOffsets(plan) =
            serve(&FakeNode::default(), ApiKey::ListOffsets, version, &request)
        else {
            panic!()
        };
        let asked: Vec<_> = plan.asks.iter().map(|ask| ask.at).collect();
        let mut expected = vec![OffsetAt::Latest, OffsetAt::Earliest, OffsetAt::Time(1234)];
        if version >= 7 {
            expected.push(OffsetAt::MaxTimestamp);
        }
        if version >= 8 {
            expected.push(OffsetAt::Earliest);
        }
        assert_eq!(asked, expected);
        let found = FoundOffset {
            offset: 17,
            timestamp: -1,
            leader_epoch: 7,
        };
        let later = FoundOffset {
            offset: 18,
            timestamp: 1300,
            leader_epoch: 6,
        };
        let reply = plan.respond(vec![
            Ok(Some(found)),
            Ok(None),
            Ok(Some(later)),
            Err(ErrorCode::OffsetNotAvailable),
        ]);
        let response: ListOffsetsResponse = decode(ApiKey::ListOffsets, version, &reply);
        let parts = &response.topics[0].partitions;
        assert_eq!((parts[0].offset, parts[0].timestamp), (17, -1));
        assert_eq!(
            (parts[1].error_code, parts[1].offset, parts[1].timestamp),
            (0, -1, -1)
        );
        assert_eq!((parts[2].offset, parts[2].timestamp), (18, 1300));
        if version >= 4 {
            assert_eq!(parts[2].leader_epoch, 6);
        }
        let third = if version >= 7 {
            ErrorCode::OffsetNotAvailable
        } else {
            ErrorCode::UnsupportedVersion
        };
        assert_eq!(parts[3].error_code, third.code());
        let tiered = if version >= 9 {
            0
        } else {
            ErrorCode::UnsupportedVersion.code()
        };
        assert_eq!((parts[5].error_code, parts[5].offset), (tiered, -1));
        assert_eq!(parts[6].error_code, ErrorCode::UnsupportedVersion.code());
    }
}

#[test]
fn leader_epochs_at_every_version() {
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let partition = |p, current| {
            OffsetForLeaderPartition::default()
                .with_partition(p)
                .with_current_leader_epoch(current)
                .with_leader_epoch(6)
        };
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![
            OffsetForLeaderTopic::default()
                .with_topic(name("readings"))
                .with_partitions(vec![partition(0, 7), partition(1, -1), partition(2, 6)]),
        ]);
        let Outcome::Epochs(plan) = serve(
            &FakeNode::default(),
            ApiKey::OffsetForLeaderEpoch,
            version,
            &request,
        ) else {
            panic!()
        };
        assert_eq!(plan.asks.len(), 2);
        let end = EpochEnd {
            leader_epoch: 6,
            end_offset: 100,
        };
        let reply = plan.respond(vec![Ok(Some(end)), Ok(None)]);
        let response: OffsetForLeaderEpochResponse =
            decode(ApiKey::OffsetForLeaderEpoch, version, &reply);
        let parts = &response.topics[0].partitions;
        assert_eq!((parts[0].leader_epoch, parts[0].end_offset), (6, 100));
        assert_eq!((parts[1].leader_epoch, parts[1].end_offset), (-1, -1));
        assert_eq!(parts[2].error_code, ErrorCode::FencedLeaderEpoch.code());
    }
}

#[test]
fn old_produce_versions_are_advertised_and_close() {
    for version in 0..3 {
        let outcome = headwater_kafka::serve(
            &FakeNode::default(),
            &Peer::default(),
            frame(ApiKey::Produce, version, &[0; 8]),
        );
        assert!(matches!(outcome, Outcome::Close(_)));
    }
}

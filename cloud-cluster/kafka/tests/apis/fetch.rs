//! Fetch: bytes pass uncopied, errors come at once, limits hold and sessions are declined.

use bytes::Bytes;
use headwater_kafka::{ErrorCode, Fetched, Outcome};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::*;

use crate::batches::{batch_in, gzip};
use crate::common::{FakeNode, READINGS_ID, batch_of, decode, serve, versions};
use crate::name;

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

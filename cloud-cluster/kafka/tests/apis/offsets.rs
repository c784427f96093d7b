//! ListOffsets and OffsetForLeaderEpoch.

use headwater_kafka::{EpochEnd, ErrorCode, FoundOffset, OffsetAt, Outcome};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::*;

use crate::common::{FakeNode, decode, serve, versions};
use crate::name;

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

//! Every bound of the configuration refuses with the error that Kafka names for it.

use headwater_kafka::ErrorCode;
use headwater_kafka::group::{CommitOffsets, CommittedOffset, GroupConfig, GroupRequest, Join};

use crate::world::{World, join, tp};

#[test]
fn bounds() {
    let config = GroupConfig {
        initial_rebalance_delay_ms: 0,
        members_max: 2,
        groups_max: 2,
        member_bytes_max: 100,
        offset_metadata_bytes_max: 4,
        offsets_max: 1,
        ..GroupConfig::default()
    };
    let mut world = World::with(config);
    world.alone();
    world.join(&["range"]);
    let third = world.send(GroupRequest::Join(join("", &["range"])));
    assert_eq!(
        world.joined(third).error,
        Some(ErrorCode::GroupMaxSizeReached)
    );
    let fat = Join {
        protocols: vec![("range".into(), vec![0; 101].into())],
        ..join("", &[])
    };
    let fat = world.send(GroupRequest::Join(Join {
        group: "h".into(),
        ..fat
    }));
    assert_eq!(
        world.joined(fat).error,
        Some(ErrorCode::GroupMaxSizeReached)
    );

    let commit = |group: &str, partitions: u32, metadata: &str| {
        let offset = CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            metadata: metadata.into(),
        };
        GroupRequest::CommitOffsets(CommitOffsets {
            group: group.into(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            offsets: (0..partitions).map(|p| (tp(p), offset.clone())).collect(),
        })
    };
    let long = world.send(commit("h", 1, "12345"));
    assert_eq!(
        world.commit_error(long),
        Some(ErrorCode::OffsetMetadataTooLarge)
    );
    let fine = world.send(commit("h", 1, "1234"));
    assert_eq!(world.commit_error(fine), None);
    let many = world.send(commit("h", 3, ""));
    assert_eq!(
        world.commit_error(many),
        Some(ErrorCode::InvalidCommitOffsetSize)
    );
    let other = world.send(commit("i", 1, ""));
    assert_eq!(
        world.commit_error(other),
        Some(ErrorCode::CoordinatorNotAvailable)
    );
    let empty = world.send(GroupRequest::Join(Join {
        group: String::new(),
        ..join("", &["range"])
    }));
    assert_eq!(world.joined(empty).error, Some(ErrorCode::InvalidGroupId));
}

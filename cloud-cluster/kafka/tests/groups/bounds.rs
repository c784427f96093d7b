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

/// Every protocol is compared with every member's, in the one task that serves all groups.
#[test]
fn a_member_names_few_protocols() {
    let mut world = World::new(0);
    let names: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = world.send(GroupRequest::Join(join("", &names)));
    assert_eq!(
        world.joined(many).error,
        Some(ErrorCode::InconsistentGroupProtocol)
    );
    let fine = world.send(GroupRequest::Join(join("", &names[1..])));
    assert_eq!(world.joined(fine).error, Some(ErrorCode::MemberIdRequired));
}

/// The last member commits and leaves; the group holds nothing yet, but it is about to. Deleted to
/// make room, it would lose offsets that are acknowledged.
#[test]
fn a_group_whose_offsets_are_on_their_way_does_not_make_room() {
    let mut world = World::with(GroupConfig {
        initial_rebalance_delay_ms: 0,
        groups_max: 1,
        ..GroupConfig::default()
    });
    let id = world.alone();
    world.held = true;
    let commit = world.commit(&id, 1, 42);
    world.leave(&id, None);
    let other = || Join {
        group: "h".into(),
        ..join("", &["range"])
    };
    let early = world.send(GroupRequest::Join(other()));
    assert_eq!(
        world.joined(early).error,
        Some(ErrorCode::GroupMaxSizeReached)
    );
    world.held = false;
    world.commit_all();
    assert_eq!(world.commit_error(commit), None);
    assert_eq!(world.offset(), Some(42));
}

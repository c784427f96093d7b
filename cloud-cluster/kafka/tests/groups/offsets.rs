//! Committed offsets: durable before the answer, fenced by generation, there after a restart.

use headwater_batch::TopicName;
use headwater_kafka::ErrorCode;
use headwater_kafka::group::{
    CommitOffsets, CommittedOffset, GroupEntry, GroupEvent, GroupRequest, STATE_EMPTY,
};

use crate::world::{World, join, tp};

#[test]
fn commits_are_acknowledged_when_durable_and_seen_from_then_on() {
    let mut world = World::new(0);
    let a = world.alone();
    world.held = true;
    let token = world.commit(&a, 1, 17);
    assert!(world.reply(token).is_none());
    assert_eq!(world.offset(), None);
    assert!(matches!(
        &world.pending[0].1,
        GroupEntry::Offsets { generation: 1, .. }
    ));
    world.commit_all();
    assert_eq!(world.commit_error(token), None);
    assert_eq!(world.offset(), Some(17));

    let token = world.commit(&a, 1, 18);
    let (commit, _) = world.pending.remove(0);
    world.event(GroupEvent::CommitFailed {
        token: commit,
        error: ErrorCode::IllegalGeneration,
    });
    assert_eq!(
        world.commit_error(token),
        Some(ErrorCode::IllegalGeneration)
    );
    assert_eq!(world.offset(), Some(17));
}

#[test]
fn commits_are_fenced() {
    let mut world = World::new(0);
    let outside = world.commit("", -1, 5);
    assert_eq!(world.commit_error(outside), None, "the group is empty");
    let a = world.alone();
    for (id, generation, error) in [
        ("", -1, ErrorCode::UnknownMemberId),
        ("nobody", 1, ErrorCode::UnknownMemberId),
        (a.as_str(), 0, ErrorCode::IllegalGeneration),
        (a.as_str(), -1, ErrorCode::IllegalGeneration),
    ] {
        let token = world.commit(id, generation, 9);
        assert_eq!(
            world.commit_error(token),
            Some(error),
            "{id:?} {generation}"
        );
    }
    assert_eq!(world.offset(), Some(5));
    let (_, _) = world.join(&["range"]);
    let during = world.commit(&a, 1, 6);
    assert_eq!(
        world.commit_error(during),
        None,
        "while preparing, before revoking"
    );
    world.send(GroupRequest::Join(join(&a, &["range"])));
    let between = world.commit(&a, 2, 7);
    assert_eq!(
        world.commit_error(between),
        Some(ErrorCode::RebalanceInProgress)
    );

    let ghost = world.send(GroupRequest::CommitOffsets(CommitOffsets {
        group: "never".into(),
        generation: 3,
        member_id: "m".into(),
        instance_id: None,
        offsets: vec![(
            tp(0),
            CommittedOffset {
                offset: 1,
                leader_epoch: -1,
                metadata: String::new(),
            },
        )],
    }));
    assert_eq!(
        world.commit_error(ghost),
        Some(ErrorCode::IllegalGeneration)
    );
}

#[test]
fn after_a_restart_offsets_and_generations_stand_and_members_join_again() {
    let mut world = World::new(0);
    let a = world.alone();
    world.commit(&a, 1, 17);
    let log = std::mem::take(&mut world.log);
    let mut world = World::new(0);
    log.into_iter()
        .for_each(|entry| world.event(GroupEvent::Restore(entry)));
    assert_eq!(world.offset(), Some(17));
    assert_eq!(world.state(), STATE_EMPTY);
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::UnknownMemberId));
    let late = world.commit(&a, 1, 18);
    assert_eq!(world.commit_error(late), Some(ErrorCode::UnknownMemberId));
    let again = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(world.joined(again).error, Some(ErrorCode::UnknownMemberId));
    let (_, token) = world.join(&["range"]);
    assert_eq!(world.joined(token).generation, 2);
}

#[test]
fn offsets_of_a_deleted_topic_go() {
    let mut world = World::new(0);
    world.commit("", -1, 5);
    world.event(GroupEvent::TopicDeleted(TopicName::new("other").unwrap()));
    assert_eq!(world.offset(), Some(5));
    world.event(GroupEvent::TopicDeleted(
        TopicName::new("readings").unwrap(),
    ));
    assert_eq!(world.offset(), None);
}

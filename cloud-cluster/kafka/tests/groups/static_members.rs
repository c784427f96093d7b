//! Members with an instance id (KIP-345): they come back as who they were, and fence their ghosts.

use headwater_kafka::ErrorCode;
use headwater_kafka::group::{GroupRequest, GroupResponse, Heartbeat, Join, STATE_EMPTY, Sync};

use crate::world::{World, static_join, sync};

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut world = World::new(0);
    let ta = world.send(GroupRequest::Join(static_join("", "one")));
    let a = world.joined(ta).member_id.clone();
    assert_eq!(world.joined(ta).error, None, "static members join at once");
    let first = Sync {
        instance_id: Some("one".into()),
        ..sync(&a, 1, vec![(a.clone(), "mine".into())])
    };
    world.send(GroupRequest::Sync(first));

    let back = world.send(GroupRequest::Join(static_join("", "one")));
    let joined = world.joined(back).clone();
    assert_eq!(
        (joined.error, joined.generation, joined.skip_assignment),
        (None, 1, true)
    );
    assert_ne!(joined.member_id, a);
    let again = Sync {
        instance_id: Some("one".into()),
        ..sync(&joined.member_id, 1, Vec::new())
    };
    let again = world.send(GroupRequest::Sync(again));
    assert_eq!(
        world.synced(again).assignment,
        "mine",
        "the assignment stands"
    );

    let ghost = world.send(GroupRequest::Heartbeat(Heartbeat {
        group: "g".into(),
        generation: 1,
        member_id: a.clone(),
        instance_id: Some("one".into()),
    }));
    let fenced = Some(&GroupResponse::Heartbeat(Some(ErrorCode::FencedInstanceId)));
    assert_eq!(world.reply(ghost), fenced);
    assert_eq!(
        world.leave(&a, Some("one")),
        Some(ErrorCode::FencedInstanceId)
    );
    assert_eq!(
        world.leave("", Some("one")),
        None,
        "an admin names the instance alone"
    );
    assert_eq!(world.state(), STATE_EMPTY);
}

#[test]
fn an_older_static_leader_is_not_told_that_it_leads() {
    let mut world = World::new(0);
    let old = |id: &str| Join {
        supports_skip_assignment: false,
        ..static_join(id, "one")
    };
    let ta = world.send(GroupRequest::Join(old("")));
    let a = world.joined(ta).member_id.clone();
    let first = Sync {
        instance_id: Some("one".into()),
        ..sync(&a, 1, vec![(a.clone(), "mine".into())])
    };
    world.send(GroupRequest::Sync(first));
    let back = world.send(GroupRequest::Join(old("")));
    assert_eq!(
        (
            &world.joined(back).leader,
            world.joined(back).skip_assignment
        ),
        (&a, false)
    );
    assert!(world.joined(back).members.is_empty());
}

//! Members join, agree on a protocol, and get the assignment of their leader.

use headwater_kafka::ErrorCode;
use headwater_kafka::group::{GroupEntry, GroupEvent, GroupRequest, Join, STATE_STABLE};

use crate::world::{World, join};

#[test]
fn three_members_join_within_the_initial_delay() {
    let mut world = World::new(3_000);
    let (a, ta) = world.join(&["range", "sticky"]);
    world.pass(1_000);
    let (b, tb) = world.join(&["sticky", "range"]);
    world.pass(2_500);
    assert!(
        world.reply(ta).is_none(),
        "the newcomer made the delay longer"
    );
    let (c, tc) = world.join(&["range"]);
    world.pass(10_000);
    for token in [ta, tb, tc] {
        assert_eq!(
            (world.joined(token).error, world.joined(token).generation),
            (None, 1)
        );
        assert_eq!(
            world.joined(token).protocol.as_deref(),
            Some("range"),
            "the common one"
        );
        assert_eq!(world.joined(token).leader, a);
    }
    assert_eq!(world.joined(ta).members.len(), 3);
    assert!(world.joined(tb).members.is_empty());

    let sb = world.sync(&b, 1, &[]);
    assert!(world.reply(sb).is_none(), "waits for the leader");
    let sa = world.sync(&a, 1, &[&a, &b]);
    assert_eq!(world.synced(sb).assignment, format!("for {b}"));
    assert_eq!(world.synced(sa).assignment, format!("for {a}"));
    let sc = world.sync(&c, 1, &[]);
    assert!(
        world.synced(sc).assignment.is_empty(),
        "forgotten by the leader"
    );
    assert_eq!(world.state(), STATE_STABLE);
    assert!(matches!(
        &world.log[..],
        [GroupEntry::Generation { generation: 1, .. }]
    ));
}

#[test]
fn the_assignment_waits_for_its_commit() {
    let mut world = World::new(0);
    let (id, token) = world.join(&["range"]);
    world.held = true;
    let generation = world.joined(token).generation;
    let synced = world.sync(&id, generation, &[&id]);
    assert!(world.reply(synced).is_none());
    world.commit_all();
    assert_eq!(world.synced(synced).error, None);
}

#[test]
fn a_failed_commit_of_the_assignment_rebalances() {
    let mut world = World::new(0);
    let (id, _) = world.join(&["range"]);
    world.held = true;
    let synced = world.sync(&id, 1, &[&id]);
    let (token, _) = world.pending.remove(0);
    world.event(GroupEvent::CommitFailed {
        token,
        error: ErrorCode::NotCoordinator,
    });
    assert_eq!(world.synced(synced).error, Some(ErrorCode::NotCoordinator));
    assert_eq!(world.beat(&id, 1), Some(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_second_member_rebalances_the_first() {
    let mut world = World::new(0);
    let a = world.alone();
    assert_eq!(world.beat(&a, 1), None);
    let (b, tb) = world.join(&["range"]);
    assert!(world.reply(tb).is_none());
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::RebalanceInProgress));
    let ta = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(
        (world.joined(ta).generation, world.joined(tb).generation),
        (2, 2)
    );
    assert_eq!(world.joined(ta).members.len(), 2);
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::IllegalGeneration));
    let stale = world.sync(&a, 1, &[]);
    assert_eq!(
        world.synced(stale).error,
        Some(ErrorCode::IllegalGeneration)
    );
    world.sync(&a, 2, &[&a, &b]);
    let sb = world.sync(&b, 2, &[]);
    assert_eq!(world.synced(sb).assignment, format!("for {b}"));
}

#[test]
fn a_repeated_join_gets_the_same_answer_and_changed_protocols_rebalance() {
    let mut world = World::new(0);
    let (a, ta) = world.join(&["range"]);
    let again = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(world.joined(again), world.joined(ta));
    world.sync(&a, 1, &[&a]);
    let changed = world.send(GroupRequest::Join(join(&a, &["sticky", "range"])));
    assert_eq!(
        (
            world.joined(changed).generation,
            world.joined(changed).error
        ),
        (2, None)
    );
}

#[test]
fn protocols_and_types_must_have_something_in_common() {
    let mut world = World::new(0);
    world.alone();
    let other = world.send(GroupRequest::Join(join("", &["sticky"])));
    assert_eq!(
        world.joined(other).error,
        Some(ErrorCode::InconsistentGroupProtocol)
    );
    let connect = Join {
        protocol_type: "connect".into(),
        ..join("", &["range"])
    };
    let other = world.send(GroupRequest::Join(connect));
    assert_eq!(
        world.joined(other).error,
        Some(ErrorCode::InconsistentGroupProtocol)
    );
    let none = world.send(GroupRequest::Join(join("", &[])));
    assert_eq!(
        world.joined(none).error,
        Some(ErrorCode::InconsistentGroupProtocol)
    );
    let quick = Join {
        session_timeout_ms: 5,
        ..join("", &["range"])
    };
    let quick = world.send(GroupRequest::Join(quick));
    assert_eq!(
        world.joined(quick).error,
        Some(ErrorCode::InvalidSessionTimeout)
    );
}

//! Members go: they leave, fall silent, stay away from a rebalance, or never use their id.

use headwater_kafka::ErrorCode;
use headwater_kafka::group::{GroupEntry, GroupRequest, STATE_EMPTY, STATE_STABLE};

use crate::world::{World, join};

#[test]
fn a_member_that_does_not_come_back_is_out_when_the_rebalance_ends() {
    let mut world = World::new(0);
    let a = world.alone();
    let (_, tb) = world.join(&["range"]);
    for _ in 0..12 {
        world.pass(5_000);
        // It lives, but never joins again.
        world.beat(&a, 1);
    }
    world.pass(1_000);
    assert_eq!(
        (world.joined(tb).generation, world.joined(tb).members.len()),
        (2, 1)
    );
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::UnknownMemberId));
}

#[test]
fn a_dead_member_is_found_by_its_session() {
    let mut world = World::new(0);
    let a = world.alone();
    world.pass(9_000);
    assert_eq!(world.beat(&a, 1), None);
    world.pass(9_999);
    assert_eq!(world.state(), STATE_STABLE);
    world.pass(1);
    assert_eq!(world.state(), STATE_EMPTY);
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::UnknownMemberId));
    assert!(matches!(
        world.log.last(),
        Some(GroupEntry::Generation { generation: 2, .. })
    ));
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn a_parked_member_does_not_expire_and_a_leader_that_never_syncs_does() {
    let mut world = World::new(0);
    let a = world.alone();
    let (b, tb) = world.join(&["range"]);
    let ta = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(world.joined(ta).leader, a);
    let sb = world.sync(&b, 2, &[]);
    // b's sync is parked for longer than its session; the leader is gone.
    world.pass(10_500);
    assert_eq!(world.synced(sb).error, Some(ErrorCode::RebalanceInProgress));
    let again = world.send(GroupRequest::Join(join(&b, &["range"])));
    assert_eq!(
        (world.joined(again).generation, &world.joined(again).leader),
        (3, &b)
    );
    assert_eq!(world.joined(tb).generation, 2);
}

#[test]
fn leaving_moves_the_group_on_at_once() {
    let mut world = World::new(0);
    let a = world.alone();
    assert_eq!(
        world.leave("nobody", None),
        Some(ErrorCode::UnknownMemberId)
    );
    let (b, tb) = world.join(&["range"]);
    assert_eq!(world.leave(&a, None), None);
    assert_eq!(
        (world.joined(tb).generation, &world.joined(tb).leader),
        (2, &b)
    );
    assert_eq!(world.leave(&b, None), None);
    assert_eq!(world.state(), STATE_EMPTY);
}

#[test]
fn ids_that_are_never_used_lapse() {
    let mut world = World::new(0);
    let a = world.alone();
    let first = world.send(GroupRequest::Join(join("", &["range"])));
    let ghost = world.joined(first).member_id.clone();
    assert_eq!(world.state(), STATE_STABLE, "an id alone rebalances nobody");
    for _ in 0..3 {
        world.pass(4_000);
        assert_eq!(world.beat(&a, 1), None);
    }
    let late = world.send(GroupRequest::Join(join(&ghost, &["range"])));
    assert_eq!(world.joined(late).error, Some(ErrorCode::UnknownMemberId));
}

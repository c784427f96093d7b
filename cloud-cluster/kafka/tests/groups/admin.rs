//! What an operator asks: groups are listed and deleted.

use headwater_kafka::ErrorCode;
use headwater_kafka::group::{GroupRequest, GroupResponse, STATE_DEAD};

use crate::world::World;

#[test]
fn groups_are_deleted_when_empty() {
    let mut world = World::new(0);
    let missing = world.delete();
    assert_eq!(world.deleted(missing), Some(ErrorCode::GroupIdNotFound));
    let a = world.alone();
    world.commit(&a, 1, 17);
    let busy = world.delete();
    assert_eq!(world.deleted(busy), Some(ErrorCode::NonEmptyGroup));
    world.leave(&a, None);
    world.held = true;
    world.commit_all();
    let token = world.delete();
    assert!(world.reply(token).is_none());
    world.commit_all();
    assert_eq!(world.deleted(token), None);
    assert_eq!((world.state(), world.offset()), (STATE_DEAD, None));
}

#[test]
fn listing_filters_by_state_and_type() {
    let mut world = World::new(0);
    world.alone();
    let count = |world: &mut World, states: &[&str], types: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        let token = world.send(GroupRequest::List {
            states: texts(states),
            types: texts(types),
        });
        match world.reply(token) {
            Some(GroupResponse::List(all)) => all.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count(&mut world, &[], &[]), 1);
    assert_eq!(count(&mut world, &["stable"], &["Classic"]), 1);
    assert_eq!(count(&mut world, &["Empty"], &[]), 0);
    assert_eq!(count(&mut world, &[], &["consumer"]), 0);
}

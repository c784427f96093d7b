//! An object store that does not answer at a start costs time and nothing else.

use headwater_log::disk::Disk;

use super::history;
use crate::world::World;

/// Nothing but the cold segments is left.
pub async fn segments_alone(seed: u64) -> World {
    let mut world = history(seed).await;
    let mut node = world.start().await;
    world.work(&mut node, 6, &[2, 5]).await;
    world.cut(node);
    for file in world.disk.files() {
        world.disk.remove(&file).unwrap();
    }
    world
}

/// Each request of a start in turn fails once: what is rebuilt is the same as without a failure.
#[tokio::test(start_paused = true)]
async fn one_failed_request_at_a_start_costs_nothing() {
    let mut world = segments_alone(5).await;
    world.faults.set(|_, _| false);
    let node = world.start().await;
    let requests = world.faults.asked();
    let (gone, ledger) = (world.check(&node).await, world.ledger(&node));
    assert!(requests > 20, "{requests} requests");
    for failing in 0..requests {
        let mut world = segments_alone(5).await;
        world.faults.set(move |number, _| number == failing);
        let node = world.start().await;
        assert_eq!(world.check(&node).await, gone, "request {failing} fails");
        assert_eq!(world.ledger(&node), ledger, "request {failing} fails");
        world.cut(node);
    }
}

/// One object that is never given while the store answers: the start goes on without it, the ledger
/// has its records, and it is not deleted.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_never_given_is_in_the_ledger() {
    let objects = history(5).await.objects().await;
    let logs = objects.iter().filter(|o| o.as_ref().ends_with(".log"));
    for object in logs.map(ToString::to_string) {
        let mut world = segments_alone(5).await;
        let objects = world.objects().await;
        let name = object.clone();
        world.faults.set(move |_, asked| asked == name);
        println!("{object}");
        for _ in 0..2 {
            let node = world.start().await;
            let gone = world.check(&node).await;
            assert!(gone > 0, "its batches are gone");
            let compared = node.running.sealing.sealer.compare(true).await;
            compared.unwrap();
            world.cut(node);
        }
        let after = world.objects().await;
        let deleted: Vec<_> = objects.iter().filter(|o| !after.contains(o)).collect();
        assert_eq!(deleted, [] as [&object_store::path::Path; 0]);
    }
}

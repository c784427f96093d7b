//! A node always starts, and what it lost is said: journal frames, checkpoints, segments, all of it.
//!
//! Everything runs on a simulated disk and clock, from one seed, and is compared with what clients
//! were told.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod ends;
mod store;
mod store_faults;
mod trust;
mod world;

use std::path::Path;

use headwater_log::disk::{Disk, Open};
use headwater_proto::{QuarantineReason, StreamOutcome};
use object_store::ObjectStore;
use world::World;

/// A run with two checkpoints, cold segments, and two power cuts.
async fn history(seed: u64) -> World {
    let mut world = World::new(seed);
    let mut node = world.start().await;
    world.create(&node).await;
    world.work(&mut node, 14, &[4, 9]).await;
    world.cut(node);
    let mut node = world.start().await;
    world.work(&mut node, 8, &[3]).await;
    world.cut(node);
    // The last group of all cannot be told from a torn one (J1): it holds nothing acknowledged.
    let node = world.start().await;
    world.cut(node);
    world
}

/// Nothing is damaged: everything is there, and nothing stands in the ledger.
async fn check_whole(world: &mut World) {
    let node = world.start().await;
    assert_eq!(world.check(&node).await, 0);
    assert_eq!(world.ledger(&node), []);
    check_state(world, &node).await;
    world.cut(node);
}

/// Streams and group offsets stand where they stood.
async fn check_state(world: &mut World, node: &world::Node) {
    assert_eq!(world.committed(node), world.model.committed);
    world.edge(node).await;
    world.produce(node, 3).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_run() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let world = history(3).await;
        let files: Vec<_> = world.disk.files().iter().map(|f| world.bytes(f)).collect();
        runs.push((files, world.objects().await, world.disk.operations()));
    }
    assert!(runs[0] == runs[1], "two runs of one seed differ");
    let other = history(4).await;
    assert!(other.objects().await != runs[0].1);
}

#[tokio::test(start_paused = true)]
async fn power_cuts_lose_nothing() {
    for seed in 0..10 {
        let mut world = history(seed).await;
        check_whole(&mut world).await;
        check_whole(&mut world).await;
    }
}

/// Each group of the journal in turn: what was in it is in the ledger, unless a segment has it, and
/// all else stands where it stood, also after a further start.
#[tokio::test(start_paused = true)]
async fn every_rotten_group_costs_what_is_in_it() {
    let groups = history(1).await.groups().len();
    assert!(groups > 40, "{groups}");
    let mut hits = 0;
    for group in 0..groups {
        let mut world = history(1).await;
        let (path, at, bytes) = world.groups()[group].clone();
        world.disk.rot(&path, at + bytes / 2, 0x40).unwrap();
        println!("group {group} of {groups}: {} at {at}", path.display());
        let node = world.start().await;
        let gone = world.check(&node).await;
        // A batch takes 70 bytes and more.
        assert!(gone as u64 * 70 <= bytes, "{gone} batches in {bytes} bytes");
        let ledger = world.ledger(&node);
        assert_eq!(gone > 0, !ledger.is_empty(), "{ledger:?}");
        hits += usize::from(gone > 0);
        check_state(&mut world, &node).await;
        world.cut(node);
        let mut node = world.start().await;
        assert_eq!(world.check(&node).await, gone, "later");
        assert_eq!(world.ledger(&node), ledger, "once in the ledger");
        node.running.sealing.sealer.round().await.unwrap();
        node.running.sealing.sealer.round().await.unwrap();
        assert_eq!(world.check(&node).await, gone, "sealed");
        world.cut(node);
    }
    assert!(hits > 5, "only {hits} groups cost something");
}

/// What is done to a file.
type Damage = fn(&World, &Path);

/// The whole of the state's copies, one after the other and all at once: the journal has the state
/// too, so nothing is lost.
#[tokio::test(start_paused = true)]
async fn lost_checkpoints_cost_nothing() {
    let damages: [(&str, Damage); 4] = [
        ("deleted", |world, path| world.disk.remove(path).unwrap()),
        ("zeroed", |world, path| {
            let bytes = vec![0; world.bytes(path).len()];
            world.write(path, &bytes);
        }),
        ("truncated", |world, path| {
            let half = world.bytes(path).len() / 2;
            world
                .disk
                .open(path, Open::Write)
                .unwrap()
                .set_len(half as u64)
                .unwrap();
        }),
        ("flipped", |world, path| {
            let middle = world.bytes(path).len() / 2;
            world.disk.rot(path, middle as u64, 0x01).unwrap();
        }),
    ];
    let copies = |world: &World| {
        let mut files = world.files("data/checkpoints");
        files.extend(world.files("data/state"));
        files
    };
    let count = copies(&history(2).await).len();
    assert_eq!(count, 4, "two generations in two places");
    for (name, damage) in damages {
        // Each subset of the copies.
        for subset in 1..1 << count {
            println!("{name}: {subset:b}");
            let mut world = history(2).await;
            let files = copies(&world);
            for (n, path) in files.iter().enumerate() {
                if subset >> n & 1 == 1 {
                    damage(&world, path);
                }
            }
            check_whole(&mut world).await;
            check_whole(&mut world).await;
        }
    }
}

/// Several groups next to each other, as a bad block or a bad stretch of the medium takes them.
#[tokio::test(start_paused = true)]
async fn a_rotten_stretch_costs_what_is_in_it() {
    let groups = history(1).await.groups().len();
    for (first, stretch) in (0..groups).step_by(3).zip([2, 4, 7].into_iter().cycle()) {
        let mut world = history(1).await;
        let hit: Vec<_> = world
            .groups()
            .into_iter()
            .skip(first)
            .take(stretch)
            .collect();
        for (path, at, bytes) in &hit {
            world.disk.rot(path, at + bytes / 2, 0x04).unwrap();
        }
        println!("groups {first} to {} of {groups}", first + stretch);
        let node = world.start().await;
        let gone = world.check(&node).await;
        let bytes: u64 = hit.iter().map(|(_, _, bytes)| bytes).sum();
        assert!(gone as u64 * 70 <= bytes, "{gone} batches in {bytes} bytes");
        let ledger = world.ledger(&node);
        assert!(gone == 0 || !ledger.is_empty());
        world.produce(&node, 5).await;
        world.cut(node);
        let node = world.start().await;
        assert_eq!(world.check(&node).await, gone, "later");
        assert_eq!(world.ledger(&node), ledger, "once in the ledger");
        world.cut(node);
    }
}

/// Nothing but the cold segments is left, or those and parts of the journal.
#[tokio::test(start_paused = true)]
async fn segments_alone_make_a_node_that_starts() {
    for part in ["data", "data/checkpoints data/state data/journal/0"] {
        let mut world = history(5).await;
        let mut node = world.start().await;
        world.work(&mut node, 6, &[2, 5]).await;
        world.cut(node);
        for file in world.disk.files() {
            let name = file.to_str().unwrap();
            if part.split(' ').any(|prefix| name.starts_with(prefix)) {
                world.disk.remove(&file).unwrap();
            }
        }
        let node = world.start().await;
        let kept = world
            .model
            .batches
            .values()
            .map(|of| of.len())
            .sum::<usize>();
        let gone = world.check(&node).await;
        assert!(gone > 0 && gone < kept, "{gone} of {kept} batches are gone");
        let ledger = world.ledger(&node);
        assert!(!ledger.is_empty());
        // What the cloud once acknowledged is not taken a second time, until somebody says so.
        let acked = world.model.stream_next;
        let outcome = world.session(&node, acked).await;
        let quarantined = StreamOutcome::Quarantine(QuarantineReason::StateLost);
        assert_eq!(outcome, quarantined);
        world.trust(&node).await;
        let StreamOutcome::Opened(opened) = world.session(&node, acked).await else {
            panic!("a trusted stream does not open");
        };
        assert_eq!(opened.next.0, acked);
        // No offset is given out again: produce checks it.
        world.produce(&node, 5).await;
        world.cut(node);
        let mut node = world.start().await;
        assert_eq!(world.check(&node).await, gone, "later");
        assert_eq!(world.ledger(&node), ledger, "once in the ledger");
        node.running.sealing.sealer.round().await.unwrap();
        world.edge(&node).await;
        // Again, now that it is known as acknowledged.
        world.edge(&node).await;
        assert_eq!(world.check(&node).await, gone, "sealed");
        world.cut(node);
    }
}

/// Each object of a segment deleted, and flipped in many places: readers pass, the ledger knows.
#[tokio::test(start_paused = true)]
async fn rotten_segments_are_gaps_and_rotten_indexes_nothing() {
    let objects = history(6).await.objects().await;
    assert!(objects.len() > 9, "{objects:?}");
    for (n, path) in objects.iter().enumerate() {
        for way in 0..4 {
            let mut world = history(6).await;
            match way {
                0 => world.objects.delete(path).await.unwrap(),
                way => {
                    let found = world.objects.get(path).await.unwrap();
                    let mut bytes = found.bytes().await.unwrap().to_vec();
                    if bytes.is_empty() {
                        continue;
                    }
                    let at = bytes.len() * way / 4;
                    bytes[at] ^= 0x20;
                    world.objects.put(path, bytes.into()).await.unwrap();
                }
            }
            println!("object {n}, way {way}: {path}");
            let node = world.start().await;
            let gone = world.check(&node).await;
            let ledger = world.ledger(&node);
            let is_log = path.as_ref().ends_with(".log");
            assert!(is_log || gone == 0, "{path}");
            assert!(way == 0 || gone <= 1, "{gone} of one flipped byte");
            assert!(
                way != 0 || !is_log || gone > 0,
                "a missing segment is not met"
            );
            assert_eq!(gone > 0, !ledger.is_empty(), "{ledger:?}");
            world.cut(node);
            let node = world.start().await;
            assert_eq!(world.check(&node).await, gone, "later");
            assert_eq!(world.ledger(&node), ledger, "once in the ledger");
            world.cut(node);
        }
    }
}

/// What the results cost in the journal, per group: with one append in it, and with a hundred.
#[tokio::test(start_paused = true)]
async fn results_cost_little() {
    const RESULTS: u8 = 0x81;
    let mut told = Vec::new();
    for appends in [1, 100] {
        let mut world = World::new(8);
        let node = world.start().await;
        world.create(&node).await;
        let before = world.frames();
        for _ in 0..50 {
            world.produce(&node, appends).await;
        }
        let frames = world.frames().split_off(before.len());
        let bytes = |of: &dyn Fn(u8) -> bool| -> usize {
            let of = frames.iter().filter(|(kind, _)| of(*kind));
            of.map(|(_, bytes)| *bytes).sum()
        };
        let results = bytes(&|kind| kind == RESULTS) / 50;
        let entries = bytes(&|kind| kind != RESULTS) / 50;
        println!("{appends} appends: entries {entries} B a group, results {results} B a group");
        told.push((results, entries));
        world.cut(node);
    }
    assert!(told[0].0 < 600, "{told:?}");
    assert!(told[1].0 * 5 < told[1].1, "{told:?}");
}

/// A history so long that no result in the journal reaches back to its beginning.
async fn long_history(seed: u64) -> World {
    let mut world = history(seed).await;
    for _ in 0..3 {
        let mut node = world.start().await;
        world.work(&mut node, 6, &[1, 3, 5]).await;
        world.cut(node);
    }
    world
}

/// With all four copies gone, the journal's whole state is what is left.
#[tokio::test(start_paused = true)]
async fn the_journal_alone_holds_the_whole_state() {
    let mut world = long_history(9).await;
    let mut copies = world.files("data/checkpoints");
    copies.extend(world.files("data/state"));
    assert_eq!(copies.len(), 4);
    for path in copies {
        world.disk.remove(&path).unwrap();
    }
    check_whole(&mut world).await;
}

/// Small groups next to each other, in the newest file, with nothing but more groups behind them: a
/// bad block. What the groups behind tell again is enough to go on exactly.
#[tokio::test(start_paused = true)]
async fn a_bad_block_costs_what_is_in_it() {
    for (seed, back) in (20..26).zip([4, 7, 10, 13, 16, 20]) {
        let mut world = long_history(seed).await;
        let mut node = world.start().await;
        world.work(&mut node, 12, &[]).await;
        world.cut(node);
        let newest = world.groups().last().unwrap().0.clone();
        let of: Vec<_> = world
            .groups()
            .into_iter()
            .filter(|g| g.0 == newest)
            .collect();
        let hit = &of[of.len() - back..of.len() - back + 2];
        for (path, at, bytes) in hit {
            world.disk.rot(path, at + bytes / 2, 0x04).unwrap();
        }
        let node = world.start().await;
        let bytes: u64 = hit.iter().map(|(_, _, bytes)| bytes).sum();
        let gone = world.check(&node).await;
        assert!(gone as u64 * 70 <= bytes, "{gone} batches in {bytes} bytes");
        // Exactly: no offsets are jumped over, and no stream is set aside.
        let ledger = world.ledger(&node);
        assert!(
            ledger.iter().all(|(_, from, to)| to - from < 100),
            "{ledger:?}"
        );
        check_state(&mut world, &node).await;
        world.cut(node);
    }
}

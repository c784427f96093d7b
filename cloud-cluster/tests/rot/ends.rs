//! Rot at the end of the journal, where a torn tail would be.

use std::path::PathBuf;

use super::*;

/// The last group holds no record. Those before it do, which were acknowledged, and its header proves
/// it, though its body is damaged like theirs (J1).
#[tokio::test(start_paused = true)]
async fn rotten_groups_at_the_end_are_not_cut_in_silence() {
    let (mut hits, mut told) = (0, 0);
    for (seed, stretch) in (1..7).zip([2, 3, 4, 2, 3, 5]) {
        let mut world = history(seed).await;
        let node = world.start().await;
        for _ in 0..4 {
            world.produce(&node, 1).await;
        }
        world.session(&node, world.model.stream_next).await;
        world.cut(node);
        // Behind them lies what an earlier use of the file left, under another salt.
        let of_its_file = |(path, at, _): &(PathBuf, u64, u64)| {
            let bytes = world.bytes(path);
            bytes[*at as usize + 8..][..8] == bytes[16..24]
        };
        let groups: Vec<_> = world.groups().into_iter().filter(of_its_file).collect();
        let (hit, newest) = (
            &groups[groups.len() - stretch..],
            &groups[groups.len() - 1].0,
        );
        for (path, at, bytes) in hit {
            world.disk.rot(path, at + bytes / 2, 0x04).unwrap();
        }
        let node = world.start().await;
        let gone = world.check(&node).await;
        let bytes: u64 = hit.iter().map(|(_, _, bytes)| bytes).sum();
        assert!(gone as u64 * 70 <= bytes, "{gone} batches in {bytes} bytes");
        let ledger = world.ledger(&node);
        assert!(gone == 0 || !ledger.is_empty(), "{gone} batches are gone");
        told += usize::from(!ledger.is_empty());
        hits += usize::from(gone > 0 && hit.iter().all(|(path, ..)| path == newest));
        // No offset is given out again: produce checks it.
        world.produce(&node, 5).await;
        world.cut(node);
        let node = world.start().await;
        assert_eq!(world.check(&node).await, gone, "later");
        assert_eq!(world.ledger(&node), ledger, "once in the ledger");
        world.cut(node);
    }
    assert!(
        hits > 0 && told >= hits,
        "{hits} cost something, {told} are told"
    );
}

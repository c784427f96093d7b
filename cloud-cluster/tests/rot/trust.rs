//! The state is lost with all its copies, and the journal too: which streams go on, and what is said
//! of records that may be stored twice. Nothing of it is silent.

use headwater_proto::{EdgeName, Incarnation, QuarantineReason, StreamKey, StreamOutcome};
use headwater_shard::{Entry, Loss};

use crate::store_faults::segments_alone;
use crate::world::{Node, data, stream};
use cloud_cluster::registry::Registered;
use cloud_cluster::shardlog::commit;

const ASIDE: StreamOutcome = StreamOutcome::Quarantine(QuarantineReason::StateLost);

/// Ranges that may stand in the topic twice.
fn repeats(node: &Node) -> Vec<(StreamKey, i64, i64)> {
    let shards = &node.running.machine.shards;
    let mut found = Vec::new();
    for id in shards.data() {
        let shard = shards.read(id);
        found.extend(shard.ledger().filter_map(|(_, line)| match line.loss {
            Loss::Repeat { from, to } => Some((line.stream.clone(), from.0, to.0)),
            _ => None,
        }));
    }
    found
}

fn next(outcome: &StreamOutcome) -> i64 {
    match outcome {
        StreamOutcome::Opened(opened) => opened.next.0,
        other => panic!("not opened: {other:?}"),
    }
}

/// Another edge, whose one partition goes to the same topic.
fn other() -> StreamKey {
    StreamKey {
        edge: EdgeName::new("gw-2").unwrap(),
        ..stream()
    }
}

async fn add_edge(node: &Node, name: &str) {
    let (name, at_ms) = (name.to_owned(), 1);
    let shards = &node.running.machine.shards;
    let entry = Entry::AddEdge { name, at_ms };
    let log = &*node.running.service.log;
    commit(log, shards.meta(), entry, bytes::Bytes::new())
        .await
        .unwrap();
}

/// The edge noted less as acknowledged than was stored. What lies between comes a second time, and
/// the ledger says from where to where: once, also after further starts.
#[tokio::test(start_paused = true)]
async fn what_a_trusted_edge_may_repeat_is_in_the_ledger() {
    let mut world = segments_alone(5).await;
    let stored = world.model.stream_next;
    let (acked, end) = (stored - 4, stored + 6);
    for start in 0..3 {
        let node = world.start().await;
        if start == 0 {
            assert_eq!(world.session_of(&node, stream(), acked, end).await, ASIDE);
            assert_eq!(repeats(&node), []);
            world.trust(&node).await;
        }
        let opened = world.session_of(&node, stream(), acked, end + start).await;
        assert_eq!(next(&opened), acked, "nothing is passed over");
        assert_eq!(repeats(&node), [(stream(), acked, end)], "start {start}");
        world.cut(node);
    }
}

/// Nothing acknowledged, as far as the edge knows, is not nothing sent: the answer may have been lost
/// on its way, or the card is an old image.
#[tokio::test(start_paused = true)]
async fn a_log_with_records_waits_though_none_was_acknowledged() {
    let mut world = segments_alone(5).await;
    let node = world.start().await;
    assert_eq!(world.session_of(&node, stream(), 0, 6).await, ASIDE);
    world.trust(&node).await;
    assert_eq!(next(&world.session_of(&node, stream(), 0, 6).await), 0);
    assert_eq!(repeats(&node), [(stream(), 0, 6)]);
}

/// A log that was never written to cannot have sent anything: it goes on, later too, and there is
/// nothing to say.
#[tokio::test(start_paused = true)]
async fn an_empty_log_goes_on_by_itself() {
    let mut world = segments_alone(5).await;
    let key = StreamKey {
        incarnation: Incarnation(12),
        ..stream()
    };
    let node = world.start().await;
    let StreamOutcome::Opened(opened) = world.session_of(&node, key.clone(), 0, 0).await else {
        panic!("an empty log waits");
    };
    let stored = world
        .send_as(&node, key.clone(), data(opened.epoch, 0, 2))
        .await;
    assert!(matches!(stored, StreamOutcome::Append { .. }), "{stored:?}");
    world.cut(node);
    let node = world.start().await;
    assert_eq!(next(&world.session_of(&node, key, 0, 9).await), 2);
    assert_eq!(repeats(&node), []);
}

/// An edge that has its bundle since the loss goes on by itself, with whatever it gathered. One that
/// had it before waits, and so do all where the register is not whole.
#[tokio::test(start_paused = true)]
async fn newcomers_go_on_by_themselves_and_no_others() {
    for is_whole in [true, false] {
        let mut world = segments_alone(5).await;
        let edges = vec![("gw-1".to_owned(), 7)];
        world.registered = Some(Registered { edges, is_whole });
        let node = world.start().await;
        let meta = node.running.machine.shards.meta();
        let added = |node: &Node, name: &str| {
            let meta = node.running.machine.shards.read(meta);
            meta.edge(name).map(|edge| edge.added_ms)
        };
        assert_eq!(added(&node, "gw-1"), Some(7), "the register was read");
        assert_eq!(world.session_of(&node, stream(), 0, 6).await, ASIDE);
        add_edge(&node, "gw-2").await;
        let outcome = world.session_of(&node, other(), 0, 6).await;
        match is_whole {
            true => assert_eq!(next(&outcome), 0),
            false => assert_eq!(outcome, ASIDE),
        }
        assert_eq!(repeats(&node), []);
        world.cut(node);
        // And after a further loss it is one that was there before.
        if is_whole {
            for file in world.disk.files() {
                headwater_log::disk::Disk::remove(&world.disk, &file).unwrap();
            }
            let edges = ["gw-1", "gw-2"].map(|name| (name.to_owned(), 7)).to_vec();
            world.registered = Some(Registered { edges, is_whole });
            let node = world.start().await;
            assert_eq!(world.session_of(&node, other(), 0, 6).await, ASIDE);
        }
    }
}

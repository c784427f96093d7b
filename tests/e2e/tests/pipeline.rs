//! The whole way with real processes: publishers, an edge, a link that is cut, a cloud node, a
//! consumer. Everything acknowledged stands once; what QoS 1 doubles by design is counted apart.

#![allow(clippy::unwrap_used)] // A panic is how a test answers.

use std::time::Duration;

use e2e::judge::Verdict;
use e2e::pipeline::{Load, Pipeline};
use e2e::wait_for;

const LIMIT: Duration = Duration::from_secs(120);

fn start(scratch: &tempfile::TempDir) -> Pipeline {
    Pipeline::start(scratch.path(), "", "", LIMIT)
}

fn load(publishers: usize, qos: u8, messages: u32) -> Load {
    Load {
        publishers,
        qos,
        messages,
        payload_bytes: 0,
    }
}

#[test]
fn a_link_that_is_cut_costs_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut pipeline = start(&scratch);
    pipeline.publish(load(4, 1, 6000));
    for cut in 1..=3 {
        pipeline.wait_acked(cut * 1200);
        let dropped = pipeline.link.dropped();
        pipeline.link.cut();
        pipeline.wait_acked(cut * 1200 + 700);
        wait_for("the cut to drop a datagram", LIMIT, || {
            (pipeline.link.dropped() > dropped).then_some(())
        });
        pipeline.link.heal();
    }
    let verdict = pipeline.judge().unwrap();
    assert_eq!(
        verdict,
        Verdict {
            acked: 6000,
            ..Verdict::default()
        }
    );
}

#[test]
fn either_side_is_killed_and_started_in_any_order() {
    let scratch = tempfile::tempdir().unwrap();
    let mut pipeline = start(&scratch);
    pipeline.publish(load(4, 1, 8000));
    pipeline.publish(load(2, 2, 2000));
    pipeline.wait_acked(1000);
    pipeline.kill_edge();
    pipeline.start_edge();
    pipeline.wait_acked(2500);
    pipeline.kill_cloud();
    pipeline.wait_acked(3500);
    pipeline.kill_edge();
    pipeline.start_edge();
    pipeline.wait_acked(4500);
    pipeline.start_cloud();
    pipeline.wait_acked(5500);
    pipeline.kill_edge();
    pipeline.kill_cloud();
    pipeline.start_cloud();
    pipeline.start_edge();
    let verdict = pipeline.judge().unwrap();
    assert_eq!(verdict.acked, 10_000);
    println!(
        "resends {}, unacknowledged attempts that stand {}",
        verdict.resends, verdict.unacked_present
    );
}

#[test]
fn a_backlog_from_before_the_first_link_arrives() {
    let scratch = tempfile::tempdir().unwrap();
    let mut pipeline = start(&scratch);
    pipeline.kill_cloud();
    pipeline.publish(load(2, 1, 6000));
    pipeline.wait_acked(6000);
    assert_eq!(
        pipeline
            .edge_process
            .take()
            .map(|edge| edge.stop() < Duration::from_secs(2)),
        Some(true),
        "the edge took too long to stop"
    );
    pipeline.start_cloud();
    pipeline.start_edge();
    assert_eq!(pipeline.judge().unwrap().acked, 6000);
}

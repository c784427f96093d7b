//! A cloud node whose disk others have filled.

use std::path::Path;

use crash::room::Room;
use e2e::http;
use e2e::kafka::{Consumer, Refused};
use e2e::pipeline::{Load, Pipeline};
use e2e::wait_for;

use crate::LIMIT;

const ROOM_BYTES: u64 = 160 << 20;
/// Kafka's KAFKA_STORAGE_ERROR, which clients retry.
const STORAGE_ERROR: i16 = 56;

const SETTINGS: &str = "
[topics]
partitions = 4
[log]
journal_file_bytes = 4194304
journal_files_max = 8
hot_bytes = 4194304
segment_bytes_min = 65536
checkpoint_interval_s = 1
reserve_bytes = 33554432
";

pub fn a_full_cloud_refuses_and_goes_on(scratch: &Path) {
    let mut room = Room::mount(&scratch.join("cloud/data"), ROOM_BYTES).unwrap();
    let mut pipeline = Pipeline::start(scratch, SETTINGS, "", LIMIT);
    pipeline.publish(Load {
        publishers: 6,
        qos: 1,
        messages: 10_000,
        payload_bytes: 1_000,
    });
    wait_in_cloud(&pipeline, 2_000);
    let mut consumer = Consumer::connect(pipeline.cloud.kafka).unwrap();
    consumer.create("other").unwrap();
    wait_for("a topic of another producer", LIMIT, || {
        consumer.produce("other", 0, "before").ok()
    });

    room.fill();
    wait_full(&pipeline, true);
    assert_eq!(refusal(&mut consumer), STORAGE_ERROR);
    // The edge keeps what the cloud does not take, and the cloud serves what it has.
    pipeline.publish(Load {
        publishers: 2,
        qos: 2,
        messages: 2_000,
        payload_bytes: 1_000,
    });
    pipeline.wait_acked(12_000);
    assert!(!consumer.read_all("mqtt").unwrap().is_empty());

    // It starts with not one byte free, again and again.
    room.wait_reserve(LIMIT);
    room.fill();
    for _ in 0..2 {
        kill_with_reserve(&mut pipeline, &mut room);
        room.fill();
        pipeline.start_cloud();
        room.wait_reserve(LIMIT);
        room.fill();
        wait_full(&pipeline, true);
        let mut consumer = Consumer::connect(pipeline.cloud.kafka).unwrap();
        assert_eq!(refusal(&mut consumer), STORAGE_ERROR);
        assert!(!consumer.read_all("mqtt").unwrap().is_empty());
    }

    pipeline.publish(Load {
        publishers: 1,
        qos: 1,
        messages: 200,
        payload_bytes: 1_000,
    });
    pipeline.wait_acked(12_200);
    let in_cloud = pipeline.tail.read().unwrap();
    room.empty();
    wait_in_cloud(&pipeline, in_cloud + 100);
    let mut consumer = Consumer::connect(pipeline.cloud.kafka).unwrap();
    assert_eq!(consumer.produce("other", 0, "after").unwrap(), 1);
    let verdict = pipeline.judge().unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(verdict.acked, 12_200);
}

/// Kills the node when it has room laid aside. Who fills the disk while that is in use leaves a node
/// that waits for room, which is right and not what this is about.
fn kill_with_reserve(pipeline: &mut Pipeline, room: &mut Room) {
    for _ in 0..10 {
        pipeline.kill_cloud();
        if room.reserve_bytes() > 0 {
            return;
        }
        room.empty();
        pipeline.start_cloud();
        room.wait_reserve(LIMIT);
        room.fill();
    }
    panic!("ten times the node was killed while its reserve was in use");
}

fn wait_in_cloud(pipeline: &Pipeline, count: u64) {
    wait_for(&format!("{count} records in the cloud"), LIMIT, || {
        (pipeline.tail.read().unwrap() >= count).then_some(())
    });
}

fn wait_full(pipeline: &Pipeline, full: bool) {
    let word = format!("\"disk_full\":{full}");
    wait_for(&word, LIMIT, || {
        let status = http::body(pipeline.cloud.admin, "/status").ok()?;
        status.contains(&word).then_some(())
    });
}

fn refusal(consumer: &mut Consumer) -> i16 {
    let refused = consumer.produce("other", 0, "refused").unwrap_err();
    refused.downcast::<Refused>().unwrap().code
}

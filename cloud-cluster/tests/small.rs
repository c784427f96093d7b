//! Many partitions that are each too small for a segment fill the memory for hot data together: the
//! node seals the largest of them, and producers go on.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use support::{Client, Node, large_batch};

const TOPICS: usize = 40;
const BATCH_BYTES: usize = 60_000;

#[test]
fn small_partitions_do_not_stop_producers() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    let config = dir.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    // None is worth a segment by itself: 40 partitions of 180 kB, where 1 MiB may be hot.
    let text = text.replace(
        "segment_bytes_min = 20000\n",
        "segment_bytes_min = 1000000\nsegment_age_s = 86400\n",
    );
    std::fs::write(&config, text).unwrap();
    node.start();
    for n in 0..TOPICS {
        let body = format!("{{\"name\":\"small-{n}\",\"partitions\":1}}");
        node.json("POST", "/topics", &body);
    }
    let mut client = Client::connect(node.kafka).unwrap();
    let started = Instant::now();
    for round in 0..3 {
        for n in 0..TOPICS {
            let batch = large_batch(BATCH_BYTES);
            client.produce(&format!("small-{n}"), &batch).unwrap();
            assert_eq!(client.acked().unwrap(), Ok(round), "small-{n}");
        }
    }
    // A node that waits for room refuses after 20 s.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    let page = node.json("GET", "/topics", "");
    let segments = |row: &serde_json::Value| row["partitions"][0]["segments"].as_i64().unwrap();
    let sealed: i64 = page.as_array().unwrap().iter().map(segments).sum();
    assert!(sealed > 0, "nothing was sealed: {page}");
}

//! A real node on a real directory that lost something: it starts, serves what is left, and says in
//! the ledger what is gone.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Client, Node, batch};

const TOPIC: &str = "kept";

/// A node that was killed after `count` acknowledged batches of 10 records, with cold segments and
/// two checkpoints behind it and batches in the journal.
fn killed(dir: &Path, count: i32) -> Node {
    let mut node = Node::new(dir);
    node.start();
    let body = format!("{{\"name\":\"{TOPIC}\",\"partitions\":1}}");
    node.json("POST", "/topics", &body);
    let mut client = Client::connect(node.kafka).unwrap();
    let id = client.producer_id().unwrap();
    let segments =
        |node: &Node| node.json("GET", "/topics", "")[0]["partitions"][0]["segments"].as_i64();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut sent = 0;
    while sent < count || segments(&node) < Some(3) {
        assert!(Instant::now() < deadline, "no segments are made");
        client.produce(TOPIC, &batch(id, sent * 10, 10)).unwrap();
        assert_eq!(client.acked().unwrap(), Ok(i64::from(sent) * 10));
        sent += 1;
        if sent > count {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // In the journal alone: from now on there are no rounds.
    node.kill();
    let config = dir.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "checkpoint_interval_s = 1\n",
        "checkpoint_interval_s = 3600\n",
    );
    // With few files a round would be due for want of room.
    let text = text.replace("journal_files_max = 8\n", "journal_files_max = 64\n");
    fs::write(&config, text).unwrap();
    node.start();
    let mut client = Client::connect(node.kafka).unwrap();
    for _ in 0..40 {
        client.produce(TOPIC, &batch(id, sent * 10, 10)).unwrap();
        assert_eq!(client.acked().unwrap(), Ok(i64::from(sent) * 10));
        sent += 1;
    }
    node.kill();
    fs::write(dir.join("sent"), sent.to_string()).unwrap();
    node
}

fn sent(dir: &Path) -> i64 {
    let text = fs::read_to_string(dir.join("sent")).unwrap();
    text.parse::<i64>().unwrap() * 10
}

/// Lost ranges of the ledger.
fn lost(node: &Node) -> Vec<(i64, i64)> {
    let ledger = node.json("GET", "/ledger", "");
    let rows = ledger.as_array().unwrap().iter();
    let lost = rows.filter(|row| row["kind"] == "lost");
    let int = |row: &serde_json::Value, key| row["detail"][key].as_i64().unwrap();
    lost.map(|row| (int(row, "from"), int(row, "to"))).collect()
}

/// Each record is there at its offset, or in the ledger. Returns how many are not there.
fn check(node: &Node, dir: &Path) -> i64 {
    let (records, lost) = (node.records(TOPIC, 0), lost(node));
    for (offset, value) in &records {
        assert_eq!(offset.to_string(), *value, "an offset moved");
    }
    let mut there = records.iter().map(|(offset, _)| *offset).peekable();
    let mut gone = 0;
    for offset in 0..sent(dir) {
        if there.next_if_eq(&offset).is_some() {
            continue;
        }
        let said = lost.iter().any(|(from, to)| (*from..*to).contains(&offset));
        assert!(said, "record {offset} is gone and nobody says so: {lost:?}");
        gone += 1;
    }
    gone
}

fn remove(dir: &Path, names: &[&str]) {
    for name in names {
        fs::remove_dir_all(dir.join("data").join(name)).unwrap();
    }
}

#[test]
fn a_node_without_checkpoints_loses_nothing() {
    for gone in [&["checkpoints"][..], &["state"], &["checkpoints", "state"]] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = killed(dir.path(), 100);
        remove(dir.path(), gone);
        node.start();
        assert_eq!(check(&node, dir.path()), 0, "without {gone:?}");
        assert_eq!(lost(&node), []);
        // It goes on where it was.
        let mut client = Client::connect(node.kafka).unwrap();
        let (id, at) = (client.producer_id().unwrap(), sent(dir.path()));
        client.produce(TOPIC, &batch(id, 0, 10)).unwrap();
        assert_eq!(client.acked().unwrap(), Ok(at), "without {gone:?}");
    }
}

#[test]
fn flipped_bytes_in_the_journal_are_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = killed(dir.path(), 60);
    let (file, at) = newest_group(&dir.path().join("data/journal"), 12);
    let mut bytes = fs::read(&file).unwrap();
    bytes[at + 100] ^= 0x40;
    fs::write(&file, bytes).unwrap();
    node.start();
    let gone = check(&node, dir.path());
    assert!((1..=40).contains(&gone), "{gone} records are gone");
    let ledger = lost(&node);
    assert!(!ledger.is_empty());
    node.kill();
    node.start();
    assert_eq!((check(&node, dir.path()), lost(&node)), (gone, ledger));
}

/// The file and place of the `back`th group from the end.
fn newest_group(journal: &Path, back: usize) -> (PathBuf, usize) {
    let mut files: Vec<PathBuf> = fs::read_dir(journal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('0'))
        .collect();
    files.sort();
    let mut groups = Vec::new();
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let starts = (0..bytes.len() - 8).step_by(8);
        let starts = starts.filter(|at| bytes[*at..*at + 4] == *b"HWGR");
        let first = |at: usize| u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap());
        groups.extend(starts.map(|at| (first(at), file.clone(), at)));
    }
    // What an earlier use of a file left behind has lower numbers.
    groups.sort();
    let (_, file, at) = groups[groups.len() - back].clone();
    (file, at)
}

#[test]
fn a_node_with_nothing_but_segments_serves_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = killed(dir.path(), 60);
    remove(dir.path(), &["checkpoints", "state", "journal"]);
    node.start();
    let gone = check(&node, dir.path());
    assert!(
        gone > 0 && gone < sent(dir.path()),
        "{gone} records are gone"
    );
    let ledger = node.json("GET", "/ledger", "");
    let states = ledger.as_array().unwrap().iter();
    assert!(
        states.filter(|row| row["kind"] == "state-lost").count() > 0,
        "{ledger}"
    );
    // No offset is given out again.
    let mut client = Client::connect(node.kafka).unwrap();
    let id = client.producer_id().unwrap();
    client.produce(TOPIC, &batch(id, 0, 10)).unwrap();
    let base = client.acked().unwrap().unwrap();
    assert!(base > sent(dir.path()), "{base}");
    let first = lost(&node);
    node.kill();
    node.start();
    assert_eq!(lost(&node), first);
}

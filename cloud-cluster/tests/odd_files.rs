//! A data directory in which something is not what it should be: empty, cut, missing, unknown, a
//! directory where a file was. The node starts, and nothing that it acknowledged is gone.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Client, Node, batch};

const TOPIC: &str = "kept";
const BATCHES: i32 = 200;

/// A node that was killed with segments, checkpoints and a journal behind it.
fn killed(dir: &Path) {
    let mut node = Node::new(dir);
    node.start();
    let body = format!("{{\"name\":\"{TOPIC}\",\"partitions\":1}}");
    node.json("POST", "/topics", &body);
    node.json("POST", "/edges", "{\"name\":\"gw-1\"}");
    let mut client = Client::connect(node.kafka).unwrap();
    let id = client.producer_id().unwrap();
    for sent in 0..BATCHES {
        client.produce(TOPIC, &batch(id, sent * 10, 10)).unwrap();
        assert_eq!(client.acked().unwrap(), Ok(i64::from(sent) * 10));
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let segments = || node.json("GET", "/topics", "")[0]["partitions"][0]["segments"].as_i64();
    while segments() < Some(1) || !dir.join("data/state/b.checkpoint").exists() {
        assert!(
            Instant::now() < deadline,
            "no segment, or no second checkpoint"
        );
        let sent = node.records(TOPIC, 0).len() as i32;
        client.produce(TOPIC, &batch(id, sent, 10)).unwrap();
        client.acked().unwrap().unwrap();
        fs::write(dir.join("sent"), (sent + 10).to_string()).unwrap();
    }
    node.kill();
}

/// Files below `dir` whose names end so.
fn found(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(found(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            files.push(path);
        }
    }
    files
}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x04;
    fs::write(path, bytes).unwrap();
}

fn directory(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
    fs::create_dir(path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
}

/// What is done to a data directory.
type Oddity = (&'static str, fn(&Path));

const ODDITIES: [Oddity; 12] = [
    ("a lock file with something in it", |d| {
        fs::write(d.join("lock"), "1234\n").unwrap();
    }),
    ("no lock file", |d| fs::remove_file(d.join("lock")).unwrap()),
    ("an empty node.toml", |d| empty(&d.join("node.toml"))),
    ("a node.toml that is a directory", |d| {
        directory(&d.join("node.toml"))
    }),
    ("unknown files and directories everywhere", |d| {
        let dirs = [
            "",
            "journal",
            "checkpoints",
            "checkpoints/a",
            "state",
            "segments",
            "ca",
        ];
        for dir in dirs.map(|dir| d.join(dir)) {
            fs::write(dir.join("notes.txt"), "x").unwrap();
            directory(&dir.join("a directory"));
        }
    }),
    ("an empty journal file", |d| {
        empty(&d.join("journal/00000000000000000999.journal"));
    }),
    ("a directory named as a journal file", |d| {
        directory(&d.join("journal/00000000000000000999.journal"));
    }),
    ("manifests that are directories", |d| {
        directory(&d.join("checkpoints/a.manifest"));
        directory(&d.join("checkpoints/b.manifest"));
    }),
    ("slots that are files", |d| {
        for name in ["a", "b", "scratch", "damaged-a", "damaged-b"] {
            let path = d.join("checkpoints").join(name);
            fs::remove_dir_all(&path).ok();
            fs::write(path, "x").unwrap();
        }
    }),
    ("checkpoint files that are directories, twice", |d| {
        for name in ["a.checkpoint", "b.checkpoint", "a.damaged", "b.damaged"] {
            directory(&d.join("state").join(name));
        }
    }),
    ("a reserve that is a directory", |d| {
        directory(&d.join("reserve"));
    }),
    ("empty manifests", |d| {
        found(&d.join("checkpoints"), ".manifest")
            .iter()
            .for_each(|m| empty(m));
    }),
];

#[test]
fn a_node_starts_on_any_oddity_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    killed(dir.path());
    let sent = fs::read_to_string(dir.path().join("sent"));
    let sent = sent.map_or(i64::from(BATCHES) * 10, |text| text.parse().unwrap());
    for (what, damage) in ODDITIES {
        let copy = tempfile::tempdir().unwrap();
        let mut node = Node::new(copy.path());
        let copied = Command::new("cp")
            .arg("-r")
            .arg(dir.path().join("data"))
            .arg(copy.path())
            .status()
            .unwrap();
        assert!(copied.success());
        println!("{what}");
        damage(&copy.path().join("data"));
        for _ in 0..2 {
            node.start();
            let there: Vec<i64> = node.records(TOPIC, 0).iter().map(|r| r.0).collect();
            assert_eq!(there, (0..sent).collect::<Vec<_>>(), "{what}");
            assert_eq!(
                node.json("GET", "/ledger", ""),
                serde_json::json!([]),
                "{what}"
            );
            let edges = node.json("GET", "/edges", "");
            assert_eq!(edges[0]["name"], "gw-1", "{what}");
            node.kill();
        }
    }
}

/// Registrations outlive everything but the CA; later the state has them, whatever the register says.
#[test]
fn edges_are_known_after_the_loss_of_everything_but_the_ca() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    node.start();
    node.json("POST", "/edges", "{\"name\":\"gw-1\"}");
    node.kill();
    for gone in ["journal", "checkpoints", "state", "segments"] {
        fs::remove_dir_all(dir.path().join("data").join(gone)).unwrap();
    }
    node.start();
    assert_eq!(node.json("GET", "/edges", "")[0]["name"], "gw-1");
    node.kill();
    flip(&dir.path().join("data/ca/edges.txt"));
    node.start();
    assert_eq!(
        node.json("GET", "/edges", "")[0]["name"],
        "gw-1",
        "the state has it"
    );
}

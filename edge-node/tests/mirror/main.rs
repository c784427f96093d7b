//! A real log mirrored over real QUIC into the rules of the cloud: cuts, crashes of the edge,
//! restored images.
#![allow(clippy::unwrap_used)] // A test that panics is a test that fails.

#[path = "../node/client.rs"]
#[allow(dead_code)]
mod client;
mod letters;
mod sink;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Client;
use edge_node::config::{Listener, Route};
use edge_node::{Config, Node};
use headwater_batch::partition_for;
use headwater_quic::server::{Server, ServerConfig};
use headwater_quic::{Ca, EdgeName};
use sink::Cloud;

/// Far above what any step needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Setup {
    dir: tempfile::TempDir,
    ca: Ca,
    cloud: Arc<Cloud>,
    server: Server,
}

impl Setup {
    fn new() -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(&dir.path().join("ca")).unwrap();
        let cloud = Arc::new(Cloud::default());
        let listen = ServerConfig::new("127.0.0.1:0".parse().unwrap());
        let server = Server::bind(listen, &ca.issue_cloud().unwrap(), cloud.clone()).unwrap();
        let addresses = [server.local_addr().unwrap().to_string()];
        let bundle = ca
            .issue_edge(&EdgeName::new("gw-1").unwrap(), &addresses)
            .unwrap();
        bundle.write(&dir.path().join("gw-1.bundle")).unwrap();
        Setup {
            dir,
            ca,
            cloud,
            server,
        }
    }

    fn config(&self, data: &str) -> Config {
        let mut config = Config {
            data_dir: self.dir.path().join(data),
            ..Config::default()
        };
        config.uplink.bundle = self.dir.path().join("gw-1.bundle").display().to_string();
        config.listeners = vec![Listener::at("127.0.0.1:0")];
        config.status.listen = "127.0.0.1:0".into();
        config.log.linger_ms = 20;
        config.log.hold_ms = 20;
        config
    }

    fn node(&self, data: &str) -> Node {
        Node::start(self.config(data)).unwrap()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Publishes and waits for every acknowledgement.
fn publish(address: SocketAddr, values: impl Iterator<Item = String>) {
    publish_to(address, values.map(|value| ("t".to_owned(), value)));
}

fn publish_to(address: SocketAddr, messages: impl Iterator<Item = (String, String)>) {
    let mut client = Client::new(address, "writer");
    client.connect().unwrap();
    for (topic, value) in messages {
        client.publish(&topic, value, 1).unwrap();
        while client.inflight() > 50 {
            client.step().unwrap();
        }
    }
    while client.inflight() > 0 {
        client.step().unwrap();
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_mirrored_once_over_cuts_and_restarts() {
    let setup = Setup::new();
    let name = EdgeName::new("gw-1").unwrap();
    let mut done = 0;
    for round in 0..3 {
        let node = setup.node("data");
        let address = node.mqtt_addresses()[0];
        for _ in 0..3 {
            let range = done..done + 400;
            done = range.end;
            let publishing = tokio::task::spawn_blocking(move || {
                publish(address, range.map(|n| n.to_string()));
            });
            until("something mirrored", || setup.cloud.len() > done - 400).await;
            setup.server.disconnect(&name, "cut by the test");
            publishing.await.unwrap();
        }
        if round < 2 {
            // What is not mirrored yet waits on the disk for the next run.
            node.stop().await.unwrap();
            continue;
        }
        until("all", || setup.cloud.len() >= done).await;
        let caught_up = || {
            node.report()
                .partitions
                .iter()
                .all(|p| p.acked == done as i64)
        };
        until("the cursor", caught_up).await;
        assert_eq!(node.report().uplink.lag, 0);
        // All may be there before the last cut: then the edge is still on its way back.
        until("the link", || node.report().uplink.connected).await;
        node.stop().await.unwrap();
    }
    assert_eq!(setup.cloud.values(), numbers(0..done));
    assert_eq!(setup.cloud.alarms(), []);
    assert_eq!(setup.cloud.gaps(), []);
}

/// U6: the cloud hears how many partitions a topic has, also when its route is gone or narrower.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_partition_count_is_announced() {
    let setup = Setup::new();
    let node = |topic: &str, partitions| {
        let mut config = setup.config("data");
        config.routes = vec![Route {
            topic: topic.into(),
            partitions,
            ..Route::default()
        }];
        Node::start(config).unwrap()
    };
    let counts = |all: [u32; 2]| [("t-0".to_owned(), all[0]), ("t-2".to_owned(), all[1])];

    // Two of four partitions get records: neither the directories nor the highest tells the count.
    let first = node("t", 4);
    let address = first.mqtt_addresses()[0];
    let home = |n: &usize| partition_for(n.to_string().as_bytes(), 4) % 2 == 0;
    let topics = (0..40usize).filter(home).map(|n| n.to_string());
    let messages: Vec<_> = topics.map(|t| (t, "x".to_owned())).collect();
    let publishing = tokio::task::spawn_blocking(move || {
        publish_to(address, messages.into_iter());
    });
    publishing.await.unwrap();
    until("both", || setup.cloud.announced() == 2).await;
    first.stop().await.unwrap();
    assert_eq!(setup.cloud.take_announced(), counts([4, 4]));

    for (topic, partitions, expected) in [("other", 4, [3, 3]), ("t", 2, [2, 3])] {
        let node = node(topic, partitions);
        until("both again", || setup.cloud.announced() == 2).await;
        node.stop().await.unwrap();
        assert_eq!(setup.cloud.take_announced(), counts(expected), "{topic}");
    }
}

/// U1: an image of the card is taken, the edge runs on, then the image is put back and goes its own
/// way. Both histories arrive whole, and the cloud knows that they parted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_image_forks_and_loses_nothing() {
    let setup = Setup::new();
    let run = |data: &'static str, values: Vec<String>, expected: usize| {
        let setup = &setup;
        async move {
            let node = setup.node(data);
            let address = node.mqtt_addresses()[0];
            let writing = tokio::task::spawn_blocking(move || publish(address, values.into_iter()));
            writing.await.unwrap();
            until("all is mirrored", || setup.cloud.len() >= expected).await;
            let acked = || node.report().partitions.iter().all(|p| p.acked == p.next);
            until("the cursor", acked).await;
            node.stop().await.unwrap();
        }
    };
    let path = |name: &str| setup.dir.path().join(name);
    run("data", numbers(0..100), 100).await;
    copy_dir(&path("data"), &path("image"));
    run("data", numbers(100..200), 200).await;
    let own_way: Vec<String> = (0..50).map(|n| format!("image {n}")).collect();
    run("image", own_way.clone(), 250).await;
    // And once more, so that the fork itself is found again after a restart.
    run("image", vec!["after".to_owned()], 251).await;

    let mut expected = numbers(0..200);
    expected.extend(own_way);
    expected.push("after".into());
    assert_eq!(setup.cloud.values(), expected);
    assert_eq!(setup.cloud.forks(), 1);
    let _ = &setup.ca;
}

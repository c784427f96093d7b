//! What says who gets in is damaged: nobody gets in who was sent away, the rest is served, and the log
//! says what the operator is to do.
#![allow(clippy::unwrap_used)] // A test may.

use std::fs;
use std::process::{Command, Output};

use e2e::kafka::Consumer;
use e2e::process::binary;
use e2e::wait_for;
use gates::honest::publish_once;
use gates::peer::{Peer, hello, identity};
use gates::{LIMIT, Pair};

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// The records that Kafka clients get.
fn values(pair: &Pair) -> Option<Vec<String>> {
    let records = Consumer::connect(pair.cloud.kafka)
        .ok()?
        .read_all("mqtt")
        .ok()?;
    let values = records.into_iter().filter_map(|record| record.value);
    Some(
        values
            .map(|v| String::from_utf8_lossy(&v).into_owned())
            .collect(),
    )
}

fn arrives(pair: &Pair, payload: &str) {
    wait_for(&format!("{payload} in Kafka"), LIMIT, || {
        values(pair)?.contains(&payload.to_owned()).then_some(())
    });
}

fn cloud(pair: &Pair, args: &[&str]) -> Output {
    let mut command = Command::new(binary("cloud-cluster"));
    command.args(args).current_dir(&pair.cloud.dir);
    command.output().unwrap()
}

/// Kills the cloud node, does something to its files, and starts it.
fn restart(pair: &mut Pair, change: impl FnOnce(&std::path::Path)) {
    let fresh = pair.edge.dir.join("stands-in");
    let stand_in = ["-c", "sleep 0"].map(str::to_owned);
    let stand_in = e2e::process::Process::spawn("sh", "sh".as_ref(), &stand_in, &fresh);
    std::mem::replace(&mut pair.cloud_process, stand_in).kill();
    change(&pair.cloud.dir.join("data/ca"));
    pair.cloud_process = pair.cloud.start();
}

#[test]
fn without_a_revocation_list_no_edge_gets_in_and_kafka_is_served() {
    let mut pair = Pair::start();
    let log = pair.cloud_log();
    let stolen = identity(&pair.cloud.add_edge("stolen", pair.cloud.uplink));
    publish_once(pair.edge.mqtt, "honest", "before").unwrap();
    arrives(&pair, "before");
    let admin = pair.cloud.admin.to_string();
    let done = cloud(&pair, &["edge", "revoke", "stolen", "--admin", &admin]);
    assert!(done.status.success());
    let knocks = |pair: &Pair| {
        run(async {
            match Peer::connect(pair.cloud.uplink, &stolen, true).await {
                Ok(peer) => {
                    let _streams = peer.control(&hello("stolen")).await;
                    peer.ended().await
                }
                Err(reason) => reason,
            }
        })
    };
    assert!(knocks(&pair).contains("revoked"));

    // One of the two files: it stays out, and everybody else gets in.
    restart(&mut pair, |ca| {
        fs::write(ca.join("revoked.txt"), "\0\0").unwrap()
    });
    log.wait(&[
        "revocation list is damaged",
        "its copy counts",
        "revoked.txt",
    ]);
    assert!(knocks(&pair).contains("revoked"));
    publish_once(pair.edge.mqtt, "honest", "with the copy").unwrap();
    arrives(&pair, "with the copy");

    // Both.
    restart(&mut pair, |ca| {
        for name in ["revoked.txt", "revoked.copy.txt"] {
            fs::write(ca.join(name), "\0\0").unwrap();
        }
    });
    log.wait(&["no edge gets in", "Write", "revoked.txt", "backup"]);
    assert!(knocks(&pair).contains("no edge gets in"));
    log.wait(&[
        "refused",
        "who=127.0.0.1:",
        "edge honest",
        "no edge gets in",
    ]);
    publish_once(pair.edge.mqtt, "honest", "kept on the edge").unwrap();
    let served = values(&pair).expect("Kafka is served");
    assert_eq!(served, ["before", "with the copy"]);

    // What the message asks for, while the node runs.
    fs::write(pair.cloud.dir.join("data/ca/revoked.txt"), "stolen\n").unwrap();
    arrives(&pair, "kept on the edge");
    assert!(knocks(&pair).contains("revoked"));
}

#[test]
fn without_the_key_of_the_ca_edges_are_served_and_none_is_added() {
    let mut pair = Pair::start();
    let log = pair.cloud_log();
    publish_once(pair.edge.mqtt, "honest", "before").unwrap();
    arrives(&pair, "before");
    restart(&mut pair, |ca| {
        for name in ["ca.key", "ca.copy.key"] {
            fs::write(ca.join(name), "rot").unwrap();
        }
    });
    log.wait(&["the CA cannot sign", "ca.key", "backup"]);
    publish_once(pair.edge.mqtt, "honest", "after").unwrap();
    arrives(&pair, "after");
    let out = pair.scratch.path().join("new.bundle").display().to_string();
    let data = ["--data-dir", "data", "--address", "127.0.0.1:4433"];
    let args = [&["edge", "add", "new", "--out", &out][..], &data].concat();
    let done = cloud(&pair, &args);
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success());
    assert!(
        words.contains("ca.key") && words.contains("backup"),
        "{words}"
    );
}

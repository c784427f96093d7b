//! What an operator and a client see of a node in order.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use crate::client::Client;
use crate::process::{Process, free_port, program, until};
use crate::records;

/// Persistent session, wildcard subscription and QoS 2 state live through a restart.
#[test]
fn a_session_is_found_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (data, address) = (dir.path().join("data"), free_port());
    let node = Process::start(&data, address);
    let mut reader = Client::new(address, "reader");
    reader.connect().unwrap();
    reader.subscribe("plant/+/temp", 1).unwrap();
    let (ended, took) = node.stop();
    assert!(ended.success());
    assert!(took < Duration::from_secs(2), "the stop took {took:?}");

    let node = Process::start(&data, address);
    let mut writer = Client::new(address, "writer");
    writer.connect().unwrap();
    writer
        .publish("plant/7/temp", "while away".into(), 1)
        .unwrap();
    writer.step().unwrap();
    assert_eq!(writer.acked.len(), 1);
    // And over a crash: what waits for the reader is durable too.
    node.kill();
    let node = Process::start(&data, address);
    reader.connect().unwrap();
    until("the message", || {
        reader.step().unwrap();
        !reader.received.is_empty()
    });
    assert_eq!(reader.received, [("while away".to_owned(), 1)]);
    drop(node);
}

#[test]
fn status_and_metrics_count() {
    let dir = tempfile::tempdir().unwrap();
    let (data, address) = (dir.path().join("data"), free_port());
    let node = Process::start(&data, address);
    let mut client = Client::new(address, "probe");
    client.connect().unwrap();
    for qos in 0..3 {
        for n in 0..10 {
            client.publish("t", format!("{qos}/{n}"), qos).unwrap();
        }
    }
    while client.inflight() > 0 {
        client.step().unwrap();
    }
    until("the counters", || {
        let status = node.status();
        status["mqtt"]["published"] == serde_json::json!([10, 10, 10])
            && status["log"]["records"] == 30
            && status["partitions"][0]["sealed_end"] == 30
    });
    let mut stream = std::net::TcpStream::connect(node.status).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("headwater_edge_log_records_total 30\n"),
        "{text}"
    );
    assert!(text.contains("headwater_edge_mqtt_published_total{qos=\"2\"} 10\n"));
    let mut kinds = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        assert!(
            kinds.insert(line.split(' ').nth(2).unwrap(), ()).is_none(),
            "{line} twice"
        );
    }
}

/// QoS 0 is in the log too, although nobody waits for it.
#[test]
fn qos_0_is_kept_by_an_orderly_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (data, address) = (dir.path().join("data"), free_port());
    let node = Process::start(&data, address);
    let mut client = Client::new(address, "probe");
    client.connect().unwrap();
    for n in 0..100 {
        client.publish("t", format!("{n}"), 0).unwrap();
    }
    client.publish("t", "100".into(), 1).unwrap();
    client.step().unwrap();
    assert!(node.stop().0.success());
    let values: Vec<String> = records::read(&data, "mqtt-0")
        .into_iter()
        .map(|record| record.value)
        .collect();
    assert_eq!(values, (0..101).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// A full log refuses before writing: 3.1.1 gets no acknowledgement, 5.0 gets 0x97.
#[test]
fn over_budget_is_refused_with_0x97() {
    let dir = tempfile::tempdir().unwrap();
    let (data, address) = (dir.path().join("data"), free_port());
    let config = dir.path().join("small.toml");
    let text = "[log]\njournal_file_bytes = 65536\nbudget_bytes = 1048576\nreserve_bytes = 262144\n\
                compression_level = 1\n";
    std::fs::write(&config, text).unwrap();
    let node = Process::start_with(&data, address, &["--config", config.to_str().unwrap()]);
    let mut client = Client::new(address, "five");
    client.connect_v5().unwrap();
    let mut reasons = BTreeMap::new();
    // Payloads that do not compress.
    let mut state = 1u64;
    for id in 1..=600u16 {
        let noise: Vec<u8> = (0..4096)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        *reasons
            .entry(client.publish_v5(id, &noise).unwrap())
            .or_insert(0) += 1;
    }
    assert!(reasons[&0x00] > 20, "{reasons:?}");
    assert!(reasons[&0x97] > 20, "{reasons:?}");
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    until("the count", || {
        node.status()["log"]["refused"].as_u64().unwrap() > 20
    });
    assert!(node.stop().0.success());
    let stored = std::fs::read_dir(data.join("mqtt-0")).unwrap();
    let bytes: u64 = stored
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 1048576, "{bytes}");
}

#[test]
fn misuse_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (data, address) = (dir.path().join("data"), free_port());
    let _node = Process::start(&data, address);
    let run = |dir: &std::path::Path, mqtt: &str| {
        let mut command = program();
        command
            .arg("run")
            .arg("--data-dir")
            .arg(dir)
            .args(["--mqtt", mqtt, "--status", "off"]);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let taken = address.to_string();
    let error = run(&dir.path().join("other"), &taken);
    assert!(
        error.contains(&taken) && error.contains("in use"),
        "{error}"
    );
    let error = run(&data, &free_port().to_string());
    assert!(error.contains("in use by another edge-node"), "{error}");
}

#[test]
fn check_config_and_print_config() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edge.toml");
    std::fs::write(&file, "[log]\nlinger_ms = 99999999\n").unwrap();
    let check = || {
        program()
            .arg("check-config")
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap()
    };
    let refused = check();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(
        text.contains("log.linger_ms") && text.contains("99999999"),
        "{text}"
    );
    std::fs::write(&file, "[log]\nlinger_ms = 10\n").unwrap();
    assert!(check().status.success());
    let print = ["run", "--print-config", "--mqtt", "127.0.0.1:1", "--config"];
    let printed = program().args(print).arg(&file).output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(
        text.contains("linger_ms = 10\n") && text.contains("127.0.0.1:1"),
        "{text}"
    );
}

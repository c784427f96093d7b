//! The status listener over HTTP: what it says, and whom it refuses.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::process::{Process, free_port, until};
use crate::threads::freeze;

const DOCUMENT: &str = include_str!("../../STATUS.md");

/// One request as it is; status code, head and body.
pub fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_lowercase(), body.to_owned())
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    ask(address, &format!("GET {path} HTTP/1.0\r\n\r\n"))
}

/// A node that serves: it listens before its log is open.
fn started(data: &Path) -> Process {
    let node = Process::start(data, free_port());
    assert_eq!(get(node.status, "/healthz").0, 200);
    node
}

fn publish(address: SocketAddr, count: usize) -> Client {
    let mut client = Client::new(address, "writer");
    client.connect().unwrap();
    for n in 0..count {
        client.publish("t", n.to_string(), 1).unwrap();
        client.step().unwrap();
    }
    client
}

/// Every family has its HELP and TYPE before its samples, and counters are named as counters.
#[test]
fn metrics_are_as_prometheus_wants_them() {
    let dir = tempfile::tempdir().unwrap();
    let mqtt = free_port();
    let node = Process::start(&dir.path().join("data"), mqtt);
    let _client = publish(mqtt, 30);
    until("the counters", || {
        let status = node.status();
        // The log's numbers and the broker's are shown up to half a second late, each on its own.
        status["log"]["records"] == 30
            && status["mqtt"]["published"] == serde_json::json!([0, 30, 0])
            && status["partitions"][0]["next"] == 30
    });
    let (code, head, text) = get(node.status, "/metrics");
    assert_eq!(code, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let (mut helped, mut samples) = (String::new(), BTreeMap::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..2] {
            ["#", "HELP"] => {
                assert!(words.len() > 3 && line.ends_with('.'), "{line}");
                helped = words[2].to_owned();
            }
            ["#", "TYPE"] => {
                assert_eq!(words[2], helped, "HELP comes first");
                let before = kinds.insert(helped.clone(), words[3].to_owned());
                assert!(before.is_none(), "{line} twice");
            }
            [sample, value] => {
                let value: f64 = value.parse().unwrap();
                let name = sample.split('{').next().unwrap();
                let suffixes = ["", "_bucket", "_sum", "_count"];
                let family = suffixes.iter().find(|s| format!("{helped}{s}") == name);
                assert!(family.is_some(), "{line} below {helped}");
                assert!(
                    samples.insert(sample.to_owned(), value).is_none(),
                    "{line} twice"
                );
            }
            _ => panic!("{line}"),
        }
    }
    for (name, kind) in &kinds {
        assert!(name.starts_with("headwater_edge_"), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            kind == "counter",
            "{name} is a {kind}"
        );
    }
    for (sample, value) in [
        ("log_records_total", 30.0),
        ("mqtt_published_total{qos=\"1\"}", 30.0),
        ("mqtt_connected", 1.0),
        ("healthy", 1.0),
        ("uplink_configured", 0.0),
        ("partition_lag_records{partition=\"mqtt-0\"}", 30.0),
        ("info{name=\"edge\",version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(
            samples.get(&format!("headwater_edge_{sample}")),
            Some(&value),
            "{sample}"
        );
    }
    assert!(samples["headwater_edge_resident_memory_bytes"] > 1e6);
    assert!(kinds.len() > 40, "{kinds:?}");
}

fn fields(value: &Value, path: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                fields(value, &path, all);
            }
        }
        // Nothing alarms a node at rest.
        Value::Array(list) if list.is_empty() && path == "alarms" => {}
        Value::Array(list) if list.iter().any(Value::is_object) => {
            fields(&list[0], &format!("{path}[]"), all);
        }
        _ => all.push(path.to_owned()),
    }
}

#[test]
fn every_field_of_the_status_is_in_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let mqtt = free_port();
    let node = Process::start(&dir.path().join("data"), mqtt);
    let _client = publish(mqtt, 1);
    // A line for `recent`.
    TcpStream::connect(mqtt)
        .unwrap()
        .write_all(b"nonsense")
        .unwrap();
    until("all lists have something in them", || {
        let status = node.status();
        let clients: Value = serde_json::from_str(&get(node.status, "/clients").2).unwrap();
        [
            &status["partitions"],
            &status["recent"],
            &clients["clients"],
        ]
        .iter()
        .all(|list| list.as_array().is_some_and(|list| !list.is_empty()))
    });
    let mut named = Vec::new();
    fields(&node.status(), "", &mut named);
    let clients: Value = serde_json::from_str(&get(node.status, "/clients").2).unwrap();
    fields(&clients["clients"][0], "", &mut named);
    assert!(named.len() > 60, "{named:?}");
    for field in named {
        assert!(
            DOCUMENT.contains(&format!("`{field}`")),
            "{field} is not in STATUS.md"
        );
    }
}

#[test]
fn healthz_says_why_when_the_log_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mqtt) = (dir.path().join("data"), free_port());
    let config = dir.path().join("small.toml");
    let text = "[log]\njournal_file_bytes = 65536\nbudget_bytes = 1048576\nreserve_bytes = 262144\n\
                compression_level = 0\n";
    std::fs::write(&config, text).unwrap();
    let node = Process::start_with(&data, mqtt, &["--config", config.to_str().unwrap()]);
    let (code, _, body) = get(node.status, "/healthz");
    assert_eq!((code, body.as_str()), (200, "ok\n"));
    let mut client = Client::new(mqtt, "five");
    client.connect_v5().unwrap();
    let mut state = 1u64;
    let mut noise = || {
        let mut byte = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        (0..4096).map(|_| byte()).collect::<Vec<u8>>()
    };
    let refused = (1..=600).any(|id| client.publish_v5(id, &noise()).unwrap() == 0x97);
    assert!(refused);
    until("503", || {
        eprintln!(
            "{} {}",
            get(node.status, "/healthz").2,
            node.status()["log"]
        );
        let (code, _, body) = get(node.status, "/healthz");
        // Smaller messages may still have found room; in the end none does.
        let _ = client.publish_v5(601, &noise()[..500]).unwrap();
        code == 503 && body.starts_with("the log is full")
    });
    let status = node.status();
    assert_eq!(status["health"]["ok"], false);
    assert_eq!(status["log"]["full"], true);
}

#[test]
fn healthz_names_the_thread_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir.path().join("data"));
    for (thread, named) in [("edge-store", "store thread"), ("edge-mqtt", "MQTT thread")] {
        let frozen = freeze(node.pid(), thread);
        let (code, _, body) = get(node.status, "/healthz");
        assert_eq!(code, 503);
        assert!(body.contains(named), "{thread}: {body}");
        drop(frozen);
        until("it is well again", || get(node.status, "/healthz").0 == 200);
    }
}

/// Nothing of the page may come from elsewhere, go elsewhere or be shown elsewhere.
#[test]
fn every_answer_has_the_headers_that_fence_it_in() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir.path().join("data"));
    for (path, code, kind) in [
        ("/", 200, "text/html; charset=utf-8"),
        ("/status.css", 200, "text/css"),
        ("/status.js", 200, "text/javascript"),
        ("/status", 200, "application/json"),
        ("/clients", 200, "application/json"),
        ("/metrics", 200, "text/plain"),
        ("/healthz", 200, "text/plain"),
        ("/tail?filter=%23", 403, "text/plain"),
        ("/nothing", 404, ""),
        ("/status.html", 404, ""),
    ] {
        let request = format!("GET {path} HTTP/1.0\r\norigin: http://evil.example\r\n\r\n");
        let (answered, head, _) = ask(node.status, &request);
        assert_eq!(answered, code, "{path}");
        assert!(
            head.contains(&format!("content-type: {kind}")) || kind.is_empty(),
            "{path}: {head}"
        );
        assert!(
            head.contains("x-content-type-options: nosniff"),
            "{path}: {head}"
        );
        let policy = "content-security-policy: default-src 'none'; script-src 'self';";
        assert!(
            head.contains(policy) && !head.contains("unsafe"),
            "{path}: {head}"
        );
        assert!(head.contains("frame-ancestors 'none'"), "{path}: {head}");
        assert!(!head.contains("access-control"), "{path}: {head}");
    }
}

#[test]
fn guarded_paths_want_the_token_of_this_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let token = || std::fs::read_to_string(data.join("control-token")).unwrap();
    let node = started(&data);
    let old = token();
    assert!(node.stop().0.success());
    let node = started(&data);
    let post = |headers: &str, body: &str| {
        let length = body.len();
        let request =
            format!("POST /log-level HTTP/1.0\r\n{headers}content-length: {length}\r\n\r\n{body}");
        ask(node.status, &request)
    };
    for headers in [
        String::new(),
        format!("x-headwater-token: {old}\r\n"),
        "x-headwater-token: \r\n".to_owned(),
        "origin: http://evil.example\r\ncookie: x-headwater-token=1\r\n".to_owned(),
    ] {
        let (code, _, body) = post(&headers, "trace");
        assert_eq!(code, 403, "{headers}: {body}");
    }
    assert_eq!(node.status()["log_filter"], "info");
    let ours = format!("x-headwater-token: {}\r\n", token());
    let (code, _, body) = post(&ours, &"x".repeat(5_000));
    assert_eq!(code, 400, "{body}");
    let (code, _, body) = post(&ours, "warn");
    assert_eq!((code, body.as_str()), (200, "warn\n"));
    assert_eq!(node.status()["log_filter"], "warn");
    // A browser may not even ask whether it may.
    let preflight = "OPTIONS /log-level HTTP/1.0\r\norigin: http://evil.example\r\n\
                     access-control-request-method: POST\r\n\r\n";
    let (code, head, _) = ask(node.status, preflight);
    assert_eq!(code, 405);
    assert!(!head.contains("access-control"), "{head}");
}

/// Watchers are few and places are given back, so that none is locked out for good.
#[test]
fn a_watcher_that_goes_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = started(&data);
    let token = std::fs::read_to_string(data.join("control-token")).unwrap();
    let watch = || {
        let mut stream = TcpStream::connect(node.status).unwrap();
        let request =
            format!("GET /tail?filter=a/%2B HTTP/1.0\r\nx-headwater-token: {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8(status.to_vec()).unwrap(), stream)
    };
    let mut watching = Vec::new();
    for _ in 0..4 {
        let (status, stream) = watch();
        assert!(status.ends_with("200"), "{status}");
        watching.push(stream);
    }
    assert!(watch().0.ends_with("503"));
    watching.pop();
    until("a place", || {
        let (status, stream) = watch();
        watching.push(stream);
        status.ends_with("200")
    });
    let (code, _, body) = ask(
        node.status,
        &format!("GET /tail?filter=a/%23/b HTTP/1.0\r\nx-headwater-token: {token}\r\n\r\n"),
    );
    assert_eq!(code, 400, "{body}");
}

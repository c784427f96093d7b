//! The commands that ask a running node, as an operator types them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::client::{Client, put_text};
use crate::process::{Process, free_port, log_path, program, until};

/// What a client may call itself: it would clear a terminal and write red on it.
const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{202e}<b>";
const HOSTILE_SHOWN: &str = "\\u{1b}[2J\\u{9b}31m\\u{202e}<b>";

fn command(node: &Process, words: &[&str]) -> Command {
    let mut command = program();
    command.args(words);
    command.args(["--addr", &node.status.to_string()]);
    command
}

fn output(node: &Process, words: &[&str]) -> String {
    let output = command(node, words).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// No command lets a character through that a terminal would obey.
fn is_harmless(text: &str) {
    let odd = text
        .chars()
        .find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    assert_eq!(odd, None, "{text:?}");
}

#[test]
fn without_a_node_each_command_says_so_and_ends_with_3() {
    let nobody = free_port().to_string();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["clients"],
        &["tail", "#"],
        &["log-level", "debug"],
    ] {
        let output = program()
            .args(words)
            .args(["--addr", &nobody])
            .output()
            .unwrap();
        let error = error(&output);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {error}");
        assert!(
            error.contains(&nobody) && error.contains("Is it running"),
            "{error}"
        );
        assert!(output.stdout.is_empty());
    }
}

/// Another program on the port must not confuse the commands, nor learn of the token.
#[test]
fn what_is_no_edge_node_is_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = |text: &'static str| {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut lines = std::io::BufReader::new(stream.try_clone().unwrap());
            while !request.ends_with("\r\n\r\n") {
                // It may come in pieces.
                let read = std::io::BufRead::read_line(&mut lines, &mut request).unwrap();
                assert_ne!(read, 0, "{request:?}");
            }
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
            request
        })
    };
    for text in [
        "SSH-2.0-x\r\n",
        "HTTP/1.0 404 \x1b[31m\r\n\r\nno",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    ] {
        let asked = answer(text);
        let output = program()
            .args(["status", "--addr", &address])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{text:?}");
        is_harmless(&error(&output));
        assert!(
            asked
                .join()
                .unwrap()
                .starts_with("GET /status HTTP/1.0\r\n")
        );
    }
    // A directory of its choice without a token in it.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("control-token"),
        "root:x:0:0:not a token at all, by far",
    )
    .unwrap();
    let body = format!("{{\"data_dir\":{:?}}}", dir.path());
    let text = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
    let asked = answer(Box::leak(text.into_boxed_str()));
    let output = program()
        .args(["tail", "#", "--addr", &address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error(&output).contains("holds no token"),
        "{}",
        error(&output)
    );
    assert!(!asked.join().unwrap().contains("x-headwater-token"));
}

#[test]
fn status_is_for_people_and_json_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let mqtt = free_port();
    let node = Process::start(&dir.path().join("data"), mqtt);
    let mut client = Client::new(mqtt, HOSTILE);
    client.connect().unwrap();
    for n in 0..1_234 {
        client.publish("t", n.to_string(), 1).unwrap();
        client.step().unwrap();
    }
    until("the counters", || {
        node.status()["mqtt"]["published"][1] == 1_234
    });
    let text = output(&node, &["status"]);
    is_harmless(&text);
    for part in [
        "edge 0.1.0, up ",
        ": takes publishes\n",
        "1 connected, 1 sessions, 0 subscriptions",
        "1,234 in, 0 out",
        "not set up, 1,234 records to send",
        "log filter info",
        "PARTITION",
        "mqtt-0",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let json: Value = serde_json::from_str(&output(&node, &["status", "--json"])).unwrap();
    assert_eq!(json["log"]["records"], 1_234);
    assert_eq!(json["health"]["ok"], true);
}

#[test]
fn clients_lists_who_is_there_and_who_sleeps() {
    let dir = tempfile::tempdir().unwrap();
    let mqtt = free_port();
    let node = Process::start(&dir.path().join("data"), mqtt);
    let mut sleeper = Client::new(mqtt, "sleeper");
    sleeper.connect().unwrap();
    sleeper.subscribe("a/#", 1).unwrap();
    sleeper.subscribe("b", 1).unwrap();
    drop(sleeper);
    let mut hostile = Client::new(mqtt, HOSTILE);
    hostile.connect().unwrap();
    hostile.subscribe("a/b", 0).unwrap();
    let mut five = Client::new(mqtt, "five");
    five.connect_v5().unwrap();
    for _ in 0..3 {
        hostile.publish("a/b", "x".repeat(100), 1).unwrap();
    }
    while hostile.inflight() > 0 || hostile.received.len() < 3 {
        hostile.step().unwrap();
    }
    let listed =
        || -> Value { serde_json::from_str(&output(&node, &["clients", "--json"])).unwrap() };
    until("the list", || {
        let list = listed();
        list["clients"].as_array().is_some_and(|all| all.len() == 3)
            && list["clients"]
                .as_array()
                .unwrap()
                .iter()
                .any(|c| c["received"] == 3)
    });
    let list = listed();
    assert_eq!(list["sessions"], 3);
    let by_id = |id: &str| {
        let all = list["clients"].as_array().unwrap();
        all.iter().find(|c| c["client_id"] == id).unwrap()
    };
    assert_eq!(by_id("sleeper")["connected"], false);
    assert_eq!(by_id("sleeper")["queued"], 3);
    assert!(by_id("sleeper")["queued_bytes"].as_u64().unwrap() >= 300);
    assert_eq!(by_id("sleeper")["subscriptions"], 2);
    assert_eq!(by_id("five")["version"], "5.0");
    let ours = by_id(HOSTILE);
    assert_eq!(
        (&ours["version"], &ours["sent"]),
        (&"3.1.1".into(), &3.into())
    );
    assert!(ours["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(ours["connected_ms"].as_u64().unwrap() < 120_000);
    let text = output(&node, &["clients"]);
    is_harmless(&text);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("CLIENT") && lines[0].ends_with("DROPPED"),
        "{text}"
    );
    assert!(text.contains(HOSTILE_SHOWN), "{text}");
    assert!(
        lines[3].starts_with("sleeper") && lines[3].contains("asleep"),
        "{text}"
    );
}

/// A tail that watches already, with what it has printed.
struct Tail {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Tail {
    /// Starts and waits until it sees what `client` publishes to `go`.
    fn start(node: &Process, words: &[&str], client: &mut Client, go: &str) -> Tail {
        let mut command = command(node, words);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        // Published until it is seen: nothing tells from outside that somebody watches.
        let (seen_in, seen) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut out = BufReader::new(stdout);
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            seen_in.send(line).unwrap();
            out
        });
        until("the tail watches", || {
            client.publish(go, "go".into(), 1).unwrap();
            client.step().unwrap();
            seen.try_recv().is_ok()
        });
        let out = reader.join().unwrap();
        Tail { child, out }
    }

    fn next(&mut self, skip: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.out.read_line(&mut line).unwrap() > 0,
                "the tail has ended"
            );
            if !line.contains(skip) {
                return line;
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A publish of QoS 0 whose payload is no text.
fn publish_bytes(client: &mut Client, topic: &str, payload: &[u8]) {
    let mut body = Vec::new();
    put_text(&mut body, topic);
    body.extend(payload);
    client.send(0x31, &body).unwrap();
}

#[test]
fn tail_shows_messages_as_they_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let mqtt = free_port();
    let node = Process::start(&dir.path().join("data"), mqtt);
    let mut client = Client::new(mqtt, "writer");
    client.connect().unwrap();
    let mut text = Tail::start(&node, &["tail", "#"], &mut client, "go");
    let mut json = Tail::start(
        &node,
        &["tail", "--json", "plant/+/#"],
        &mut client,
        "plant/go/x",
    );
    publish_bytes(&mut client, "other", b"1");
    publish_bytes(&mut client, "plant/7/temp", b"21.5");
    publish_bytes(&mut client, "plant/7/\u{1b}[2J\u{9b}", b"a\x1b[31m\nb");
    publish_bytes(&mut client, "plant/7/raw", &[0, 0xff, 7]);
    publish_bytes(&mut client, "plant/7/long", &[b'y'; 5_000]);
    let mut lines = (0..5).map(|_| text.next(" go")).collect::<Vec<_>>();
    lines.iter().for_each(|line| is_harmless(line));
    let long = lines.pop().unwrap();
    assert!(
        long.ends_with("y… (5,000 bytes)\n") && long.len() < 1_200,
        "{long}"
    );
    let ends = [
        " other 1\n",
        " plant/7/temp 21.5\n",
        " plant/7/\\u{1b}[2J\\u{9b} a\\u{1b}[31m\\nb\n",
        " plant/7/raw 0x00ff07\n",
    ];
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.ends_with(end), "{line:?} does not end with {end:?}");
        // 2026-11-27T21:48:30.123Z
        assert!(
            line.len() == 24 + end.len() && line[..24].ends_with('Z'),
            "{line}"
        );
    }
    let mut seen = (0..4).map(|_| json.next("plant/go/x"));
    let first: Value = serde_json::from_str(&seen.next().unwrap()).unwrap();
    assert_eq!(first["topic"], "plant/7/temp");
    assert_eq!(
        (&first["payload"], &first["qos"]),
        (&"21.5".into(), &0.into())
    );
    assert_eq!(
        (&first["client_id"], &first["retain"]),
        (&"writer".into(), &true.into())
    );
    let second = seen.next().unwrap();
    is_harmless(&second);
    let second: Value = serde_json::from_str(&second).unwrap();
    assert_eq!(second["topic"], "plant/7/\u{1b}[2J\u{9b}");
    let third: Value = serde_json::from_str(&seen.next().unwrap()).unwrap();
    assert_eq!(third["payload_hex"], "00ff07");
    let fourth: Value = serde_json::from_str(&seen.next().unwrap()).unwrap();
    assert_eq!(fourth["payload"].as_str().unwrap().len(), 5_000);
}

#[test]
fn tail_ends_after_its_count_and_with_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let mqtt = free_port();
    let node = Process::start(&dir.path().join("data"), mqtt);
    let mut client = Client::new(mqtt, "writer");
    client.connect().unwrap();
    let mut tail = Tail::start(&node, &["tail", "#", "--count", "3"], &mut client, "go");
    for _ in 0..2 {
        publish_bytes(&mut client, "t", b"x");
    }
    assert_eq!(tail.child.wait().unwrap().code(), Some(0));
    let refused = command(&node, &["tail", "a/#/b"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(error(&refused).contains("\\\"a/#/b\\\"") || error(&refused).contains("\"a/#/b\""));
    let mut tail = Tail::start(&node, &["tail", "#"], &mut client, "go");
    assert!(node.stop().0.success());
    assert_eq!(tail.child.wait().unwrap().code(), Some(1));
}

#[test]
fn the_log_level_changes_while_the_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mqtt) = (dir.path().join("data"), free_port());
    let node = Process::start(&data, mqtt);
    let log = || std::fs::read_to_string(log_path(&data)).unwrap();
    assert_eq!(output(&node, &["log-level"]), "info\n");
    let visit = || {
        let mut client = Client::new(mqtt, "visitor");
        client.connect().unwrap();
        client.send(0xe0, &[]).unwrap();
    };
    visit();
    assert!(!log().contains("DEBUG"));
    assert_eq!(
        output(&node, &["log-level", "info,edge_node=debug"]),
        "info,edge_node=debug\n"
    );
    assert_eq!(node.status()["log_filter"], "info,edge_node=debug");
    visit();
    until("a line at debug", || log().contains("DEBUG edge_node"));
    for bad in ["loud", "info,x=verbose"] {
        let refused = command(&node, &["log-level", bad]).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let error = error(&refused);
        assert!(error.contains(bad.rsplit(',').next().unwrap()), "{error}");
        assert!(error.contains("trace"), "what is valid: {error}");
    }
    assert_eq!(
        output(&node, &["log-level"]),
        "info,edge_node=debug\n",
        "as before"
    );
    assert!(log().contains("the log filter was changed"));
    // What the log does not show is still on the page.
    output(&node, &["log-level", "off"]);
    let status = node.status();
    let recent = status["recent"].as_array().unwrap();
    assert!(
        recent[0]["text"]
            .as_str()
            .unwrap()
            .starts_with("the log filter was changed")
    );
    // A start with a filter that would silence the log is refused as well.
    let refused = program()
        .env("RUST_LOG", "loud")
        .args(["run", "--data-dir"])
        .arg(dir.path().join("other"))
        .args(["--mqtt", "127.0.0.1:0", "--status", "off"])
        .output()
        .unwrap();
    assert!(
        !refused.status.success() && error(&refused).contains("RUST_LOG"),
        "{}",
        error(&refused)
    );
}

//! Ten thousand connections that never speak, on every listener: honest clients, those that stand
//! and those that come, do not notice; memory is bounded; the log says who was sent away and why.
#![allow(clippy::unwrap_used)] // A test may.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::wait_for;
use gates::honest::{Publisher, ask_kafka, get, publish_once};
use gates::hostile::{is_closed, mqtt_connect, silent};
use gates::{LIMIT, Log, Pair, assert_grown_at_most, peer};

const COUNT: usize = 10_000;
/// What a node may take for them: bookkeeping of at most 1,024 newcomers a listener, and what the
/// allocator keeps of the rest.
const MEMORY_BYTES_MAX: u64 = 48 << 20;
/// The same for unfinished handshakes, each with its keys and buffers.
const HANDSHAKES_BYTES_MAX: u64 = 128 << 20;
/// The longest that an honest client waits meanwhile, on a loaded machine.
const LATENCY_MAX: Duration = Duration::from_secs(5);

/// Opens them, asks as an honest client, and lets go.
fn flood(name: &str, address: SocketAddr, log: &Log, honest: impl Fn() -> Duration) {
    let silent = silent(address, COUNT);
    let (standing, ended) = (silent.standing.len(), silent.ended);
    println!("{name}: {standing} stand, {ended} were ended");
    assert!(standing + ended > COUNT * 9 / 10, "{name}: few were opened");
    assert!(
        standing < 2_000,
        "{name}: {standing} silent connections stand"
    );
    for _ in 0..5 {
        let took = honest();
        assert!(
            took < LATENCY_MAX,
            "{name}: an honest client waited {took:?}"
        );
    }
    let listener = format!("listener=\"{name}\"");
    println!("{}", log.wait(&["refused", &listener, "who=127.0.0.1:"]));
}

#[test]
fn ten_thousand_silent_connections_on_each_listener_of_the_edge() {
    let pair = Pair::start();
    let (mqtt, status, log) = (pair.edge.mqtt, pair.edge.status, pair.edge_log());
    let publisher = Publisher::start(mqtt, "standing");
    publish_once(mqtt, "before", "1").unwrap();
    let before = pair.edge_process.rss_bytes();
    flood("mqtt", mqtt, &log, || {
        publish_once(mqtt, "flood", "1").unwrap()
    });
    flood("status", status, &log, || get(status, "/status").unwrap().0);
    assert_grown_at_most("edge", &pair.edge_process, before, MEMORY_BYTES_MAX);
    let (longest, count) = publisher.finish();
    println!("{count} honest messages meanwhile, the longest wait {longest:?}");
    assert!(
        longest < LATENCY_MAX,
        "an honest publisher waited {longest:?}"
    );
    wait_for("nobody to be connected", LIMIT, || {
        let (_, status) = get(status, "/status").ok()?;
        status.contains("\"connected\":0").then_some(())
    });
}

#[test]
fn ten_thousand_silent_connections_on_each_tcp_listener_of_the_cloud() {
    let pair = Pair::start();
    let (kafka, admin, log) = (pair.cloud.kafka, pair.cloud.admin, pair.cloud_log());
    ask_kafka(kafka).unwrap();
    let before = pair.cloud_process.rss_bytes();
    flood("kafka", kafka, &log, || ask_kafka(kafka).unwrap());
    flood("admin", admin, &log, || get(admin, "/status").unwrap().0);
    assert_grown_at_most("cloud", &pair.cloud_process, before, MEMORY_BYTES_MAX);
    publish_once(pair.edge.mqtt, "uplink", "after").unwrap();
    arrives(&pair, "after");
}

#[test]
fn ten_thousand_unfinished_handshakes_on_the_uplink() {
    let mut pair = Pair::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bundle = pair.cloud.add_edge("newcomer", pair.cloud.uplink);
    let identity = peer::identity(&bundle);
    let packets = runtime.block_on(peer::initials(&identity, COUNT));
    let before = pair.cloud_process.rss_bytes();
    let sockets = peer::send_all(&packets, pair.cloud.uplink, 200);
    // A new edge gets in meanwhile, and the one that stands goes on.
    let took = runtime.block_on(async {
        let started = std::time::Instant::now();
        let newcomer = peer::Peer::connect(pair.cloud.uplink, &identity, true)
            .await
            .unwrap();
        newcomer.control(&peer::hello("newcomer")).await.unwrap();
        started.elapsed()
    });
    assert!(took < LATENCY_MAX, "a new edge waited {took:?}");
    publish_once(pair.edge.mqtt, "uplink", "during").unwrap();
    arrives(&pair, "during");
    assert_grown_at_most("cloud", &pair.cloud_process, before, HANDSHAKES_BYTES_MAX);
    let line = pair.cloud_log().wait(&[
        "refused",
        "listener=\"uplink\"",
        "who=127.0.0.1:",
        "handshake",
    ]);
    println!("uplink: {line}");
    drop(sockets);
    assert!(pair.cloud_process.alive());
}

/// CONNECT one byte at a time: it is not the bytes that count but the time.
#[test]
fn a_connect_that_never_ends_is_ended() {
    use std::io::Write;
    let pair = Pair::start();
    let publisher = Publisher::start(pair.edge.mqtt, "standing");
    let before = pair.edge_process.rss_bytes();
    let mut slow = silent(pair.edge.mqtt, 300).standing;
    assert_eq!(slow.len(), 300);
    let connect = mqtt_connect(&"s".repeat(100));
    let mut polls = 0;
    wait_for("all slow clients to be sent away", LIMIT, || {
        // A byte now and then: the packet is never whole while anybody waits.
        if polls % 10 == 0 {
            for stream in &mut slow {
                // It may be gone already.
                let _ = stream.set_nonblocking(false);
                let _ = stream.write(&connect[polls / 10..=polls / 10]);
            }
        }
        polls += 1;
        slow.iter().all(is_closed).then_some(())
    });
    pair.edge_log().wait(&[
        "refused",
        "listener=\"mqtt\"",
        "who=127.0.0.1:",
        "no CONNECT came in time",
    ]);
    assert_grown_at_most("edge", &pair.edge_process, before, 16 << 20);
    let (longest, _) = publisher.finish();
    assert!(
        longest < LATENCY_MAX,
        "an honest publisher waited {longest:?}"
    );
}

/// Waits until the record with this value can be read from the cloud.
fn arrives(pair: &Pair, value: &str) {
    wait_for("the record in the cloud", LIMIT, || {
        let mut consumer = e2e::kafka::Consumer::connect(pair.cloud.kafka).ok()?;
        let records = consumer.read_all("mqtt").ok()?;
        let found = records
            .iter()
            .any(|r| r.value.as_deref() == Some(value.as_bytes()));
        found.then_some(())
    });
}

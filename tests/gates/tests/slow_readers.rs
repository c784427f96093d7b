//! Clients that ask for much and read nothing: what they hold is bounded, and others do not wait.
#![allow(clippy::unwrap_used)] // A test may.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use e2e::mqtt::{Client, Packet};
use e2e::wait_for;
use gates::honest::{Publisher, ask_kafka, get, publish_once};
use gates::hostile::{deaf, kafka_fetch, kafka_request, mqtt_connect, mqtt_subscribe};
use gates::{LIMIT, Pair, assert_grown_at_most};

const LATENCY_MAX: Duration = Duration::from_secs(5);

/// Publishes `count` messages of `bytes` that do not compress, each acknowledged.
fn publish_much(pair: &Pair, count: usize, bytes: usize) {
    let mut client = Client::connect(pair.edge.mqtt, "much", true).unwrap();
    let mut noise = 1u64;
    let mut open = 0;
    for n in 0..count {
        let mut payload = vec![0; bytes];
        for word in payload.chunks_mut(8) {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            word.copy_from_slice(&noise.to_be_bytes()[..word.len()]);
        }
        // One key: all of it meets in one partition.
        client.publish("much", &payload, 1, (n % 1_000) as u16 + 1, false);
        open += 1;
        if open == 16 || n + 1 == count {
            client.flush().unwrap();
            for _ in 0..open {
                while !matches!(client.receive().unwrap(), Packet::PubAck(_)) {}
            }
            open = 0;
        }
    }
}

#[test]
fn subscribers_that_never_read() {
    let pair = Pair::start();
    let publisher = Publisher::start(pair.edge.mqtt, "standing");
    let deaf_ones: Vec<TcpStream> = (0..20)
        .map(|n| {
            let id = format!("deaf-{n}");
            let packets = [mqtt_connect(&id), mqtt_subscribe("#")].concat();
            deaf(pair.edge.mqtt, &packets).unwrap()
        })
        .collect();
    wait_for("20 subscriptions", LIMIT, || {
        let (_, status) = get(pair.edge.status, "/status").ok()?;
        status.contains("\"subscriptions\":20").then_some(())
    });
    publish_much(&pair, 200, 1_000);
    let before = pair.edge_process.rss_bytes();
    publish_much(&pair, 1_200, 40_000);
    // 48 MB went by. A queue of 8 MB and 256 kB on their way for each, of messages that all share.
    assert_grown_at_most("edge", &pair.edge_process, before, 96 << 20);
    // The page shows the broker's numbers up to half a second late.
    wait_for("what they missed is counted", LIMIT, || {
        let (_, status) = get(pair.edge.status, "/status").ok()?;
        (!status.contains("\"dropped\":0,")).then_some(())
    });
    drop(deaf_ones);
    let (longest, _) = publisher.finish();
    assert!(
        longest < LATENCY_MAX,
        "an honest publisher waited {longest:?}"
    );
}

#[test]
fn fetchers_and_page_readers_that_never_read() {
    // Little is hot: what fetchers get is read from cold segments, into memory of its own.
    let pair = Pair::with("[log]\nhot_bytes = 4194304\nsegment_age_s = 1\n");
    publish_much(&pair, 1_000, 40_000);
    let high = wait_for("40 MB in the cloud", LIMIT, || {
        let mut consumer = e2e::kafka::Consumer::connect(pair.cloud.kafka).ok()?;
        let ends = (0..8).map(|p| consumer.offset("mqtt", p, -1).ok());
        ends.flatten().max().filter(|end| *end >= 1_000)
    });
    println!("{high} records in one partition");
    // Sealed within a second or so; what is still hot costs nothing more when it is fetched.
    let partition = (0..8)
        .find(|p| {
            let mut consumer = e2e::kafka::Consumer::connect(pair.cloud.kafka).unwrap();
            consumer.offset("mqtt", *p, -1).unwrap() >= 1_000
        })
        .unwrap();
    let before = pair.cloud_process.rss_bytes();
    let mut deaf_ones = Vec::new();
    for _ in 0..60 {
        // 40 MB each, if all of them were served as they ask: 2.4 GB.
        deaf_ones.push(deaf(pair.cloud.kafka, &kafka_fetch("mqtt", partition)).unwrap());
    }
    for _ in 0..40 {
        deaf_ones.push(
            deaf(
                pair.cloud.admin,
                b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            )
            .unwrap(),
        );
        deaf_ones.push(
            deaf(
                pair.edge.status,
                b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            )
            .unwrap(),
        );
    }
    // The first bytes of each reply are there: what the node holds for it, it holds now.
    for stream in &mut deaf_ones {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    assert_grown_at_most("cloud", &pair.cloud_process, before, 320 << 20);
    for _ in 0..5 {
        let took = ask_kafka(pair.cloud.kafka).unwrap();
        assert!(took < LATENCY_MAX, "an honest consumer waited {took:?}");
        get(pair.cloud.admin, "/status").unwrap();
    }
    let mut consumer = e2e::kafka::Consumer::connect(pair.cloud.kafka).unwrap();
    let read = consumer
        .fetch("mqtt", partition, 0, Duration::from_secs(1))
        .unwrap();
    assert!(!read.is_empty(), "an honest consumer gets records");
}

/// The request of 20 bytes that asks for 154 GB, and other lies about lengths.
#[test]
fn a_request_for_154_gigabytes_leaves_the_node_running() {
    let mut pair = Pair::start();
    let before = pair.cloud_process.rss_bytes();
    for version in 0..=8 {
        let lie = kafka_request(3, version, &[0x7f, 0xff, 0xff, 0xff]);
        let mut stream = deaf(pair.cloud.kafka, &lie).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut rest = Vec::new();
        assert!(
            matches!(stream.read_to_end(&mut rest), Ok(0) | Err(_)),
            "it was answered"
        );
    }
    // A frame that says it is 100 MB and never comes, and one that says it is more than is taken.
    let _promise = deaf(pair.cloud.kafka, &[0x06, 0x40, 0, 0, 0]).unwrap();
    let mut larger = deaf(pair.cloud.kafka, &[0x7f, 0xff, 0xff, 0xff]).unwrap();
    larger.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(matches!(larger.read(&mut [0; 1]), Ok(0) | Err(_)));
    pair.cloud_log().wait(&[
        "refused",
        "listener=\"kafka\"",
        "who=127.0.0.1:",
        "api key 3",
    ]);
    pair.cloud_log().wait(&[
        "refused",
        "listener=\"kafka\"",
        "who=127.0.0.1:",
        "2147483647",
    ]);
    assert_grown_at_most("cloud", &pair.cloud_process, before, 16 << 20);
    ask_kafka(pair.cloud.kafka).unwrap();
    publish_once(pair.edge.mqtt, "still", "here").unwrap();
    assert!(pair.cloud_process.alive());
}

//! The limits of one listener.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::listeners::listener;
use crate::peer::{Connect, Peer, tcp};
use crate::process::{Process, free_port, log_path, until};

fn connect<'a>(version: u8, id: &'a str) -> Connect<'a> {
    Connect {
        version,
        id,
        ..Connect::default()
    }
}

/// A node with one listener without limits and one with these.
fn start(more: &str) -> (Process, SocketAddr, SocketAddr, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let toml = listener("") + &listener(more);
    let (process, mqtt) = Process::start_config(&scratch.path().join("edge"), &toml);
    (process, mqtt[0], mqtt[1], scratch)
}

#[test]
fn connections_of_one_listener() {
    let (_process, free, limited, _scratch) = start("connections_max = 3");
    // Those that say nothing take nobody's place.
    let _silent: Vec<_> = (0..10).map(|_| tcp(limited)).collect();
    let mut peers: Vec<Peer> = ["a", "b", "c"]
        .map(|id| Peer::welcome(tcp(limited), connect(5, id)))
        .into();
    assert_eq!(
        Peer::connect(tcp(limited), connect(5, "d")).unwrap().1,
        0x97
    );
    assert_eq!(Peer::connect(tcp(limited), connect(4, "d")).unwrap().1, 3);
    let _other = Peer::welcome(tcp(free), connect(5, "e"));
    let mut gone = peers.pop().unwrap();
    gone.send(0xe0, &[]).unwrap();
    assert_eq!(gone.disconnected(), 0);
    let _next = Peer::welcome(tcp(limited), connect(5, "d"));
}

#[test]
fn connections_a_second() {
    let (_process, free, limited, _scratch) = start("connects_per_second = 2");
    let mut reasons = Vec::new();
    let mut answered = |version: u8| match Peer::connect(tcp(limited), connect(version, "x")) {
        Ok((_, reason)) => reasons.push(reason),
        // Too many even to be told.
        Err(_) => reasons.push(0xff),
    };
    (0..30).for_each(|n| answered(if n % 2 == 0 { 5 } else { 4 }));
    for reason in [0, 0x9f, 3, 0xff] {
        assert!(reasons.contains(&reason), "{reasons:?} without {reason:#x}");
    }
    let _other = Peer::welcome(tcp(free), connect(5, "y"));
    until("the bucket fills", || {
        Peer::connect(tcp(limited), connect(5, "z")).is_ok_and(|(_, reason)| reason == 0)
    });
}

#[test]
fn publishes_a_second_of_one_client() {
    const PER_SECOND: u16 = 20;
    let (_process, free, limited, _scratch) = start(&format!("messages_per_second = {PER_SECOND}"));
    let mut quick = Peer::welcome(tcp(limited), connect(5, "quick"));
    let mut other = Peer::welcome(tcp(free), connect(5, "other"));
    let started = Instant::now();
    for n in 1..=PER_SECOND * 3 {
        quick.send_publish("t", b"x", n).unwrap();
    }
    // Others are as quick as ever.
    for _ in 0..PER_SECOND * 3 {
        assert_eq!(other.publish("t", b"y").unwrap(), 0);
    }
    for _ in 0..PER_SECOND * 3 {
        assert_eq!(quick.acked().unwrap(), 0);
    }
    // One second's worth at once, the rest at its rate; nothing is lost and nobody is sent away.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    assert!(quick.ping().unwrap());
}

#[test]
fn sizes_are_told_and_kept() {
    let more = "packet_bytes_max = 5000\nreceive_maximum = 3\ninflight_max = 2";
    let (_process, free, limited, _scratch) = start(more);
    let mut peer = Peer::welcome(tcp(limited), connect(5, "small"));
    // Maximum Packet Size 5000 and Receive Maximum 3 (sections 3.2.2.3.6 and 3.2.2.3.3).
    let holds = |what: &[u8]| peer.properties.windows(what.len()).any(|w| w == what);
    assert!(holds(&[0x27, 0, 0, 0x13, 0x88]), "{:?}", peer.properties);
    assert!(holds(&[0x21, 0, 3]), "{:?}", peer.properties);
    assert_eq!(peer.publish("t", &[1; 4_900]).unwrap(), 0);
    let mut other = Peer::welcome(tcp(free), connect(5, "large"));
    assert_eq!(other.publish("t", &[1; 5_100]).unwrap(), 0);
    // Two under way to it, and no more before it answers.
    assert_eq!(peer.subscribe("in/#").unwrap(), 1);
    for _ in 0..3 {
        assert_eq!(other.publish("in/x", b"1").unwrap(), 0);
    }
    let under_way: Vec<_> = (0..2).map(|_| peer.packet().unwrap()).collect();
    assert!(
        under_way.iter().all(|(kind, _)| *kind == 0x32),
        "{under_way:?}"
    );
    assert!(peer.ping().unwrap(), "a third was sent");
    peer.send(0x40, &under_way[0].1[6..8]).unwrap();
    assert_eq!(peer.packet().unwrap().0, 0x32);
    peer.send_publish("t", &[1; 5_100], 9).unwrap();
    assert_eq!(peer.disconnected(), 0x95);
}

/// What waits for a client that is away is bounded by the listener that it came by, whatever ends the
/// node meanwhile: from the journal alone, and from a checkpoint.
#[test]
fn queues_of_clients_that_are_away_over_kills() {
    for checkpoint in [false, true] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("edge");
        let (free, limited) = (free_port(), free_port());
        let toml = format!(
            "[[listeners]]\naddress = \"{free}\"\n\
             [[listeners]]\naddress = \"{limited}\"\nqueue_bytes_max = 1000\n\
             [log]\njournal_file_bytes = 65536\n"
        );
        let start = || {
            // Where it listens is read from there.
            let _ = std::fs::remove_file(log_path(&dir));
            Process::start_config(&dir, &toml).0
        };
        let mut node = start();
        let away = [(limited, "small"), (free, "large")].map(|(address, id)| {
            let mut client = Client::new(address, id);
            client.connect().unwrap();
            client.subscribe("t", 1).unwrap();
            client
        });
        // Their connections end with the node.
        if checkpoint {
            let taken = |node: &Process| node.status()["log"]["checkpoints"].as_u64().unwrap();
            let before = taken(&node);
            let mut noise = Peer::welcome(tcp(free), connect(5, "noise"));
            until("a checkpoint", || {
                assert_eq!(noise.publish("noise", &[1; 2_000]).unwrap(), 0);
                taken(&node) > before
            });
        }
        node.kill();
        node = start();
        let mut writer = Peer::welcome(tcp(free), connect(5, "writer"));
        for n in 0..20 {
            // 200 bytes each in a queue, with the topic and what else it takes.
            assert_eq!(
                writer.publish("t", format!("{n:0103}").as_bytes()).unwrap(),
                0
            );
        }
        node.kill();
        node = start();
        // Before they come back, which would shorten a queue as well.
        until("what waits for both", || {
            node.status()["mqtt"]["queued"].as_u64() == Some(5 + 20)
        });
        for (mut client, first) in away.into_iter().zip([15, 0]) {
            client.connect().unwrap();
            let all: Vec<_> = (first..20).map(|n| (format!("{n:0103}"), 1)).collect();
            while client.received.last() != all.last() {
                client.step().unwrap();
            }
            assert_eq!(client.received, all, "checkpoint: {checkpoint}");
        }
    }
}

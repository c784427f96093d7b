//! Connections without a CONNECT make room for each other, never at the cost of real clients.
#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use headwater_mqtt::{CloseReason, Config};

fn world() -> World {
    World::with(Config {
        connections_max: 40,
        ..Config::default()
    })
}

#[test]
fn the_oldest_silent_connection_makes_room() {
    let mut w = world();
    let (real, _) = w.connect(v3("real", true));
    let silent: Vec<u64> = (0..20).map(|_| w.open()).collect();
    assert!(w.closed.is_empty());
    let (first, last) = (silent[0], silent[19]);
    for one in last + 1..last + 1_000 {
        assert_eq!(w.open(), one);
        let gone = *w.closed.keys().max().unwrap();
        assert_eq!(gone, first.max(one - 20));
        assert!(matches!(w.closed[&gone], CloseReason::Quota(_)));
    }
    // The newest is heard as soon as it speaks, and speaks for as long as it likes.
    let (late, _) = w.connect(v3("late", true));
    for _ in 0..1_000 {
        w.open();
    }
    for conn in [real, late] {
        w.send(conn, &PING);
        assert_eq!(w.read(conn)[0].kind(), 13);
    }
}

#[test]
fn silent_connections_do_not_count_as_clients() {
    let mut w = world();
    for _ in 0..500 {
        w.open();
    }
    for n in 0..40 {
        w.connect(v3(&format!("client-{n}"), true));
    }
    // The bound holds for those that have spoken.
    let one_more = w.open();
    w.send(one_more, &v3("client-40", true).bytes());
    assert_eq!(w.read(one_more)[0].body[1], 3, "server unavailable");
}

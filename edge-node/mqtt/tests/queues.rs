//! What a listener lets the queues of its clients' sessions hold: while they are away, too, and over
//! restarts, until they come by another one.
#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use headwater_mqtt::{Broker, Config, Refusal};

/// What a message of [`say`] counts for in a queue.
const MESSAGE_BYTES: usize = 100;
/// What the strict listener lets a queue hold: five of them.
const STRICT: usize = 5 * MESSAGE_BYTES;
const OPEN: usize = usize::MAX;

fn by(w: &mut World, queue_bytes_max: usize, connect: Connect) -> (u64, bool) {
    w.limits.queue_bytes_max = queue_bytes_max;
    w.connect(connect)
}

/// A session for a day that subscribes to a topic, come by a listener with this bound, and gone again.
fn away(w: &mut World, queue_bytes_max: usize, id: &str, topic: &str, qos: u8) {
    let (conn, _) = by(w, queue_bytes_max, v5(id, false, 86_400));
    w.send(conn, &subscribe(1, &[(topic, qos)], Some(&[])));
    w.send(conn, &DISCONNECT);
}

/// Comes by a listener with this bound, takes all, one after the other, and goes.
fn come_back(w: &mut World, queue_bytes_max: usize, id: &str) -> Vec<String> {
    let (conn, present) = by(w, queue_bytes_max, v5(id, false, 86_400));
    assert!(present, "the session is there");
    let got = take(w, conn);
    w.send(conn, &DISCONNECT);
    got
}

fn take(w: &mut World, conn: u64) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        let frames = w.read(conn);
        if frames.is_empty() {
            return got;
        }
        got.extend(payloads(&frames, true));
        for frame in frames {
            match (frame.kind(), frame.first >> 1 & 3) {
                (3, 1) => w.send(conn, &puback(frame.publish(true).id)),
                (3, 2) => w.send(conn, &pubrec(frame.publish(true).id)),
                (6, _) => w.send(conn, &pubcomp(frame.id())),
                _ => {}
            }
        }
    }
}

/// Publishes these numbers, each in a message of [`MESSAGE_BYTES`].
fn say(w: &mut World, topic: &str, qos: u8, numbers: std::ops::Range<u16>) {
    assert_eq!(topic.len(), 1);
    let (p, _) = by(w, OPEN, v5("p", true, 0));
    for n in numbers {
        let id = n % 100 + 1;
        w.send(p, &publish(topic, &text(n), qos, id).v5(&[]).bytes());
        if qos == 2 {
            w.send(p, &pubrel(id));
        }
    }
    w.send(p, &DISCONNECT);
}

fn text(n: u16) -> String {
    format!("{n:03}")
}

fn texts(numbers: std::ops::Range<u16>) -> Vec<String> {
    numbers.map(text).collect()
}

fn queued_and_dropped(w: &World) -> (u64, u64) {
    let stats = w.broker.stats();
    (stats.queued, stats.dropped_queued)
}

#[test]
fn a_listener_bounds_the_queues_of_its_sessions_and_the_oldest_goes_and_is_counted() {
    for qos in [1, 2] {
        let mut w = World::new();
        away(&mut w, STRICT, "s", "t", qos);
        say(&mut w, "t", qos, 0..20);
        assert_eq!(queued_and_dropped(&w), (5, 15), "qos {qos}");
        let clients = w.broker.clients();
        assert_eq!((clients[0].queued_bytes, clients[0].dropped), (STRICT, 15));
        w.compare();
        assert_eq!(come_back(&mut w, STRICT, "s"), texts(15..20), "qos {qos}");
        assert_eq!(queued_and_dropped(&w), (0, 15));
    }
}

/// In flight ones count; a session that ends with its connection has the bound as well, unjournaled.
#[test]
fn a_listener_bounds_the_queue_of_a_client_that_is_there() {
    for (expiry_s, qos) in [(0, 1), (0, 2), (60, 1), (60, 2)] {
        let mut w = World::new();
        let one = [33, 0, 1];
        let connect = v5("s", false, expiry_s).property(&one);
        let (s, _) = by(&mut w, STRICT, connect);
        w.send(s, &subscribe(1, &[("t", qos)], Some(&[])));
        w.read(s);
        say(&mut w, "t", qos, 0..20);
        let what = format!("qos {qos}, expiry {expiry_s}");
        assert_eq!(queued_and_dropped(&w), (5, 15), "{what}");
        let first = w.read(s);
        assert_eq!(payloads(&first, true), ["000"], "{what}");
        let id = first[0].publish(true).id;
        match qos {
            1 => w.send(s, &puback(id)),
            _ => {
                w.send(s, &pubrec(id));
                w.read(s);
                w.send(s, &pubcomp(id));
            }
        }
        assert_eq!(take(&mut w, s), texts(15..20), "{what}");
    }
}

#[test]
fn the_bound_is_the_sessions_over_restarts_with_and_without_a_checkpoint() {
    for (before, after) in [(false, false), (true, false), (false, true), (true, true)] {
        let what = format!("checkpoint before {before}, after {after}");
        let mut w = World::new();
        away(&mut w, STRICT, "s", "t", 1);
        if before {
            w.checkpoint();
        }
        w.crash();
        say(&mut w, "t", 1, 0..8);
        assert_eq!(queued_and_dropped(&w), (5, 3), "{what}");
        if after {
            w.checkpoint();
        }
        w.crash();
        assert_eq!(queued_and_dropped(&w), (5, 0), "counted before: {what}");
        say(&mut w, "t", 1, 8..12);
        assert_eq!(queued_and_dropped(&w), (5, 4), "{what}");
        w.compare();
        w.crash();
        assert_eq!(come_back(&mut w, STRICT, "s"), texts(7..12), "{what}");
    }
}

#[test]
fn sessions_of_another_listener_have_their_own_bound() {
    let mut w = World::with(Config {
        queue_bytes_max: 10 * MESSAGE_BYTES,
        ..Config::default()
    });
    away(&mut w, STRICT, "strict", "t", 1);
    away(&mut w, OPEN, "open", "t", 1);
    // The lower of the two counts.
    away(&mut w, 15 * MESSAGE_BYTES, "wide", "t", 1);
    say(&mut w, "t", 1, 0..20);
    w.compare();
    w.crash();
    assert_eq!(come_back(&mut w, STRICT, "strict"), texts(15..20));
    assert_eq!(come_back(&mut w, OPEN, "open"), texts(10..20));
    assert_eq!(come_back(&mut w, OPEN, "wide"), texts(10..20));
}

#[test]
fn a_client_that_comes_by_another_listener_takes_its_bound() {
    let mut w = World::new();
    away(&mut w, STRICT, "s", "t", 1);
    for (wider, holds) in [(8 * MESSAGE_BYTES, 8), (OPEN, 20)] {
        come_back(&mut w, wider, "s");
        let (_, before) = queued_and_dropped(&w);
        say(&mut w, "t", 1, 0..20);
        let (queued, dropped) = queued_and_dropped(&w);
        assert_eq!((queued, dropped - before), (holds, 20 - holds));
        w.checkpoint();
        w.crash();
        assert_eq!(queued_and_dropped(&w), (holds, 0));
        come_back(&mut w, wider, "s");
    }
    // A lower one drops at once what is beyond it, and a restart does not bring that back.
    say(&mut w, "t", 1, 0..20);
    let (_, before) = queued_and_dropped(&w);
    let (s, _) = by(&mut w, STRICT, v5("s", false, 86_400));
    assert_eq!(queued_and_dropped(&w), (5, before + 15));
    assert_eq!(w.broker.clients()[0].dropped, 15);
    w.compare();
    w.crash();
    assert_eq!(queued_and_dropped(&w), (5, 0));
    assert_eq!(w.read(s), []);
    assert_eq!(come_back(&mut w, STRICT, "s"), texts(15..20));
}

#[test]
fn a_bound_is_journaled_once_and_goes_with_its_session() {
    let mut w = World::new();
    away(&mut w, OPEN, "open", "t", 1);
    away(&mut w, STRICT, "s", "t", 1);
    w.checkpoint();
    let bounds = |w: &World| w.kv.keys().filter(|key| key[0] == b'b').count();
    assert_eq!(bounds(&w), 1);
    let frames = w.journal.len();
    come_back(&mut w, STRICT, "s");
    come_back(&mut w, OPEN, "open");
    assert_eq!(w.journal.len(), frames, "nothing has changed");
    come_back(&mut w, OPEN, "s");
    w.checkpoint();
    assert_eq!(bounds(&w), 0, "the bound is none any more");
    come_back(&mut w, STRICT, "s");
    w.checkpoint();
    // A clean start is another session. It ends with its connection, and the old one with its bound.
    let (s, present) = by(&mut w, STRICT, v5("s", true, 0));
    assert!(!present);
    w.send(s, &DISCONNECT);
    w.compare();
    assert_eq!(bounds(&w), 0);
}

/// Two CONNECTs under way to the journal at once: the second has the last word, whatever the first
/// asked for, and whether or not the log took that.
#[test]
fn of_two_connects_under_way_the_last_ones_listener_counts() {
    for (first, last, holds) in [(STRICT, OPEN, 20), (OPEN, STRICT, 5), (STRICT, STRICT, 5)] {
        for known in [false, true] {
            for clean in [false, true] {
                for refused in [false, true] {
                    let what = format!("{holds}, known {known}, clean {clean}, {refused}");
                    let mut w = World::new();
                    if known {
                        away(&mut w, last, "s", "t", 1);
                    }
                    w.sync = false;
                    w.refuse = refused.then_some(Refusal::QuotaExceeded);
                    let mut s = 0;
                    for (bound, clean) in [(first, clean), (last, false)] {
                        w.limits.queue_bytes_max = bound;
                        s = w.open();
                        w.send(s, &v5("s", clean, 86_400).bytes());
                        w.refuse = None;
                    }
                    w.sync = true;
                    w.fsync_all();
                    w.send(s, &subscribe(1, &[("t", 1)], Some(&[])));
                    w.send(s, &DISCONNECT);
                    say(&mut w, "t", 1, 0..20);
                    assert_eq!(w.broker.stats().queued, holds, "{what}");
                    w.compare();
                    w.crash();
                    assert_eq!(w.broker.stats().queued, holds, "{what}");
                }
            }
        }
    }
}

/// Who comes back by another listener takes what waits for it, so the log's reserve is for it as well.
#[test]
fn a_full_log_lets_a_client_in_by_another_listener_from_its_reserve() {
    let mut w = World::new();
    away(&mut w, OPEN, "s", "t", 1);
    by(&mut w, STRICT, v5("s", false, 86_400));
    assert!(w.journal.last().unwrap().frees_room);
    by(&mut w, STRICT, v5("new", false, 86_400));
    assert!(!w.journal.last().unwrap().frees_room);
    // If that is full, too, everything is as it was.
    w.refuse = Some(Refusal::QuotaExceeded);
    w.limits.queue_bytes_max = OPEN;
    let conn = w.open();
    w.send(conn, &v5("s", false, 86_400).bytes());
    assert_eq!(w.read(conn)[0].body[1], 0x97);
    w.refuse = None;
    say(&mut w, "t", 1, 0..20);
    assert_eq!(w.broker.stats().queued, 5);
    w.compare();
}

#[test]
fn retained_messages_push_nothing_out_of_a_small_queue() {
    let mut w = World::new();
    let (p, _) = w.connect(v3("p", true));
    for n in 1..=20u16 {
        let topic = format!("r/{n:02}");
        w.send(p, &publish(&topic, "x", 1, n).retain().bytes());
    }
    let (s, _) = by(&mut w, STRICT, v5("s", false, 60));
    w.send(s, &subscribe(1, &[("r/+", 1)], Some(&[])));
    assert_eq!(take(&mut w, s).len(), 20);
    assert_eq!(w.broker.stats().dropped_queued, 0);
}

/// Written before there were such bounds.
const OLD_CHECKPOINT: [(&[u8], &[u8]); 7] = [
    (b"a", b"\x05\x03"),
    (b"f\0\0\0\0\0\0\0\x01t", b"\x02"),
    (
        b"q\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0",
        b"\x01\x01\0\0\x01\x01t\x011\x01\0\0\0\x01p\0",
    ),
    (
        b"q\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01",
        b"\x02\x02\0\0\x01\x01t\x0222\x02\0\0\0\x01p\0",
    ),
    (
        b"q\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02",
        b"\x03\x01\0\0\x01\x01t\x03333\x01\0\0\0\x01p\0",
    ),
    (b"s\0\0\0\0\0\0\0\x01", b"\x01sd\0\0\x03\x03"),
    (b"v", b"\x01"),
];
const OLD_OPS: [&[u8]; 5] = [
    b"\x01\x01\x01\0\x01\x01s\x01d\0",
    b"\x01\x02\x01\x04\x01\0\x01\x01t\x02\0\0\0",
    b"\x01\x03\x01\x06\0\x01\x01t\x011\x01\0\0\0\x01p\0",
    b"\x01\x04\x01\x06\0\x01\x01t\x0222\x02\0\0\0\x01p\0",
    b"\x01\x05\x01\x06\0\x01\x01t\x03333\x01\0\0\0\x01p\0",
];

#[test]
fn old_checkpoints_and_journals_hold_sessions_without_a_bound() {
    for stored in [true, false] {
        let mut w = World::new();
        let kv = OLD_CHECKPOINT.iter().filter(|_| stored).copied();
        let (broker, report) = Broker::restore(Config::default(), 0, kv, OLD_OPS);
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!((report.ops_applied, report.ops_skipped), {
            let all = OLD_OPS.len();
            if stored { (0, all) } else { (all, 0) }
        });
        w.broker = broker;
        say(&mut w, "t", 1, 0..20);
        assert_eq!(queued_and_dropped(&w), (23, 0));
        // The strict listener takes it on.
        let got = come_back(&mut w, STRICT, "s");
        assert_eq!(got, texts(15..20), "stored {stored}");
        assert_eq!(queued_and_dropped(&w), (0, 18));
    }
}

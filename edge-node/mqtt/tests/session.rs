//! CONNECT, sessions, subscriptions, retained messages, wills.
#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use headwater_mqtt::{CloseReason, Config, Event, Refusal};

fn connack(w: &mut World, connect: Connect) -> (u64, Frame) {
    let conn = w.open();
    w.send(conn, &connect.bytes());
    (conn, w.read(conn).remove(0))
}

#[test]
fn connack_tells_a_v5_client_the_limits_and_a_v3_client_nothing() {
    let mut w = World::with(Config {
        keep_alive_max_s: 100,
        ..Config::default()
    });
    let (_, ack) = connack(&mut w, v5("", true, 0));
    let text = String::from_utf8_lossy(&ack.body).into_owned();
    assert!(text.contains("auto-0-1"), "assigned client id");
    assert!(
        ack.body.windows(5).any(|p| p == [39, 0, 16, 0, 0]),
        "maximum packet size"
    );
    assert!(
        ack.body.windows(3).any(|p| p == [19, 0, 100]),
        "server keep alive"
    );
    assert!(
        !ack.body.windows(2).any(|p| p == [42, 0]),
        "shared subscriptions"
    );
    let (_, ack) = connack(&mut w, v3("", true));
    assert_eq!(ack.body, [0, 0]);
}

#[test]
fn connects_that_cannot_be_served_are_refused_in_the_client_s_own_version() {
    let mut w = World::with(Config {
        authenticate: true,
        ..Config::default()
    });
    let login = |c: Connect, p: &[u8]| Connect {
        login: Some(("u".into(), p.to_vec())),
        ..c
    };
    assert_eq!(connack(&mut w, v3("", false)).1.body, [0, 2]);
    assert_eq!(
        connack(&mut w, login(v3("a", true), b"\xff")).1.body,
        [0, 4]
    );
    assert_eq!(
        connack(&mut w, login(v5("a", true, 0), b"bad")).1.body[1],
        0x86
    );
    assert_eq!(
        connack(&mut w, login(v5("a", true, 0), b"good")).1.body[1],
        0
    );
    let auth = [vec![21], field("SCRAM")].concat();
    assert_eq!(
        connack(&mut w, v5("a", true, 0).property(&auth)).1.body[1],
        0x8c
    );
    assert_eq!(
        connack(
            &mut w,
            Connect {
                level: 3,
                ..v3("a", true)
            }
        )
        .1
        .body,
        [0, 1]
    );
    assert_eq!(
        connack(
            &mut w,
            Connect {
                level: 6,
                ..v5("a", true, 0)
            }
        )
        .1
        .body[1],
        0x84
    );
    let (conn, ack) = connack(&mut w, v5("a", true, 0).will("a/+", "", 0, &[]));
    assert_eq!((ack.body[1], w.closed.contains_key(&conn)), (0x90, true));
}

#[test]
fn a_take_over_tells_the_old_connection_and_what_it_sends_after_is_not_read() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("x", true, 0).will("gone", "w", 1, &[]));
    let (b, present) = w.connect(v5("x", false, 0));
    assert!(!present, "expiry 0 ends with its connection");
    assert_eq!(w.read(a).pop().unwrap().disconnect().0, 0x8e);
    assert_eq!(w.closed.get(&a), Some(&CloseReason::TakenOver));
    w.send(a, &publish("t", "late", 0, 0).v5(&[]).bytes());
    w.hang_up(a);
    assert_eq!(w.records(), ["w"], "its will, not its late publish");
    w.send(b, &PING);
    assert_eq!(w.read(b).pop().unwrap().first, 0xd0);
}

#[test]
fn keep_alive_counts_only_what_the_client_sends() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0).keep_alive(10).will("gone", "w", 0, &[]));
    w.send(a, &subscribe(1, &[("#", 0)], Some(&[])));
    let (b, _) = w.connect(v3("b", true));
    for _ in 0..2 {
        w.later(14_000);
        w.send(a, &PING);
    }
    for _ in 0..14 {
        w.later(1_000);
        w.send(b, &publish("t", "for a", 0, 0).bytes());
    }
    assert!(w.closed.is_empty());
    w.later(1_100);
    assert_eq!(w.closed.get(&a), Some(&CloseReason::KeepAlive));
    assert_eq!(w.read(a).pop().unwrap().disconnect().0, 0x8d);
    assert_eq!(w.records().last().unwrap(), "w");
    let c = w.open();
    w.later(10_100);
    assert_eq!(w.closed.get(&c), Some(&CloseReason::ConnectTimeout));
}

#[test]
fn a_durable_session_and_its_queue_outlive_a_crash_and_clean_start_ends_them() {
    for checkpoint in [false, true] {
        let mut w = World::new();
        let (b, present) = w.connect(v5("b", true, 3600));
        assert!(!present);
        w.send(b, &subscribe(1, &[("t/#", 1), ("u", 2)], Some(&[])));
        w.send(b, &unsubscribe(2, &["u", "nope"], Some(&[])));
        assert_eq!(w.read(b).pop().unwrap().body, [0, 2, 0, 0, 0x11]);
        w.hang_up(b);
        if checkpoint {
            w.checkpoint();
        }
        let (a, _) = w.connect(v3("a", true));
        for n in 1..=3u16 {
            w.send(a, &publish("t/x", &n.to_string(), 1, n).bytes());
            w.send(a, &publish("u", "no", 1, n + 10).bytes());
        }
        w.send(a, &publish("t/x", "qos 0 is not queued", 0, 0).bytes());
        w.crash();
        let (b, present) = w.connect(v5("b", false, 3600));
        assert!(present);
        let got = w.read(b);
        assert_eq!(payloads(&got, true), ["1", "2", "3"]);
        let ids: Vec<u16> = got.iter().map(|f| f.publish(true).id).collect();
        w.send(b, &puback(ids[1]));
        if checkpoint {
            w.checkpoint();
        }
        w.crash();
        let (b, _) = w.connect(v5("b", false, 3600));
        let got = w.read(b);
        assert_eq!(payloads(&got, true), ["1", "3"]);
        let again: Vec<u16> = got.iter().map(|f| f.publish(true).id).collect();
        assert_eq!(again, [ids[0], ids[2]], "the same ids");
        assert!(got.iter().all(|f| f.publish(true).dup));
        w.hang_up(b);
        let (b, present) = w.connect(v5("b", true, 0));
        assert!(!present);
        w.hang_up(b);
        w.crash();
        assert_eq!(w.broker.clients(), []);
        let (_, present) = w.connect(v5("b", false, 3600));
        assert!(!present);
    }
}

#[test]
fn a_session_expires_by_its_interval_and_disconnect_may_change_it() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 100));
    w.hang_up(a);
    let (b, _) = w.connect(v5("b", true, 100));
    w.send(b, &packet(0xe0, &[0, 5, 17, 0, 0, 1, 0]));
    w.later(60_000);
    w.crash();
    w.later(101_000);
    let ids: Vec<_> = w
        .broker
        .clients()
        .iter()
        .map(|c| c.client_id.to_string())
        .collect();
    assert_eq!(ids, ["b"]);
    let (c, _) = w.connect(v5("c", true, 0));
    w.send(c, &packet(0xe0, &[0, 5, 17, 0, 0, 1, 0]));
    assert_eq!(w.read(c).pop().unwrap().disconnect().0, 0x82);
}

#[test]
fn suback_of_a_durable_session_waits_and_packets_behind_it_keep_their_order() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.sync = false;
    let both = [
        subscribe(1, &[("t", 0)], None),
        publish("t", "mine", 0, 0).bytes(),
    ]
    .concat();
    w.send(a, &both);
    assert_eq!(w.read(a), []);
    assert!(w.paused.contains(&a));
    w.fsync_all();
    let got = w.read(a);
    assert_eq!(
        (got[0].kind(), payloads(&got, false)),
        (9, vec!["mine".to_string()])
    );
    w.refuse = Some(Refusal::QuotaExceeded);
    w.send(a, &subscribe(2, &[("u", 0)], None));
    assert_eq!(w.read(a)[0].body, [0, 2, 0x80]);
}

#[test]
fn bad_filters_are_refused_one_by_one() {
    let mut w = World::with(Config {
        subscriptions_max: 2,
        ..Config::default()
    });
    let (a, _) = w.connect(v5("a", true, 0));
    let filters = [
        ("a/#/b", 0),
        ("$share/g", 0),
        ("ok", 1),
        ("ok", 2),
        ("ok2", 0),
        ("more", 0),
    ];
    w.send(a, &subscribe(9, &filters, Some(&[])));
    assert_eq!(w.read(a)[0].body, [0, 9, 0, 0x8f, 0x8f, 1, 2, 0, 0x97]);
    let (b, _) = w.connect(v3("b", true));
    w.send(b, &subscribe(9, &filters[..3], None));
    assert_eq!(w.read(b)[0].body, [0, 9, 0x80, 0x80, 1]);
    w.send(b, &publish("a/#", "x", 0, 0).bytes());
    assert!(w.closed.contains_key(&b));
}

/// At QoS 0 it is served before it is durable; who subscribes in between finds it all the same, once.
#[test]
fn a_retained_message_at_qos_0_is_what_the_next_subscription_finds() {
    let retained = |topic: &str, payload: &str, qos, id| {
        publish(topic, payload, qos, id).v5(&[]).retain().bytes()
    };
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0));
    for (n, topic) in ["t/a", "t/c"].into_iter().enumerate() {
        w.send(a, &retained(topic, "old", 1, n as u16 + 1));
    }
    w.read(a);
    w.sync = false;
    // One takes another's place, one is new, one is deleted.
    w.send(a, &retained("t/a", "new", 0, 0));
    w.send(a, &retained("t/b", "new", 0, 0));
    w.send(a, &retained("t/c", "", 0, 0));
    w.send(a, &retained("t/a", "newer", 0, 0));
    let (b, _) = w.connect(v5("b", true, 0));
    w.send(b, &subscribe(3, &[("t/+", 1)], Some(&[])));
    let found = |frames: Vec<Frame>| -> Vec<_> {
        let publishes = frames.iter().filter(|f| f.kind() == 3);
        let publishes = publishes.map(|f| f.publish(true));
        let text = |payload| String::from_utf8(payload).unwrap();
        let mut all: Vec<_> = publishes
            .map(|p| (p.topic, text(p.payload), p.retain))
            .collect();
        all.sort();
        all
    };
    let message = |topic: &str, text: &str, retain| (topic.to_owned(), text.to_owned(), retain);
    let want = [message("t/a", "newer", true), message("t/b", "new", true)];
    assert_eq!(found(w.read(b)), want);
    // What follows comes once, and not as retained; then the same from what is durable.
    w.send(a, &retained("t/a", "last", 1, 9));
    w.fsync_all();
    assert_eq!(found(w.read(b)), [message("t/a", "last", false)]);
    let (c, _) = w.connect(v5("c", true, 0));
    w.send(c, &subscribe(3, &[("t/+", 1)], Some(&[])));
    let want = [message("t/a", "last", true), message("t/b", "new", true)];
    assert_eq!(found(w.read(c)), want);
    // The log does not take one: the one before it stands.
    w.send(a, &retained("t/b", "refused", 0, 0));
    let token = w.last_token();
    w.journal.pop();
    let reason = Refusal::QuotaExceeded;
    w.event(Event::Refused { token, reason });
    let (d, _) = w.connect(v5("d", true, 0));
    w.send(d, &subscribe(3, &[("t/b", 1)], Some(&[])));
    assert_eq!(found(w.read(d)), [message("t/b", "new", true)]);
}

#[test]
fn a_retained_message_that_expires_leaves_its_room() {
    let room = 2 * (96 + 2 + 10);
    let config = Config {
        retained_bytes_max: room,
        ..Config::default()
    };
    let mut w = World::with(config);
    let (a, _) = w.connect(v5("a", true, 0));
    let put = |w: &mut World, topic: &str, expiry_s: Option<u8>| {
        let expiry = expiry_s.map_or(vec![], |s| vec![2, 0, 0, 0, s]);
        w.send(
            a,
            &publish(topic, "ten bytes!", 1, 1)
                .v5(&expiry)
                .retain()
                .bytes(),
        );
        w.read(a);
        (w.broker.stats().retained, w.broker.stats().retained_refused)
    };
    assert_eq!(put(&mut w, "t1", Some(10)), (1, 0));
    assert_eq!(put(&mut w, "t2", None), (2, 0));
    assert_eq!(put(&mut w, "t3", None), (2, 1));
    w.checkpoint();
    w.later(9_900);
    assert_eq!(put(&mut w, "t3", None), (2, 2));
    w.later(200);
    assert_eq!(
        (w.broker.stats().retained, w.broker.stats().retained_bytes),
        (1, room as u64 / 2)
    );
    assert_eq!(put(&mut w, "t3", Some(20)), (2, 2));
    // One that takes its place in time stays; over a crash and on a full log it ends as well.
    assert_eq!(put(&mut w, "t3", Some(100)), (2, 2));
    w.later(30_000);
    assert_eq!(w.broker.stats().retained, 2);
    w.crash();
    w.refuse = Some(Refusal::QuotaExceeded);
    w.later(90_000);
    assert_eq!(w.broker.stats().retained, 2);
    w.refuse = None;
    w.later(2_000);
    assert_eq!(w.broker.stats().retained, 1);
    w.checkpoint();
    assert_eq!(w.kv.keys().filter(|k| k[0] == b'r').count(), 1);
    w.crash();
    assert_eq!(w.broker.stats().retained, 1);
    // Nothing wakes the node any more.
    w.later(1_000);
    assert_eq!(w.timer, None);
}

#[test]
fn no_local_and_retain_as_published() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0));
    w.send(a, &subscribe(1, &[("t", 4), ("r", 8)], Some(&[])));
    w.read(a);
    w.send(a, &publish("t", "own", 0, 0).v5(&[]).bytes());
    w.send(a, &publish("r", "kept", 0, 0).v5(&[]).retain().bytes());
    let got = w.read(a);
    assert_eq!(payloads(&got, true), ["kept"]);
    assert!(got[0].publish(true).retain);
}

#[test]
fn retained_messages_are_kept_over_a_crash_delivered_on_subscribe_and_deleted_by_an_empty_one() {
    for checkpoint in [false, true] {
        let mut w = World::new();
        let (a, _) = w.connect(v3("a", true));
        for topic in ["s/1", "s/2", "s", "sx", "$x"] {
            w.send(a, &publish(topic, topic, 1, 1).retain().bytes());
        }
        w.send(a, &publish("s/2", "", 0, 0).bytes());
        w.send(a, &publish("s/1", "", 0, 0).retain().bytes());
        if checkpoint {
            w.checkpoint();
        }
        w.crash();
        let (b, _) = w.connect(v5("b", true, 0));
        w.send(b, &subscribe(1, &[("s/#", 0)], Some(&[])));
        let got = w.read(b);
        assert_eq!(payloads(&got, true), ["s", "s/2"]);
        assert!(got[1].publish(true).retain);
        w.send(b, &subscribe(2, &[("s/#", 0x10)], Some(&[])));
        assert_eq!(payloads(&w.read(b), true), Vec::<String>::new(), "not new");
        w.send(b, &subscribe(3, &[("+", 0x21), ("#", 1)], Some(&[])));
        let got = w.read(b);
        assert_eq!(payloads(&got, true), ["s", "s/2", "sx"]);
        assert_eq!(got[1].publish(true).qos, 1);
        // A durable session gets them through its queue, once.
        let (c, _) = w.connect(v3("c", false));
        w.send(c, &subscribe(1, &[("#", 1)], None));
        assert_eq!(payloads(&w.read(c), false), ["s", "s/2", "sx"]);
        w.crash();
        let (c, _) = w.connect(v3("c", false));
        assert_eq!(payloads(&w.read(c), false), ["s", "s/2", "sx"]);
    }
}

#[test]
fn all_of_many_retained_messages_reach_a_slow_subscriber() {
    let mut w = World::with(Config {
        queue_messages_max: 50,
        ..Config::default()
    });
    let (a, _) = w.connect(v3("a", true));
    for n in 0..2000 {
        w.send(
            a,
            &publish(&format!("t/{n}"), &"x".repeat(500), 1, 1)
                .retain()
                .bytes(),
        );
    }
    for (qos, id) in [(0, "b"), (1, "c"), (1, "d")] {
        let (b, _) = w.connect(v3(id, id != "d"));
        w.stalled.insert(b);
        w.send(b, &subscribe(1, &[("t/#", qos)], None));
        let mut got = 0;
        for _ in 0..10_000 {
            w.later(10);
            let frames = w.read(b);
            let bytes = w.unwritten.remove(&b).unwrap_or(0);
            let conn = headwater_mqtt::ConnId(b);
            w.event(Event::Written { conn, bytes });
            for f in frames.iter().filter(|f| f.kind() == 3) {
                got += 1;
                if qos == 1 {
                    w.send(b, &puback(f.publish(false).id));
                }
            }
            if got == 2000 {
                break;
            }
        }
        assert_eq!(got, 2000, "{id}");
    }
    assert_eq!(
        w.broker.stats().dropped_queued + w.broker.stats().dropped_qos0,
        0
    );
}

#[test]
fn a_will_goes_out_unless_the_client_says_goodbye_with_reason_0() {
    let mut w = World::new();
    let connect = |n: &str| v5(n, true, 0).will("gone", n, 1, &[]);
    let (a, _) = w.connect(connect("bye"));
    w.send(a, &DISCONNECT);
    let (a, _) = w.connect(connect("four"));
    w.send(a, &packet(0xe0, &[4]));
    let (a, _) = w.connect(connect("lost"));
    w.hang_up(a);
    let (a, _) = w.connect(connect("server packet"));
    w.send(a, &[0x20, 2, 0, 0]);
    assert!(matches!(w.closed.get(&a), Some(CloseReason::Protocol(_))));
    assert_eq!(w.records(), ["four", "lost", "server packet"]);
}

#[test]
fn a_delayed_will_waits_and_a_reconnect_takes_it_back() {
    let mut w = World::new();
    let delay = [24, 0, 0, 0, 10];
    let (a, _) = w.connect(v5("a", true, 100).will("gone", "1", 1, &delay));
    w.hang_up(a);
    w.later(9_000);
    let (a, _) = w.connect(v5("a", false, 100).will("gone", "2", 1, &delay));
    w.later(20_000);
    assert_eq!(w.records(), Vec::<String>::new());
    w.hang_up(a);
    w.later(11_000);
    assert_eq!(w.records(), ["2"]);
    w.later(200_000);
    assert_eq!(w.records(), ["2"], "once");
}

#[test]
fn the_will_of_a_durable_session_survives_a_crash_and_goes_out_once() {
    for checkpoint in [false, true] {
        let mut w = World::new();
        let (_a, _) = w.connect(v5("a", true, 1000).will("gone", "w", 1, &[]));
        if checkpoint {
            w.checkpoint();
        }
        w.sync = false;
        w.crash();
        if checkpoint {
            w.checkpoint();
        }
        assert_eq!(
            w.records(),
            Vec::<String>::new(),
            "its frame was lost in the next crash"
        );
        w.sync = true;
        w.crash();
        assert_eq!(w.records(), ["w"]);
        w.crash();
        assert_eq!(w.records(), ["w"]);
    }
}

#[test]
fn refused_wills_and_acks_are_offered_again() {
    let mut w = World::new();
    let (b, _) = w.connect(v3("b", false));
    w.send(b, &subscribe(1, &[("t", 1)], None));
    let (a, _) = w.connect(v5("a", true, 0).will("t", "w", 1, &[]));
    w.refuse = Some(Refusal::QuotaExceeded);
    w.hang_up(a);
    w.later(3_000);
    w.refuse = None;
    w.later(3_000);
    assert_eq!(w.records(), ["w"]);
    let got = w.read(b);
    w.refuse = Some(Refusal::QuotaExceeded);
    w.send(b, &puback(got.last().unwrap().publish(false).id));
    w.later(3_000);
    w.refuse = None;
    w.later(3_000);
    w.crash();
    let (b, _) = w.connect(v3("b", false));
    assert_eq!(w.read(b), []);
}

#[test]
fn a_publish_behind_a_subscription_under_way_is_queued_for_it_and_survives() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", true));
    let (b, _) = w.connect(v3("b", false));
    w.sync = false;
    w.send(b, &subscribe(1, &[("t", 1)], None));
    w.send(a, &publish("t", "m", 1, 1).bytes());
    w.fsync_all();
    w.crash();
    let (b, _) = w.connect(v3("b", false));
    assert_eq!(payloads(&w.read(b), false), ["m"]);
}

#[test]
fn a_will_offered_again_reaches_who_subscribed_meanwhile_and_survives() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0).will("t", "w", 1, &[]));
    w.refuse = Some(Refusal::QuotaExceeded);
    w.hang_up(a);
    w.refuse = None;
    let (b, _) = w.connect(v3("b", false));
    w.send(b, &subscribe(1, &[("t", 1)], None));
    w.later(3_000);
    assert_eq!(w.records(), ["w"]);
    w.crash();
    let (b, _) = w.connect(v3("b", false));
    assert_eq!(payloads(&w.read(b), false), ["w"]);
}

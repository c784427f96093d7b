//! QoS 0, 1 and 2 in both directions, over restarts.
#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use headwater_mqtt::{Broker, CloseReason, Config, ConnId, Refusal};

fn kinds(frames: &[Frame]) -> Vec<u8> {
    frames.iter().map(Frame::kind).collect()
}

#[test]
fn qos_0_is_served_at_once_and_recorded() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", true));
    let (b, _) = w.connect(v3("b", true));
    w.send(b, &subscribe(1, &[("t/+", 2)], None));
    assert_eq!(w.read(b)[0].body, [0, 1, 2]);
    w.sync = false;
    w.send(a, &publish("t/1", "x", 0, 0).bytes());
    assert_eq!(payloads(&w.read(b), false), ["x"]);
    assert_eq!(w.records(), Vec::<String>::new());
    w.fsync_all();
    assert_eq!(w.records(), ["x"]);
    assert_eq!(w.read(b), []);
}

#[test]
fn puback_and_delivery_wait_for_durable() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", true));
    let (b, _) = w.connect(v5("b", true, 0));
    w.send(b, &subscribe(1, &[("#", 1)], Some(&[])));
    w.read(b);
    w.sync = false;
    w.send(a, &publish("t", "1", 1, 7).bytes());
    w.send(a, &publish("t", "2", 2, 8).bytes());
    assert_eq!((w.read(a), w.read(b)), (vec![], vec![]));
    w.fsync(1);
    assert_eq!(
        w.read(a),
        [Frame {
            first: 0x40,
            body: vec![0, 7]
        }]
    );
    let got = w.read(b);
    assert_eq!(payloads(&got, true), ["1"]);
    assert_eq!(got[0].publish(true).qos, 1);
    w.fsync(1);
    assert_eq!(
        w.read(a),
        [Frame {
            first: 0x50,
            body: vec![0, 8]
        }]
    );
    let got = w.read(b)[0].publish(true);
    assert_eq!((got.qos, got.dup, got.payload), (1, false, b"2".to_vec()));
}

#[test]
fn a_qos_2_publish_is_recorded_once_before_and_after_reconnect_and_restart() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.sync = false;
    w.send(a, &publish("t", "once", 2, 5).bytes());
    w.send(a, &publish("t", "once", 2, 5).dup().bytes());
    assert_eq!(w.read(a), []);
    w.fsync_all();
    assert_eq!(kinds(&w.read(a)), [5], "one PUBREC for both");
    w.send(a, &publish("t", "once", 2, 5).dup().bytes());
    assert_eq!(kinds(&w.read(a)), [5]);
    w.hang_up(a);
    w.sync = true;
    let (a, present) = w.connect(v3("a", false));
    assert!(present);
    w.send(a, &publish("t", "once", 2, 5).dup().bytes());
    assert_eq!(kinds(&w.read(a)), [5]);
    w.crash();
    let (a, present) = w.connect(v3("a", false));
    assert!(present);
    w.send(a, &publish("t", "once", 2, 5).dup().bytes());
    assert_eq!(kinds(&w.read(a)), [5]);
    assert_eq!(w.records(), ["once"]);
    w.send(a, &pubrel(5));
    assert_eq!(kinds(&w.read(a)), [7]);
    w.send(a, &publish("t", "twice", 2, 5).bytes());
    assert_eq!(w.records(), ["once", "twice"]);
}

#[test]
fn a_publish_resent_on_a_new_connection_while_under_way_is_recorded_once_and_answered_there() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.sync = false;
    w.send(a, &publish("t", "x", 2, 5).bytes());
    let b = w.open();
    w.send(b, &v3("a", false).bytes());
    assert_eq!(w.closed.get(&a), Some(&CloseReason::TakenOver));
    w.send(b, &publish("t", "x", 2, 5).dup().bytes());
    w.fsync_all();
    assert_eq!(kinds(&w.read(b)), [2, 5]);
    assert_eq!(w.records(), ["x"]);
}

#[test]
fn pubcomp_waits_until_the_release_is_durable() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &publish("t", "x", 2, 5).bytes());
    w.read(a);
    w.sync = false;
    assert!(!w.journal.last().unwrap().frees_room);
    w.send(a, &pubrel(5));
    assert!(
        w.journal.last().unwrap().frees_room,
        "it has room in a full log"
    );
    assert_eq!(
        w.read(a),
        [],
        "a crash now would swallow the next message with this id"
    );
    w.fsync_all();
    assert_eq!(kinds(&w.read(a)), [7]);
    w.crash();
    w.sync = true;
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &publish("t", "y", 2, 5).bytes());
    assert_eq!(w.records(), ["x", "y"]);
}

#[test]
fn a_subscriber_gets_a_qos_2_message_once_whatever_is_lost() {
    for crash in [false, true] {
        for stop_at in 0..4 {
            let mut w = World::new();
            let (b, _) = w.connect(v5("b", false, 1000));
            w.send(b, &subscribe(1, &[("t", 2)], Some(&[])));
            let (a, _) = w.connect(v3("a", true));
            w.send(a, &publish("t", "m", 2, 1).bytes());
            // The client's side: ids it has received and not released, and what it handed on.
            let (mut known, mut handed) = (std::collections::BTreeSet::new(), Vec::new());
            let mut conn = b;
            let mut cut = false;
            for step in 0..12 {
                for frame in w.read(conn) {
                    match frame.kind() {
                        3 => {
                            let p = frame.publish(true);
                            assert_eq!(p.dup, step > 0 && cut);
                            if known.insert(p.id) {
                                handed.push(String::from_utf8(p.payload).unwrap());
                            }
                            if stop_at != 0 || cut {
                                w.send(conn, &pubrec(p.id));
                            }
                        }
                        6 => {
                            known.remove(&frame.id());
                            if stop_at != 2 || cut {
                                w.send(conn, &pubcomp(frame.id()));
                            }
                        }
                        _ => {}
                    }
                }
                if step == stop_at && !cut {
                    cut = true;
                    if crash {
                        w.crash()
                    } else {
                        w.hang_up(conn)
                    }
                    let (again, present) = w.connect(v5("b", false, 1000));
                    assert!(present);
                    conn = again;
                }
            }
            assert_eq!(handed, ["m"], "crash {crash}, stopped at {stop_at}");
            assert_eq!(w.broker.stats().queued, 0);
        }
    }
}

#[test]
fn pubrel_to_a_subscriber_waits_until_its_pubrec_is_durable() {
    let mut w = World::new();
    let (b, _) = w.connect(v3("b", false));
    w.send(b, &subscribe(1, &[("t", 2)], None));
    let (a, _) = w.connect(v3("a", true));
    w.send(a, &publish("t", "m", 2, 1).bytes());
    let id = w.read(b).last().unwrap().publish(false).id;
    w.sync = false;
    w.send(b, &pubrec(id));
    assert_eq!(w.read(b), []);
    w.fsync_all();
    assert_eq!(
        w.read(b),
        [Frame {
            first: 0x62,
            body: id.to_be_bytes().to_vec()
        }]
    );
}

#[test]
fn pubacks_out_of_order_free_the_window() {
    let config = Config {
        inflight_max: 3,
        ..Config::default()
    };
    let mut w = World::with(config);
    let (b, _) = w.connect(v5("b", true, 0).property(&[33, 0, 2]));
    w.send(b, &subscribe(1, &[("t", 1)], Some(&[])));
    let (a, _) = w.connect(v3("a", true));
    for n in 0..5u16 {
        w.send(a, &publish("t", &n.to_string(), 1, n + 1).bytes());
    }
    let got = w.read(b);
    assert_eq!(
        payloads(&got, true),
        ["0", "1"],
        "the client's receive maximum"
    );
    w.send(b, &puback(got[2].publish(true).id));
    let got2 = w.read(b);
    assert_eq!(payloads(&got2, true), ["2"]);
    w.send(
        b,
        &[
            puback(got[1].publish(true).id),
            puback(got2[0].publish(true).id),
        ]
        .concat(),
    );
    assert_eq!(payloads(&w.read(b), true), ["3", "4"]);
}

#[test]
fn a_full_disk_is_refused_on_v5_and_held_without_ack_on_v3() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0));
    let (b, _) = w.connect(v3("b", true));
    w.refuse = Some(Refusal::QuotaExceeded);
    w.send(a, &publish("t", "x", 1, 1).v5(&[]).bytes());
    w.send(a, &publish("t", "x", 2, 2).v5(&[]).bytes());
    let got = w.read(a);
    let answers: Vec<_> = got.iter().map(|f| (f.first, &f.body[..3])).collect();
    assert_eq!(answers, [(0x40, &[0, 1, 0x97][..]), (0x50, &[0, 2, 0x97])]);
    w.send(b, &publish("t", "v3", 1, 1).bytes());
    w.send(b, &publish("t", "v3b", 2, 2).bytes());
    assert_eq!(w.read(b), []);
    assert!(w.paused.contains(&b) && !w.closed.contains_key(&b));
    w.later(5_000);
    assert_eq!(w.read(b), []);
    w.refuse = None;
    w.later(2_000);
    assert_eq!(
        kinds(&w.read(b)),
        [4, 5],
        "acknowledged by itself once there is room"
    );
    assert!(!w.paused.contains(&b));
    assert_eq!(w.records(), ["v3", "v3b"]);
    // The refused QoS 2 id is free: the same id is a new message.
    w.send(a, &publish("t", "y", 2, 2).v5(&[]).bytes());
    assert_eq!(w.records().last().unwrap(), "y");
    // What was held counts once, however often it was offered.
    assert_eq!(w.broker.stats().published, [0, 2, 3]);
}

/// Of several under way some are refused: they are offered again once nothing of the client is under
/// way, in their order, and what the client sends next comes after them.
#[test]
fn what_is_held_is_offered_again_in_order_and_not_before_all_is_known() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", true));
    w.sync = false;
    w.send(a, &publish("t", "1", 1, 1).bytes());
    w.refuse = Some(Refusal::QuotaExceeded);
    w.send(a, &publish("t", "2", 1, 2).bytes());
    w.refuse = None;
    assert_eq!(w.journal.last().unwrap().held_for, Some(ConnId(a)));
    // The first is not durable yet: it might be refused too, and would come behind.
    let frames = w.journal.len();
    w.later(5_000);
    assert_eq!(w.journal.len(), frames);
    w.fsync_all();
    w.send(a, &publish("t", "3", 1, 3).bytes());
    assert_eq!(w.journal.len(), frames, "not read while something is held");
    w.later(2_000);
    w.fsync_all();
    assert_eq!(w.records(), ["1", "2", "3"]);
    assert!(
        w.journal
            .iter()
            .all(|a| a.publish.is_none() || !a.frees_room)
    );
    // On v5 the client decides itself.
    let (b, _) = w.connect(v5("b", true, 0));
    w.send(b, &publish("t", "4", 1, 1).v5(&[]).bytes());
    assert_eq!(w.journal.last().unwrap().held_for, None);
}

#[test]
fn more_than_receive_maximum_closes_a_v5_client_and_pauses_none_below() {
    let mut w = World::with(Config {
        receive_maximum: 2,
        ..Config::default()
    });
    let (a, _) = w.connect(v5("a", true, 0));
    w.sync = false;
    w.send(a, &publish("t", "1", 1, 1).v5(&[]).bytes());
    w.send(a, &publish("t", "2", 2, 2).v5(&[]).bytes());
    assert!(w.closed.is_empty());
    w.send(a, &publish("t", "3", 1, 3).v5(&[]).bytes());
    let last = w.read(a).pop().unwrap();
    assert_eq!((last.kind(), last.body[0]), (14, 0x93));
}

#[test]
fn delivered_qos_is_the_minimum_and_overlapping_filters_deliver_once_with_all_identifiers() {
    let mut w = World::new();
    let (b, _) = w.connect(v5("b", true, 0));
    w.send(b, &subscribe(1, &[("t/#", 0)], Some(&[11, 7])));
    w.send(b, &subscribe(2, &[("t/+", 1)], Some(&[11, 0x80, 1])));
    w.read(b);
    let (a, _) = w.connect(v3("a", true));
    w.send(a, &publish("t/x", "m", 2, 1).bytes());
    let got = w.read(b);
    assert_eq!(got.len(), 1);
    let p = got[0].publish(true);
    assert_eq!((p.qos, p.properties), (1, Some(vec![11, 7, 11, 0x80, 1])));
}

#[test]
fn a_stalled_subscriber_costs_a_bounded_queue_and_loses_the_oldest_qos_0() {
    let config = Config {
        queue_messages_max: 10,
        ..Config::default()
    };
    let mut w = World::with(config);
    let (b, _) = w.connect(v3("b", true));
    w.send(b, &subscribe(1, &[("t", 0)], None));
    w.read(b);
    w.stalled.insert(b);
    let (a, _) = w.connect(v3("a", true));
    let big = "x".repeat(100_000);
    for n in 0..40 {
        w.send(a, &publish("t", &format!("{n} {big}"), 0, 0).bytes());
    }
    let first = payloads(&w.read(b), false).len();
    w.drain(b);
    let rest = payloads(&w.read(b), false);
    assert_eq!((first, rest.len()), (3, 10));
    assert!(rest[9].starts_with("39 "));
    assert_eq!(w.broker.stats().dropped_qos0, 27);
}

#[test]
fn a_full_session_queue_drops_the_oldest_and_the_window_goes_on() {
    let config = Config {
        queue_messages_max: 4,
        inflight_max: 2,
        ..Config::default()
    };
    let mut w = World::with(config);
    for durable in [true, false] {
        let (b, _) = w.connect(v3("b", !durable));
        w.send(b, &subscribe(1, &[("t", 1)], None));
        w.read(b);
        let (a, _) = w.connect(v3("a", true));
        for n in 0..10u16 {
            w.send(a, &publish("t", &n.to_string(), 1, n + 1).bytes());
        }
        let mut got = Vec::new();
        loop {
            let frames = w.read(b);
            if frames.is_empty() {
                break;
            }
            for f in frames {
                got.push(String::from_utf8(f.publish(false).payload).unwrap());
                w.send(b, &puback(f.publish(false).id));
            }
        }
        assert_eq!(
            got[got.len() - 2..],
            ["8", "9"],
            "durable {durable}: {got:?}"
        );
        assert_eq!(w.broker.stats().queued, 0);
    }
    assert!(w.broker.stats().dropped_queued > 0);
}

/// Nobody may ever come for a session: all of them together are bounded, the longest queue pays, and a
/// restart gives the same.
#[test]
fn absent_sessions_hold_no_more_than_their_share_together() {
    let mut w = World::with(Config {
        queues_bytes_max: 10_000,
        ..Config::default()
    });
    for (name, topic) in [("few", "t/few"), ("many", "t/many")] {
        let (conn, _) = w.connect(v3(name, false));
        w.send(conn, &subscribe(1, &[(topic, 1)], None));
        w.hang_up(conn);
    }
    let (p, _) = w.connect(v3("p", true));
    let text = |n: u16| format!("{n} {}", "x".repeat(200));
    for n in 0..60u16 {
        let topic = if n % 10 == 0 { "t/few" } else { "t/many" };
        w.send(p, &publish(topic, &text(n), 1, n + 1).bytes());
    }
    let dropped = w.broker.stats().dropped_queued;
    assert!(dropped > 20, "{dropped}");
    w.crash();
    assert_eq!(w.broker.stats().queued + dropped, 60);
    let (few, _) = w.connect(v3("few", false));
    assert_eq!(
        payloads(&w.read(few), false).len(),
        6,
        "it has little, and keeps it"
    );
    let (many, _) = w.connect(v3("many", false));
    let kept = payloads(&w.read(many), false);
    assert_eq!(kept.len() as u64, 54 - dropped);
    assert_eq!(kept.last().unwrap(), &text(59), "the oldest went");
}

/// A connected session pays too, and its window goes on.
#[test]
fn a_session_at_work_pays_for_another_one() {
    let mut w = World::with(Config {
        queues_bytes_max: 2_000,
        inflight_max: 2,
        ..Config::default()
    });
    let (b, _) = w.connect(v3("b", false));
    w.send(b, &subscribe(1, &[("b", 1)], None));
    let (c, _) = w.connect(v3("c", false));
    w.send(c, &subscribe(1, &[("c", 1)], None));
    w.hang_up(c);
    w.read(b);
    let (p, _) = w.connect(v3("p", true));
    let long = "x".repeat(300);
    for n in 1..=4u16 {
        w.send(p, &publish("b", &format!("{n}{long}"), 1, n).bytes());
    }
    for n in 5..=8u16 {
        w.send(p, &publish("c", &format!("{n}{long}"), 1, n).bytes());
    }
    assert!(w.broker.stats().dropped_queued >= 3);
    let (mut got, mut open) = (Vec::new(), w.read(b));
    while let Some(frame) = open.pop() {
        let publish = frame.publish(false);
        got.push(publish.payload[0]);
        w.send(b, &puback(publish.id));
        open.extend(w.read(b));
    }
    assert!(got.contains(&b'4'), "its newest comes: {got:?}");
}

/// [MQTT-3.3.4-9]: what a full queue drops under way still counts for the client.
#[test]
fn a_full_session_queue_keeps_to_the_receive_maximum() {
    let config = Config {
        queue_messages_max: 3,
        ..Config::default()
    };
    for (expiry_s, qos) in [(0, 1), (60, 1), (0, 2), (60, 2)] {
        let mut w = World::with(config.clone());
        let two = [33, 0, 2];
        let (b, _) = w.connect(v5("b", false, expiry_s).property(&two));
        w.send(b, &subscribe(1, &[("t", qos)], Some(&[])));
        w.read(b);
        let (a, _) = w.connect(v3("a", true));
        for n in 0..10u16 {
            w.send(a, &publish("t", &n.to_string(), qos, n + 1).bytes());
        }
        let first = w.read(b);
        assert_eq!(payloads(&first, true), ["0", "1"], "qos {qos}");
        // Each answer lets one more go, and the ids that it had stay taken until then.
        let (mut got, mut open) = (Vec::new(), first);
        while let Some(frame) = open.pop() {
            let id = frame.publish(true).id;
            if frame.publish(true).qos == 1 {
                w.send(b, &puback(id));
            } else {
                w.send(b, &pubrec(id));
                assert!(w.read(b).iter().all(|f| f.kind() == 6));
                w.send(b, &pubcomp(id));
            }
            let more = w.read(b);
            assert!(more.len() <= 1, "{more:?}");
            got.extend(payloads(&more, true));
            open.extend(more);
        }
        assert_eq!(got, ["7", "8", "9"], "qos {qos}, expiry {expiry_s}");
        assert_eq!(w.broker.stats().queued, 0);
    }
}

#[test]
fn acks_queue_without_bound_for_nobody() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", true));
    w.stalled.insert(a);
    for _ in 0..300 {
        w.send(a, &PING.repeat(1000));
    }
    assert!(w.paused.contains(&a));
    assert!(w.out[&a].len() <= 256 << 10);
    w.drain(a);
    assert!(!w.paused.contains(&a));
    assert_eq!(
        w.out[&a].len(),
        600_000,
        "everything is answered in the end"
    );
}

#[test]
fn the_machine_may_live_in_any_task() {
    fn is_send<T: Send>() {}
    is_send::<Broker>();
}

#[test]
fn what_a_subscriber_acknowledged_is_not_sent_again_while_that_is_under_way_to_the_journal() {
    let mut w = World::new();
    let (b, _) = w.connect(v3("b", false));
    w.send(b, &subscribe(1, &[("t", 1)], None));
    let (a, _) = w.connect(v3("a", true));
    w.send(a, &publish("t", "m", 1, 1).bytes());
    let id = w.read(b).last().unwrap().publish(false).id;
    w.sync = false;
    w.send(b, &puback(id));
    w.hang_up(b);
    let (b, _) = w.connect(v3("b", false));
    assert_eq!(w.read(b), []);
    w.fsync_all();
    assert_eq!(w.broker.stats().queued, 0);
}

/// More than may be under way to the log at once, and gone: at QoS 0 nobody sends it again.
#[test]
fn what_a_publisher_sent_before_it_went_is_taken_to_its_end() {
    for says_good_bye in [true, false] {
        let mut w = World::new();
        let (conn, _) = w.connect(v5("p", true, 0).will("last", "words", 0, &[]));
        let mut burst = Vec::new();
        for n in 0..5_000 {
            burst.extend(publish("t", &n.to_string(), 0, 0).v5(&[]).bytes());
        }
        if says_good_bye {
            burst.extend(DISCONNECT);
        }
        // And a half one.
        burst.extend(&publish("t", "half", 0, 0).v5(&[]).bytes()[..5]);
        w.sync = false;
        w.send(conn, &burst);
        w.hang_up(conn);
        assert!(w.journal.len() < 5_000, "the burst has to wait");
        w.fsync_all();
        let mut taken = w.records();
        if !says_good_bye {
            assert_eq!(taken.pop().as_deref(), Some("words"));
        }
        let sent: Vec<String> = (0..5_000).map(|n| n.to_string()).collect();
        assert_eq!(taken, sent);
        assert_eq!(w.broker.stats().connected, 0);
    }
}

/// A 3.1.1 publisher that went while the log is full has its message, and no place is kept for it.
#[test]
fn a_publisher_that_waits_for_room_and_goes_is_forgotten() {
    let mut w = World::new();
    let (conn, _) = w.connect(v3("p", true));
    w.refuse = Some(Refusal::QuotaExceeded);
    w.send(conn, &publish("t", "1", 1, 1).bytes());
    w.send(conn, &publish("t", "2", 0, 0).bytes());
    w.hang_up(conn);
    assert_eq!(w.broker.stats().connected, 0);
}

/// What was dropped before a crash was counted then: the replay that drops it again counts nothing.
#[test]
fn counters_begin_at_zero_with_a_restart() {
    let mut w = World::with(Config {
        queue_messages_max: 3,
        ..Config::default()
    });
    let (s, _) = w.connect(v5("s", false, 100));
    w.send(s, &subscribe(1, &[("t", 1)], Some(&[])));
    w.send(s, &DISCONNECT);
    let (p, _) = w.connect(v5("p", true, 0));
    for n in 0..10u16 {
        let message = publish("t", &n.to_string(), 1, n + 1).v5(&[]);
        w.send(p, &message.bytes());
    }
    assert_eq!(w.broker.stats().dropped_queued, 7);
    w.crash();
    let stats = w.broker.stats();
    assert_eq!((stats.queued, stats.dropped_queued), (3, 0));
    let clients = w.broker.clients();
    assert_eq!((clients[0].queued, clients[0].dropped), (3, 0));
}

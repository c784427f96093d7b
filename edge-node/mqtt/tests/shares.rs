//! Shared subscriptions: one member gets each message, and nobody's leaving loses any.
#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use headwater_mqtt::{Access, CloseReason, Config, Identity, Refusal};

const V5: Option<&[u8]> = Some(&[]);

fn join(w: &mut World, id: &str, filters: &[(&str, u8)], expiry_s: u32) -> u64 {
    let (conn, present) = w.connect(v5(id, false, expiry_s));
    if !present {
        w.send(conn, &subscribe(1, filters, V5));
        let mut frames = w.read(conn);
        let suback = frames.remove(0);
        assert_eq!(suback.kind(), 9);
        let rest = frames.iter().flat_map(Frame::bytes).collect();
        w.out.insert(conn, rest);
        for (reason, (_, qos)) in suback.body[3..].iter().zip(filters) {
            assert_eq!(reason, qos);
        }
    }
    conn
}

fn publish_all(w: &mut World, conn: u64, topic: &str, qos: u8, payloads: std::ops::Range<u32>) {
    for n in payloads {
        let id = if qos > 0 { n as u16 + 1 } else { 0 };
        w.send(
            conn,
            &publish(topic, &n.to_string(), qos, id).v5(&[]).bytes(),
        );
    }
    w.read(conn);
}

/// How a member ends its session: by DISCONNECT with an expiry of 0, or by a clean start.
const ENDS: [fn(&mut World, u64); 2] = [
    |w, a| w.send(a, &[0xe0, 7, 0, 5, 17, 0, 0, 0, 0]),
    |w, _| {
        let again = w.open();
        w.send(again, &v5("a", true, 60).bytes());
    },
];

/// Payloads that came, and their ids; nothing is acknowledged.
fn got(w: &mut World, conn: u64) -> (Vec<u32>, Vec<u16>) {
    let frames = w.read(conn);
    let publishes = frames
        .iter()
        .filter(|f| f.kind() == 3)
        .map(|f| f.publish(true));
    publishes
        .map(|p| {
            (
                String::from_utf8(p.payload)
                    .unwrap()
                    .parse::<u32>()
                    .unwrap(),
                p.id,
            )
        })
        .unzip()
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    for qos in 0..=2 {
        let mut w = World::new();
        let (p, _) = w.connect(v5("p", true, 0));
        let group = [("$share/g/t/+", qos)];
        let members = ["a", "b", "c"].map(|id| join(&mut w, id, &group, 60));
        let alone = join(&mut w, "alone", &[("t/#", qos)], 0);
        publish_all(&mut w, p, "t/1", qos, 0..30);
        let mut all = Vec::new();
        for conn in members {
            let (mine, _) = got(&mut w, conn);
            assert_eq!(mine.len(), 10, "QoS {qos}: {mine:?}");
            all.extend(mine);
        }
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
        assert_eq!(
            got(&mut w, alone).0.len(),
            30,
            "who subscribes alone gets all"
        );
    }
}

#[test]
fn groups_are_named_by_name_and_filter() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    // The same name with two filters: two groups; another name with the same filter: a third.
    let a = join(&mut w, "a", &[("$share/g/t/+", 1), ("$share/g/t/#", 1)], 0);
    let b = join(&mut w, "b", &[("$share/h/t/+", 1), ("t/1", 1)], 0);
    publish_all(&mut w, p, "t/1", 1, 0..4);
    assert_eq!(got(&mut w, a).0, [0, 0, 1, 1, 2, 2, 3, 3]);
    assert_eq!(got(&mut w, b).0, [0, 0, 1, 1, 2, 2, 3, 3]);
    w.send(
        a,
        &unsubscribe(2, &["$share/g/t/+", "t/#", "$share/h/t/+"], V5),
    );
    let unsuback = w.read(a).remove(0);
    assert_eq!(unsuback.body, [0, 2, 0, 0, 0x11, 0x11]);
    publish_all(&mut w, p, "t/2", 1, 4..6);
    assert_eq!(
        (got(&mut w, a).0, got(&mut w, b).0),
        (vec![4, 5], vec![4, 5])
    );
}

#[test]
fn qos_identifier_and_retain_are_those_of_the_members_subscription() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let (a, _) = w.connect(v5("a", true, 0));
    // QoS 1, retain as published, identifier 9.
    w.send(a, &subscribe(1, &[("$share/g/t", 1 | 8)], Some(&[11, 9])));
    w.read(a);
    w.send(p, &publish("t", "x", 2, 1).v5(&[]).retain().bytes());
    let frames = w.read(a);
    let m = frames[0].publish(true);
    assert_eq!(
        (m.qos, m.retain, m.properties.unwrap()),
        (1, true, vec![11, 9])
    );
}

#[test]
fn retained_messages_are_not_dealt_to_a_new_subscription() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    w.send(p, &publish("t", "1", 1, 1).v5(&[]).retain().bytes());
    let a = join(&mut w, "a", &[("$share/g/t", 1)], 0);
    assert_eq!(got(&mut w, a).0, Vec::<u32>::new());
    let b = join(&mut w, "b", &[("t", 1)], 0);
    assert_eq!(got(&mut w, b).0, [1]);
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0));
    w.send(a, &subscribe(1, &[("t", 1), ("$share/g/t", 1 | 4)], V5));
    assert_eq!(w.read(a).pop().unwrap().disconnect().0, 0x82);
    assert!(matches!(w.closed[&a], CloseReason::Protocol(_)));
}

/// Everybody may do everything, but one may not read.
struct OneIsBlind;

impl Access for OneIsBlind {
    fn may_publish(&self, _: Identity<'_>, _: &str) -> bool {
        true
    }
    fn may_subscribe(&self, _: Identity<'_>, _: &str) -> bool {
        true
    }
    fn may_receive(&self, who: Identity<'_>, _: &str) -> bool {
        who.client_id != "blind"
    }
    fn checks_delivery(&self) -> bool {
        true
    }
}

#[test]
fn no_message_is_dealt_to_a_member_that_may_not_read_it() {
    for qos in 0..=2 {
        let mut w = World::new();
        w.broker.set_access(Box::new(OneIsBlind));
        let (p, _) = w.connect(v5("p", true, 0));
        let group = [("$share/g/t", qos)];
        let [blind, sees] = ["blind", "sees"].map(|id| join(&mut w, id, &group, 0));
        publish_all(&mut w, p, "t", qos, 0..10);
        assert_eq!(got(&mut w, blind).0, Vec::<u32>::new());
        assert_eq!(got(&mut w, sees).0, (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn three_one_one_shares_too() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", true));
    w.send(
        a,
        &subscribe(1, &[("$share/g/t", 1), ("$share/g", 1)], None),
    );
    assert_eq!(w.read(a)[0].body, [0, 1, 1, 0x80]);
    w.send(a, &publish("t", "x", 1, 1).bytes());
    assert_eq!(payloads(&w.read(a), false), ["x"]);
}

/// A stalled member gets no more than its window holds while others have room.
#[test]
fn a_member_that_does_not_answer_gets_no_more_than_its_window() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let (slow, _) = w.connect(v5("slow", true, 0).property(&[33, 0, 3]));
    w.send(slow, &subscribe(1, &[("$share/g/t", 1)], V5));
    let quick = join(&mut w, "quick", &[("$share/g/t", 1)], 0);
    w.read(slow);
    for n in 0..40 {
        publish_all(&mut w, p, "t", 1, n..n + 1);
        for id in got(&mut w, quick).1 {
            w.send(quick, &puback(id));
        }
    }
    assert_eq!(got(&mut w, slow).0.len(), 3);
    assert_eq!(w.broker.stats().queued, 3);
}

/// [MQTT-4.8.2-5] and the rules around it: QoS 1 that was not acknowledged goes to another member; of
/// QoS 2 what was never sent does, and what was sent to nobody else.
#[test]
fn what_a_member_leaves_behind_goes_to_others_but_no_qos_2_that_was_sent() {
    for (qos, expiry_s, others) in [(1, 0, 6), (2, 0, 4), (1, 60, 6), (2, 60, 4)] {
        let mut w = World::new();
        let (p, _) = w.connect(v5("p", true, 0));
        // Two in its window, the rest waits.
        let (a, _) = w.connect(v5("a", true, expiry_s).property(&[33, 0, 2]));
        w.send(a, &subscribe(1, &[("$share/g/t", qos)], V5));
        w.read(a);
        publish_all(&mut w, p, "t", qos, 0..6);
        assert_eq!(got(&mut w, a).0, [0, 1]);
        let b = join(&mut w, "b", &[("$share/g/t", qos)], 60);
        assert_eq!(
            got(&mut w, b).0,
            Vec::<u32>::new(),
            "a is there and has them"
        );
        w.hang_up(a);
        let (moved, _) = got(&mut w, b);
        let want: Vec<u32> = (6 - others..6).collect();
        assert_eq!(moved, want, "QoS {qos}, expiry {expiry_s}");
        // What stays waits for its client, as long as it has a session.
        let stays = if expiry_s > 0 { 6 - others } else { 0 };
        assert_eq!(w.broker.stats().queued, u64::from(stays + others));
    }
}

#[test]
fn whoever_comes_back_takes_its_part_of_what_waits_for_the_others() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let group = [("$share/g/t", 1)];
    for id in ["a", "b"] {
        let conn = join(&mut w, id, &group, 60);
        w.send(conn, &DISCONNECT);
    }
    publish_all(&mut w, p, "t", 1, 0..10);
    assert_eq!(w.broker.stats().queued, 10);
    let a = join(&mut w, "a", &group, 60);
    let (mut all, _) = got(&mut w, a);
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_session_that_ends_leaves_its_part_to_members_without_a_connection() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let group = [("$share/g/t", 1)];
    let away = join(&mut w, "away", &group, 600);
    w.send(away, &DISCONNECT);
    let a = join(&mut w, "a", &group, 0);
    publish_all(&mut w, p, "t", 1, 0..5);
    assert_eq!(got(&mut w, a).0, [0, 1, 2, 3, 4]);
    w.hang_up(a);
    assert_eq!(w.broker.stats().queued, 5);
    w.crash();
    let away = join(&mut w, "away", &group, 600);
    assert_eq!(got(&mut w, away).0, [0, 1, 2, 3, 4]);
}

/// What it leaves is in the same frame as its end: a crash behind that frame loses nothing.
#[test]
fn a_durable_session_that_ends_has_given_away_its_part() {
    for end in ENDS {
        let mut w = World::new();
        let (p, _) = w.connect(v5("p", true, 0));
        let group = [("$share/g/t", 1)];
        let a = join(&mut w, "a", &group, 60);
        publish_all(&mut w, p, "t", 1, 0..3);
        let b = join(&mut w, "b", &group, 60);
        w.send(b, &DISCONNECT);
        w.sync = false;
        end(&mut w, a);
        while w.durable < w.journal.len() && w.broker.stats().queued > 0 {
            w.fsync(1);
            let before = w.broker.stats().queued;
            w.crash();
            assert_eq!(w.broker.stats().queued, 3, "{before}");
        }
        w.sync = true;
        let b = join(&mut w, "b", &group, 60);
        assert_eq!(got(&mut w, b).0, [0, 1, 2]);
    }
}

#[test]
fn a_refused_clean_start_takes_nothing_from_the_session_that_stays() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let group = [("$share/g/t", 1)];
    let a = join(&mut w, "a", &group, 60);
    let b = join(&mut w, "b", &group, 60);
    w.send(b, &DISCONNECT);
    w.send(a, &DISCONNECT);
    publish_all(&mut w, p, "t", 1, 0..4);
    w.refuse = Some(Refusal::QuotaExceeded);
    let again = w.open();
    w.send(again, &v5("a", true, 60).bytes());
    assert_eq!(w.read(again)[0].body[1], 0x97);
    w.refuse = None;
    let a = join(&mut w, "a", &group, 60);
    let (mut all, _) = got(&mut w, a);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
}

/// The one it was dealt to leaves while the message is on its way to the disk.
#[test]
fn a_message_under_way_survives_the_member_it_was_dealt_to() {
    for expiry_s in [0, 60] {
        let mut w = World::new();
        let (p, _) = w.connect(v5("p", true, 0));
        let group = [("$share/g/t", 1)];
        let a = join(&mut w, "a", &group, expiry_s);
        w.sync = false;
        w.send(p, &publish("t", "7", 1, 1).v5(&[]).bytes());
        w.hang_up(a);
        w.fsync_all();
        w.fsync_all();
        w.sync = true;
        let b = join(&mut w, "b", &group, 60);
        if expiry_s == 0 {
            assert_eq!(got(&mut w, b).0, Vec::<u32>::new(), "there was nobody left");
            continue;
        }
        assert_eq!(got(&mut w, b).0, [7]);
    }
    // The same with somebody left.
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let group = [("$share/g/t", 1)];
    let a = join(&mut w, "a", &group, 0);
    let b = join(&mut w, "b", &group, 60);
    w.sync = false;
    for n in 0..2 {
        w.send(p, &publish("t", &n.to_string(), 1, n + 1).v5(&[]).bytes());
    }
    w.hang_up(a);
    w.fsync_all();
    w.fsync_all();
    let (mut all, _) = got(&mut w, b);
    all.sort_unstable();
    assert_eq!(all, [0, 1]);
}

/// The one it was dealt to ends its session while the message is on its way to the disk, and somebody
/// else is there: the end waits, and gives that away too.
#[test]
fn a_message_under_way_survives_the_session_it_was_dealt_to() {
    let crashes = |n| (0..n).map(Some).chain([None]);
    for (end, crash) in ENDS
        .iter()
        .flat_map(|end| crashes(8).map(move |c| (end, c)))
    {
        let mut w = World::new();
        let (p, _) = w.connect(v5("p", true, 0));
        let group = [("$share/g/t", 1)];
        let a = join(&mut w, "a", &group, 60);
        let b = join(&mut w, "b", &group, 60);
        w.sync = false;
        for n in 0..4 {
            w.send(p, &publish("t", &n.to_string(), 1, n + 1).v5(&[]).bytes());
        }
        end(&mut w, a);
        w.fsync(4);
        let b = match crash {
            None => {
                w.fsync_all();
                b
            }
            // Behind so many frames after the messages.
            Some(frames) => {
                (0..frames).for_each(|_| w.fsync(1));
                w.crash();
                w.sync = true;
                w.later(1);
                join(&mut w, "b", &group, 60)
            }
        };
        let (mut all, _) = got(&mut w, b);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3], "crash behind {crash:?}");
    }
}

/// A full log refuses the frame that moves it from a member that is away, and that member's session ends
/// before it is offered again.
#[test]
fn what_could_not_move_survives_the_session_it_was_dealt_to() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let group = [("$share/g/t", 1)];
    let a = join(&mut w, "a", &group, 60);
    publish_all(&mut w, p, "t", 1, 0..3);
    let b = join(&mut w, "b", &group, 60);
    w.refuse = Some(Refusal::QuotaExceeded);
    w.hang_up(a);
    w.refuse = None;
    let (_, present) = w.connect(v5("a", true, 60));
    assert!(!present);
    w.later(60_000);
    assert_eq!(got(&mut w, b).0, [0, 1, 2]);
}

#[test]
fn whom_a_message_was_dealt_to_survives_crash_and_checkpoint() {
    for checkpoint in [false, true] {
        let mut w = World::with(Config::default());
        let (p, _) = w.connect(v5("p", true, 0));
        let group = [("$share/g/t", 1)];
        let [a, b] = ["a", "b"].map(|id| join(&mut w, id, &group, 60));
        publish_all(&mut w, p, "t", 1, 0..10);
        let before = [got(&mut w, a).0, got(&mut w, b).0];
        if checkpoint {
            w.checkpoint();
        }
        w.crash();
        assert_eq!(w.broker.stats().subscriptions, 2);
        // Each gets its own again: nobody else was there when it came back first.
        let a = join(&mut w, "a", &group, 60);
        let (mut again, ids) = got(&mut w, a);
        again.sort_unstable();
        assert_eq!(again, (0..10).collect::<Vec<_>>(), "{before:?}");
        ids.iter().for_each(|id| w.send(a, &puback(*id)));
        assert_eq!(w.broker.stats().queued, 0);
        w.checkpoint();
        assert!(
            !w.kv.keys().any(|k| matches!(k[0], b'q' | b'g')),
            "{:?}",
            w.kv
        );
    }
}

/// Dealt and ended in one commit, and no power after it: the next start knows who has the message.
#[test]
fn what_a_member_leaves_behind_survives_a_crash_at_once() {
    for (end, there) in ENDS.into_iter().flat_map(|end| [(end, false), (end, true)]) {
        let mut w = World::new();
        let (p, _) = w.connect(v5("p", true, 0));
        let group = [("$share/g/t", 1)];
        let a = join(&mut w, "a", &group, 60);
        let b = join(&mut w, "b", &group, 60);
        // Both have had one: the next is a's.
        publish_all(&mut w, p, "t", 1, 0..2);
        for conn in [a, b] {
            let ids = got(&mut w, conn).1;
            ids.iter().for_each(|id| w.send(conn, &puback(*id)));
        }
        if !there {
            w.send(b, &DISCONNECT);
            publish_all(&mut w, p, "t", 1, 2..3);
            let ids = got(&mut w, a).1;
            ids.iter().for_each(|id| w.send(a, &puback(*id)));
        }
        w.sync = false;
        w.send(p, &publish("t", "7", 1, 9).v5(&[]).bytes());
        end(&mut w, a);
        w.fsync(w.journal.len() - w.durable);
        w.crash();
        w.sync = true;
        let b = join(&mut w, "b", &group, 60);
        assert_eq!(got(&mut w, b).0, [7], "b is there: {there}");
        w.compare();
    }
}

/// A session that ends with its connection takes what it was dealt with it, and nobody gets it anew.
#[test]
fn what_a_passing_member_had_is_not_dealt_again_by_a_restart() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    let group = [("$share/g/t", 1)];
    let passing = join(&mut w, "passing", &group, 0);
    let lasting = join(&mut w, "lasting", &group, 60);
    publish_all(&mut w, p, "t", 1, 0..10);
    let mine = got(&mut w, lasting);
    mine.1.iter().for_each(|id| w.send(lasting, &puback(*id)));
    let (theirs, ids) = got(&mut w, passing);
    ids.iter().for_each(|id| w.send(passing, &puback(*id)));
    assert_eq!((mine.0.len(), theirs.len()), (5, 5));
    w.crash();
    let lasting = join(&mut w, "lasting", &group, 60);
    assert_eq!(got(&mut w, lasting).0, Vec::<u32>::new());
    assert_eq!(w.broker.stats().queued, 0);
    w.compare();
}

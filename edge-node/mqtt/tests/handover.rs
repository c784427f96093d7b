//! A client that comes back while something about its session is still under way to the journal.
#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use headwater_mqtt::limits::REFUSED_RETRY_MS;
use headwater_mqtt::{Config, Event, Refusal};

/// Opens and sends CONNECT; the answer may have to wait.
fn ask(w: &mut World, connect: &Connect) -> u64 {
    let conn = w.open();
    w.send(conn, &connect.bytes());
    conn
}

/// Everything under way becomes durable, and what comes from now on at once.
fn catch_up(w: &mut World) {
    w.fsync_all();
    w.sync = true;
}

/// Whether a message to `t` reaches the connection.
fn reaches(w: &mut World, conn: u64, v5: bool) -> bool {
    w.read(conn);
    let (other, _) = w.connect(v3("other", true));
    w.send(other, &publish("t", "x", 1, 1).bytes());
    payloads(&w.read(conn), v5) == ["x"]
}

#[test]
fn a_session_does_not_expire_under_a_client_that_is_connecting() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 10));
    w.send(a, &subscribe(1, &[("t", 1)], Some(&[])));
    w.hang_up(a);
    w.later(9_000);
    w.sync = false;
    let a = ask(&mut w, &v5("a", false, 20));
    w.later(2_000);
    catch_up(&mut w);
    assert_eq!(w.read(a)[0].body[..2], [1, 0], "session present");
    assert!(reaches(&mut w, a, true));
    w.later(60_000);
    assert!(reaches(&mut w, a, true));
}

#[test]
fn a_session_expires_after_all_when_its_client_is_refused() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 10));
    w.hang_up(a);
    w.sync = false;
    let a = ask(&mut w, &v5("a", false, 20).will("gone", "first", 0, &[]));
    w.refuse = Some(Refusal::QuotaExceeded);
    let b = ask(&mut w, &v5("a", false, 30));
    assert_eq!(w.read(b)[0].body[1], 0x97);
    assert!(w.closed.contains_key(&a));
    w.refuse = None;
    catch_up(&mut w);
    w.later(30_000);
    assert_eq!(w.broker.clients(), []);
}

#[test]
fn a_delayed_will_is_taken_back_by_the_connect_and_not_by_its_commit() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 100).will("gone", "old", 1, &[24, 0, 0, 0, 5]));
    w.hang_up(a);
    w.later(4_000);
    w.sync = false;
    let a = ask(&mut w, &v5("a", false, 100).will("gone", "new", 1, &[]));
    w.later(2_000);
    catch_up(&mut w);
    assert_eq!(w.records(), Vec::<String>::new());
    w.hang_up(a);
    assert_eq!(w.records(), ["new"]);
}

#[test]
fn the_second_of_two_connects_in_a_row_has_the_session_and_its_own_will() {
    for first_expiry_s in [100, 0] {
        let mut w = World::new();
        let (a, _) = w.connect(v5("a", true, 100));
        w.send(a, &subscribe(1, &[("t", 1)], Some(&[])));
        w.hang_up(a);
        w.sync = false;
        let first = v5("a", false, first_expiry_s).will("gone", "first", 1, &[]);
        ask(&mut w, &first);
        let second = ask(&mut w, &v5("a", false, 100).will("gone", "second", 1, &[]));
        catch_up(&mut w);
        assert_eq!(w.read(second)[0].body[..2], [1, 0], "session present");
        assert!(reaches(&mut w, second, true), "expiry {first_expiry_s}");
        w.hang_up(second);
        assert_eq!(w.records(), ["x", "second"]);
    }
}

#[test]
fn a_clean_session_outlives_the_durable_one_that_was_asked_for_before_it() {
    let mut w = World::new();
    w.sync = false;
    ask(&mut w, &v3("a", false));
    let clean = ask(&mut w, &v3("a", true));
    catch_up(&mut w);
    w.send(clean, &subscribe(1, &[("t", 1)], None));
    assert!(reaches(&mut w, clean, false));
    w.hang_up(clean);
    let (_, present) = w.connect(v3("a", false));
    assert!(!present);
}

#[test]
fn a_session_whose_end_the_log_refused_does_not_cost_its_successor() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 10));
    w.send(a, &subscribe(1, &[("t", 1), ("u", 1)], Some(&[])));
    w.hang_up(a);
    let (b, _) = w.connect(v3("b", true));
    w.send(b, &publish("t", "queued", 1, 1).bytes());
    w.refuse = Some(Refusal::QuotaExceeded);
    w.later(11_000);
    w.refuse = None;
    let (a, present) = w.connect(v5("a", false, 100));
    assert!(!present);
    w.send(a, &subscribe(1, &[("t", 1)], Some(&[])));
    // As the journal has it: the second begins, so the first has ended.
    w.compare();
    w.crash();
    let (a, present) = w.connect(v5("a", false, 100));
    assert!(present);
    assert!(reaches(&mut w, a, true));
    w.checkpoint();
    let of_the_first = |key: &Vec<u8>| key[1..].starts_with(&1u64.to_be_bytes());
    assert!(
        !w.kv.keys().any(of_the_first),
        "nothing is left of the first"
    );
    w.crash();
    let (_, present) = w.connect(v5("a", false, 100));
    assert!(present);
}

#[test]
fn a_will_that_is_offered_again_leaves_the_next_connection_s_will_alone() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 100).will("gone", "old", 1, &[]));
    w.refuse = Some(Refusal::QuotaExceeded);
    w.hang_up(a);
    w.refuse = None;
    let (a, _) = w.connect(v5("a", false, 100).will("gone", "new", 1, &[]));
    w.later(1_500);
    assert_eq!(w.records(), ["old"]);
    w.hang_up(a);
    assert_eq!(w.records(), ["old", "new"]);
}

#[test]
fn a_release_of_a_lost_connection_is_not_offered_again_when_the_id_is_in_use_again() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &publish("t", "1", 2, 7).bytes());
    w.refuse = Some(Refusal::QuotaExceeded);
    w.send(a, &pubrel(7));
    w.refuse = None;
    w.hang_up(a);
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &pubrel(7));
    w.send(a, &publish("t", "2", 2, 7).bytes());
    w.later(1_500);
    w.send(a, &publish("t", "2", 2, 7).dup().bytes());
    assert_eq!(w.records(), ["1", "2"]);
}

#[test]
fn the_send_quota_starts_anew_with_a_connection() {
    let mut w = World::with(Config {
        receive_maximum: 2,
        ..Config::default()
    });
    let (a, _) = w.connect(v5("a", true, 100));
    for id in [1, 2] {
        w.send(a, &publish("t", "x", 2, id).v5(&[]).bytes());
    }
    w.hang_up(a);
    let (a, _) = w.connect(v5("a", false, 100));
    w.sync = false;
    w.send(a, &publish("t", "y", 2, 3).v5(&[]).bytes());
    w.send(a, &pubrel(1));
    w.send(a, &publish("t", "y", 2, 4).v5(&[]).bytes());
    assert!(w.closed.is_empty(), "{:?}", w.closed);
    w.send(a, &publish("t", "y", 2, 4).v5(&[]).dup().bytes());
    assert!(w.closed.is_empty(), "the same again is no more");
    w.send(a, &publish("t", "y", 2, 5).v5(&[]).bytes());
    assert!(w.closed.contains_key(&a));
}

#[test]
fn retained_messages_go_on_when_acknowledgements_have_made_room() {
    let mut w = World::with(Config {
        queue_messages_max: 4,
        ..Config::default()
    });
    let (p, _) = w.connect(v3("p", true));
    for n in 1..=4u16 {
        let topic = format!("r/{n}");
        w.send(p, &publish(&topic, &topic, 1, n).retain().bytes());
    }
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &subscribe(1, &[("r/+", 1)], None));
    let got = w.read(a);
    let ids: Vec<u16> = got[1..].iter().map(|f| f.publish(false).id).collect();
    assert_eq!(ids.len(), 2, "half of the queue");
    w.sync = false;
    w.send(
        a,
        &ids.iter().flat_map(|id| puback(*id)).collect::<Vec<_>>(),
    );
    catch_up(&mut w);
    assert_eq!(payloads(&w.read(a), false), ["r/3", "r/4"]);
}

/// Where all queues together have less room than one may take, that bounds them, too.
#[test]
fn retained_messages_push_nothing_out_of_a_small_share() {
    let mut w = World::with(Config {
        queues_bytes_max: 2_000,
        ..Config::default()
    });
    let (p, _) = w.connect(v3("p", true));
    let long = "x".repeat(300);
    for n in 1..=20u16 {
        w.send(p, &publish(&format!("r/{n}"), &long, 1, n).retain().bytes());
    }
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &subscribe(1, &[("r/+", 1)], None));
    let mut open = w.read(a).split_off(1);
    let mut got = 0;
    while let Some(frame) = open.pop() {
        got += 1;
        w.send(a, &puback(frame.publish(false).id));
        open.extend(w.read(a));
    }
    assert_eq!((got, w.broker.stats().dropped_queued), (20, 0));
}

#[test]
fn a_subscriber_comes_back_to_its_session_though_the_log_is_full() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 100));
    w.send(a, &subscribe(1, &[("t", 1)], Some(&[])));
    assert!(reaches(&mut w, a, true));
    w.refuse = Some(Refusal::QuotaExceeded);
    w.send(a, &puback(1));
    // With another expiry, which the log does not take either.
    w.send(a, &packet(0xe0, &[0, 5, 17, 0, 0, 0, 50]));
    let (a, present) = w.connect(v5("a", false, 50));
    assert!(present);
    w.refuse = None;
    w.later(1_500);
    w.crash();
    w.later(60_000);
    assert_eq!(w.broker.clients(), [], "it was 50 s in the end");
    assert!(!w.closed.contains_key(&a));
}

/// Clients subscribe at every connection. Refused there, they would leave what waits for them where it
/// is, and the log full.
#[test]
fn a_subscriber_asks_again_for_what_it_has_though_the_log_is_full() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &subscribe(1, &[("t", 1)], None));
    w.hang_up(a);
    let (other, _) = w.connect(v3("other", true));
    w.send(other, &publish("t", "x", 1, 1).bytes());
    w.refuse = Some(Refusal::QuotaExceeded);
    let (a, present) = w.connect(v3("a", false));
    assert!(present);
    w.send(a, &subscribe(2, &[("t", 1)], None));
    let got = w.read(a);
    assert_eq!(got[0].publish(false).payload, b"x");
    assert_eq!(got[1].body, [0, 2, 1], "SUBACK");
    // What it does not have is refused.
    w.send(a, &subscribe(3, &[("t", 1), ("u", 1)], None));
    assert_eq!(w.read(a)[0].body, [0, 3, 0x80, 0x80]);
    w.send(a, &subscribe(4, &[("t", 2)], None));
    assert_eq!(w.read(a)[0].body, [0, 4, 0x80]);
}

/// What the log keeps for those who make room is for a client that comes back, too, if with a will.
#[test]
fn coming_back_may_use_the_reserve_and_coming_may_not() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    assert!(!w.journal.last().unwrap().frees_room);
    w.hang_up(a);
    let frames = w.journal.len();
    let (_, present) = w.connect(v3("a", false).will("gone", "x", 1, &[]));
    assert!(present);
    assert_eq!(w.journal.len(), frames + 1, "the will is another one");
    assert!(w.journal.last().unwrap().frees_room);
}

/// It is only there until what is under way is durable.
#[test]
fn a_subscription_that_is_being_taken_back_is_made_again() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &subscribe(1, &[("t", 1)], None));
    w.sync = false;
    w.send(a, &unsubscribe(2, &["t"], None));
    w.hang_up(a);
    let (a, _) = w.connect(v3("a", false));
    w.send(a, &subscribe(3, &[("t", 1)], None));
    catch_up(&mut w);
    w.crash();
    let (a, present) = w.connect(v3("a", false));
    assert!(present && reaches(&mut w, a, false));
}

/// Promise 1: 3.1.1 has no reason codes, so a PUBREC says that the message is stored, whatever the
/// broker meant. The client sent the message, lost its connection and sent it again before the log
/// refused it.
#[test]
fn a_refusal_is_no_acknowledgement_to_a_client_that_came_back() {
    let mut w = World::new();
    let (a, _) = w.connect(v3("a", false));
    w.sync = false;
    w.send(a, &publish("t", "x", 2, 7).bytes());
    let token = w.last_token();
    w.hang_up(a);
    let (a, present) = w.connect(v3("a", false));
    assert!(present);
    w.send(a, &publish("t", "x", 2, 7).dup().bytes());
    w.journal.pop();
    let reason = Refusal::QuotaExceeded;
    w.event(Event::Refused { token, reason });
    assert_eq!(w.read(a), [], "neither stored nor answered");
    // It is held for the connection that waits for it, and offered again.
    w.sync = true;
    w.later(REFUSED_RETRY_MS);
    assert_eq!(w.records(), ["x"]);
    assert_eq!(w.read(a).len(), 1, "PUBREC");
}

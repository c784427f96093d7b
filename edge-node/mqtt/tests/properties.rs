//! What only 5.0 has beside a publish: properties, aliases, expiry, reasons in words.
#![allow(clippy::unwrap_used)]

mod common;
use common::*;
use headwater_mqtt::Refusal;

#[test]
fn a_topic_alias_belongs_to_its_connection() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0));
    w.send(a, &publish("t", "1", 0, 0).v5(&[35, 0, 3]).bytes());
    w.send(a, &publish("", "2", 0, 0).v5(&[35, 0, 3]).bytes());
    w.send(a, &publish("u", "3", 0, 0).v5(&[35, 0, 3]).bytes());
    w.send(a, &publish("", "4", 0, 0).v5(&[35, 0, 3]).bytes());
    let topics: Vec<_> = w
        .journal
        .iter()
        .map(|r| r.publish.clone().unwrap().topic)
        .collect();
    assert_eq!(
        topics.iter().map(|t| &**t).collect::<Vec<_>>(),
        ["t", "t", "u", "u"]
    );
    w.send(a, &publish("", "5", 0, 0).v5(&[35, 0, 4]).bytes());
    assert!(w.closed.contains_key(&a));
    let (b, _) = w.connect(v5("b", true, 0));
    w.send(b, &publish("x", "6", 0, 0).v5(&[35, 0xff, 0]).bytes());
    assert_eq!(w.read(b).pop().unwrap().body[0], 0x94);
}

#[test]
fn a_subscriber_that_knows_aliases_reads_a_long_topic_once() {
    let mut w = World::new();
    let (p, _) = w.connect(v5("p", true, 0));
    // Two aliases at most.
    let (s, _) = w.connect(v5("s", true, 0).property(&[34, 0, 2]));
    let (plain, _) = w.connect(v5("plain", true, 0));
    for conn in [s, plain] {
        w.send(conn, &subscribe(1, &[("#", 0)], Some(&[])));
        w.read(conn);
    }
    let topics = [
        "plant/1", "plant/2", "x", "plant/1", "plant/3", "plant/2", "plant/3",
    ];
    for topic in topics {
        w.send(p, &publish(topic, "v", 0, 0).v5(&[]).bytes());
    }
    let seen: Vec<_> = w
        .read(s)
        .iter()
        .map(|f| f.publish(true))
        .map(|p| (p.topic, p.properties.unwrap()))
        .collect();
    let alias = |topic: &str, n: u8| (topic.to_owned(), vec![35, 0, n]);
    let bare = |topic: &str| (topic.to_owned(), vec![]);
    // A topic shorter than an alias stays as it is, and so does the third.
    let want = [
        alias("plant/1", 1),
        alias("plant/2", 2),
        bare("x"),
        alias("", 1),
        bare("plant/3"),
        alias("", 2),
        bare("plant/3"),
    ];
    assert_eq!(seen, want);
    assert!(
        w.read(plain)
            .iter()
            .all(|f| f.publish(true).properties.unwrap().is_empty())
    );
    // They end with the connection.
    let (s, _) = w.connect(v5("s", true, 0).property(&[34, 0, 2]));
    w.send(s, &subscribe(1, &[("#", 0)], Some(&[])));
    w.read(s);
    w.send(p, &publish("plant/2", "v", 0, 0).v5(&[]).bytes());
    assert_eq!(w.read(s)[0].publish(true).topic, "plant/2");
}

#[test]
fn refusals_say_why_to_clients_that_want_to_read_it() {
    let mut w = World::new();
    w.refuse = Some(Refusal::QuotaExceeded);
    for (property, told) in [
        (vec![], true),
        (vec![23, 1], true),
        (vec![23, 0], false),
        (vec![39, 0, 0, 0, 20], false),
    ] {
        let (p, _) = w.connect(v5("p", true, 0).property(&property));
        w.send(p, &publish("t", "v", 1, 1).v5(&[]).bytes());
        let ack = w.read(p).remove(0);
        assert_eq!(ack.body[..3], [0, 1, 0x97]);
        let text = if ack.body.len() > 3 {
            reason_string(&ack.body[3..])
        } else {
            String::new()
        };
        assert_eq!(text.contains("disk budget"), told, "{property:?}: {text:?}");
    }
    // A CONNACK, a DISCONNECT; and never above the client's maximum packet size.
    let refused = w.open();
    w.send(refused, &v5("a", true, 60).bytes());
    let connack = w.read(refused).remove(0);
    assert_eq!(connack.body[..2], [0, 0x97]);
    assert!(reason_string(&connack.body[2..]).contains("quota"));
    for (property, told) in [(vec![], true), (vec![39, 0, 0, 0, 30], false)] {
        let (a, _) = w.connect(v5("a", true, 0).property(&property));
        w.send(a, &publish("a/#", "v", 0, 0).v5(&[]).bytes());
        let (reason, text) = w.read(a).pop().unwrap().disconnect();
        assert_eq!((reason, text.contains("topic name")), (0x90, told));
    }
}

#[test]
fn message_expiry_counts_down_and_drops() {
    let mut w = World::new();
    let (b, _) = w.connect(v5("b", false, 10_000));
    w.send(b, &subscribe(1, &[("t", 1)], Some(&[])));
    w.hang_up(b);
    let (a, _) = w.connect(v5("a", true, 0));
    w.send(
        a,
        &publish("t", "long", 1, 1).v5(&[2, 0, 0, 0, 100]).bytes(),
    );
    w.send(
        a,
        &publish("t", "short", 1, 2).v5(&[2, 0, 0, 0, 10]).bytes(),
    );
    w.later(40_000);
    w.crash();
    let (b, present) = w.connect(v5("b", false, 10_000));
    assert!(present);
    let got = w.read(b);
    assert_eq!(payloads(&got, true)[0], "long");
    assert_eq!(got[0].publish(true).properties, Some(vec![2, 0, 0, 0, 60]));
}

#[test]
fn properties_pass_in_order_to_v5_and_are_stripped_for_v3() {
    let mut w = World::new();
    let (b, _) = w.connect(v5("b", true, 0));
    w.send(b, &subscribe(1, &[("t", 0)], Some(&[])));
    let (c, _) = w.connect(v3("c", true));
    w.send(c, &subscribe(1, &[("t", 0)], None));
    w.read(b);
    w.read(c);
    let (a, _) = w.connect(v5("a", true, 0));
    let properties = [
        vec![1, 1, 2, 0, 0, 0, 60],
        [vec![3], field("text")].concat(),
        [vec![8], field("re/ply")].concat(),
        [vec![9], field([0xff, 0])].concat(),
        user("k", "1"),
        user("k", "2"),
        user("a", ""),
    ]
    .concat();
    w.send(a, &publish("t", "m", 0, 0).v5(&properties).bytes());
    let got = w.read(b)[0].publish(true).properties.unwrap();
    let expected = [
        vec![2, 0, 0, 0, 60, 1, 1],
        [vec![3], field("text")].concat(),
        [vec![8], field("re/ply")].concat(),
        [vec![9], field([0xff, 0])].concat(),
        user("k", "1"),
        user("k", "2"),
        user("a", ""),
    ];
    assert_eq!(got, expected.concat());
    assert_eq!(payloads(&w.read(c), false), ["m"]);
    let record = w.journal.last().unwrap().publish.clone().unwrap();
    assert_eq!(record.properties.unwrap().user.len(), 3);
    assert_eq!(&*record.client_id, "a");
}

//! `$SYS` topics under Mosquitto's names: values at once, then what changes, and nothing for nobody.
#![allow(clippy::unwrap_used)]

mod common;
use std::collections::BTreeMap;

use common::*;
use headwater_mqtt::{CloseReason, Config};

const V5: Option<&[u8]> = Some(&[]);

/// Topic below `$SYS/broker/` and value of each message that came, and whether it came as retained.
fn told(w: &mut World, conn: u64) -> BTreeMap<String, (String, bool)> {
    let frames = w.read(conn);
    let publishes = frames.iter().filter(|f| f.kind() == 3);
    let told = publishes.map(|f| f.publish(true)).map(|p| {
        assert_eq!(p.qos, 0);
        let name = p.topic.strip_prefix("$SYS/broker/").unwrap().to_owned();
        (name, (String::from_utf8(p.payload).unwrap(), p.retain))
    });
    told.collect()
}

#[test]
fn a_subscriber_gets_every_value_at_once_and_then_what_has_changed() {
    let mut w = World::new();
    w.later(7_000);
    let (a, _) = w.connect(v5("a", true, 0));
    w.send(a, &publish("r", "12345", 1, 1).v5(&[]).retain().bytes());
    let (away, _) = w.connect(v5("away", true, 60));
    w.send(away, &DISCONNECT);
    let (s, _) = w.connect(v5("s", true, 0));
    w.send(s, &subscribe(1, &[("$SYS/#", 0)], V5));
    let first = told(&mut w, s);
    assert!(first.values().all(|(_, retained)| *retained));
    let value = |name: &str| first[name].0.as_str();
    assert_eq!(value("uptime"), "7 seconds");
    assert_eq!(value("clients/connected"), "2");
    assert_eq!(value("clients/total"), "3");
    assert_eq!(value("clients/disconnected"), "1");
    assert_eq!(value("publish/messages/received"), "1");
    assert_eq!(value("publish/bytes/received"), "5");
    assert_eq!(value("retained messages/count"), "1");
    assert_eq!(value("subscriptions/count"), "1");
    // CONNECT three times, PUBLISH, DISCONNECT, SUBSCRIBE.
    assert_eq!(value("messages/received"), "6");
    assert!(value("version").starts_with("headwater"));
    assert_eq!(
        value("load/publish/received/1min"),
        "0.94",
        "1 in 7 s, over a minute"
    );
    w.later(10_100);
    let next = told(&mut w, s);
    assert!(next.values().all(|(_, retained)| !retained));
    assert_eq!(next["uptime"].0, "17 seconds");
    assert!(!next.contains_key("clients/connected"), "{next:?}");
    w.hang_up(a);
    w.later(10_000);
    assert_eq!(told(&mut w, s)["clients/connected"].0, "1");
}

#[test]
fn nothing_is_woken_up_for_while_nobody_listens() {
    let mut w = World::new();
    let (s, _) = w.connect(v5("s", true, 0).keep_alive(0));
    w.send(s, &subscribe(1, &[("#", 0), ("+/broker/uptime", 0)], V5));
    assert_eq!(told(&mut w, s), BTreeMap::new(), "wildcards do not match $");
    w.later(60_000);
    assert_eq!(w.timer, None);
    w.send(s, &subscribe(2, &[("$SYS/broker/uptime", 0)], V5));
    assert_eq!(told(&mut w, s)["uptime"].0, "60 seconds");
    assert!(w.timer.is_some());
    w.send(s, &unsubscribe(3, &["$SYS/broker/uptime"], V5));
    w.later(20_000);
    assert_eq!((told(&mut w, s), w.timer), (BTreeMap::new(), None));
}

#[test]
fn retain_handling_shares_and_identifiers_hold_for_it_too() {
    let mut w = World::new();
    let (s, _) = w.connect(v5("s", true, 0));
    let uptime = "$SYS/broker/uptime";
    let group = "$share/g/$SYS/broker/uptime";
    w.send(s, &subscribe(1, &[(uptime, 0x20), (group, 0)], V5));
    assert_eq!(told(&mut w, s), BTreeMap::new());
    w.send(s, &subscribe(2, &[(uptime, 0x10)], Some(&[11, 5])));
    assert_eq!(told(&mut w, s), BTreeMap::new(), "it is not new");
    w.send(s, &subscribe(3, &[(uptime, 0)], Some(&[11, 5])));
    let frames = w.read(s);
    assert_eq!(frames[1].publish(true).properties.unwrap(), [11, 5]);
    // Its own subscription and the group's.
    let (other, _) = w.connect(v5("other", true, 0));
    w.send(other, &subscribe(1, &[(uptime, 0)], V5));
    told(&mut w, other);
    w.later(10_000);
    assert_eq!(w.read(s).len(), 2);
    assert_eq!(told(&mut w, other).len(), 1);
}

#[test]
fn clients_may_not_publish_there_and_the_operator_may_switch_it_off() {
    let mut w = World::new();
    let (a, _) = w.connect(v5("a", true, 0));
    w.send(a, &publish("$SYS/broker/uptime", "1", 1, 7).v5(&[]).bytes());
    assert_eq!(w.read(a)[0].body[..3], [0, 7, 0x87]);
    w.send(a, &publish("$SYSTEM", "1", 1, 8).v5(&[]).bytes());
    assert_eq!(w.read(a)[0].body, [0, 8]);
    let (b, _) = w.connect(v3("b", true));
    w.send(b, &publish("$SYS", "1", 1, 7).bytes());
    assert_eq!(w.closed[&b], CloseReason::NotAuthorised);
    assert_eq!(w.records(), ["1"]);

    let mut w = World::with(Config {
        sys_interval_s: 0,
        ..Config::default()
    });
    let (s, _) = w.connect(v5("s", true, 0));
    w.send(s, &subscribe(1, &[("$SYS/#", 0)], V5));
    w.later(11_000);
    assert_eq!((told(&mut w, s), w.timer), (BTreeMap::new(), None));
}

//! Session state: clean start, session expiry, what waits for whom (sections 3.1.2.4, 3.1.2.11.2, 4.1).

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.1.2-4",
        "3.1.2-5",
        "A client that comes back finds its session.",
        resumed,
    ),
    v5(
        "3.1.2-6",
        "Without a session to resume a new one starts.",
        created,
    ),
    v3(
        "3.1.2-5",
        "Messages of QoS 1 and 2 wait for a client that is away.",
        stored_messages,
    ),
    both(
        "3.1.2-6",
        "3.1.2-4",
        "A clean start discards the session.",
        discarded,
    ),
    v3(
        "3.1.2-7",
        "Retained messages outlive the session that published them.",
        retained_stays,
    ),
    v5(
        "3.1.2-23",
        "A session with an expiry outlives its connection, with its messages.",
        stored_messages,
    ),
    v3(
        "4.1.0-1",
        "Session state is kept as long as the session lasts.",
        kept_while_connected,
    ),
    v3(
        "4.1.0-2",
        "A session lasts at least as long as its connection.",
        clean_lasts_while_connected,
    ),
    v5(
        "4.1.0-1",
        "Session state is kept while the connection is open.",
        kept_while_connected,
    ),
    v5(
        "4.1.0-2",
        "A session is discarded when its expiry has passed.",
        expired,
    ),
    both(
        "4.5.0-1",
        "4.5.0-1",
        "A message is added to the state of every client with a matching subscription.",
        added,
    ),
    v5(
        "3.1.2.11.2/zero",
        "Without an expiry the session ends with the connection.",
        ends_with_connection,
    ),
    v5(
        "3.1.2.11.2/for-ever",
        "0xffffffff is taken for a session that does not expire.",
        for_ever,
    ),
    v5(
        "3.14.2.2.2/changed",
        "DISCONNECT can shorten and lengthen the expiry.",
        expiry_changed,
    ),
    v5(
        "3.14.2.2.2/from-zero",
        "DISCONNECT cannot give an expiry to a session that had none.",
        expiry_from_zero,
    ),
];

fn resumed(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    demand!(
        !client.session_present,
        "session present at the first CONNECT"
    );
    client.subscribe(&topic, 1)?;
    client.disconnect()?;
    for how in ["DISCONNECT", "cut"] {
        let mut client = b.open(&b.lasting(&id))?;
        demand!(client.session_present, "no session present after {how}");
        b.put(&Message::new(&topic, how).qos(1))?;
        client.take_payload(how)?;
        client.cut()?;
    }
    held("its subscription works on, after DISCONNECT and after a cut")
}

fn created(b: &Broker) -> Outcome {
    let id = b.name();
    let client = b.open(&b.lasting(&id))?;
    demand!(
        !client.session_present,
        "session present at the first CONNECT"
    );
    client.disconnect()?;
    let again = b.open(&b.lasting(&id))?;
    demand!(again.session_present, "what was created is not there");
    held("created, and there the next time")
}

fn stored_messages(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    client.disconnect()?;
    b.put(&Message::new(&topic, "one").qos(1))?;
    b.put(&Message::new(&topic, "two").qos(2))?;
    let mut client = b.open(&b.lasting(&id))?;
    demand!(client.session_present, "no session present");
    let mut came: Vec<(u8, Vec<u8>)> = Vec::new();
    for _ in 0..2 {
        let delivery = client.take()?;
        came.push((delivery.qos, delivery.payload));
    }
    came.sort();
    let wanted = [(1, b"one".to_vec()), (2, b"two".to_vec())];
    demand!(came == wanted, "{came:?}");
    client.silent()?;
    held("one of each, at its QoS")
}

fn discarded(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 1)?;
    client.disconnect()?;
    b.put(&Message::new(&topic, "waiting").qos(1))?;
    // Half of a QoS 2 handshake goes as well: the identifier is free.
    let mut client = b.resumed(&id)?;
    client.take_payload("waiting")?;
    client.send(&Message::new(b.topic(), "old").qos(2).id(9).frame(b.version));
    client.acked(kind::PUBREC, 9)?;
    client.cut()?;
    b.put(&Message::new(&topic, "waiting").qos(1))?;
    let mut fresh = b.open(&b.fresh(&id))?;
    demand!(
        !fresh.session_present,
        "session present after a clean start"
    );
    let elsewhere = b.topic();
    let mut other = b.subscriber(&elsewhere, 2)?;
    fresh.put(&Message::new(&elsewhere, "new").qos(2).id(9))?;
    other.take_payload("new")?;
    b.put(&Message::new(&topic, "later").qos(1))?;
    fresh.silent()?;
    fresh.disconnect()?;
    let mut again = b.open(&b.lasting(&id))?;
    demand!(!again.session_present, "a session is present again");
    again.silent()?;
    held("neither the subscription nor the message that waited")
}

fn retained_stays(b: &Broker) -> Outcome {
    let topic = b.topic();
    b.put(&Message::new(&topic, "kept").qos(1).retain())?;
    b.subscriber(&topic, 1)?.take_payload("kept")?;
    held("the publisher's session is over, the message is there")
}

fn kept_while_connected(b: &Broker) -> Outcome {
    // Half a QoS 2 handshake and a subscription wait over a second in which nothing happens; on 5.0
    // the session would have expired meanwhile, had its connection ended.
    let topic = b.topic();
    let mut connect = b.lasting(&b.name());
    connect.properties = Properties::new().four(property::SESSION_EXPIRY, 1);
    // What the end of an earlier connection has set in motion must have stopped.
    b.open(&connect)?.cut()?;
    let mut client = b.open(&connect)?;
    client.subscribe(&topic, 2)?;
    let message = Message::new(&topic, "once").qos(2).id(7);
    client.send(&message.frame(b.version));
    client.acked(kind::PUBREC, 7)?;
    b.pass(Duration::from_millis(2500));
    client.send(&message.dup().frame(b.version));
    client.acked(kind::PUBREC, 7)?;
    client.send(&ack(kind::PUBREL, 7));
    client.acked(kind::PUBCOMP, 7)?;
    client.take_payload("once")?;
    client.silent()?;
    held("2.5 s later the handshake went on and nothing came twice")
}

fn clean_lasts_while_connected(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 1)?;
    b.pass(Duration::from_millis(1500));
    b.put(&Message::new(&topic, "x").qos(1))?;
    client.take_payload("x")?;
    held("a clean session's subscription, 1.5 s later")
}

fn with_expiry(b: &Broker, id: &str, seconds: u32) -> Connect {
    b.remember(id);
    let expiry = Properties::new().four(property::SESSION_EXPIRY, seconds);
    b.fresh(id).clean(false).properties(expiry)
}

fn expired(b: &Broker) -> Outcome {
    let id = b.name();
    b.open(&with_expiry(b, &id, 1))?.disconnect()?;
    b.pass(Duration::from_millis(3500));
    let again = b.open(&with_expiry(b, &id, 1))?;
    demand!(
        !again.session_present,
        "a session of 1 s is present after 3.5 s"
    );
    held("expiry 1 s, gone after 3.5 s")
}

fn ends_with_connection(b: &Broker) -> Outcome {
    let id = b.name();
    for properties in [
        Properties::new(),
        Properties::new().four(property::SESSION_EXPIRY, 0),
    ] {
        let connect = b.fresh(&id).clean(false).properties(properties);
        b.open(&connect)?.disconnect()?;
        let again = b.open(&connect)?;
        demand!(
            !again.session_present,
            "a session without an expiry is present"
        );
        again.disconnect()?;
    }
    held("without the property, and with 0")
}

fn for_ever(b: &Broker) -> Outcome {
    let id = b.name();
    b.open(&with_expiry(b, &id, u32::MAX))?.disconnect()?;
    let again = b.open(&with_expiry(b, &id, u32::MAX))?;
    demand!(again.session_present, "no session present");
    held("taken, and the session is there")
}

fn disconnect_with(seconds: u32) -> Frame {
    let expiry = Properties::new().four(property::SESSION_EXPIRY, seconds);
    Frame::new(kind::DISCONNECT)
        .u8(0)
        .properties(Version::V5, &expiry)
}

fn expiry_changed(b: &Broker) -> Outcome {
    let (short, long) = (b.name(), b.name());
    let mut client = b.open(&with_expiry(b, &short, 300))?;
    client.send(&disconnect_with(0));
    client.cut()?;
    let mut client = b.open(&with_expiry(b, &long, 1))?;
    client.send(&disconnect_with(300));
    client.cut()?;
    let again = b.open(&with_expiry(b, &short, 300))?;
    demand!(
        !again.session_present,
        "300 s were changed to 0, and the session is present"
    );
    b.pass(Duration::from_millis(2500));
    let again = b.open(&with_expiry(b, &long, 300))?;
    demand!(
        again.session_present,
        "1 s was changed to 300, and the session is gone"
    );
    held("300 s to 0, and 1 s to 300")
}

fn expiry_from_zero(b: &Broker) -> Outcome {
    let id = b.name();
    let mut client = b.open(&b.fresh(&id))?;
    client.send(&disconnect_with(300));
    let said = client.closed()?;
    let again = b.open(&with_expiry(b, &id, 300))?;
    demand!(
        !again.session_present,
        "0 was changed to 300, and the session is present"
    );
    held(said)
}

fn added(b: &Broker) -> Outcome {
    let topic = b.topic();
    let away = b.name();
    let mut client = b.open(&b.lasting(&away))?;
    client.subscribe(&format!("{topic}/+"), 1)?;
    client.disconnect()?;
    let mut exact = b.subscriber(&format!("{topic}/x"), 1)?;
    let mut wild = b.subscriber(&format!("{topic}/#"), 0)?;
    let mut other = b.subscriber(&format!("{topic}/y"), 1)?;
    b.put(&Message::new(format!("{topic}/x"), "m").qos(1))?;
    exact.take_payload("m")?;
    wild.take_payload("m")?;
    b.open(&b.lasting(&away))?.take_payload("m")?;
    other.silent()?;
    held("two that are there, one that is away, and not the fourth, which asked for another topic")
}

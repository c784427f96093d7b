//! Wills: sections 3.1.2.5, 3.1.3.2 (5.0) and 3.14.4.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5("3.1.2-7", "A will is stored with its session.", stored),
    both(
        "3.1.2-8",
        "3.1.2-8",
        "The will is published when the connection ends without DISCONNECT.",
        published,
    ),
    both(
        "3.1.2-10",
        "3.1.2-10",
        "A will is gone once published, and after DISCONNECT.",
        once,
    ),
    v3(
        "3.1.2-12",
        "Without the will flag no will is published.",
        none,
    ),
    both(
        "3.1.2-16",
        "3.1.2-14",
        "Without will retain the will is not retained.",
        not_retained,
    ),
    both(
        "3.1.2-17",
        "3.1.2-15",
        "With will retain the will is retained.",
        retained,
    ),
    v5(
        "3.1.3-9",
        "A client back before the will delay has passed keeps its will unpublished.",
        delay_cancelled,
    ),
    v5(
        "3.1.3-10",
        "User properties of a will keep their order.",
        user_properties,
    ),
    both(
        "3.14.4-3",
        "3.14.4-3",
        "DISCONNECT discards the will.",
        discarded,
    ),
    v5("3.1.3.2.2/delay", "The will waits for its delay.", delayed),
    v5(
        "3.1.3.2.2/session-end",
        "The will does not wait longer than its session lasts.",
        session_end,
    ),
    v5(
        "3.1.3.2/properties",
        "A will carries its properties.",
        properties,
    ),
    v5(
        "3.14.2.1/with-will",
        "DISCONNECT 0x04 has the will published.",
        disconnect_with_will,
    ),
];

fn delay(seconds: u32) -> Properties {
    Properties::new().four(property::WILL_DELAY, seconds)
}

fn stored(b: &Broker) -> Outcome {
    // The session goes on over two more connections, and the will of the last one counts.
    let (id, topic) = (b.name(), b.topic());
    let mut watcher = b.subscriber(&topic, 0)?;
    b.open(&b.lasting(&id).will(Will::new(&topic, "old")))?
        .disconnect()?;
    b.open(&b.lasting(&id).will(Will::new(&topic, "new")))?
        .cut()?;
    watcher.take_payload("new")?;
    watcher.silent()?;
    held("the will of the last CONNECT, and only that one")
}

fn published(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 0)?;
    b.open(&b.willing(&topic, "cut"))?.cut()?;
    watcher.take_payload("cut")?;
    // A protocol error ends the connection without DISCONNECT from the client as well.
    let mut client = b.open(&b.willing(&topic, "error"))?;
    client.send(&Frame::flagged(kind::PUBLISH, 6).field("x"));
    client.closed()?;
    watcher.take_payload("error")?;
    // So does a client that takes over.
    let id = b.name();
    let first = b.open(&b.fresh(&id).will(Will::new(&topic, "taken over")))?;
    let _second = b.open(&b.fresh(&id))?;
    watcher.take_payload("taken over")?;
    drop(first);
    held("after a cut, a protocol error and a take-over")
}

fn once(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut watcher = b.subscriber(&topic, 1)?;
    b.open(&b.lasting(&id).will(Will::new(&topic, "kept back").qos(1)))?
        .disconnect()?;
    b.open(&b.lasting(&id).will(Will::new(&topic, "once").qos(1)))?
        .cut()?;
    watcher.take_payload("once")?;
    // The session goes on without a will: neither of the two comes (again).
    b.open(&b.lasting(&id))?.cut()?;
    b.put(&Message::new(&topic, "marker").qos(1))?;
    watcher.take_payload("marker")?;
    watcher.silent()?;
    held("once, and never after DISCONNECT")
}

fn none(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber("conformance/#", 0)?;
    b.open(&b.fresh(&b.name()))?.cut()?;
    b.put(&Message::new(&topic, "marker"))?;
    loop {
        let delivery = watcher.take()?;
        if delivery.topic == topic {
            demand!(delivery.payload == b"marker", "{delivery:?}");
            return held("a connection without a will ended, and nothing came of it");
        }
    }
}

/// What a later subscriber is given of a will.
fn left_behind(b: &Broker, will: Will) -> Result<Vec<Packet>, Failure> {
    let topic = String::from_utf8_lossy(&will.topic).into_owned();
    let mut watcher = b.subscriber(&topic, 1)?;
    b.open(&b.fresh(&b.name()).will(will))?.cut()?;
    let delivery = watcher.take_payload("will")?;
    demand!(!delivery.retain, "RETAIN to an established subscription");
    b.remember_retained(&topic);
    b.subscriber(&topic, 1)?.rest()
}

fn not_retained(b: &Broker) -> Outcome {
    let left = left_behind(b, Will::new(b.topic(), "will").qos(1))?;
    demand!(left.is_empty(), "{} to a later subscriber", left[0]);
    held("a later subscriber got nothing")
}

fn retained(b: &Broker) -> Outcome {
    let left = left_behind(b, Will::new(b.topic(), "will").qos(1).retain())?;
    match left.as_slice() {
        [Packet::Publish(d)] if d.retain && d.payload == b"will" => {
            held("a later subscriber got it with RETAIN")
        }
        other => Err(Failure(format!("{other:?} to a later subscriber"))),
    }
}

fn delay_cancelled(b: &Broker) -> Outcome {
    let (cut, taken_over, topic) = (b.name(), b.name(), b.topic());
    let mut watcher = b.subscriber(&topic, 1)?;
    let will = || Will::new(&topic, "will").qos(1).properties(delay(4));
    b.open(&b.lasting(&cut).will(will()))?.cut()?;
    let mut back = b.open(&b.lasting(&cut))?;
    let mut first = b.open(&b.lasting(&taken_over).will(will()))?;
    let mut second = b.open(&b.lasting(&taken_over))?;
    first.closed()?;
    b.pass(Duration::from_millis(5000));
    back.ping()?;
    second.ping()?;
    b.put(&Message::new(&topic, "marker").qos(1))?;
    watcher.take_payload("marker")?;
    watcher.silent()?;
    held("back after a cut, and by a take-over: no will a second after its delay")
}

fn delayed(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut watcher = b.subscriber(&topic, 1)?;
    let will = Will::new(&topic, "will").qos(1).properties(delay(5));
    b.open(&b.lasting(&id).will(will))?.cut()?;
    b.pass(Duration::from_millis(800));
    b.put(&Message::new(&topic, "marker").qos(1))?;
    watcher.take_payload("marker")?;
    watcher.take_payload("will")?;
    held("not within 0.8 s, and then it came")
}

fn session_end(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    let will = || Will::new(&topic, "will").qos(1).properties(delay(3600));
    b.open(&b.fresh(&b.name()).will(will()))?.cut()?;
    watcher.take_payload("will")?;
    // A clean start ends the old session, and with it the wait.
    let id = b.name();
    b.open(&b.lasting(&id).will(will()))?.cut()?;
    b.open(&b.fresh(&id))?.disconnect()?;
    watcher.take_payload("will")?;
    let expiry = Properties::new().four(property::SESSION_EXPIRY, 1);
    let id = b.name();
    let connect = b.fresh(&id).clean(false).properties(expiry).will(will());
    b.open(&connect)?.cut()?;
    watcher.take_payload("will")?;
    let after = b.open(&b.lasting(&id))?;
    demand!(
        !after.session_present,
        "the will came before the session's end"
    );
    held("sessions that ended with their connection, by a clean start, and by expiry")
}

fn user_properties(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("a", "2")];
    let properties = pairs
        .iter()
        .fold(Properties::new(), |p, (name, value)| p.pair(name, value));
    let will = Will::new(&topic, "will").qos(1).properties(properties);
    b.open(&b.fresh(&b.name()).will(will))?.cut()?;
    let came = watcher.take_payload("will")?;
    demand!(
        came.properties.pairs() == pairs,
        "{:?}",
        came.properties.pairs()
    );
    held("5 pairs, some of them equal")
}

fn properties(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    let properties = Properties::new()
        .byte(property::PAYLOAD_FORMAT, 1)
        .four(property::MESSAGE_EXPIRY, 1000)
        .field(property::CONTENT_TYPE, "text/plain")
        .field(property::RESPONSE_TOPIC, "answers")
        .field(property::CORRELATION_DATA, b"\x00\xff");
    let will = Will::new(&topic, "will").qos(1).properties(properties);
    b.open(&b.fresh(&b.name()).will(will))?.cut()?;
    let came = watcher.take_payload("will")?.properties;
    demand!(
        came.number(property::PAYLOAD_FORMAT) == Some(1),
        "payload format: {came:?}"
    );
    let expiry = came.number(property::MESSAGE_EXPIRY).unwrap_or(0);
    demand!((900..=1000).contains(&expiry), "message expiry {expiry}");
    demand!(
        came.text(property::CONTENT_TYPE) == Some("text/plain"),
        "content type: {came:?}"
    );
    demand!(
        came.text(property::RESPONSE_TOPIC) == Some("answers"),
        "response topic: {came:?}"
    );
    let correlation = came.binary(property::CORRELATION_DATA);
    demand!(
        correlation == Some(b"\x00\xff"),
        "correlation data: {came:?}"
    );
    held("format, expiry, content type, response topic, correlation data")
}

fn discarded(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    b.open(&b.fresh(&b.name()).will(Will::new(&topic, "will").qos(1)))?
        .disconnect()?;
    b.put(&Message::new(&topic, "marker").qos(1))?;
    watcher.take_payload("marker")?;
    watcher.silent()?;
    held("no will after DISCONNECT")
}

fn disconnect_with_will(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    let mut client = b.open(&b.fresh(&b.name()).will(Will::new(&topic, "will").qos(1)))?;
    client.send(&Frame::new(kind::DISCONNECT).u8(4));
    watcher.take_payload("will")?;
    held("published")
}

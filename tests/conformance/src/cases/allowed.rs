//! What a client may send and seldom does: the broker has to take it (MQTT 5.0, sections 2.2.2.2,
//! 3.1.2.9, 3.1.3 and the properties of each packet).

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "2.2.2.2/connect",
        "CONNECT may have all of its properties.",
        connect,
    ),
    v5(
        "2.2.2.2/will",
        "A will may have all of its properties.",
        will,
    ),
    v5(
        "2.2.2.2/publish",
        "PUBLISH may have all of its properties.",
        publish,
    ),
    v5(
        "2.2.2.2/acknowledgements",
        "PUBACK, PUBREC, PUBREL and PUBCOMP may have codes and properties.",
        acknowledgements,
    ),
    v5(
        "2.2.2.2/subscribe",
        "SUBSCRIBE and UNSUBSCRIBE may have all of their properties.",
        subscriptions,
    ),
    v5(
        "2.2.2.2/disconnect",
        "DISCONNECT may have all of its properties, and any code for clients.",
        disconnect,
    ),
    v5(
        "3.1.2.9/password-alone",
        "A password without a user name is well-formed.",
        password_alone,
    ),
    v5(
        "3.1.3.6/binary",
        "A password is any bytes, or none.",
        password_binary,
    ),
    v5(
        "3.1.3.4/empty",
        "A will may have an empty payload.",
        empty_will,
    ),
    v5(
        "3.1.3.1/not-clean",
        "An empty client id goes without a clean start as well.",
        empty_id,
    ),
    v5(
        "1.5.4/longest",
        "A string may have 65535 bytes.",
        longest_string,
    ),
];

/// User properties, and a reason string where a client may send one.
fn texts(reason: bool) -> Properties {
    let pairs = Properties::new().pair("a", "1").pair("a", "2").pair("", "");
    if reason {
        pairs.field(property::REASON_STRING, "a reason")
    } else {
        pairs
    }
}

fn connect(b: &Broker) -> Outcome {
    let id = b.name();
    b.remember(&id);
    let properties = texts(false)
        .four(property::SESSION_EXPIRY, 30)
        .two(property::RECEIVE_MAXIMUM, 10)
        .four(property::MAXIMUM_PACKET_SIZE, 100_000)
        .two(property::TOPIC_ALIAS_MAXIMUM, 10)
        .byte(property::REQUEST_RESPONSE, 1)
        .byte(property::REQUEST_PROBLEM, 1);
    b.open(&b.fresh(&id).properties(properties))?.ping()?;
    held("7 kinds, CONNACK 0x00")
}

fn will(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    let properties = texts(false)
        .four(property::WILL_DELAY, 0)
        .byte(property::PAYLOAD_FORMAT, 1)
        .four(property::MESSAGE_EXPIRY, 60)
        .field(property::CONTENT_TYPE, "text")
        .field(property::RESPONSE_TOPIC, "answers")
        .field(property::CORRELATION_DATA, "1");
    let will = Will::new(&topic, "will").qos(1).properties(properties);
    b.open(&b.fresh(&b.name()).will(will))?.cut()?;
    watcher.take_payload("will")?;
    held("7 kinds, and it was published")
}

fn publish(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 1)?;
    let mut properties = texts(false)
        .byte(property::PAYLOAD_FORMAT, 1)
        .four(property::MESSAGE_EXPIRY, 60)
        .field(property::CONTENT_TYPE, "text")
        .field(property::RESPONSE_TOPIC, "answers")
        .field(property::CORRELATION_DATA, "1");
    let mut publisher = b.client()?;
    if publisher.connack.has(property::TOPIC_ALIAS_MAXIMUM) {
        properties = properties.two(property::TOPIC_ALIAS, 1);
    }
    publisher.put(&Message::new(&topic, "x").qos(1).properties(properties))?;
    let came = subscriber.take_payload("x")?.properties;
    // All but the alias, which is the connection's own.
    let kinds = came
        .0
        .iter()
        .filter(|(id, _)| *id != property::TOPIC_ALIAS)
        .count();
    demand!(kinds == 8, "{came:?}");
    held("6 kinds and 3 user properties, all passed on but the alias")
}

fn acknowledgements(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 2)?;
    let long = |kind, id, code| {
        let frame = ack(kind, id).u8(code);
        frame.properties(Version::V5, &texts(true))
    };
    for code in [0, 0x10] {
        b.put(&Message::new(&topic, "1").qos(1))?;
        let one = client.delivery()?;
        client.send(&long(kind::PUBACK, one.id, code));
        b.put(&Message::new(&topic, "2").qos(2))?;
        let two = client.delivery()?;
        client.send(&long(kind::PUBREC, two.id, code));
        client.acked(kind::PUBREL, two.id)?;
        client.send(&long(kind::PUBCOMP, two.id, 0));
    }
    client.send(&Message::new(&topic, "3").qos(2).id(3).frame(b.version));
    client.acked(kind::PUBREC, 3)?;
    client.send(&long(kind::PUBREL, 3, 0));
    let code = client.acked(kind::PUBCOMP, 3)?;
    demand!(code == 0, "PUBCOMP 0x{code:02x}");
    client.take_payload("3")?;
    // A code alone, and a code with an empty list.
    client.send(&ack(kind::PUBREL, 99).u8(0x92));
    client.acked(kind::PUBCOMP, 99)?;
    client.send(&ack(kind::PUBREL, 98).u8(0x92).u8(0));
    client.acked(kind::PUBCOMP, 98)?;
    client.silent()?;
    held("with success, with 0x10 and with 0x92")
}

fn subscriptions(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    let mut properties = texts(false);
    if client.connack.number(property::SUBSCRIPTION_IDS_AVAILABLE) != Some(0) {
        properties = properties.variable(property::SUBSCRIPTION_ID, 3);
    }
    let every = 1 | option::NO_LOCAL | option::RETAIN_AS_PUBLISHED | option::RETAIN_IF_NEW;
    let codes = client.subscribe_all(&[(&topic, every)], &properties)?;
    demand!(codes == [1], "SUBACK {codes:02x?}");
    let frame = Frame::new(kind::UNSUBSCRIBE)
        .u16(9)
        .properties(b.version, &texts(false));
    client.send(&frame.field(&topic));
    match client.packet()? {
        Packet::UnsubAck { id: 9, codes, .. } => demand!(codes == [0], "UNSUBACK {codes:02x?}"),
        other => demand!(false, "{other}"),
    }
    held("user properties, an identifier and every option")
}

fn disconnect(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    let properties = texts(true).four(property::SESSION_EXPIRY, 0);
    // All codes but 0x00 have the will published.
    for code in [
        0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ] {
        let will = Will::new(&topic, &code.to_string()).qos(1);
        let mut client = b.open(&b.fresh(&b.name()).will(will))?;
        client.send(
            &Frame::new(kind::DISCONNECT)
                .u8(code)
                .properties(b.version, &properties),
        );
        client.cut()?;
        watcher.take_payload(&code.to_string())?;
    }
    let mut client = b.open(&b.fresh(&b.name()).will(Will::new(&topic, "none").qos(1)))?;
    client.send(
        &Frame::new(kind::DISCONNECT)
            .u8(0)
            .properties(b.version, &properties),
    );
    client.cut()?;
    watcher.silent()?;
    held("12 codes with a reason string and user properties, and 0x00")
}

/// Taken, or refused because of who it is, but not as malformed.
fn login(b: &Broker, connect: &Connect) -> Result<String, Failure> {
    match b.send(connect)?.packet()? {
        Packet::ConnAck {
            code: code @ (0 | 0x86 | 0x87 | 0x8c),
            ..
        } => Ok(format!("CONNACK 0x{code:02x}")),
        other => Err(Failure(format!("{other}"))),
    }
}

fn password_alone(b: &Broker) -> Outcome {
    held(login(b, &b.fresh(&b.name()).password("word"))?)
}

fn password_binary(b: &Broker) -> Outcome {
    let mut seen = Vec::new();
    for password in [b"\xff\x00\xc0".as_slice(), b""] {
        seen.push(login(
            b,
            &b.fresh(&b.name()).user("someone").password(password),
        )?);
    }
    seen.push(login(b, &b.fresh(&b.name()).user("").password("word"))?);
    held(seen.join("; "))
}

fn empty_will(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    b.open(&b.fresh(&b.name()).will(Will::new(&topic, "").qos(1)))?
        .cut()?;
    watcher.take_payload("")?;
    held("published")
}

fn empty_id(b: &Broker) -> Outcome {
    let mut client = b.send(&b.fresh("").clean(false))?;
    match client.packet()? {
        Packet::ConnAck {
            flags: 0,
            code: 0,
            properties,
        } => {
            let id = properties.text(property::ASSIGNED_CLIENT_ID);
            demand!(id.is_some_and(|id| !id.is_empty()), "no assigned client id");
            held("assigned")
        }
        Packet::ConnAck { code: 0x85, .. } => not_offered("empty ids are refused"),
        other => Err(Failure(format!("{other}"))),
    }
}

fn longest_string(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 1)?;
    let long = "\u{e9}".repeat(32_767) + "x";
    let properties = Properties::new()
        .pair(&long, &long)
        .field(property::CONTENT_TYPE, &long);
    b.put(&Message::new(&topic, "x").qos(1).properties(properties))?;
    let came = subscriber.take_payload("x")?.properties;
    let same = came.pairs() == [(long.as_str(), long.as_str())]
        && came.text(property::CONTENT_TYPE) == Some(long.as_str());
    demand!(same, "they came otherwise");
    held("a content type, and both strings of a user property")
}

//! Data representation and packet format: sections 1.5 and 2 (3.1.1: 1.5.3, 2.2.2, 2.3.1).

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "1.5.3-1",
        "1.5.4-1",
        "Ill-formed UTF-8 ends the connection.",
        ill_formed,
    ),
    both(
        "1.5.3-2",
        "1.5.4-2",
        "U+0000 in a string ends the connection.",
        null_character,
    ),
    both(
        "1.5.3-3",
        "1.5.4-3",
        "U+FEFF is a character like any other and is kept.",
        byte_order_mark,
    ),
    v5(
        "1.5.5-1",
        "Variable byte integers have their shortest form.",
        shortest_integers,
    ),
    v5(
        "1.5.7-1",
        "Both strings of a user property are UTF-8.",
        user_property_text,
    ),
    v3(
        "2.2.2-1",
        "The broker's reserved flags have the values of table 2.2.",
        own_flags,
    ),
    v3(
        "2.2.2-2",
        "Invalid flags end the connection.",
        invalid_flags,
    ),
    v5(
        "2.1.3-1",
        "Reserved flags have the values of table 2-2, or the connection ends.",
        both_flags,
    ),
    both(
        "2.3.1-1",
        "2.2.1-3",
        "Packet identifier 0 ends the connection.",
        zero_identifier,
    ),
    both(
        "2.3.1-4",
        "2.2.1-4",
        "The broker's identifiers are non-zero and unused.",
        own_identifiers,
    ),
    both(
        "2.3.1-5",
        "2.2.1-2",
        "A PUBLISH at QoS 0 has no packet identifier.",
        no_identifier,
    ),
    both(
        "2.3.1-6",
        "2.2.1-5",
        "PUBACK, PUBREC, PUBREL, PUBCOMP repeat the PUBLISH's identifier.",
        same_identifier,
    ),
    both(
        "2.3.1-7",
        "2.2.1-6",
        "SUBACK and UNSUBACK repeat the identifier.",
        same_identifier_of_subscriptions,
    ),
    v5(
        "2.2.2-1",
        "Where there are no properties their length is given as 0.",
        property_length_zero,
    ),
];

/// A surrogate, an overlong form, a byte that never occurs, a sequence that is cut off, a code point
/// above U+10FFFF.
pub const ILL_FORMED: [&[u8]; 5] = [
    b"a\xed\xa0\x80b",
    b"a\xc0\x80b",
    b"a\xffb",
    b"ab\xe2\x82",
    b"\xf4\x90\x80\x80",
];

/// The connection of whoever puts these bytes where a string belongs is ended.
fn strings_refused(b: &Broker, bytes: &[u8]) -> Result<(), Failure> {
    let wrong =
        |place: &str, failure: Failure| Failure(format!("{bytes:02x?} as {place}: {}", failure.0));
    let mut connect = b.fresh("");
    connect.id = [b.name().as_bytes(), bytes].concat();
    b.send(&connect)?
        .refused()
        .map_err(|f| wrong("client id", f))?;
    let topic = [b.topic().as_bytes(), bytes].concat();
    let publish = Message::new(&topic, "x").frame(b.version);
    b.after(&publish).map_err(|f| wrong("topic name", f))?;
    let frame = subscribe(b.version, 1, &Properties::new(), &[(&topic, 0)]);
    b.after(&frame).map_err(|f| wrong("topic filter", f))?;
    let frame = unsubscribe(b.version, 1, &[&topic]);
    b.after(&frame)
        .map_err(|f| wrong("topic filter of UNSUBSCRIBE", f))?;
    let connect = b.fresh(&b.name()).user(bytes);
    b.send(&connect)?
        .refused()
        .map_err(|f| wrong("user name", f))?;
    Ok(())
}

fn ill_formed(b: &Broker) -> Outcome {
    for bytes in ILL_FORMED {
        strings_refused(b, bytes)?;
    }
    held("5 sequences in 5 places, each closed")
}

fn null_character(b: &Broker) -> Outcome {
    strings_refused(b, b"a\0b")?;
    held("in 5 places, each closed")
}

fn byte_order_mark(b: &Broker) -> Outcome {
    let topic = b.topic();
    let marked = format!("{topic}/\u{feff}x");
    let plain = format!("{topic}/x");
    let mut with = b.subscriber(&marked, 1)?;
    let mut without = b.subscriber(&plain, 1)?;
    let mut publisher = b.client()?;
    publisher.put(&Message::new(&marked, "marked").qos(1))?;
    publisher.put(&Message::new(&plain, "plain").qos(1))?;
    let delivery = with.take_payload("marked")?;
    demand!(
        delivery.topic == marked,
        "the topic came as {:?}",
        delivery.topic
    );
    without.take_payload("plain")?;
    with.silent()?;
    held("two topics that differ in U+FEFF only are two topics")
}

fn shortest_integers(b: &Broker) -> Outcome {
    // The reader refuses whatever is longer than needed. Both sides of each border of a remaining
    // length, and subscription identifiers of each length.
    let topic = b.topic();
    let mut subscriber = b.client()?;
    let around = topic.len() + 3;
    for size in [127, 128, 16383, 16384] {
        let id = [127, 128, 16383, 16384]
            .iter()
            .position(|s| *s == size)
            .unwrap_or(0);
        let identifier = [127, 128, 2_097_152, 268_435_455][id];
        let properties = Properties::new().variable(property::SUBSCRIPTION_ID, identifier);
        let codes = subscriber.subscribe_all(&[(&topic, 0)], &properties)?;
        if codes == [0xa1] {
            return not_offered("subscription identifiers are refused");
        }
        let own = 1 + varint(identifier).len();
        b.put(&Message::new(&topic, vec![b'x'; size - around - own]))?;
        let delivery = subscriber.take()?;
        let ids = delivery.properties.subscription_ids();
        demand!(
            ids == [identifier as u32],
            "identifier {identifier} came as {ids:?}"
        );
        let remaining = subscriber.last_bytes - 1 - varint(size).len();
        demand!(
            remaining == size,
            "a remaining length of {remaining}, not {size}"
        );
    }
    held("remaining lengths 127 to 16384, identifiers up to 268435455")
}

fn user_property_text(b: &Broker) -> Outcome {
    for bytes in ILL_FORMED {
        for pair in [
            Properties::new().pair(bytes, "v"),
            Properties::new().pair("n", bytes),
        ] {
            let message = Message::new(b.topic(), "x").properties(pair.clone());
            b.after(&message.frame(b.version))?;
            b.send(&b.fresh(&b.name()).properties(pair))?.refused()?;
        }
    }
    held("5 sequences as name and as value, in PUBLISH and CONNECT, each closed")
}

/// Hears every type of packet that a broker sends to a well-behaved client; the reader checks flags.
fn own_flags(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    client.subscribe(&topic, 2)?;
    for qos in 0..3 {
        client.put(&Message::new(&topic, "x").qos(qos))?;
        client.take()?;
    }
    client.unsubscribe(&[&topic])?;
    client.ping()?;
    held("CONNACK, PUBLISH, its acknowledgements, SUBACK, UNSUBACK, PINGRESP")
}

fn invalid_flags(b: &Broker) -> Outcome {
    let none = Properties::new();
    let topic = b.topic();
    let wrong = [
        ack(kind::PUBACK, 1).flags(1),
        ack(kind::PUBREC, 1).flags(2),
        ack(kind::PUBREL, 1).flags(0),
        ack(kind::PUBCOMP, 1).flags(4),
        subscribe(b.version, 1, &none, &[(&topic, 0)]).flags(0),
        unsubscribe(b.version, 1, &[&topic]).flags(8),
        Frame::flagged(kind::PINGREQ, 1),
        Frame::flagged(kind::DISCONNECT, 2),
    ];
    for frame in &wrong {
        let name = kind::name(frame.bytes()[0] >> 4);
        b.after(frame)
            .map_err(|f| Failure(format!("{name}: {}", f.0)))?;
    }
    b.send_bytes(&b.fresh(&b.name()).frame().flags(1).bytes())?
        .refused()?;
    held("in 9 types of packets, each closed")
}

fn both_flags(b: &Broker) -> Outcome {
    own_flags(b)?;
    invalid_flags(b)
}

fn zero_identifier(b: &Broker) -> Outcome {
    let topic = b.topic();
    let none = Properties::new();
    for (what, frame) in [
        ("SUBSCRIBE", subscribe(b.version, 0, &none, &[(&topic, 0)])),
        ("UNSUBSCRIBE", unsubscribe(b.version, 0, &[&topic])),
        (
            "PUBLISH QoS 1",
            Message::new(&topic, "x").qos(1).frame(b.version),
        ),
        (
            "PUBLISH QoS 2",
            Message::new(&topic, "x").qos(2).frame(b.version),
        ),
    ] {
        b.after(&frame)
            .map_err(|f| Failure(format!("{what}: {}", f.0)))?;
    }
    held("in SUBSCRIBE, UNSUBSCRIBE and PUBLISH, each closed")
}

fn own_identifiers(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 2)?;
    let mut publisher = b.client()?;
    for n in 0..10 {
        publisher.put(&Message::new(&topic, "x").qos(1 + n % 2))?;
    }
    // None is acknowledged, so none may come twice. The reader refuses 0.
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(subscriber.delivery()?.id);
    }
    ids.sort_unstable();
    ids.dedup();
    demand!(
        ids.len() == 10,
        "10 messages under way with {} identifiers",
        ids.len()
    );
    held("10 messages under way, 10 identifiers")
}

fn no_identifier(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 2)?;
    for payload in ["", "a", "ab", "abc"] {
        b.put(&Message::new(&topic, payload))?;
        let delivery = subscriber.take_payload(payload)?;
        demand!(delivery.qos == 0, "QoS 0 came as QoS {}", delivery.qos);
    }
    held("payloads of 0 to 3 bytes follow the topic at once")
}

fn same_identifier(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 2)?;
    for id in [1, 2, 255, 256, 4242, 65535] {
        // `put` and `take` accept the same identifier only.
        client.put(&Message::new(&topic, "1").qos(1).id(id))?;
        client.take_payload("1")?;
        client.put(&Message::new(&topic, "2").qos(2).id(id))?;
        client.take_payload("2")?;
    }
    held("identifiers 1 to 65535 at QoS 1 and 2, as sender and as receiver")
}

fn same_identifier_of_subscriptions(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    for id in [1, 256, 65535] {
        let none = Properties::new();
        client.send(&subscribe(b.version, id, &none, &[(&topic, 0)]));
        client.suback(id)?;
        client.send(&unsubscribe(b.version, id, &[&topic]));
        match client.packet()? {
            Packet::UnsubAck { id: got, .. } => demand!(got == id, "UNSUBACK {got} for {id}"),
            other => demand!(false, "{other} instead of an UNSUBACK"),
        }
    }
    held("identifiers 1, 256 and 65535")
}

fn property_length_zero(b: &Broker) -> Outcome {
    // The reader takes a property length from each packet that has one; without it the payload and
    // the codes would be off by one.
    let topic = b.topic();
    let mut client = b.client()?;
    let codes = client.subscribe_all(&[(&topic, 1)], &Properties::new())?;
    demand!(codes == [1], "SUBACK {codes:02x?}");
    client.put(&Message::new(&topic, "payload"))?;
    client.take_payload("payload")?;
    let codes = client.unsubscribe(&[&topic])?;
    demand!(codes == [0], "UNSUBACK {codes:02x?}");
    held("in CONNACK, SUBACK, PUBLISH and UNSUBACK")
}

//! QoS 2: section 4.3.3 and PUBREC, PUBREL, PUBCOMP (3.5 to 3.7).

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.6.1-1",
        "3.6.1-1",
        "Other flags than 0010 on PUBREL end the connection.",
        pubrel_flags,
    ),
    v5(
        "3.5.2-1",
        "PUBREC has one of its reason codes.",
        pubrec_codes,
    ),
    v5(
        "3.6.2-1",
        "PUBREL has one of its reason codes.",
        pubrel_codes,
    ),
    v5(
        "3.7.2-1",
        "PUBCOMP has one of its reason codes.",
        pubcomp_codes,
    ),
    v3(
        "4.3.3-1",
        "QoS 2 as a sender: a new identifier, DUP 0, PUBREL after PUBREC, no PUBLISH after PUBREL.",
        sender,
    ),
    v3(
        "4.3.3-2",
        "QoS 2 as a receiver: PUBREC, no duplicates, PUBCOMP, and then the identifier is free.",
        receiver,
    ),
    v5(
        "4.3.3-1",
        "QoS 2: each new message has an unused identifier.",
        new_identifiers,
    ),
    v5(
        "4.3.3-2",
        "QoS 2: it is first sent with DUP 0.",
        first_without_dup,
    ),
    v5(
        "4.3.3-3",
        "QoS 2: the PUBLISH is unacknowledged until PUBREC.",
        until_pubrec,
    ),
    v5(
        "4.3.3-4",
        "QoS 2: PUBREC is answered with PUBREL of the same identifier.",
        pubrel,
    ),
    v5(
        "4.3.3-5",
        "QoS 2: the PUBREL is unacknowledged until PUBCOMP.",
        until_pubcomp,
    ),
    v5(
        "4.3.3-6",
        "QoS 2: no PUBLISH is sent again once its PUBREL was.",
        no_publish_after_pubrel,
    ),
    v5(
        "4.3.3-7",
        "QoS 2: a message that was sent does not expire.",
        sent_does_not_expire,
    ),
    v5(
        "4.3.3-8",
        "QoS 2: the receiver answers PUBREC with the identifier.",
        pubrec,
    ),
    v5(
        "4.3.3-9",
        "QoS 2: after a PUBREC that refuses, the identifier is free.",
        after_refusal,
    ),
    v5(
        "4.3.3-10",
        "QoS 2: until PUBREL the same identifier is a duplicate: PUBREC, and no second delivery.",
        duplicates,
    ),
    v5(
        "4.3.3-11",
        "QoS 2: PUBREL is answered with PUBCOMP of the same identifier.",
        pubcomp,
    ),
    v5(
        "4.3.3-12",
        "QoS 2: after PUBCOMP the identifier is free.",
        identifier_free,
    ),
    v5(
        "4.3.3-13",
        "QoS 2: the receiver goes on with the handshake although the message expired.",
        expired_goes_on,
    ),
    v5(
        "4.3.3/over-reconnect",
        "QoS 2: what the receiver knows outlives the connection.",
        duplicates_over_reconnect,
    ),
    v3(
        "4.3.3/many-open",
        "However many QoS 2 messages are under way, each is acknowledged and delivered.",
        many_open,
    ),
];

fn pubrel_flags(b: &Broker) -> Outcome {
    for flags in [0, 1, 3, 6, 10] {
        let mut client = b.client()?;
        client.send(&Message::new(b.topic(), "x").qos(2).id(1).frame(b.version));
        client.acked(kind::PUBREC, 1)?;
        client.send(&ack(kind::PUBREL, 1).flags(flags));
        client
            .closed()
            .map_err(|f| Failure(format!("flags {flags}: {}", f.0)))?;
    }
    held("5 other values, each closed")
}

/// A subscriber that is sent one message at QoS 2, and that message.
fn one_open<'b>(b: &'b Broker, id: &str, topic: &str) -> Result<(Client<'b>, Delivery), Failure> {
    let mut client = b.open(&b.lasting(id))?;
    client.subscribe(topic, 2)?;
    b.put(&Message::new(topic, "x").qos(2))?;
    let delivery = client.delivery()?;
    Ok((client, delivery))
}

fn new_identifiers(b: &Broker) -> Outcome {
    let topic = b.topic();
    let (mut client, one) = one_open(b, &b.name(), &topic)?;
    b.put(&Message::new(&topic, "y").qos(2))?;
    let two = client.delivery()?;
    demand!(one.id != two.id, "both have the identifier {}", one.id);
    // It is in use until PUBCOMP.
    client.send(&ack(kind::PUBREC, one.id));
    client.acked(kind::PUBREL, one.id)?;
    b.put(&Message::new(&topic, "z").qos(2))?;
    let three = client.delivery()?;
    let used = three.id == one.id || three.id == two.id;
    demand!(!used, "the identifier {} is still in use", three.id);
    held(format!("{}, {} and {}", one.id, two.id, three.id))
}

fn first_without_dup(b: &Broker) -> Outcome {
    let (_client, delivery) = one_open(b, &b.name(), &b.topic())?;
    let right = delivery.qos == 2 && !delivery.dup;
    demand!(right, "{}", Packet::Publish(delivery));
    held("QoS 2, DUP 0")
}

fn until_pubrec(b: &Broker) -> Outcome {
    let id = b.name();
    let (client, first) = one_open(b, &id, &b.topic())?;
    client.cut()?;
    let mut client = b.open(&b.lasting(&id))?;
    let again = client.delivery()?;
    let same = again.dup && again.id == first.id && again.payload == first.payload;
    demand!(
        same,
        "{} after {}",
        Packet::Publish(again),
        Packet::Publish(first)
    );
    client.acknowledge(&again)?;
    client.ping()?;
    client.cut()?;
    b.resumed(&id)?.silent()?;
    held("came again with DUP, and no more after the handshake")
}

fn pubrel(b: &Broker) -> Outcome {
    let (mut client, delivery) = one_open(b, &b.name(), &b.topic())?;
    client.send(&ack(kind::PUBREC, delivery.id));
    let code = client.acked(kind::PUBREL, delivery.id)?;
    demand!(code == 0, "PUBREL 0x{code:02x}");
    client.send(&ack(kind::PUBCOMP, delivery.id));
    client.silent()?;
    held(format!("PUBREL id {}", delivery.id))
}

/// A session whose client has sent PUBREC and got PUBREL, and is cut off.
fn half_way(b: &Broker, id: &str) -> Result<Delivery, Failure> {
    let (mut client, delivery) = one_open(b, id, &b.topic())?;
    client.send(&ack(kind::PUBREC, delivery.id));
    client.acked(kind::PUBREL, delivery.id)?;
    client.cut()?;
    Ok(delivery)
}

fn until_pubcomp(b: &Broker) -> Outcome {
    let id = b.name();
    let delivery = half_way(b, &id)?;
    for _ in 0..2 {
        let mut client = b.open(&b.lasting(&id))?;
        client.acked(kind::PUBREL, delivery.id)?;
        client.cut()?;
    }
    let mut client = b.open(&b.lasting(&id))?;
    client.acked(kind::PUBREL, delivery.id)?;
    client.send(&ack(kind::PUBCOMP, delivery.id));
    client.ping()?;
    client.cut()?;
    b.resumed(&id)?.silent()?;
    held("at each of 3 reconnects, and no more after PUBCOMP")
}

fn no_publish_after_pubrel(b: &Broker) -> Outcome {
    let id = b.name();
    let delivery = half_way(b, &id)?;
    let came = b.resumed(&id)?.rest()?;
    match came.as_slice() {
        [
            Packet::Ack {
                kind: kind::PUBREL,
                id,
                ..
            },
        ] if *id == delivery.id => held("the PUBREL alone came again"),
        other => Err(Failure(format!("{other:?} after a reconnect"))),
    }
}

fn sender(b: &Broker) -> Outcome {
    new_identifiers(b)?;
    first_without_dup(b)?;
    until_pubrec(b)?;
    pubrel(b)?;
    until_pubcomp(b)?;
    no_publish_after_pubrel(b)
}

fn sent_does_not_expire(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    let expiry = Properties::new().four(property::MESSAGE_EXPIRY, 3);
    b.put(&Message::new(&topic, "x").qos(2).properties(expiry))?;
    let first = client.delivery()?;
    client.cut()?;
    b.pass(Duration::from_millis(4500));
    let mut client = b.open(&b.lasting(&id))?;
    let again = client.take_payload("x")?;
    demand!(
        again.id == first.id,
        "identifier {} instead of {}",
        again.id,
        first.id
    );
    held("of 3 s, sent before it expired: it came again 4.5 s later")
}

fn pubrec(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for id in [1, 300, 65535] {
        client.send(&Message::new(b.topic(), "x").qos(2).id(id).frame(b.version));
        let code = client.acked(kind::PUBREC, id)?;
        demand!(code < 0x80, "PUBREC 0x{code:02x}");
    }
    held("identifiers 1, 300 and 65535")
}

fn after_refusal(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 0)?;
    let refused = Message::new(format!("$SYS/{topic}"), "x").qos(2).id(4);
    client.send(&refused.frame(b.version));
    let code = match client.acked(kind::PUBREC, 4) {
        Ok(code) if code >= 0x80 => code,
        _ => return not_offered("no PUBLISH that is refused with PUBREC is known"),
    };
    client.put(&Message::new(&topic, "y").qos(2).id(4))?;
    client.take_payload("y")?;
    held(format!(
        "PUBREC 0x{code:02x}, and the identifier served the next message"
    ))
}

fn duplicates(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 2)?;
    let mut publisher = b.client()?;
    let message = Message::new(&topic, "once").qos(2).id(9);
    for message in [message.clone(), message.dup()] {
        publisher.send(&message.frame(b.version));
        publisher.acked(kind::PUBREC, 9)?;
    }
    publisher.send(&ack(kind::PUBREL, 9));
    publisher.acked(kind::PUBCOMP, 9)?;
    publisher.put(&Message::new(&topic, "marker").qos(2))?;
    subscriber.take_payload("once")?;
    subscriber.take_payload("marker")?;
    held("sent twice, two PUBRECs, once delivered")
}

fn duplicates_over_reconnect(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut subscriber = b.subscriber(&topic, 2)?;
    let message = Message::new(&topic, "once").qos(2).id(9);
    let mut publisher = b.open(&b.lasting(&id))?;
    publisher.send(&message.frame(b.version));
    publisher.acked(kind::PUBREC, 9)?;
    publisher.cut()?;
    let mut publisher = b.open(&b.lasting(&id))?;
    publisher.send(&message.dup().frame(b.version));
    publisher.acked(kind::PUBREC, 9)?;
    publisher.cut()?;
    let mut publisher = b.open(&b.lasting(&id))?;
    publisher.send(&ack(kind::PUBREL, 9));
    let code = publisher.acked(kind::PUBCOMP, 9)?;
    demand!(code == 0, "PUBCOMP 0x{code:02x}");
    publisher.put(&Message::new(&topic, "marker").qos(2))?;
    subscriber.take_payload("once")?;
    subscriber.take_payload("marker")?;
    held("PUBLISH, DUP and PUBREL on three connections, once delivered")
}

fn pubcomp(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for id in [1, 300, 65535] {
        client.put(&Message::new(b.topic(), "x").qos(2).id(id))?;
    }
    // Also to one that it does not know.
    client.send(&ack(kind::PUBREL, 1234));
    client.acked(kind::PUBCOMP, 1234)?;
    held("identifiers 1, 300, 65535, and an unknown one")
}

fn identifier_free(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 2)?;
    let mut publisher = b.client()?;
    for (payload, dup) in [("one", false), ("two", false), ("three", true)] {
        let mut message = Message::new(&topic, payload).qos(2).id(5);
        message.dup = dup;
        publisher.put(&message)?;
        subscriber.take_payload(payload)?;
    }
    held("3 messages under one identifier, the last with DUP")
}

fn receiver(b: &Broker) -> Outcome {
    pubrec(b)?;
    duplicates(b)?;
    duplicates_over_reconnect(b)?;
    pubcomp(b)?;
    identifier_free(b)
}

fn expired_goes_on(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    let expiry = Properties::new().four(property::MESSAGE_EXPIRY, 1);
    let message = Message::new(b.topic(), "x").qos(2).id(3).properties(expiry);
    client.send(&message.frame(b.version));
    client.acked(kind::PUBREC, 3)?;
    b.pass(Duration::from_millis(2500));
    client.send(&ack(kind::PUBREL, 3));
    let code = client.acked(kind::PUBCOMP, 3)?;
    demand!(code == 0, "PUBCOMP 0x{code:02x}");
    held("PUBCOMP 0x00, 1.5 s after it expired")
}

fn pubrec_codes(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    let mut seen = Vec::new();
    for (id, subscribed) in [(1, false), (2, true)] {
        if subscribed {
            client.subscribe(&topic, 0)?;
        }
        client.send(&Message::new(&topic, "x").qos(2).id(id).frame(b.version));
        seen.push(client.acked(kind::PUBREC, id)?);
    }
    demand!(matches!(seen[0], 0 | 0x10) && seen[1] == 0, "{seen:02x?}");
    held(format!("without and with a subscriber: {seen:02x?}"))
}

fn pubrel_codes(b: &Broker) -> Outcome {
    let (mut client, delivery) = one_open(b, &b.name(), &b.topic())?;
    client.send(&ack(kind::PUBREC, delivery.id));
    let known = client.acked(kind::PUBREL, delivery.id)?;
    demand!(known == 0, "PUBREL 0x{known:02x}");
    // What it says to a PUBREC that it does not expect has one of the codes too.
    client.send(&ack(kind::PUBREC, 4321));
    let came = client.rest()?;
    let right = match came.as_slice() {
        [] => true,
        [packet] => matches!(
            packet,
            Packet::Ack {
                kind: kind::PUBREL,
                id: 4321,
                ..
            }
        ),
        _ => false,
    };
    demand!(right, "{} packets to an unknown PUBREC", came.len());
    let said = came.first().map_or("nothing".into(), Packet::to_string);
    held(format!("0x00; to an unknown PUBREC: {said}"))
}

fn pubcomp_codes(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    client.send(&Message::new(b.topic(), "x").qos(2).id(1).frame(b.version));
    client.acked(kind::PUBREC, 1)?;
    let mut seen = Vec::new();
    for id in [1, 1, 999] {
        client.send(&ack(kind::PUBREL, id));
        seen.push(client.acked(kind::PUBCOMP, id)?);
    }
    let right = seen[0] == 0 && seen[1] == seen[2] && matches!(seen[1], 0 | 0x92);
    demand!(right, "{seen:02x?}");
    held(format!(
        "to a known PUBREL, a repeated and an unknown one: {seen:02x?}"
    ))
}

/// More than any window that a broker of 5.0 would tell.
const MANY_OPEN: u16 = 1500;

fn many_open(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 2)?;
    let mut publisher = b.client()?;
    let ids = 1..=MANY_OPEN;
    for id in ids.clone() {
        let message = Message::new(&topic, id.to_string()).qos(2).id(id);
        publisher.send(&message.frame(b.version));
    }
    for id in ids.clone() {
        publisher.acked(kind::PUBREC, id)?;
    }
    for id in ids.clone() {
        publisher.send(&ack(kind::PUBREL, id));
    }
    for id in ids.clone() {
        publisher.acked(kind::PUBCOMP, id)?;
    }
    for id in ids {
        subscriber.take_payload(&id.to_string())?;
    }
    held(format!("{MANY_OPEN} at once, all delivered in order"))
}

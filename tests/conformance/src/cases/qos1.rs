//! QoS 0 and 1, and what is sent again: sections 4.3.1, 4.3.2, 4.4 and PUBACK (3.4).

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "4.3.1-1",
        "4.3.1-1",
        "QoS 0 is sent with DUP 0, once, and is not acknowledged.",
        qos_zero,
    ),
    v3(
        "4.3.2-1",
        "QoS 1 as a sender: a new identifier, DUP 0, unacknowledged until PUBACK.",
        sender,
    ),
    v3(
        "4.3.2-2",
        "QoS 1 as a receiver: PUBACK, and then the identifier is free.",
        receiver,
    ),
    v5(
        "4.3.2-1",
        "QoS 1: each new message has an unused identifier.",
        new_identifiers,
    ),
    v5(
        "4.3.2-2",
        "QoS 1: it is first sent with DUP 0.",
        first_without_dup,
    ),
    v5(
        "4.3.2-3",
        "QoS 1: it is unacknowledged until PUBACK.",
        until_puback,
    ),
    v5(
        "4.3.2-4",
        "QoS 1: the receiver answers PUBACK with the identifier.",
        puback,
    ),
    v5(
        "4.3.2-5",
        "QoS 1: after PUBACK the same identifier is a new message, DUP or not.",
        identifier_free,
    ),
    both(
        "4.4.0-1",
        "4.4.0-1",
        "After a reconnect unacknowledged PUBLISH and PUBREL are sent again; on 5.0 at no other time.",
        sent_again,
    ),
    v5(
        "4.4.0-2",
        "A message refused with PUBACK or PUBREC is not sent again.",
        refused_not_again,
    ),
    v5(
        "3.4.2-1",
        "PUBACK has one of its reason codes.",
        puback_codes,
    ),
];

fn qos_zero(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 2)?;
    let mut publisher = b.client()?;
    publisher.put(&Message::new(&topic, "x"))?;
    publisher.silent()?;
    let delivery = subscriber.take_payload("x")?;
    demand!(
        delivery.qos == 0 && !delivery.dup,
        "{}",
        Packet::Publish(delivery)
    );
    subscriber.silent()?;
    held("delivered once at QoS 0 without DUP")
}

/// Two messages at QoS 1 that the subscriber has and did not acknowledge.
fn two_open<'b>(
    b: &'b Broker,
    id: &str,
    topic: &str,
) -> Result<(Client<'b>, [Delivery; 2]), Failure> {
    let mut client = b.open(&b.lasting(id))?;
    client.subscribe(topic, 1)?;
    let mut publisher = b.client()?;
    publisher.put(&Message::new(topic, "one").qos(1))?;
    publisher.put(&Message::new(topic, "two").qos(1))?;
    let both = [client.delivery()?, client.delivery()?];
    Ok((client, both))
}

fn new_identifiers(b: &Broker) -> Outcome {
    let (_client, [one, two]) = two_open(b, &b.name(), &b.topic())?;
    demand!(one.id != two.id, "both have the identifier {}", one.id);
    held(format!("{} and {}", one.id, two.id))
}

fn first_without_dup(b: &Broker) -> Outcome {
    let (_client, both) = two_open(b, &b.name(), &b.topic())?;
    for delivery in both {
        let right = delivery.qos == 1 && !delivery.dup;
        demand!(right, "{}", Packet::Publish(delivery));
    }
    held("QoS 1, DUP 0")
}

fn until_puback(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let (mut client, [one, two]) = two_open(b, &id, &topic)?;
    client.acknowledge(&one)?;
    client.ping()?;
    client.cut()?;
    let mut client = b.open(&b.lasting(&id))?;
    let again = client.take_payload("two")?;
    demand!(
        again.id == two.id,
        "identifier {} instead of {}",
        again.id,
        two.id
    );
    client.silent()?;
    client.cut()?;
    b.resumed(&id)?.silent()?;
    held("the acknowledged one came no more, the other one until its PUBACK")
}

fn sender(b: &Broker) -> Outcome {
    new_identifiers(b)?;
    first_without_dup(b)?;
    until_puback(b)
}

fn puback(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for id in [1, 300, 65535] {
        client.put(&Message::new(b.topic(), "x").qos(1).id(id))?;
    }
    held("identifiers 1, 300 and 65535")
}

fn identifier_free(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 1)?;
    let mut publisher = b.client()?;
    for (payload, dup) in [("one", false), ("two", false), ("three", true)] {
        let mut message = Message::new(&topic, payload).qos(1).id(5);
        message.dup = dup;
        publisher.put(&message)?;
        subscriber.take_payload(payload)?;
    }
    held("3 messages under one identifier, the last with DUP")
}

fn receiver(b: &Broker) -> Outcome {
    puback(b)?;
    identifier_free(b)
}

fn sent_again(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    let mut publisher = b.client()?;
    publisher.put(&Message::new(&topic, "one").qos(1))?;
    let one = client.delivery()?;
    publisher.put(&Message::new(&topic, "two").qos(2))?;
    let two = client.delivery()?;
    publisher.put(&Message::new(&topic, "three").qos(2))?;
    let three = client.delivery()?;
    client.send(&ack(kind::PUBREC, three.id));
    client.acked(kind::PUBREL, three.id)?;
    if b.version == Version::V5 {
        // Nothing is acknowledged for longer than any retry timer of old would have waited ...
        b.pass(Duration::from_millis(2500));
    }
    // ... and still nothing comes again on this connection.
    client.silent()?;
    client.cut()?;
    let mut client = b.open(&b.lasting(&id))?;
    for first in [&one, &two] {
        let again = client.find(
            "a PUBLISH",
            |p| matches!(p, Packet::Publish(d) if d.id == first.id),
        )?;
        let right = matches!(&again, Packet::Publish(d) if d.dup && d.payload == first.payload);
        demand!(right, "{again}");
    }
    client.acked(kind::PUBREL, three.id)?;
    client.silent()?;
    held("PUBLISH QoS 1 and 2 and a PUBREL, under their identifiers")
}

fn refused_not_again(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    let mut publisher = b.client()?;
    for (qos, kind) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        publisher.put(&Message::new(&topic, "x").qos(qos))?;
        let delivery = client.delivery()?;
        client.send(&ack(kind, delivery.id).u8(0x83));
    }
    // A PUBREL here would go on with what is over.
    client.silent()?;
    client.cut()?;
    b.resumed(&id)?.silent()?;
    held("PUBACK 0x83 and PUBREC 0x83: neither came again")
}

fn puback_codes(b: &Broker) -> Outcome {
    // The reader takes no others.
    let topic = b.topic();
    let mut client = b.client()?;
    let mut seen = Vec::new();
    for subscribed in [false, true] {
        if subscribed {
            client.subscribe(&topic, 0)?;
        }
        client.send(&Message::new(&topic, "x").qos(1).id(77).frame(b.version));
        seen.push(client.acked(kind::PUBACK, 77)?);
    }
    demand!(matches!(seen[0], 0 | 0x10) && seen[1] == 0, "{seen:02x?}");
    held(format!("without and with a subscriber: {seen:02x?}"))
}

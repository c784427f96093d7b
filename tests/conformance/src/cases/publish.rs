//! PUBLISH: fixed header, topic name, responses (sections 3.3.1, 3.3.2.1, 3.3.4).

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.3.1-1",
        "3.3.1-1",
        "A message that is delivered again has DUP.",
        dup_again,
    ),
    both("3.3.1-2", "3.3.1-2", "DUP is 0 at QoS 0.", dup_at_zero),
    both(
        "3.3.1-3",
        "3.3.1-3",
        "DUP is not passed on from the publisher.",
        dup_not_passed,
    ),
    both(
        "3.3.1-4",
        "3.3.1-4",
        "QoS 3 ends the connection.",
        qos_three,
    ),
    both(
        "3.3.2-1",
        "3.3.2-1",
        "The topic name comes first and is UTF-8.",
        topic_text,
    ),
    both(
        "3.3.2-2",
        "3.3.2-2",
        "A topic name has no wildcards.",
        topic_wildcards,
    ),
    both(
        "3.3.2-3",
        "3.3.2-3",
        "The topic of a delivery matches the filter.",
        topic_matches,
    ),
    both(
        "3.3.4-1",
        "3.3.4-1",
        "QoS 0 has no answer, QoS 1 a PUBACK, QoS 2 a PUBREC.",
        responses,
    ),
    v3(
        "3.3.5-2",
        "A publish that is not authorised is acknowledged all the same, or the connection closed.",
        not_authorised,
    ),
    v5(
        "3.3.4-6",
        "A PUBLISH from a client has no subscription identifier.",
        subscription_identifier,
    ),
];

fn dup_again(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    b.put(&Message::new(&topic, "one").qos(1))?;
    let one = client.delivery()?;
    b.put(&Message::new(&topic, "two").qos(2))?;
    let two = client.delivery()?;
    demand!(!one.dup && !two.dup, "DUP on the first delivery");
    client.cut()?;
    let mut client = b.open(&b.lasting(&id))?;
    for first in [one, two] {
        let again = client.delivery()?;
        let same = again.id == first.id && again.payload == first.payload;
        demand!(
            again.dup && same,
            "{} after {}",
            Packet::Publish(again),
            Packet::Publish(first)
        );
    }
    held("QoS 1 and 2 after a cut")
}

fn dup_at_zero(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 0)?;
    // The reader refuses a DUP at QoS 0.
    b.put(&Message::new(&topic, "x").qos(1).dup())?;
    subscriber.take_payload("x")?;
    let said = b.after(&Message::new(&topic, "y").dup().frame(b.version))?;
    held(format!("none sent; from a client: {said}"))
}

fn dup_not_passed(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 2)?;
    for qos in [1, 2] {
        b.put(&Message::new(&topic, "x").qos(qos).dup())?;
        let delivery = subscriber.take_payload("x")?;
        demand!(!delivery.dup, "DUP passed on at QoS {qos}");
    }
    held("published with DUP at QoS 1 and 2, delivered without")
}

fn qos_three(b: &Broker) -> Outcome {
    held(b.after(&Message::new(b.topic(), "x").qos(3).id(1).frame(b.version))?)
}

fn topic_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        b.after(&Message::new(bytes, "x").frame(b.version))?;
    }
    // A topic length that reaches beyond the packet.
    b.after(&Frame::new(kind::PUBLISH).u16(500).raw(b"short"))?;
    held("5 ill-formed topics and one cut short, each closed")
}

fn topic_wildcards(b: &Broker) -> Outcome {
    for end in ["#", "+", "x/+/y", "x+", "#x"] {
        let topic = format!("{}/{end}", b.topic());
        let said = b.after(&Message::new(&topic, "x").frame(b.version));
        said.map_err(|f| Failure(format!("{end:?}: {}", f.0)))?;
    }
    held("5 topics with + and #, each closed")
}

fn topic_matches(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&format!("{topic}/+/a"), 1)?;
    let mut publisher = b.client()?;
    for end in ["x/b", "a", "x/y/a", "x/a"] {
        publisher.put(&Message::new(format!("{topic}/{end}"), "m").qos(1))?;
    }
    let delivery = subscriber.take()?;
    demand!(
        delivery.topic == format!("{topic}/x/a"),
        "{}",
        delivery.topic
    );
    subscriber.silent()?;
    held("the one that matches, of 4")
}

fn responses(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.client()?;
    client.send(&Message::new(&topic, "0").frame(b.version));
    client.silent()?;
    for (qos, wanted) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        client.send(&Message::new(&topic, "x").qos(qos).id(9).frame(b.version));
        let packet = client.packet()?;
        let right = matches!(packet, Packet::Ack { kind, id: 9, .. } if kind == wanted);
        demand!(right, "{packet} to QoS {qos}");
    }
    held("nothing, PUBACK, PUBREC")
}

fn not_authorised(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    let message = Message::new(format!("$SYS/{}", b.topic()), "x")
        .qos(1)
        .id(3);
    client.send(&message.frame(b.version));
    match client.acked(kind::PUBACK, 3) {
        Ok(_) => held("to $SYS: acknowledged"),
        Err(failure) => {
            demand!(failure.0.starts_with("closed"), "{}", failure.0);
            held("to $SYS: closed")
        }
    }
}

fn subscription_identifier(b: &Broker) -> Outcome {
    let properties = Properties::new().variable(property::SUBSCRIPTION_ID, 1);
    held(
        b.after(
            &Message::new(b.topic(), "x")
                .properties(properties)
                .frame(b.version),
        )?,
    )
}

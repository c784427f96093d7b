//! Retained messages: sections 3.3.1.3 and 3.8.3.1.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.3.1-5",
        "3.3.1-5",
        "A retained message is stored with its QoS and replaces the one before.",
        stored,
    ),
    v3(
        "3.3.1-6",
        "A new subscription is given the last retained message of each matching topic.",
        each_topic,
    ),
    v3(
        "3.3.1-7",
        "A retained message at QoS 0 discards the one before.",
        qos_zero_replaces,
    ),
    v3("3.3.1-8", "To a new subscription RETAIN is 1.", flag_new),
    v3(
        "3.3.1-9",
        "To an established subscription RETAIN is 0.",
        flag_established,
    ),
    both(
        "3.3.1-10",
        "3.3.1-6",
        "An empty payload is delivered and removes the retained message.",
        removed,
    ),
    both(
        "3.3.1-11",
        "3.3.1-7",
        "An empty payload is not retained.",
        empty_not_stored,
    ),
    both(
        "3.3.1-12",
        "3.3.1-8",
        "Without RETAIN nothing is stored, replaced or removed.",
        not_retained,
    ),
    v5(
        "3.3.1-9",
        "Retain handling 0: retained messages come at each SUBSCRIBE.",
        handling_always,
    ),
    v5(
        "3.3.1-10",
        "Retain handling 1: retained messages come for new subscriptions only.",
        handling_if_new,
    ),
    v5(
        "3.3.1-11",
        "Retain handling 2: no retained messages come.",
        handling_never,
    ),
    v5(
        "3.3.1-12",
        "Without retain as published RETAIN is 0.",
        flag_established,
    ),
    v5(
        "3.3.1-13",
        "With retain as published RETAIN is what the publisher set.",
        as_published,
    ),
    v5(
        "3.3.1.3/properties",
        "A retained message keeps its properties.",
        properties_kept,
    ),
];

fn later(b: &Broker, topic: &str) -> Result<Vec<Packet>, Failure> {
    b.subscriber(topic, 2)?.rest()
}

/// The one retained message that a new subscriber gets; it must have RETAIN.
fn only(b: &Broker, topic: &str) -> Result<Delivery, Failure> {
    match later(b, topic)?.as_slice() {
        [Packet::Publish(delivery)] if delivery.retain => Ok(delivery.clone()),
        other => Err(Failure(format!("{other:?} to a new subscriber"))),
    }
}

/// Publishes with RETAIN and then subscribes on the same connection: the retained message that comes
/// with the subscription, if one does.
fn own_retained(b: &Broker, message: Message) -> Result<Option<Delivery>, Failure> {
    let topic = String::from_utf8_lossy(&message.topic).into_owned();
    b.remember_retained(&topic);
    let message = message.retain().id(1);
    let subscribe = subscribe(b.version, 2, &Properties::new(), &[(&topic, 2)]);
    let mut client = b.client()?;
    if message.qos > 0 {
        client.put(&message)?;
        client.send(&subscribe);
    } else {
        // Nothing says that the broker has it: in one write the SUBSCRIBE is right behind it.
        client.send_bytes(&[message.frame(b.version).bytes(), subscribe.bytes()].concat());
    }
    client.suback(2)?;
    match client.rest()?.as_slice() {
        [] => Ok(None),
        [Packet::Publish(delivery)] if delivery.retain => Ok(Some(delivery.clone())),
        [Packet::Publish(delivery)] => Err(Failure(format!(
            "{} behind a SUBACK, without RETAIN",
            Packet::Publish(delivery.clone())
        ))),
        other => Err(Failure(format!(
            "{} packets with a new subscription",
            other.len()
        ))),
    }
}

fn stored(b: &Broker) -> Outcome {
    let topic = b.topic();
    for qos in [1, 2, 0, 1] {
        let payload = format!("at {qos}");
        let Some(delivery) = own_retained(b, Message::new(&topic, &payload).qos(qos))? else {
            return Err(Failure(format!(
                "nothing is retained after a message at QoS {qos}"
            )));
        };
        let came = String::from_utf8_lossy(&delivery.payload);
        demand!(came == payload, "{came:?} is retained after {payload:?}");
        demand!(delivery.qos == qos, "QoS {qos} came at {}", delivery.qos);
    }
    held("4 times replaced, at QoS 1, 2, 0 and 1")
}

fn each_topic(b: &Broker) -> Outcome {
    let topic = b.topic();
    for n in ["1", "2", "3"] {
        b.put(&Message::new(format!("{topic}/{n}"), "old").qos(1).retain())?;
        b.put(&Message::new(format!("{topic}/{n}"), n).qos(1).retain())?;
    }
    let mut subscriber = b.subscriber(&format!("{topic}/+"), 1)?;
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(String::from_utf8_lossy(&subscriber.take()?.payload).into_owned());
    }
    came.sort();
    demand!(came == ["1", "2", "3"], "{came:?}");
    subscriber.silent()?;
    held("3 topics, the last message of each")
}

fn qos_zero_replaces(b: &Broker) -> Outcome {
    let topic = b.topic();
    b.put(&Message::new(&topic, "old").qos(1).retain())?;
    match own_retained(b, Message::new(&topic, "new"))? {
        None => held("the old one is gone, the new one was not kept"),
        Some(delivery) if delivery.payload == b"new" => held("the new one is there"),
        Some(delivery) => {
            let came = String::from_utf8_lossy(&delivery.payload).into_owned();
            Err(Failure(format!(
                "{came:?} is retained after \"new\" at QoS 0"
            )))
        }
    }
}

fn flag_new(b: &Broker) -> Outcome {
    let topic = b.topic();
    b.put(&Message::new(&topic, "x").qos(1).retain())?;
    only(b, &topic)?;
    held("RETAIN")
}

fn flag_established(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 1)?;
    b.put(&Message::new(&topic, "retained").qos(1).retain())?;
    b.put(&Message::new(&topic, "plain").qos(1))?;
    for payload in ["retained", "plain"] {
        let delivery = subscriber.take_payload(payload)?;
        demand!(!delivery.retain, "RETAIN on {payload}");
    }
    held("published with and without RETAIN, delivered without")
}

fn removed(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 1)?;
    b.put(&Message::new(&topic, "x").qos(1).retain())?;
    subscriber.take_payload("x")?;
    b.put(&Message::new(&topic, "").qos(1).retain())?;
    let delivery = subscriber.take_payload("")?;
    demand!(!delivery.retain, "RETAIN on the empty message");
    let left = later(b, &topic)?;
    demand!(left.is_empty(), "{} to a new subscriber", left[0]);
    held("delivered as any other, and nothing is retained")
}

fn empty_not_stored(b: &Broker) -> Outcome {
    let topic = b.topic();
    b.put(&Message::new(&topic, "").qos(1).retain())?;
    let left = later(b, &topic)?;
    demand!(left.is_empty(), "{} to a new subscriber", left[0]);
    held("nothing is retained")
}

fn not_retained(b: &Broker) -> Outcome {
    let topic = b.topic();
    b.put(&Message::new(&topic, "x").qos(1))?;
    let left = later(b, &topic)?;
    demand!(left.is_empty(), "{} to a new subscriber", left[0]);
    b.put(&Message::new(&topic, "kept").qos(1).retain())?;
    b.put(&Message::new(&topic, "y").qos(1))?;
    b.put(&Message::new(&topic, "").qos(1))?;
    let delivery = only(b, &topic)?;
    demand!(
        delivery.payload == b"kept",
        "{:?} is retained",
        delivery.payload
    );
    held("nothing stored; what was stored outlived two others, one of them empty")
}

/// What comes for a SUBSCRIBE with these options: the first time, and the second.
fn at_subscribe(b: &Broker, options: u8) -> Result<[usize; 2], Failure> {
    let topic = b.topic();
    b.put(&Message::new(&topic, "x").qos(1).retain())?;
    let mut client = b.client()?;
    let mut counts = [0, 0];
    for count in &mut counts {
        client.subscribe(&topic, 1 | options)?;
        let came = client.rest()?;
        for packet in &came {
            let Packet::Publish(delivery) = packet else {
                return Err(Failure(format!("{packet}")));
            };
            demand!(delivery.retain, "{packet} without RETAIN");
            client.acknowledge(delivery)?;
        }
        *count = came.len();
    }
    Ok(counts)
}

fn handling_always(b: &Broker) -> Outcome {
    let counts = at_subscribe(b, 0)?;
    demand!(
        counts == [1, 1],
        "{counts:?} at the first and second SUBSCRIBE"
    );
    held("at the first and at the second SUBSCRIBE")
}

fn handling_if_new(b: &Broker) -> Outcome {
    let counts = at_subscribe(b, option::RETAIN_IF_NEW)?;
    demand!(
        counts == [1, 0],
        "{counts:?} at the first and second SUBSCRIBE"
    );
    // A subscription that is part of a session is not new after a reconnect; after UNSUBSCRIBE it is.
    let (id, topic) = (b.name(), b.topic());
    b.put(&Message::new(&topic, "x").qos(1).retain())?;
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 1 | option::RETAIN_NEVER)?;
    client.disconnect()?;
    let mut client = b.resumed(&id)?;
    client.subscribe(&topic, 1 | option::RETAIN_IF_NEW)?;
    client.silent()?;
    client.unsubscribe(&[&topic])?;
    client.subscribe(&topic, 1 | option::RETAIN_IF_NEW)?;
    client.take_payload("x")?;
    held("at the first SUBSCRIBE only, over a reconnect too, and after UNSUBSCRIBE")
}

fn handling_never(b: &Broker) -> Outcome {
    let counts = at_subscribe(b, option::RETAIN_NEVER)?;
    demand!(
        counts == [0, 0],
        "{counts:?} at the first and second SUBSCRIBE"
    );
    held("at neither SUBSCRIBE")
}

fn as_published(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 1 | option::RETAIN_AS_PUBLISHED)?;
    b.put(&Message::new(&topic, "retained").qos(1).retain())?;
    b.put(&Message::new(&topic, "plain").qos(1))?;
    for (payload, retain) in [("retained", true), ("plain", false)] {
        let delivery = subscriber.take_payload(payload)?;
        demand!(
            delivery.retain == retain,
            "RETAIN {} on {payload}",
            delivery.retain
        );
    }
    held("1 and 0, as published")
}

fn properties_kept(b: &Broker) -> Outcome {
    let topic = b.topic();
    let properties = Properties::new()
        .field(property::CONTENT_TYPE, "text")
        .pair("a", "b");
    b.put(
        &Message::new(&topic, "x")
            .qos(1)
            .retain()
            .properties(properties),
    )?;
    let came = only(b, &topic)?.properties;
    demand!(
        came.text(property::CONTENT_TYPE) == Some("text"),
        "{came:?}"
    );
    demand!(came.pairs() == [("a", "b")], "{came:?}");
    held("content type and a user property")
}

//! Message ordering: section 4.6.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v3(
        "4.6.0-1",
        "What is sent again comes in the order in which it was sent.",
        again_in_order,
    ),
    v3(
        "4.6.0-4",
        "PUBRELs are sent in the order of the PUBRECs.",
        pubrels_in_order,
    ),
    v3(
        "4.6.0-5",
        "Each topic is an ordered topic by default.",
        in_order,
    ),
    v3(
        "4.6.0-6",
        "Deliveries have the order in which a client published, for each topic and QoS.",
        in_order,
    ),
    v5(
        "4.6.0-5",
        "Deliveries have the order in which a client published, for each topic and QoS.",
        in_order,
    ),
    v5(
        "4.6.0-6",
        "Each topic is an ordered topic for subscriptions that are not shared.",
        in_order_from_queue,
    ),
    v5(
        "4.6.0/again",
        "What is sent again comes in the order in which it was sent.",
        again_in_order,
    ),
    v5(
        "4.6.0/pubrel",
        "PUBRELs are sent in the order of the PUBRECs.",
        pubrels_in_order,
    ),
];

const MANY: u16 = 60;

/// Publishes without waiting for each answer.
fn burst(b: &Broker, topic: &str, qos: u8) -> Result<(), Failure> {
    let mut publisher = b.client()?;
    let told = publisher
        .connack
        .number(property::RECEIVE_MAXIMUM)
        .unwrap_or(MANY.into());
    let window = if qos == 0 {
        MANY
    } else {
        MANY.min(told as u16)
    };
    let step = match qos {
        1 => kind::PUBACK,
        _ => kind::PUBREC,
    };
    for id in 1..=MANY {
        publisher.send(
            &Message::new(topic, id.to_string())
                .qos(qos)
                .id(id)
                .frame(b.version),
        );
        if qos == 0 || id % window != 0 && id != MANY {
            continue;
        }
        for id in (id - 1) / window * window + 1..=id {
            publisher.acked(step, id)?;
            if qos == 2 {
                publisher.send(&ack(kind::PUBREL, id));
                publisher.acked(kind::PUBCOMP, id)?;
            }
        }
    }
    Ok(())
}

fn in_order(b: &Broker) -> Outcome {
    for qos in 0..3 {
        let topic = b.topic();
        let mut subscribers = [b.subscriber(&topic, qos)?, b.subscriber(&topic, 0)?];
        burst(b, &topic, qos)?;
        for subscriber in &mut subscribers {
            for n in 1..=MANY {
                subscriber.take_payload(&n.to_string())?;
            }
        }
    }
    held("60 messages at each QoS, to two subscribers")
}

fn in_order_from_queue(b: &Broker) -> Outcome {
    for qos in [1, 2] {
        let (id, topic) = (b.name(), b.topic());
        let mut client = b.open(&b.lasting(&id))?;
        client.subscribe(&topic, qos)?;
        client.disconnect()?;
        burst(b, &topic, qos)?;
        let mut client = b.open(&b.lasting(&id))?;
        for n in 1..=MANY {
            client.take_payload(&n.to_string())?;
        }
    }
    held("60 messages at QoS 1 and 2 that had waited")
}

fn again_in_order(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 2)?;
    let mut publisher = b.client()?;
    let mut sent = Vec::new();
    for n in 0..8 {
        publisher.put(&Message::new(&topic, n.to_string()).qos(1 + n % 2))?;
        sent.push(client.delivery()?);
    }
    // One in the middle is done; the rest keeps its order.
    let done = sent.remove(2);
    client.acknowledge(&done)?;
    client.ping()?;
    client.cut()?;
    let mut client = b.open(&b.lasting(&id))?;
    for first in sent {
        let again = client.delivery()?;
        let same = again.id == first.id && again.payload == first.payload && again.dup;
        demand!(
            same,
            "{} instead of {}",
            Packet::Publish(again),
            Packet::Publish(first)
        );
    }
    held("7 messages of QoS 1 and 2 after a cut")
}

fn pubrels_in_order(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 2)?;
    let mut publisher = b.client()?;
    let mut ids = Vec::new();
    for _ in 0..6 {
        publisher.put(&Message::new(&topic, "x").qos(2))?;
        ids.push(client.delivery()?.id);
    }
    ids.reverse();
    for id in &ids {
        client.send(&ack(kind::PUBREC, *id));
    }
    for wanted in &ids {
        let packet = client.packet()?;
        let right = matches!(&packet, Packet::Ack { kind: kind::PUBREL, id, .. } if id == wanted);
        demand!(right, "{packet} instead of PUBREL id {wanted}");
    }
    held("6 PUBRECs backwards, 6 PUBRELs backwards")
}

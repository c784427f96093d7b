//! Flow control: receive maximum in both directions (sections 3.3.4 and 4.9).

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.3.4-7",
        "A client that sends more than the broker's receive maximum is cut off.",
        client_exceeds,
    ),
    v5(
        "3.3.4-9",
        "The broker keeps to the client's receive maximum.",
        keeps_to_maximum,
    ),
    v5(
        "3.3.4-10",
        "With a full window the broker sends its other packets at once.",
        others_at_once,
    ),
    v5(
        "4.9.0-1",
        "The broker's first quota is not 0 and not above the receive maximum.",
        first_quota,
    ),
    v5(
        "4.9.0-2",
        "At quota 0 no more PUBLISH of QoS 1 and 2 is sent; each acknowledgement frees one.",
        quota,
    ),
    v5(
        "4.9.0-3",
        "At quota 0 other packets are processed.",
        others_processed,
    ),
    v5("4.9.0/qos-0", "QoS 0 does not count.", qos_zero_free),
    v5(
        "4.9.0/new-connection",
        "The quota starts anew with each connection.",
        new_connection,
    ),
    v5(
        "4.9.0/refusal-frees",
        "PUBACK and PUBREC of 0x80 or more free a place.",
        refusal_frees,
    ),
];

/// More than this many publishes are not sent to find out whether the broker counts them.
const MOST: u32 = 20_000;

fn client_exceeds(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    let maximum = client
        .connack
        .number(property::RECEIVE_MAXIMUM)
        .unwrap_or(65535);
    if maximum > MOST {
        return not_offered(format!("the receive maximum is {maximum}"));
    }
    let topic = b.topic();
    for id in 1..=maximum as u16 {
        client.send(&Message::new(&topic, "").qos(2).id(id).frame(b.version));
    }
    // Received, but not complete: each counts until its PUBCOMP.
    client.acked(kind::PUBREC, maximum as u16)?;
    client.ping()?;
    client.send(
        &Message::new(&topic, "")
            .qos(2)
            .id(maximum as u16 + 1)
            .frame(b.version),
    );
    let packets = client.until_closed()?;
    let last = packets.last().map(Packet::to_string).unwrap_or_default();
    demand!(
        !last.contains(&format!("PUBREC id {}", maximum + 1)),
        "{last}, then closed"
    );
    held(format!("{maximum} taken, one more: {last}, closed"))
}

/// A subscriber with this receive maximum, for whom 6 messages of QoS 1 and 2 are published.
fn crowded<'b>(b: &'b Broker, maximum: u16, topic: &str) -> Result<Client<'b>, Failure> {
    let properties = Properties::new().two(property::RECEIVE_MAXIMUM, maximum);
    let mut client = b.open(&b.lasting(&b.name()).also(&properties))?;
    client.subscribe(topic, 2)?;
    let mut publisher = b.client()?;
    for n in 0..6 {
        publisher.put(&Message::new(topic, n.to_string()).qos(1 + n % 2))?;
    }
    Ok(client)
}

/// The deliveries that have come, and nothing else.
fn deliveries(client: &mut Client<'_>) -> Result<Vec<Delivery>, Failure> {
    let mut all = Vec::new();
    for packet in client.rest()? {
        match packet {
            Packet::Publish(delivery) => all.push(delivery),
            other => return Err(Failure(format!("{other} although nothing was due"))),
        }
    }
    Ok(all)
}

fn keeps_to_maximum(b: &Broker) -> Outcome {
    for maximum in [1, 2, 4] {
        let mut client = crowded(b, maximum, &b.topic())?;
        let first = client.delivery()?;
        let more = deliveries(&mut client)?.len() as u16;
        demand!(
            more < maximum,
            "{} under way with a maximum of {maximum}",
            more + 1
        );
        client.acknowledge(&first)?;
    }
    held("with maxima of 1, 2 and 4")
}

fn others_at_once(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = crowded(b, 1, &topic)?;
    client.delivery()?;
    client.ping()?;
    client.subscribe(&b.topic(), 1)?;
    client.unsubscribe(&[&b.topic()])?;
    client.put(&Message::new(b.topic(), "x").qos(1))?;
    client.put(&Message::new(b.topic(), "x").qos(2))?;
    client.silent()?;
    held("PINGRESP, SUBACK, UNSUBACK, PUBACK, PUBREC, PUBCOMP")
}

fn others_processed(b: &Broker) -> Outcome {
    let topic = b.topic();
    let elsewhere = b.topic();
    let mut other = b.subscriber(&elsewhere, 1)?;
    let mut client = crowded(b, 1, &topic)?;
    let first = client.delivery()?;
    client.put(&Message::new(&elsewhere, "x").qos(1))?;
    other.take_payload("x")?;
    client.unsubscribe(&[&topic])?;
    client.acknowledge(&first)?;
    held("a PUBLISH went through, an UNSUBSCRIBE and a PUBACK were taken")
}

fn first_quota(b: &Broker) -> Outcome {
    let mut client = crowded(b, 3, &b.topic())?;
    let first = deliveries(&mut client)?.len();
    demand!((1..=3).contains(&first), "{first} came at once");
    held(format!("{first} of 3 came at once"))
}

fn quota(b: &Broker) -> Outcome {
    let mut client = crowded(b, 2, &b.topic())?;
    let mut open = vec![client.delivery()?, client.delivery()?];
    client.silent()?;
    for n in 2..6 {
        let done = open.remove(0);
        if done.qos == 2 {
            // PUBREC alone frees nothing.
            client.send(&ack(kind::PUBREC, done.id));
            client.acked(kind::PUBREL, done.id)?;
            client.silent()?;
            client.send(&ack(kind::PUBCOMP, done.id));
        } else {
            client.acknowledge(&done)?;
        }
        let next = client.delivery()?;
        demand!(
            next.payload == n.to_string().as_bytes(),
            "{}",
            Packet::Publish(next)
        );
        client.silent()?;
        open.push(next);
    }
    held("6 messages through a window of 2; PUBACK and PUBCOMP free a place, PUBREC does not")
}

fn qos_zero_free(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = crowded(b, 1, &topic)?;
    client.delivery()?;
    b.put(&Message::new(&topic, "at zero"))?;
    let delivery = client.delivery()?;
    let right = delivery.qos == 0 && delivery.payload == b"at zero";
    demand!(right, "{}", Packet::Publish(delivery));
    held("QoS 0 came through a full window")
}

fn new_connection(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let maximum = |n| {
        b.lasting(&id)
            .also(&Properties::new().two(property::RECEIVE_MAXIMUM, n))
    };
    let mut client = b.open(&maximum(4))?;
    client.subscribe(&topic, 1)?;
    let mut publisher = b.client()?;
    for n in 0..6 {
        publisher.put(&Message::new(&topic, n.to_string()).qos(1))?;
    }
    for _ in 0..4 {
        client.delivery()?;
    }
    client.cut()?;
    let mut client = b.open(&maximum(2))?;
    let mut came = 0;
    loop {
        let now = deliveries(&mut client)?;
        let Some(last) = now.last() else { break };
        demand!(
            now.len() <= 2,
            "{} under way with a maximum of 2",
            now.len()
        );
        came += now.len();
        for delivery in &now[..now.len() - 1] {
            client.acknowledge(delivery)?;
        }
        client.acknowledge(last)?;
    }
    demand!(came == 6, "{came} of 6 came");
    held("4 were under way; the next connection took them two at a time")
}

fn refusal_frees(b: &Broker) -> Outcome {
    let mut client = crowded(b, 1, &b.topic())?;
    for n in 0..6 {
        let delivery = client.delivery()?;
        let right = delivery.payload == n.to_string().as_bytes();
        demand!(right, "{}", Packet::Publish(delivery));
        let kind = if delivery.qos == 1 {
            kind::PUBACK
        } else {
            kind::PUBREC
        };
        client.send(&ack(kind, delivery.id).u8(0x80));
    }
    client.silent()?;
    held("6 messages through a window of 1, each refused")
}

//! Maximum packet size, and what the broker may leave out of small packets: sections 3.1.2.11.4,
//! 3.2.2.3.6, and the reason strings and user properties of each packet.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.1.2-24",
        "No packet is larger than the client's maximum.",
        within_maximum,
    ),
    v5(
        "3.1.2-25",
        "What is too large is dropped as if it had been delivered.",
        dropped,
    ),
    v5(
        "3.1.2-29",
        "Without problem information no reason string and user property but in PUBLISH, CONNACK, DISCONNECT.",
        no_problem_information,
    ),
    v5(
        "3.2.2-15",
        "A packet above the broker's maximum ends the connection.",
        above_own_maximum,
    ),
    v5(
        "3.2.2-19",
        "A reason string does not make CONNACK too large.",
        connack,
    ),
    v5(
        "3.2.2-20",
        "User properties do not make CONNACK too large.",
        connack,
    ),
    v5(
        "3.4.2-2",
        "A reason string does not make PUBACK too large.",
        puback,
    ),
    v5(
        "3.4.2-3",
        "User properties do not make PUBACK too large.",
        puback,
    ),
    v5(
        "3.5.2-2",
        "A reason string does not make PUBREC too large.",
        pubrec,
    ),
    v5(
        "3.5.2-3",
        "User properties do not make PUBREC too large.",
        pubrec,
    ),
    v5(
        "3.6.2-2",
        "A reason string does not make PUBREL too large.",
        pubrel,
    ),
    v5(
        "3.6.2-3",
        "User properties do not make PUBREL too large.",
        pubrel,
    ),
    v5(
        "3.7.2-2",
        "A reason string does not make PUBCOMP too large.",
        pubcomp,
    ),
    v5(
        "3.7.2-3",
        "User properties do not make PUBCOMP too large.",
        pubcomp,
    ),
    v5(
        "3.9.2-1",
        "A reason string does not make SUBACK too large.",
        suback,
    ),
    v5(
        "3.9.2-2",
        "User properties do not make SUBACK too large.",
        suback,
    ),
    v5(
        "3.11.2-1",
        "A reason string does not make UNSUBACK too large.",
        unsuback,
    ),
    v5(
        "3.11.2-2",
        "User properties do not make UNSUBACK too large.",
        unsuback,
    ),
    v5(
        "3.14.2-3",
        "A reason string does not make DISCONNECT too large.",
        disconnect,
    ),
    v5(
        "3.14.2-4",
        "User properties do not make DISCONNECT too large.",
        disconnect,
    ),
    v5(
        "3.1.2.11.4/suback",
        "Nor is a SUBACK larger than the client's maximum.",
        long_suback,
    ),
    v5("3.1.2.11.4/unsuback", "Nor is an UNSUBACK.", long_unsuback),
    v5(
        "3.1.2.11.4/connack",
        "Nor is the CONNACK, however small the maximum.",
        narrow_connack,
    ),
];

/// Room for what must be in a CONNACK, and for no text.
const SMALL: u32 = 64;

fn maximum(size: u32) -> Properties {
    Properties::new().four(property::MAXIMUM_PACKET_SIZE, size)
}

fn small(b: &Broker) -> Result<Client<'_>, Failure> {
    let client = b.open(&b.fresh(&b.name()).properties(maximum(SMALL)))?;
    demand!(
        client.last_bytes <= SMALL as usize,
        "a CONNACK of {} bytes",
        client.last_bytes
    );
    Ok(client)
}

fn fits(client: &Client<'_>, what: &str) -> Result<(), Failure> {
    let bytes = client.last_bytes;
    demand!(
        bytes <= SMALL as usize,
        "{what} of {bytes} bytes with a maximum of {SMALL}"
    );
    Ok(())
}

fn within_maximum(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.open(&b.fresh(&b.name()).properties(maximum(100)))?;
    client.subscribe(&topic, 1)?;
    for size in [100 - topic.len() - 7, 100, 1000, 60] {
        b.put(&Message::new(&topic, vec![b'x'; size]).qos(1))?;
    }
    b.put(&Message::new(&topic, "marker").qos(1))?;
    loop {
        let delivery = client.take()?;
        demand!(client.last_bytes <= 100, "{} bytes came", client.last_bytes);
        if delivery.payload == b"marker" {
            return held("of 5 messages those came that fit into 100 bytes");
        }
    }
}

fn dropped(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let narrow = maximum(100).two(property::RECEIVE_MAXIMUM, 1);
    let mut client = b.open(&b.lasting(&id).also(&narrow))?;
    client.subscribe(&topic, 2)?;
    let mut publisher = b.client()?;
    for qos in 0..3 {
        publisher.put(&Message::new(&topic, vec![b'x'; 500]).qos(qos))?;
    }
    // A window of 1: what was dropped holds no place.
    for payload in ["one", "two"] {
        publisher.put(&Message::new(&topic, payload).qos(1))?;
        client.take_payload(payload)?;
    }
    client.cut()?;
    // It is done with: a client that could take it now does not get it.
    b.resumed(&id)?.silent()?;
    held("3 of 500 bytes dropped, the next ones came, and nothing was made up for later")
}

fn above_own_maximum(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    let Some(maximum) = client.connack.number(property::MAXIMUM_PACKET_SIZE) else {
        return not_offered("no maximum is told");
    };
    if maximum > 64 << 20 {
        return not_offered(format!("the maximum is {maximum}"));
    }
    // QoS 0, a topic and no properties: 4 bytes and the topic beside the payload.
    let topic = b.topic();
    let total = maximum as usize;
    let length = (1..=4)
        .find(|n| varint(total - 1 - n).len() == *n)
        .unwrap_or(4);
    let largest = Message::new(&topic, vec![b'x'; total - 4 - length - topic.len()]);
    let bytes = largest.frame(b.version).bytes();
    demand!(
        bytes.len() == total,
        "the case made {} bytes, not {total}",
        bytes.len()
    );
    client.send_bytes(&bytes);
    client.ping()?;
    client.send(&Message::new(&topic, vec![b'x'; total]).frame(b.version));
    held(format!("{maximum} bytes taken, more: {}", client.closed()?))
}

/// Whatever may come with a reason, asked for by a client that wants none.
fn no_problem_information(b: &Broker) -> Outcome {
    let property = Properties::new().byte(property::REQUEST_PROBLEM, 0);
    let mut client = b.open(&b.fresh(&b.name()).properties(property))?;
    let topic = b.topic();
    let none = Properties::new();
    let mut packets = Vec::new();
    client.send(&Message::new(&topic, "x").qos(1).id(1).frame(b.version));
    client.send(&Message::new(&topic, "x").qos(2).id(2).frame(b.version));
    client.send(&ack(kind::PUBREL, 2));
    client.send(&ack(kind::PUBREL, 99));
    client.send(&subscribe(b.version, 3, &none, &[(&topic, 2)]));
    client.send(&unsubscribe(
        b.version,
        4,
        &[&topic, "conformance/never/subscribed"],
    ));
    client.send(
        &Message::new(format!("$SYS/{topic}"), "x")
            .qos(1)
            .id(5)
            .frame(b.version),
    );
    packets.extend(client.rest()?);
    demand!(packets.len() >= 6, "{packets:?}");
    for packet in &packets {
        let told = packet
            .properties()
            .is_some_and(|p| p.has(property::REASON_STRING) || p.has(property::USER));
        demand!(!told, "{packet}");
    }
    held(format!("{} answers without either", packets.len()))
}

fn connack(b: &Broker) -> Outcome {
    small(b)?;
    let method = maximum(SMALL).field(property::AUTH_METHOD, "no-such-method");
    let mut client = b.send(&b.fresh(&b.name()).properties(method))?;
    let said = client.refused()?;
    fits(&client, "CONNACK")?;
    held(format!("of success and of refusal ({said})"))
}

fn puback(b: &Broker) -> Outcome {
    let mut client = small(b)?;
    client.put(&Message::new(b.topic(), "x").qos(1))?;
    fits(&client, "PUBACK")?;
    let message = Message::new(format!("$SYS/{}", b.topic()), "x")
        .qos(1)
        .id(7);
    client.send(&message.frame(b.version));
    let code = client.acked(kind::PUBACK, 7)?;
    fits(&client, "PUBACK")?;
    held(format!("0x00 or 0x10, and 0x{code:02x} under $SYS"))
}

fn pubrec(b: &Broker) -> Outcome {
    let mut client = small(b)?;
    for topic in [b.topic(), format!("$SYS/{}", b.topic())] {
        let id = client.id();
        client.send(&Message::new(topic, "x").qos(2).id(id).frame(b.version));
        client.acked(kind::PUBREC, id)?;
        fits(&client, "PUBREC")?;
    }
    held(format!("{} bytes", client.last_bytes))
}

fn pubrel(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = small(b)?;
    client.subscribe(&topic, 2)?;
    b.put(&Message::new(&topic, "x").qos(2))?;
    let delivery = client.delivery()?;
    for id in [delivery.id, 4242] {
        client.send(&ack(kind::PUBREC, id));
    }
    for packet in client.rest()? {
        demand!(
            matches!(
                packet,
                Packet::Ack {
                    kind: kind::PUBREL,
                    ..
                }
            ),
            "{packet}"
        );
        let text = packet.properties().is_some_and(|p| !p.0.is_empty());
        demand!(!text || client.last_bytes <= SMALL as usize, "{packet}");
    }
    held("to a known and to an unknown PUBREC")
}

fn pubcomp(b: &Broker) -> Outcome {
    let mut client = small(b)?;
    client.put(&Message::new(b.topic(), "x").qos(2))?;
    fits(&client, "PUBCOMP")?;
    client.send(&ack(kind::PUBREL, 999));
    let code = client.acked(kind::PUBCOMP, 999)?;
    fits(&client, "PUBCOMP")?;
    held(format!("0x00, and 0x{code:02x} for an unknown one"))
}

fn suback(b: &Broker) -> Outcome {
    let mut client = small(b)?;
    client.subscribe(&b.topic(), 1)?;
    fits(&client, "SUBACK")?;
    held(format!("{} bytes", client.last_bytes))
}

fn unsuback(b: &Broker) -> Outcome {
    let mut client = small(b)?;
    client.unsubscribe(&["conformance/never/subscribed"])?;
    fits(&client, "UNSUBACK")?;
    held(format!("{} bytes", client.last_bytes))
}

fn disconnect(b: &Broker) -> Outcome {
    let mut seen = Vec::new();
    for frame in [
        b.fresh(&b.name()).frame(),
        Message::new(b.topic(), "x").qos(3).id(1).frame(b.version),
        Message::new("#", "x").frame(b.version),
    ] {
        let mut client = small(b)?;
        client.send(&frame);
        let packets = client.until_closed()?;
        fits(&client, "DISCONNECT")?;
        seen.extend(packets.iter().map(|_| client.last_bytes.to_string()));
    }
    held(format!("bytes of each: {}", seen.join(", ")))
}

/// What comes for a packet whose full answer is too large: it may be left out, or the connection ended.
fn long_answer(b: &Broker, what: &str, frame: &Frame) -> Outcome {
    let mut client = small(b)?;
    client.send(frame);
    client.send(&Frame::new(kind::PINGREQ));
    let said = match client.packet() {
        Ok(packet) => packet.to_string(),
        Err(failure) => failure.0,
    };
    fits(&client, what)?;
    let said: String = said.chars().take(40).collect();
    held(format!("for 200 filters: {said}"))
}

fn long_suback(b: &Broker) -> Outcome {
    let topic = b.topic();
    let filters: Vec<(String, u8)> = (0..200).map(|n| (format!("{topic}/{n}"), 0)).collect();
    long_answer(
        b,
        "SUBACK",
        &subscribe(b.version, 1, &Properties::new(), &filters),
    )
}

fn long_unsuback(b: &Broker) -> Outcome {
    let topic = b.topic();
    let filters: Vec<String> = (0..200).map(|n| format!("{topic}/{n}")).collect();
    long_answer(b, "UNSUBACK", &unsubscribe(b.version, 1, &filters))
}

fn narrow_connack(b: &Broker) -> Outcome {
    let mut seen = Vec::new();
    for size in [1, 5, 12, 20] {
        let mut client = b.send(&b.fresh(&b.name()).properties(maximum(size)))?;
        match client.packet() {
            Ok(packet) => {
                let bytes = client.last_bytes;
                demand!(
                    bytes <= size as usize,
                    "{bytes} bytes with a maximum of {size}: {packet}"
                );
                seen.push(format!("{bytes} bytes of {size}"));
            }
            Err(failure) => {
                demand!(failure.0.starts_with("closed"), "{}", failure.0);
                seen.push(format!("closed at {size}"));
            }
        }
    }
    held(seen.join(", "))
}

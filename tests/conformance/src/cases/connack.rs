//! CONNACK: section 3.2.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.2.0-1",
        "3.2.0-1",
        "CONNACK is the first packet, even when messages wait.",
        first,
    ),
    v5("3.2.0-2", "There is no second CONNACK.", only_one),
    v5(
        "3.2.2-1",
        "The reserved acknowledge flags are 0.",
        reserved_flags,
    ),
    both(
        "3.2.2-1",
        "3.2.2-2",
        "A clean start has no session present.",
        clean,
    ),
    v3(
        "3.2.2-2",
        "Session present is 1 when there is one.",
        present,
    ),
    v3(
        "3.2.2-3",
        "Session present is 0 when there is none.",
        absent,
    ),
    v5(
        "3.2.2-3",
        "Session present says whether there is a session.",
        present_or_absent,
    ),
    both(
        "3.2.2-4",
        "3.2.2-6",
        "A refusal has session present 0.",
        refusal_present,
    ),
    both(
        "3.2.2-5",
        "3.2.2-7",
        "A refusal closes the connection.",
        refusal_closes,
    ),
    v3(
        "3.2.2-6",
        "Where no return code fits, the connection is closed without a CONNACK.",
        no_code,
    ),
    v5("3.2.2-8", "Reason codes are those of table 3-1.", codes),
    v5(
        "3.2.2-9",
        "A broker without QoS 1 or 2 says so.",
        maximum_qos,
    ),
    v5(
        "3.2.2-10",
        "SUBSCRIBE may ask for any QoS, whatever the maximum.",
        subscribe_any_qos,
    ),
    v5(
        "3.2.2-12",
        "A will above the maximum QoS is refused; others are not.",
        will_qos,
    ),
    v5(
        "3.2.2-13",
        "A retained will is refused where there is no retaining; else not.",
        will_retain,
    ),
    v5(
        "3.1.2-28",
        "Without being asked the broker sends no response information.",
        response_information,
    ),
];

fn first(b: &Broker) -> Outcome {
    let (id, topic) = (b.name(), b.topic());
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 1)?;
    client.disconnect()?;
    for n in 0..5 {
        b.put(&Message::new(&topic, n.to_string()).qos(1))?;
    }
    // `open` takes nothing but a CONNACK for its first packet.
    let mut client = b.open(&b.lasting(&id))?;
    for n in 0..5 {
        client.take_payload(&n.to_string())?;
    }
    held("before 5 messages that waited")
}

fn only_one(b: &Broker) -> Outcome {
    let connect = b.fresh(&b.name());
    let mut client = b.open(&connect)?;
    client.send(&connect.frame());
    let packets = client.until_closed()?;
    let again = packets
        .iter()
        .find(|packet| matches!(packet, Packet::ConnAck { .. }));
    demand!(again.is_none(), "{packets:?}");
    held("none to a second CONNECT")
}

fn connack_flags(b: &Broker, connect: &Connect) -> Result<u8, Failure> {
    let mut client = b.send(connect)?;
    match client.packet()? {
        Packet::ConnAck { flags, .. } => {
            client.disconnect()?;
            Ok(flags)
        }
        other => Err(Failure(format!("{other} instead of a CONNACK"))),
    }
}

fn reserved_flags(b: &Broker) -> Outcome {
    let id = b.name();
    let first = connack_flags(b, &b.lasting(&id))?;
    let second = connack_flags(b, &b.lasting(&id))?;
    demand!(
        (first, second) == (0, 1),
        "flags {first:02x} and {second:02x}"
    );
    held("0x00 for a new session, 0x01 for a known one")
}

fn clean(b: &Broker) -> Outcome {
    let id = b.name();
    for connect in [b.fresh(&id), b.lasting(&id), b.fresh(&id)] {
        let flags = connack_flags(b, &connect)?;
        demand!(flags == 0, "session present in {flags:02x}");
    }
    held("with and without an old session")
}

fn present(b: &Broker) -> Outcome {
    let id = b.name();
    connack_flags(b, &b.lasting(&id))?;
    let flags = connack_flags(b, &b.lasting(&id))?;
    demand!(flags == 1, "flags {flags:02x} although there is a session");
    held("0x01")
}

fn absent(b: &Broker) -> Outcome {
    let flags = connack_flags(b, &b.lasting(&b.name()))?;
    demand!(flags == 0, "flags {flags:02x} although there is no session");
    held("0x00")
}

fn present_or_absent(b: &Broker) -> Outcome {
    absent(b)?;
    present(b)?;
    let id = b.name();
    // Of an ended session nothing is present.
    connack_flags(b, &b.fresh(&id))?;
    let flags = connack_flags(b, &b.lasting(&id))?;
    demand!(
        flags == 0,
        "flags {flags:02x} after a session that ended with its connection"
    );
    held("0x00 without, 0x01 with a session")
}

/// A CONNECT under an id that has a session, which the broker refuses, by CONNACK if it likes.
fn refused_with_session(b: &Broker) -> Result<Client<'_>, Failure> {
    let id = b.name();
    b.open(&b.lasting(&id))?.disconnect()?;
    let mut connect = b.lasting(&id);
    match b.version {
        Version::V3 => connect.level = 1,
        Version::V5 => {
            connect = connect.also(&Properties::new().field(property::AUTH_METHOD, "no-such"));
        }
    }
    b.send(&connect)
}

fn refusal_present(b: &Broker) -> Outcome {
    // `refused` takes no CONNACK with flags.
    held(refused_with_session(b)?.refused()?)
}

fn refusal_closes(b: &Broker) -> Outcome {
    held(refused_with_session(b)?.refused()?)
}

fn no_code(b: &Broker) -> Outcome {
    for (what, bytes) in super::refusal::broken_connects(b) {
        let said = b.send_bytes(&bytes)?.refused()?;
        demand!(said == "closed without a CONNACK", "{what}: {said}");
    }
    held("7 broken CONNECTs, no CONNACK")
}

fn codes(b: &Broker) -> Outcome {
    // The reader takes no other codes.
    let mut seen = vec![refused_with_session(b)?.refused()?];
    for (_, bytes) in super::refusal::broken_connects(b) {
        seen.push(b.send_bytes(&bytes)?.refused()?);
    }
    seen.sort();
    seen.dedup();
    held(seen.join("; "))
}

fn maximum_qos(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    if let Some(maximum) = client.connack.number(property::MAXIMUM_QOS) {
        return held(format!("Maximum QoS {maximum}"));
    }
    client.put(&Message::new(b.topic(), "x").qos(1))?;
    client.put(&Message::new(b.topic(), "x").qos(2))?;
    held("no maximum told, QoS 1 and 2 taken")
}

fn subscribe_any_qos(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for qos in 0..3 {
        let codes = client.subscribe_all(&[(b.topic(), qos)], &Properties::new())?;
        demand!(
            codes.len() == 1 && codes[0] <= qos,
            "SUBACK {codes:02x?} for QoS {qos}"
        );
    }
    held("QoS 0, 1 and 2 granted")
}

fn will_qos(b: &Broker) -> Outcome {
    let maximum = b
        .client()?
        .connack
        .number(property::MAXIMUM_QOS)
        .unwrap_or(2);
    for qos in 0..3 {
        let connect = b.fresh(&b.name()).will(Will::new(b.topic(), "x").qos(qos));
        if u32::from(qos) > maximum {
            b.send(&connect)?.refused()?;
        } else {
            b.open(&connect)?.disconnect()?;
        }
    }
    held(format!("with a maximum of {maximum}"))
}

fn will_retain(b: &Broker) -> Outcome {
    let available = b
        .client()?
        .connack
        .number(property::RETAIN_AVAILABLE)
        .unwrap_or(1);
    let connect = b.fresh(&b.name()).will(Will::new(b.topic(), "x").retain());
    if available == 0 {
        return held(b.send(&connect)?.refused()?);
    }
    b.open(&connect)?.disconnect()?;
    held("retaining is available, the will was taken")
}

fn response_information(b: &Broker) -> Outcome {
    for asked in [None, Some(0)] {
        let mut connect = b.fresh(&b.name());
        if let Some(value) = asked {
            let property = Properties::new().byte(property::REQUEST_RESPONSE, value);
            connect = connect.properties(property);
        }
        let told = b
            .open(&connect)?
            .connack
            .has(property::RESPONSE_INFORMATION);
        demand!(!told, "response information although {asked:?} was asked");
    }
    held("not asked, and asked with 0: none")
}

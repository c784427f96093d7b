//! DISCONNECT: section 3.14. What it does to wills and sessions is in `will` and `session`.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v5(
        "3.14.0-1",
        "No DISCONNECT is sent before a CONNACK of success.",
        not_before_connack,
    ),
    both(
        "3.14.1-1",
        "3.14.1-1",
        "Reserved bits end the connection; on 5.0 with 0x81 if with a reason.",
        reserved_bits,
    ),
    v5("3.14.2-1", "DISCONNECT has one of its reason codes.", codes),
    v5(
        "3.14.2-2",
        "The broker's DISCONNECT has no session expiry.",
        no_session_expiry,
    ),
    v5(
        "3.14.4-1",
        "After its DISCONNECT the broker sends nothing more.",
        nothing_after,
    ),
    v5(
        "3.14.4-2",
        "After its DISCONNECT the broker closes the connection.",
        closes,
    ),
    v5(
        "3.14.4/server",
        "After a client's DISCONNECT the broker closes the connection if the client does not.",
        closes_for_client,
    ),
];

fn not_before_connack(b: &Broker) -> Outcome {
    let first = [
        Frame::new(kind::PINGREQ),
        Frame::new(kind::DISCONNECT),
        Frame::new(kind::AUTH),
    ];
    let first = first.iter().map(Frame::bytes);
    let broken = super::refusal::broken_connects(b)
        .into_iter()
        .map(|(_, bytes)| bytes);
    let mut count = 0;
    for bytes in first.chain(broken) {
        let mut client = b.send_bytes(&bytes)?;
        let packets = client.until_closed()?;
        let told = packets
            .iter()
            .find(|packet| matches!(packet, Packet::Disconnect { .. }));
        demand!(told.is_none(), "{packets:?}");
        count += 1;
    }
    held(format!("{count} wrong beginnings, no DISCONNECT"))
}

fn reserved_bits(b: &Broker) -> Outcome {
    let mut seen = Vec::new();
    for flags in [1, 2, 4, 8] {
        let said = b.after(&Frame::flagged(kind::DISCONNECT, flags))?;
        demand!(
            matches!(said.as_str(), "closed" | "DISCONNECT 0x81, closed"),
            "{said}"
        );
        seen.push(said);
    }
    seen.dedup();
    held(seen.join("; "))
}

/// Errors of different kinds, each on its own connection, and what the broker said.
fn provoked(b: &Broker) -> Result<Vec<Packet>, Failure> {
    let none = Properties::new();
    let mut said = Vec::new();
    for frame in [
        Message::new(b.topic(), "x").qos(3).id(1).frame(b.version),
        Message::new("a/#", "x").frame(b.version),
        Message::new(b.topic(), "x")
            .properties(Properties::new().two(property::TOPIC_ALIAS, 0))
            .frame(b.version),
        subscribe(b.version, 1, &none, &[(b.topic(), 0xff)]),
        Frame::new(kind::AUTH),
        b.fresh(&b.name()).frame(),
    ] {
        let mut client = b.client()?;
        client.send(&frame);
        said.extend(client.until_closed()?);
    }
    let id = b.name();
    let mut first = b.open(&b.fresh(&id))?;
    let _second = b.open(&b.fresh(&id))?;
    said.extend(first.until_closed()?);
    Ok(said)
}

fn codes(b: &Broker) -> Outcome {
    // The reader takes no others.
    let mut seen = Vec::new();
    for packet in provoked(b)? {
        let Packet::Disconnect { code, .. } = packet else {
            return Err(Failure(format!("{packet} on a connection that was to end")));
        };
        demand!(code >= 0x80, "DISCONNECT 0x{code:02x} for an error");
        seen.push(code);
    }
    held(format!("{seen:02x?}"))
}

fn no_session_expiry(b: &Broker) -> Outcome {
    // The reader takes none.
    let count = provoked(b)?.len();
    held(format!("{count} DISCONNECTs without one"))
}

fn nothing_after(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.subscriber(&topic, 1)?;
    // Asked for an answer behind the error, and sent a message.
    let error = Message::new(&topic, "x")
        .qos(3)
        .id(1)
        .frame(b.version)
        .bytes();
    let more = [
        Frame::new(kind::PINGREQ).bytes(),
        Frame::new(kind::PINGREQ).bytes(),
    ]
    .concat();
    client.send_bytes(&[error, more].concat());
    b.put(&Message::new(&topic, "x").qos(1))?;
    let packets = client.until_closed()?;
    let told = packets
        .iter()
        .position(|packet| matches!(packet, Packet::Disconnect { .. }));
    demand!(told.is_none_or(|at| at + 1 == packets.len()), "{packets:?}");
    held(if told.is_some() {
        "DISCONNECT was the last"
    } else {
        "closed without DISCONNECT"
    })
}

fn closes(b: &Broker) -> Outcome {
    // `until_closed` demands the end of the connection.
    let count = provoked(b)?.len();
    held(format!("7 errors, {count} DISCONNECTs, all closed"))
}

fn closes_for_client(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    client.send(&Frame::new(kind::DISCONNECT));
    let packets = client.until_closed()?;
    demand!(packets.is_empty(), "{packets:?}");
    held("closed")
}

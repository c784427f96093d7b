//! CONNECT: fixed and variable header (sections 3.1.0 to 3.1.2) and the client identifier.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.1.0-1",
        "3.1.0-1",
        "Nothing but CONNECT opens a connection.",
        connect_first,
    ),
    both(
        "3.1.0-2",
        "3.1.0-2",
        "A second CONNECT ends the connection.",
        second_connect,
    ),
    both(
        "3.1.2-1",
        "3.1.2-1",
        "Another protocol name is not taken for MQTT.",
        protocol_name,
    ),
    v3(
        "3.1.2-2",
        "An unknown protocol level is answered with 0x01 and closed.",
        level_v3,
    ),
    v5(
        "3.1.2-2",
        "An unknown protocol version is closed, perhaps after a CONNACK 0x84.",
        level_v5,
    ),
    both(
        "3.1.2-3",
        "3.1.2-3",
        "The reserved connect flag ends the connection.",
        reserved_flag,
    ),
    both(
        "3.1.3-1",
        "3.1.3-1",
        "Payload: client id, will, user name, password, in this order.",
        order,
    ),
    both(
        "3.1.3-2",
        "3.1.3-2",
        "State belongs to the client id.",
        identity,
    ),
    both(
        "3.1.3-3",
        "3.1.3-3",
        "The client id must be there.",
        id_missing,
    ),
    both("3.1.3-4", "3.1.3-4", "The client id is UTF-8.", id_text),
    both(
        "3.1.3-5",
        "3.1.3-5",
        "Client ids of 1 to 23 letters and digits are allowed.",
        id_alphabet,
    ),
    both(
        "3.1.3-6",
        "3.1.3-6",
        "An empty client id becomes a unique one.",
        id_empty,
    ),
    v5(
        "3.1.3-7",
        "The assigned client id is told, and is the session's.",
        id_assigned,
    ),
    v5("3.2.2-16", "Each assigned client id is new.", id_new),
    v3(
        "3.1.3-8",
        "An empty client id without a clean session is refused with 0x02.",
        id_empty_lasting,
    ),
    v3(
        "3.1.3-9",
        "A client id that is refused is refused with 0x02.",
        id_refused_v3,
    ),
    v5(
        "3.1.3-8",
        "A client id that is refused ends the connection.",
        id_refused_v5,
    ),
];

fn connect_first(b: &Broker) -> Outcome {
    let topic = b.topic();
    for frame in [
        Frame::new(kind::PINGREQ),
        Message::new(&topic, "x").frame(b.version),
        Message::new(&topic, "x").qos(1).id(1).frame(b.version),
        subscribe(b.version, 1, &Properties::new(), &[(&topic, 0)]),
        Frame::new(kind::DISCONNECT),
    ] {
        let mut client = b.dial()?;
        client.send(&frame);
        let packets = client.until_closed()?;
        demand!(
            packets.is_empty(),
            "{} to a first {}",
            packets[0],
            kind::name(frame.bytes()[0] >> 4)
        );
    }
    held("5 other packets, each closed without an answer")
}

fn second_connect(b: &Broker) -> Outcome {
    let connect = b.fresh(&b.name());
    let mut client = b.open(&connect)?;
    client.send(&connect.frame());
    held(client.closed()?)
}

fn protocol_name(b: &Broker) -> Outcome {
    for name in ["MQXX", "mqtt", "MQT", ""] {
        let mut connect = b.fresh(&b.name());
        connect.protocol = name.into();
        let mut client = b.send(&connect)?;
        let said = client
            .refused()
            .map_err(|f| Failure(format!("{name:?}: {}", f.0)));
        if b.version == Version::V5 {
            said?;
        } else if let Err(failure) = said {
            // 3.1.1 lets the broker go on under another specification; then it is not closed.
            demand!(failure.0.contains("what came: nothing"), "{}", failure.0);
        }
    }
    held("4 other names, no success")
}

fn level_v3(b: &Broker) -> Outcome {
    // Levels above 5 are unknown to 5.0 as well, whose answer looks different.
    for level in [0, 1, 2] {
        let mut connect = b.fresh(&b.name());
        connect.level = level;
        let said = b.send(&connect)?.refused()?;
        demand!(said == "CONNACK 0x01, closed", "level {level}: {said}");
    }
    held("levels 0, 1, 2: CONNACK 0x01, closed")
}

fn level_v5(b: &Broker) -> Outcome {
    let mut seen = Vec::new();
    for level in [6, 100, 255] {
        let mut connect = b.fresh(&b.name());
        connect.level = level;
        let mut client = b.send(&connect)?;
        // The CONNACK may be one of any version.
        client.version = Version::V3;
        match client.refused() {
            Ok(said) => seen.push(said),
            Err(_) => {
                let mut client = b.send(&connect)?;
                let said = client.refused()?;
                demand!(
                    said.contains("0x84") || !said.contains("CONNACK"),
                    "level {level}: {said}"
                );
                seen.push(said);
            }
        }
    }
    held(seen.join("; "))
}

fn reserved_flag(b: &Broker) -> Outcome {
    let connect = b.fresh(&b.name()).flip(flag::RESERVED);
    held(b.send(&connect)?.refused()?)
}

fn order(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 1)?;
    let will = Will::new(&topic, "the will").qos(1);
    let connect = b
        .fresh(&b.name())
        .will(will)
        .user("a user")
        .password("a password");
    let mut client = b.send(&connect)?;
    match client.packet()? {
        Packet::ConnAck { code: 0, .. } => {}
        // A broker that knows users may refuse this one, and has read the fields then.
        other => {
            let login = matches!(
                other,
                Packet::ConnAck {
                    code: 4 | 5 | 0x86 | 0x87,
                    ..
                }
            );
            demand!(login, "{other}");
            return held(format!("{other}"));
        }
    }
    client.cut()?;
    let delivery = watcher.take_payload("the will")?;
    demand!(
        delivery.topic == topic,
        "the will's topic came as {:?}",
        delivery.topic
    );
    held("all fields present: accepted, and the will came as written")
}

fn identity(b: &Broker) -> Outcome {
    let (one, other) = (b.name(), b.name());
    b.open(&b.lasting(&one))?.disconnect()?;
    let stranger = b.open(&b.lasting(&other))?;
    demand!(
        !stranger.session_present,
        "another client id found the session"
    );
    stranger.disconnect()?;
    let again = b.open(&b.lasting(&one))?;
    demand!(
        again.session_present,
        "the client id did not find its session"
    );
    held("the same id finds its session, another one does not")
}

fn id_missing(b: &Broker) -> Outcome {
    held(b.send_bytes(&b.fresh("").head().bytes())?.refused()?)
}

fn id_text(b: &Broker) -> Outcome {
    for bytes in super::data::ILL_FORMED {
        let mut connect = b.fresh("");
        connect.id = bytes.to_vec();
        b.send(&connect)?.refused()?;
    }
    held("5 ill-formed ids, each closed")
}

fn id_alphabet(b: &Broker) -> Outcome {
    // Ids of this case alone, and different ones for the two versions.
    let ids = match b.version {
        Version::V3 => [
            "0",
            "0123456789abcdefghijklm",
            "nopqrstuvwxyzABCDEFGHIJ",
            "KLMNOPQRSTUVWXYZ",
        ],
        Version::V5 => [
            "Z",
            "ZYXWVUTSRQPONMLKJIHGFED",
            "CBAzyxwvutsrqponmlkjihg",
            "fedcba9876543210",
        ],
    };
    for id in ids {
        b.open(&b.fresh(id))?.disconnect()?;
    }
    held("every letter and digit, 1 and 23 of them")
}

/// Two clients with empty ids, or what the broker said to the first.
fn empty_pair(b: &Broker) -> Result<Result<[Client<'_>; 2], String>, Failure> {
    let mut first = b.send(&b.fresh(""))?;
    match first.packet()? {
        Packet::ConnAck {
            code: 0,
            properties,
            ..
        } => first.connack = properties,
        other => {
            let refused = matches!(other, Packet::ConnAck { code: 2 | 0x85, .. });
            demand!(refused, "{other}");
            first.closed()?;
            return Ok(Err(format!("empty ids are refused: {other}")));
        }
    }
    let second = b.open(&b.fresh(""))?;
    Ok(Ok([first, second]))
}

fn id_empty(b: &Broker) -> Outcome {
    match empty_pair(b)? {
        Err(refused) => not_offered(refused),
        Ok([mut first, mut second]) => {
            first.ping()?;
            second.ping()?;
            held("two clients with empty ids live side by side")
        }
    }
}

fn id_assigned(b: &Broker) -> Outcome {
    let expiry = Properties::new().four(property::SESSION_EXPIRY, 60);
    let topic = b.topic();
    let mut client = b.open(&b.fresh("").properties(expiry))?;
    let Some(id) = client
        .connack
        .text(property::ASSIGNED_CLIENT_ID)
        .map(str::to_owned)
    else {
        return Err(Failure(
            "no Assigned Client Identifier in the CONNACK".into(),
        ));
    };
    client.subscribe(&topic, 1)?;
    client.disconnect()?;
    let mut again = b.open(&b.lasting(&id))?;
    demand!(again.session_present, "no session of {id:?}");
    b.put(&Message::new(&topic, "x").qos(1))?;
    again.take_payload("x")?;
    held(format!("{id:?} found its session again"))
}

fn id_new(b: &Broker) -> Outcome {
    match empty_pair(b)? {
        Err(refused) => not_offered(refused),
        Ok(clients) => {
            let ids = clients
                .each_ref()
                .map(|c| c.connack.text(property::ASSIGNED_CLIENT_ID));
            let [Some(first), Some(second)] = ids else {
                return Err(Failure(
                    "no Assigned Client Identifier in the CONNACK".into(),
                ));
            };
            demand!(first != second && !first.is_empty(), "{first:?} twice");
            held(format!("{first:?} and {second:?}"))
        }
    }
}

fn id_empty_lasting(b: &Broker) -> Outcome {
    let said = b.send(&b.fresh("").clean(false))?.refused()?;
    demand!(said == "CONNACK 0x02, closed", "{said}");
    held(said)
}

/// Ids that a broker may find too long or odd, and must refuse as such if it does.
fn odd_ids(b: &Broker) -> Vec<String> {
    let name = b.name();
    vec![
        format!("{name}/+/#"),
        format!("{name} \u{1F30A}"),
        format!("{name}{}", "x".repeat(60_000)),
    ]
}

fn id_refused_v3(b: &Broker) -> Outcome {
    let mut refused = vec![id_empty_lasting(b).map(|_| "empty")?];
    for id in odd_ids(b) {
        let mut client = b.send(&b.fresh(&id))?;
        match client.packet()? {
            Packet::ConnAck { code: 0, .. } => {}
            Packet::ConnAck { code: 2, .. } => {
                client.closed()?;
                refused.push("odd");
            }
            other => demand!(false, "{other} to an id of {} bytes", id.len()),
        }
    }
    held(format!("refused: {}", refused.join(", ")))
}

fn id_refused_v5(b: &Broker) -> Outcome {
    let mut refused = 0;
    for id in odd_ids(b) {
        let mut client = b.send(&b.fresh(&id))?;
        match client.packet() {
            Ok(Packet::ConnAck { code: 0, .. }) => {}
            Ok(Packet::ConnAck { .. }) => {
                client.closed()?;
                refused += 1;
            }
            _ => refused += 1,
        }
    }
    if refused == 0 {
        return not_offered("no id is refused, of 3 odd ones");
    }
    held(format!("{refused} of 3 odd ids refused and closed"))
}

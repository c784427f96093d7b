//! Errors in general: section 4.13 (3.1.1: 4.8), and rules of MQTT 5.0 about properties that have no
//! number of their own.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    v3(
        "4.8.0-1",
        "A protocol violation ends the connection.",
        violations,
    ),
    v5(
        "4.13.1-1",
        "A malformed packet or a protocol error ends the connection.",
        violations,
    ),
    v5(
        "4.13.2-1",
        "After a reason code of 0x80 or more the connection ends.",
        closed_after_code,
    ),
    v5(
        "1.5.5/five-bytes",
        "A remaining length of five bytes ends the connection.",
        five_bytes,
    ),
    v5(
        "2.2.2.2/twice",
        "A property that stands twice ends the connection.",
        twice,
    ),
    v5(
        "2.2.2.2/foreign",
        "A property of another packet ends the connection.",
        foreign,
    ),
    v5(
        "2.2.2.2/unknown",
        "An unknown property ends the connection.",
        unknown,
    ),
    v5(
        "2.2.2.1/length",
        "A property length beyond the packet ends the connection.",
        length,
    ),
    v5(
        "3.1.2.11.3/zero",
        "A receive maximum of 0 ends the connection.",
        receive_maximum_zero,
    ),
    v5(
        "3.1.2.11.4/zero",
        "A maximum packet size of 0 ends the connection.",
        packet_size_zero,
    ),
    v5(
        "3.1.2.11/booleans",
        "Request response and problem information are 0 or 1.",
        booleans,
    ),
    v5(
        "3.3.2.3.2/boolean",
        "The payload format indicator is 0 or 1.",
        payload_format,
    ),
    v5(
        "3.8.2.1.2/zero",
        "A subscription identifier of 0 ends the connection.",
        subscription_zero,
    ),
    v5(
        "3.4.2.1/unknown",
        "Reason codes that a packet cannot have end the connection.",
        reason_codes,
    ),
    v5(
        "3.1.2.11/order",
        "Properties may stand in any order.",
        any_order,
    ),
];

const NONE: &Properties = &Properties(Vec::new());

/// Packets that no client may send, with a word for each.
fn wrong(b: &Broker) -> Vec<(&'static str, Vec<u8>)> {
    let topic = b.topic();
    let nobody: [(&str, u8); 0] = [];
    let frames = [
        ("type 0", Frame::new(0)),
        ("CONNACK", Frame::new(kind::CONNACK).u8(0).u8(0)),
        ("SUBACK", Frame::new(kind::SUBACK).u16(1).u8(0).u8(0)),
        ("UNSUBACK", Frame::new(kind::UNSUBACK).u16(1).u8(0)),
        ("PINGRESP", Frame::new(kind::PINGRESP)),
        ("PINGREQ with a body", Frame::new(kind::PINGREQ).u8(0)),
        ("PUBLISH without a body", Frame::new(kind::PUBLISH)),
        (
            "PUBLISH at QoS 3",
            Message::new(&topic, "x").qos(3).id(1).frame(b.version),
        ),
        (
            "PUBLISH without an identifier",
            Frame::flagged(kind::PUBLISH, 2).field(&topic),
        ),
        ("PUBACK without an identifier", Frame::new(kind::PUBACK)),
        ("PUBREL cut short", Frame::new(kind::PUBREL).u8(1)),
        (
            "SUBSCRIBE without a filter",
            subscribe(b.version, 1, NONE, &nobody),
        ),
        (
            "SUBSCRIBE cut short",
            subscribe(b.version, 1, NONE, &nobody).u16(40).raw(b"x"),
        ),
        (
            "SUBSCRIBE without options",
            subscribe(b.version, 1, NONE, &nobody).field(&topic),
        ),
        (
            "UNSUBSCRIBE cut short",
            unsubscribe(b.version, 1, &[&topic]).u16(40),
        ),
    ];
    let mut all: Vec<_> = frames
        .into_iter()
        .map(|(what, f)| (what, f.bytes()))
        .collect();
    all.push((
        "five bytes of length",
        vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
    ));
    match b.version {
        Version::V3 => {
            all.push(("type 15", Frame::new(kind::AUTH).bytes()));
            all.push((
                "DISCONNECT with a body",
                Frame::new(kind::DISCONNECT).u8(0).bytes(),
            ));
            all.push(("PUBACK with a code", ack(kind::PUBACK, 1).u8(0).bytes()));
        }
        Version::V5 => {
            all.push(("AUTH without a method", Frame::new(kind::AUTH).bytes()));
            all.push((
                "PUBACK with half a property",
                ack(kind::PUBACK, 1).u8(0).u8(9).bytes(),
            ));
        }
    }
    all
}

fn violations(b: &Broker) -> Outcome {
    let all = wrong(b);
    let mut open = Vec::new();
    for (what, bytes) in &all {
        let mut client = b.client()?;
        client.send_bytes(bytes);
        if let Err(failure) = client.closed() {
            open.push(format!("{what}: {}", failure.0));
        }
    }
    demand!(open.is_empty(), "{}", open.join("; "));
    held(format!("{} wrong packets, each closed", all.len()))
}

fn closed_after_code(b: &Broker) -> Outcome {
    let mut seen = Vec::new();
    let method = Properties::new().field(property::AUTH_METHOD, "no-such-method");
    seen.push(b.send(&b.fresh(&b.name()).properties(method))?.refused()?);
    seen.push(b.after(&Message::new("#", "x").frame(b.version))?);
    seen.push(b.after(&b.fresh(&b.name()).frame())?);
    held(seen.join("; "))
}

fn five_bytes(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    client.send_bytes(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]);
    let said = client.closed()?;
    b.send_bytes(&[0x10, 0xff, 0xff, 0xff, 0xff, 0x01])?
        .refused()?;
    held(said)
}

/// These properties end the connection in these packets.
fn refused_in(b: &Broker, places: &[(&str, Properties)]) -> Outcome {
    let mut open = Vec::new();
    for (place, properties) in places {
        let said = match *place {
            "CONNECT" => b
                .send(&b.fresh(&b.name()).properties(properties.clone()))?
                .refused(),
            "will" => {
                let will = Will::new(b.topic(), "x").properties(properties.clone());
                b.send(&b.fresh(&b.name()).will(will))?.refused()
            }
            "PUBLISH" => {
                let message = Message::new(b.topic(), "x").properties(properties.clone());
                b.after(&message.frame(b.version))
            }
            "SUBSCRIBE" => b.after(&subscribe(b.version, 1, properties, &[(b.topic(), 0)])),
            "UNSUBSCRIBE" => {
                let frame = Frame::new(kind::UNSUBSCRIBE)
                    .u16(1)
                    .properties(b.version, properties);
                b.after(&frame.field(b.topic()))
            }
            "PUBREL" => b.after(&ack(kind::PUBREL, 1).u8(0).properties(b.version, properties)),
            _ => b.after(
                &Frame::new(kind::DISCONNECT)
                    .u8(0)
                    .properties(b.version, properties),
            ),
        };
        // A broker that has read a DISCONNECT may just go.
        if let Err(failure) = said {
            open.push(format!("{place} {:02x?}: {}", properties.0, failure.0));
        }
    }
    demand!(open.is_empty(), "{}", open.join("; "));
    held(format!(
        "{} in {} places, each closed",
        places.len(),
        places.len()
    ))
}

fn twice(b: &Broker) -> Outcome {
    let p = Properties::new;
    refused_in(
        b,
        &[
            (
                "CONNECT",
                p().four(property::SESSION_EXPIRY, 1)
                    .four(property::SESSION_EXPIRY, 1),
            ),
            (
                "CONNECT",
                p().two(property::RECEIVE_MAXIMUM, 9)
                    .two(property::RECEIVE_MAXIMUM, 9),
            ),
            (
                "will",
                p().four(property::WILL_DELAY, 1)
                    .four(property::WILL_DELAY, 1),
            ),
            (
                "PUBLISH",
                p().byte(property::PAYLOAD_FORMAT, 1)
                    .byte(property::PAYLOAD_FORMAT, 1),
            ),
            (
                "PUBLISH",
                p().four(property::MESSAGE_EXPIRY, 9)
                    .four(property::MESSAGE_EXPIRY, 9),
            ),
            (
                "PUBLISH",
                p().field(property::CONTENT_TYPE, "a")
                    .field(property::CONTENT_TYPE, "a"),
            ),
            (
                "SUBSCRIBE",
                p().variable(property::SUBSCRIPTION_ID, 1)
                    .variable(property::SUBSCRIPTION_ID, 2),
            ),
            (
                "PUBREL",
                p().field(property::REASON_STRING, "a")
                    .field(property::REASON_STRING, "a"),
            ),
        ],
    )
}

fn foreign(b: &Broker) -> Outcome {
    let p = Properties::new;
    refused_in(
        b,
        &[
            ("CONNECT", p().two(property::TOPIC_ALIAS, 1)),
            ("CONNECT", p().byte(property::MAXIMUM_QOS, 1)),
            ("will", p().four(property::SESSION_EXPIRY, 1)),
            ("PUBLISH", p().two(property::RECEIVE_MAXIMUM, 1)),
            ("SUBSCRIBE", p().field(property::CONTENT_TYPE, "a")),
            ("UNSUBSCRIBE", p().variable(property::SUBSCRIPTION_ID, 1)),
            ("PUBREL", p().four(property::MESSAGE_EXPIRY, 1)),
        ],
    )
}

fn unknown(b: &Broker) -> Outcome {
    let p = Properties::new;
    refused_in(
        b,
        &[
            ("CONNECT", p().byte(0x05, 1)),
            ("will", p().byte(0x7f, 1)),
            ("PUBLISH", p().byte(0x00, 1)),
            ("SUBSCRIBE", p().byte(0x2b, 1)),
            ("UNSUBSCRIBE", p().byte(0x04, 1)),
        ],
    )
}

fn length(b: &Broker) -> Outcome {
    let topic = b.topic();
    let publish = Frame::new(kind::PUBLISH).field(&topic);
    b.after(&publish.clone().u8(100).raw(b"short"))?;
    b.after(&publish.clone())?;
    // A length that ends inside a property, whose rest would be the payload.
    b.after(
        &publish
            .u8(3)
            .u8(property::MESSAGE_EXPIRY)
            .raw(&[0, 0, 0, 9]),
    )?;
    b.after(
        &Frame::new(kind::SUBSCRIBE)
            .u16(1)
            .u8(50)
            .field(&topic)
            .u8(0),
    )?;
    held("too long, missing, and ending inside a property")
}

fn receive_maximum_zero(b: &Broker) -> Outcome {
    refused_in(
        b,
        &[(
            "CONNECT",
            Properties::new().two(property::RECEIVE_MAXIMUM, 0),
        )],
    )
}

fn packet_size_zero(b: &Broker) -> Outcome {
    refused_in(
        b,
        &[(
            "CONNECT",
            Properties::new().four(property::MAXIMUM_PACKET_SIZE, 0),
        )],
    )
}

fn booleans(b: &Broker) -> Outcome {
    let p = Properties::new;
    refused_in(
        b,
        &[
            ("CONNECT", p().byte(property::REQUEST_PROBLEM, 2)),
            ("CONNECT", p().byte(property::REQUEST_RESPONSE, 2)),
        ],
    )
}

fn payload_format(b: &Broker) -> Outcome {
    refused_in(
        b,
        &[(
            "PUBLISH",
            Properties::new().byte(property::PAYLOAD_FORMAT, 2),
        )],
    )
}

fn subscription_zero(b: &Broker) -> Outcome {
    refused_in(
        b,
        &[(
            "SUBSCRIBE",
            Properties::new().variable(property::SUBSCRIPTION_ID, 0),
        )],
    )
}

fn reason_codes(b: &Broker) -> Outcome {
    let mut open = Vec::new();
    for (what, frame) in [
        ("PUBACK 0x92", ack(kind::PUBACK, 1).u8(0x92)),
        ("PUBREC 0x01", ack(kind::PUBREC, 1).u8(0x01)),
        ("PUBREL 0x10", ack(kind::PUBREL, 1).u8(0x10)),
        ("PUBCOMP 0x80", ack(kind::PUBCOMP, 1).u8(0x80)),
        ("AUTH 0x01", Frame::new(kind::AUTH).u8(0x01).u8(0)),
    ] {
        if let Err(failure) = b.after(&frame) {
            open.push(format!("{what}: {}", failure.0));
        }
    }
    demand!(open.is_empty(), "{}", open.join("; "));
    held("5 codes in 5 packets, each closed")
}

fn any_order(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut subscriber = b.subscriber(&topic, 1)?;
    let p = Properties::new;
    let parts = [
        p().pair("a", "1"),
        p().field(property::CONTENT_TYPE, "text"),
        p().four(property::MESSAGE_EXPIRY, 600),
        p().field(property::CORRELATION_DATA, "c"),
    ];
    for turn in 0..parts.len() {
        let mut sent = p();
        for n in 0..parts.len() {
            sent = sent.raw(&parts[(turn + n) % parts.len()].0);
        }
        b.put(&Message::new(&topic, "x").qos(1).properties(sent))?;
        let came = subscriber.take_payload("x")?.properties;
        demand!(came.0.len() == 4, "{came:?}");
    }
    let connect = p()
        .pair("a", "1")
        .two(property::RECEIVE_MAXIMUM, 9)
        .pair("a", "2")
        .four(property::SESSION_EXPIRY, 0);
    b.open(&b.fresh(&b.name()).properties(connect))?;
    held("4 properties of PUBLISH in 4 orders, and CONNECT")
}

//! MQTT in a WebSocket: section 6 of both specifications.

use super::NO_ADDRESS;
use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "6.0.0-1",
        "6.0.0-1",
        "Packets travel in binary frames; another data frame ends the connection.",
        binary,
    ),
    both(
        "6.0.0-2",
        "6.0.0-2",
        "Where frames end does not matter: one holds several packets, or a part of one.",
        frames,
    ),
    both(
        "6.0.0-4",
        "6.0.0-4",
        "The sub-protocol that the server chooses is mqtt.",
        protocol,
    ),
];

fn binary(b: &Broker) -> Outcome {
    let Some(mut client) = b.websocket(&["mqtt"])? else {
        return not_offered(NO_ADDRESS);
    };
    client.send(&b.fresh(&b.name()).frame());
    // The reader takes binary frames alone.
    let connack = client.packet()?;
    demand!(
        matches!(connack, Packet::ConnAck { code: 0, .. }),
        "{connack} to a CONNECT in a binary frame"
    );
    client.send_text("PINGREQ");
    let end = client.closed()?;
    held(format!("CONNACK in a binary frame; a text frame: {end}"))
}

fn frames(b: &Broker) -> Outcome {
    let Some(mut client) = b.websocket(&["mqtt"])? else {
        return not_offered(NO_ADDRESS);
    };
    for byte in b.fresh(&b.name()).frame().bytes() {
        client.send_bytes(&[byte]);
    }
    let connack = client.packet()?;
    demand!(
        matches!(connack, Packet::ConnAck { code: 0, .. }),
        "{connack} to a CONNECT of one byte a frame"
    );
    let topic = b.topic();
    let mut many = subscribe(b.version, 1, &Properties::new(), &[(&topic, 1)]).bytes();
    for id in 2..6 {
        let message = Message::new(&topic, id.to_string()).qos(1).id(id);
        many.extend(message.frame(b.version).bytes());
    }
    client.send_bytes(&many);
    client.suback(1)?;
    for id in 2..6 {
        client.acked(kind::PUBACK, id)?;
    }
    for id in 2..6 {
        client.take_payload(&id.to_string())?;
    }
    held("CONNECT in a frame for each byte, 5 packets in one frame")
}

fn protocol(b: &Broker) -> Outcome {
    let Some(client) = b.websocket(&["chat", "mqtt"])? else {
        return not_offered(NO_ADDRESS);
    };
    let chosen = client.sub_protocol();
    demand!(
        chosen == Some("mqtt"),
        "it chose {chosen:?} of chat and mqtt"
    );
    held("mqtt of chat and mqtt")
}

//! The stream beneath: MQTT 5.0 section 4.2, MQTT 3.1.1 section 7.

use super::prelude::*;

pub const RULES: &[Rule] = &[both(
    "7.1.1-1",
    "4.2.0-1",
    "The transport is an ordered stream of bytes: where they are cut does not matter.",
    stream,
)];

fn stream(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut client = b.dial()?;
    for byte in b.fresh(&b.name()).frame().bytes() {
        client.send_bytes(&[byte]);
    }
    let connack = client.packet()?;
    demand!(
        matches!(connack, Packet::ConnAck { code: 0, .. }),
        "{connack} to single bytes"
    );
    let mut many = subscribe(b.version, 1, &Properties::new(), &[(&topic, 1)]).bytes();
    for id in 2..12 {
        many.extend(
            Message::new(&topic, id.to_string())
                .qos(1)
                .id(id)
                .frame(b.version)
                .bytes(),
        );
    }
    many.extend(Frame::new(kind::PINGREQ).bytes());
    // In two parts that end inside a packet.
    let (head, tail) = many.split_at(many.len() / 2 + 1);
    client.send_bytes(head);
    client.send_bytes(tail);
    client.suback(1)?;
    for id in 2..12 {
        client.acked(kind::PUBACK, id)?;
    }
    client.find("PINGRESP", |packet| *packet == Packet::PingResp)?;
    for id in 2..12 {
        client.take_payload(&id.to_string())?;
    }
    held("CONNECT byte by byte, 12 packets in two writes")
}

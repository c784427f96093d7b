//! MQTT packets as bytes, in both versions and before CONNECT; what decodes is written again.
//!
//! Memory: a packet's filters and user properties become structs of about 50 bytes, twice (here and
//! in the codec's crate), for 4 bytes on the wire.

use bytes::BytesMut;
use headwater_mqtt::Properties;
use headwater_mqtt::codec::{self, Outgoing, Packet, PublishIn, Version};

use super::mqtt_broker::world::{self, packet, user, v3, v5};
use super::named;
use crate::Target;

const INPUT_BYTES_MAX: usize = 16 << 10;

pub const TARGET: Target = Target {
    name: "mqtt_codec",
    run,
    seeds,
    input_bytes_max: INPUT_BYTES_MAX,
    memory_bytes_max: (64 << 10) + 64 * INPUT_BYTES_MAX,
};

fn run(data: &[u8]) {
    for version in [None, Some(Version::V3), Some(Version::V5)] {
        let mut buffer = BytesMut::from(data);
        while let Ok(Some(packet)) = codec::next(version, &mut buffer) {
            if let Packet::Publish(publish) = packet {
                write_again(&publish);
            }
        }
        assert!(buffer.capacity() <= data.len() + 64, "nothing is reserved");
    }
}

/// As a subscriber of either version gets it: exactly as long as was said, and readable.
fn write_again(publish: &PublishIn) {
    let Ok(topic) = std::str::from_utf8(&publish.topic) else {
        panic!("a topic that is not UTF-8 passed");
    };
    let v5 = [None, Some((7, false)), Some((7, true))].map(|alias| (Version::V5, alias));
    for (version, alias) in [(Version::V3, None)].into_iter().chain(v5) {
        let properties: Option<&Properties> = publish.properties.as_deref();
        let out = Outgoing {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            id: publish.id,
            topic,
            alias,
            properties,
            expiry_s: None,
            subscription_ids: &[1, 200_000],
            payload_bytes: publish.payload.len(),
        };
        let mut bytes = BytesMut::new();
        codec::publish(version, &out, &mut bytes);
        bytes.extend_from_slice(&publish.payload);
        assert_eq!(bytes.len(), out.len(version), "the length that was said");
    }
}

pub(super) fn packets() -> Vec<(&'static str, Vec<u8>)> {
    let list = [
        &[1, 1, 2, 0, 0, 0, 9, 35, 0, 1][..],
        &[3, 0, 1, b'c', 8, 0, 1, b'r', 9, 0, 1, b'd'],
        &user("k", "v"),
    ]
    .concat();
    let asked = [
        &[
            17, 0, 0, 0, 9, 33, 0, 9, 39, 0, 1, 0, 0, 34, 0, 3, 25, 1, 23, 1,
        ][..],
        &user("a", "b"),
    ]
    .concat();
    let will = [24, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 3, 3, 0, 1, 99];
    let mut full = v5("id", true, 0).property(&asked).will("w", "p", 2, &will);
    full.login = Some(("u".into(), b"\xff\0".to_vec()));
    let mut old = v3("id", false).will("w", "p", 1, &[]);
    old.login = Some(("u".into(), b"pw".to_vec()));
    let shared = [&[11, 0x80, 1][..], &user("k", "v")].concat();
    let acknowledged = [&[0, 1, 0, 11, 31, 0, 1, 97][..], &user("k", "v")].concat();
    vec![
        ("connect-5", full.bytes()),
        ("connect-3", old.bytes()),
        ("publish-0", world::publish("a/b", "load", 0, 0).bytes()),
        (
            "publish-2",
            world::publish("a/b", "load", 2, 9).dup().retain().bytes(),
        ),
        (
            "publish-5",
            world::publish("a/b", "load", 1, 9).v5(&list).bytes(),
        ),
        (
            "publish-alias",
            world::publish("", "", 0, 0).v5(&[35, 0, 1]).bytes(),
        ),
        (
            "subscribe-3",
            world::subscribe(1, &[("a/#", 1), ("+", 2)], None),
        ),
        (
            "subscribe-5",
            world::subscribe(1, &[("a/#", 0x2d), ("$share/g/x", 2)], Some(&shared)),
        ),
        ("unsubscribe-3", world::unsubscribe(1, &["a", "b/#"], None)),
        (
            "unsubscribe-5",
            world::unsubscribe(1, &["a", "b/#"], Some(&user("k", "v"))),
        ),
        (
            "disconnect-5",
            packet(0xe0, &[0, 8, 17, 0, 0, 0, 5, 31, 0, 0]),
        ),
        ("ping", packet(0xc0, &[])),
        ("auth", packet(0xf0, &[0x18, 6, 21, 0, 3, b'a', b'b', b'c'])),
        ("puback-5", packet(0x40, &acknowledged)),
        ("pubrec", packet(0x50, &[0, 1])),
        ("pubrel-5", packet(0x62, &acknowledged)),
        ("pubcomp", packet(0x70, &[0, 1, 0])),
        ("connack", packet(0x20, &[0, 0, 0])),
    ]
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    packets()
        .into_iter()
        .map(|(name, bytes)| named(name, bytes))
        .collect()
}

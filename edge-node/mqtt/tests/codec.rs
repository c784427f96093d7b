//! The adapter takes any bytes.
#![allow(clippy::unwrap_used)]

mod common;
use bytes::BytesMut;
use common::*;
use headwater_mqtt::codec::{self, CodecError, Packet, Version};
use proptest::prelude::*;

/// Every packet a client may send, and every one it may not.
fn samples() -> Vec<Vec<u8>> {
    let props = [
        vec![1, 1, 2, 0, 0, 0, 9, 35, 0, 1],
        [
            vec![3],
            field("c"),
            vec![8],
            field("r"),
            vec![9],
            field("d"),
        ]
        .concat(),
        user("k", "v"),
    ]
    .concat();
    let connect_props = [
        vec![
            17, 0, 0, 0, 9, 33, 0, 9, 39, 0, 1, 0, 0, 34, 0, 3, 25, 1, 23, 1,
        ],
        user("a", "b"),
    ]
    .concat();
    let mut full = v5("id", true, 0).property(&connect_props).will(
        "w",
        "p",
        2,
        &[24, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 3, 3, 0, 1, 99],
    );
    full.login = Some(("u".into(), b"\xff\0".to_vec()));
    let mut old = v3("id", false).will("w", "p", 1, &[]);
    old.login = Some(("u".into(), b"pw".to_vec()));
    let mut out = vec![
        full.bytes(),
        old.bytes(),
        v5("", true, 0).bytes(),
        publish("a/b", "payload", 0, 0).bytes(),
        publish("a/b", "payload", 2, 9).dup().retain().bytes(),
        publish("a/b", "payload", 1, 9).v5(&props).bytes(),
        publish("", "", 0, 0).v5(&[35, 0, 1]).bytes(),
        subscribe(1, &[("a/#", 1), ("+", 2)], None),
        subscribe(
            1,
            &[("a/#", 0x2d), ("$share/g/x", 2)],
            Some(&[&[11, 0x80, 1][..], &user("k", "v")].concat()),
        ),
        unsubscribe(1, &["a", "b/#"], None),
        unsubscribe(1, &["a", "b/#"], Some(&user("k", "v"))),
        packet(0xe0, &[]),
        packet(0xe0, &[4]),
        packet(
            0xe0,
            &[[0, 8, 17, 0, 0, 0, 5].to_vec(), vec![31, 0, 0]].concat(),
        ),
        packet(0xc0, &[]),
        packet(0xf0, &[]),
        packet(
            0xf0,
            &[[0x18, 6, 21, 0, 3].to_vec(), b"abc".to_vec()].concat(),
        ),
    ];
    for first in [0x40, 0x50, 0x62, 0x70] {
        out.push(packet(first, &[0, 1]));
        out.push(packet(first, &[0, 1, 0]));
        out.push(packet(
            first,
            &[[0, 1, 0, 11].to_vec(), vec![31, 0, 1, 97], user("k", "v")].concat(),
        ));
    }
    for first in [0x20, 0x90, 0xb0, 0xd0, 0x00] {
        out.push(packet(first, &[0, 0, 0]));
        out.push(packet(first, &[]));
    }
    out
}

fn feed(bytes: &[u8]) {
    for version in [None, Some(Version::V3), Some(Version::V5)] {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Some(_)) = codec::next(version, &mut buffer) {}
        assert!(buffer.capacity() <= bytes.len() + 64, "nothing is reserved");
    }
}

#[test]
fn mutated_packets_never_panic() {
    let samples = samples();
    for (n, sample) in samples.iter().enumerate() {
        for at in 0..sample.len() {
            feed(&sample[..at]);
            for value in [0, 1, 2, 0x7f, 0x80, 0xff, sample[at] ^ 1, sample[at] ^ 0x80] {
                let mut changed = sample.clone();
                changed[at] = value;
                feed(&changed);
                changed.remove(at);
                feed(&changed);
                // The fixed header right again, so that the body is read.
                let body = changed.get(2..).unwrap_or(&[]).to_vec();
                feed(&packet(sample[0], &body));
                let other = &samples[(n + at) % samples.len()];
                feed(&[&changed[..at.min(changed.len())], other].concat());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn random_bodies_never_panic(first in any::<u8>(), body in prop::collection::vec(
        prop_oneof![3 => 0u8..6, 1 => any::<u8>()], 0..40)) {
        feed(&packet(first, &body));
    }
}

fn one(version: Option<Version>, bytes: &[u8]) -> Result<Option<Packet>, CodecError> {
    codec::next(version, &mut BytesMut::from(bytes))
}

#[test]
fn the_samples_that_are_valid_are_read() {
    let read = |v, b: &[u8]| matches!(one(v, b), Ok(Some(_)));
    let ok = samples()
        .iter()
        .filter(|s| read(None, s) || read(Some(Version::V3), s) || read(Some(Version::V5), s))
        .count();
    assert_eq!(
        ok,
        samples().len() - 10,
        "all but the ten of a server's or reserved types"
    );
    let Ok(Some(Packet::Connect(c))) = one(None, &samples()[0]) else {
        panic!()
    };
    assert_eq!(
        (c.password.as_deref(), c.username.as_deref()),
        (Some(&b"\xff\0"[..]), Some("u"))
    );
    assert_eq!(
        (c.receive_maximum, c.packet_bytes_max),
        (Some(9), Some(65536))
    );
    let will = c.will.unwrap();
    assert_eq!((will.delay_s, will.qos as u8), (1, 2));
}

#[test]
fn what_the_specification_forbids_is_refused() {
    let v5p = Some(Version::V5);
    let v3p = Some(Version::V3);
    let malformed: Vec<(Option<Version>, Vec<u8>)> = vec![
        (v3p, packet(0x36, b"\0\x01a\0\x01")),
        (v3p, packet(0x38, b"\0\x01a")),
        (v3p, publish("a\0", "", 0, 0).bytes()),
        (v3p, packet(0x30, b"\0\x02\xc3\x28")),
        (v3p, packet(0x30, b"\0\x03\xed\xa0\x80")),
        (v3p, packet(0x60, &[0, 1])),
        (v3p, packet(0x80, &subscribe(1, &[("a", 0)], None)[2..])),
        (v3p, subscribe(1, &[("a", 0x04)], None)),
        (v3p, packet(0xe0, &[0])),
        (v3p, packet(0xf0, &[])),
        (v3p, packet(0x40, &[0, 1, 0])),
        (v5p, packet(0x40, &[0, 1, 0, 50])),
        (v3p, vec![0x30, 0xff, 0xff, 0xff, 0xff, 1]),
        (v5p, publish("a", "", 0, 0).v5(&[99, 0]).bytes()),
        (v5p, publish("a", "", 0, 0).v5(&[11, 1]).bytes()),
        (
            v5p,
            packet(
                0x30,
                &[[0, 1, b'a', 2, 38, 0].to_vec(), field("k")].concat(),
            ),
        ),
        (None, packet(0x10, b"\0\x04MQTT\x04\x03\0\0\0\x01a")),
        (None, packet(0x10, b"\0\x04MQTT\x04\x40\0\0\0\x01a\0\x01p")),
        (None, packet(0x10, b"\0\x04MQTT\x04\x08\0\0\0\x01a")),
        (None, packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01a!")),
    ];
    for (version, bytes) in malformed {
        let got = one(version, &bytes);
        assert!(
            matches!(got, Err(CodecError::Malformed(_))),
            "{bytes:?} {got:?}"
        );
    }
    let protocol: Vec<(Option<Version>, Vec<u8>)> = vec![
        (v3p, publish("a", "", 1, 0).bytes()),
        (v3p, packet(0x40, &[0, 0])),
        (v3p, packet(0x82, &[0, 1])),
        (v3p, v3("again", true).bytes()),
        (v5p, vec![0x20]),
        (v5p, vec![0xb0]),
        (v5p, subscribe(1, &[("a", 0x30)], Some(&[]))),
        (v5p, subscribe(1, &[("a", 0)], Some(&[11, 0]))),
        (v5p, publish("a", "", 0, 0).v5(&[1, 0, 1, 0]).bytes()),
        (v5p, publish("a", "", 0, 0).v5(&[8, 0, 1, b'#']).bytes()),
        (None, PING.to_vec()),
        (None, v5("a", true, 0).property(&[33, 0, 0]).bytes()),
        (None, packet(0x10, b"\0\x04HTTP\x04\x02\0\0\0\x01a")),
    ];
    for (version, bytes) in protocol {
        let got = one(version, &bytes);
        assert!(
            matches!(got, Err(CodecError::Protocol(_))),
            "{bytes:?} {got:?}"
        );
    }
    assert_eq!(
        one(v3p, &[0x30, 0xff, 0xff, 0xff, 0x7f]),
        Err(CodecError::TooLarge)
    );
    assert_eq!(
        one(v3p, &[0x30, 0xff, 0xff, 0x3f]),
        Err(CodecError::TooLarge)
    );
    assert_eq!(
        one(v3p, &[0x30, 0xfc, 0xff, 0x3f]),
        Ok(None),
        "1 MiB in all is allowed"
    );
}

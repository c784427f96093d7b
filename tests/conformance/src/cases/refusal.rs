//! What a broker does with a CONNECT that it takes or refuses: section 3.1.4.

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.1.4-1",
        "3.1.4-1",
        "A CONNECT that breaks section 3.1 ends the connection; on 3.1.1 without a CONNACK.",
        broken,
    ),
    v5(
        "3.1.4-2",
        "A CONNECT that fails a further check ends the connection.",
        further_checks,
    ),
    both(
        "3.1.4-2",
        "3.1.4-3",
        "A second client of the same id takes over; 5.0 tells the first 0x8e.",
        take_over,
    ),
    both(
        "3.1.4-3",
        "3.1.4-4",
        "Clean session or clean start is done.",
        clean,
    ),
    both(
        "3.1.4-4",
        "3.1.4-5",
        "A good CONNECT is answered with CONNACK 0x00.",
        accepted,
    ),
    both(
        "3.1.4-5",
        "3.1.4-6",
        "What follows a refused CONNECT is not processed.",
        nothing_after,
    ),
    both(
        "3.1.4/pipelined",
        "3.1.4/pipelined",
        "Packets may follow a CONNECT before its CONNACK.",
        pipelined,
    ),
];

/// CONNECTs that break the format in different ways, each with a word for it.
pub fn broken_connects(b: &Broker) -> Vec<(&'static str, Vec<u8>)> {
    let good = b
        .fresh(&b.name())
        .user("someone")
        .password("word")
        .frame()
        .bytes();
    let mut short = good[..good.len() - 2].to_vec();
    short[1] -= 2;
    vec![
        (
            "the reserved flag",
            b.fresh(&b.name()).flip(flag::RESERVED).frame().bytes(),
        ),
        (
            "will QoS 3",
            b.willing(&b.topic(), "x")
                .flip(flag::WILL_QOS_3)
                .frame()
                .bytes(),
        ),
        (
            "will retain without a will",
            b.fresh(&b.name()).flip(flag::WILL_RETAIN).frame().bytes(),
        ),
        ("a password cut short", short),
        (
            "bytes after the payload",
            b.fresh(&b.name()).frame().raw(b"more").bytes(),
        ),
        ("no payload", b.fresh("").head().bytes()),
        (
            "flags of the fixed header",
            b.fresh(&b.name()).frame().flags(2).bytes(),
        ),
    ]
}

fn broken(b: &Broker) -> Outcome {
    for (what, bytes) in broken_connects(b) {
        let said = b.send_bytes(&bytes)?.refused();
        let said = said.map_err(|f| Failure(format!("{what}: {}", f.0)))?;
        demand!(
            b.version == Version::V5 || said == "closed without a CONNACK",
            "{what}: {said}"
        );
    }
    held("broken in 7 ways, each closed")
}

fn further_checks(b: &Broker) -> Outcome {
    let method = Properties::new().field(property::AUTH_METHOD, "conformance-no-such-method");
    held(b.send(&b.fresh(&b.name()).properties(method))?.refused()?)
}

fn take_over(b: &Broker) -> Outcome {
    let id = b.name();
    let mut first = b.open(&b.fresh(&id))?;
    let mut second = b.open(&b.fresh(&id))?;
    let said = first.closed()?;
    let wanted = match b.version {
        Version::V3 => "closed",
        Version::V5 => "DISCONNECT 0x8e, closed",
    };
    demand!(said == wanted, "{said} instead of {wanted}");
    second.ping()?;
    held(said)
}

fn clean(b: &Broker) -> Outcome {
    let id = b.name();
    let topic = b.topic();
    let mut client = b.open(&b.lasting(&id))?;
    client.subscribe(&topic, 1)?;
    client.disconnect()?;
    let mut fresh = b.open(&b.fresh(&id))?;
    demand!(
        !fresh.session_present,
        "session present after a clean CONNECT"
    );
    b.put(&Message::new(&topic, "x").qos(1))?;
    fresh.silent()?;
    fresh.disconnect()?;
    let again = b.open(&b.lasting(&id))?;
    demand!(!again.session_present, "the session is still there");
    held("the old session is gone, with its subscription")
}

fn accepted(b: &Broker) -> Outcome {
    b.open(&b.fresh(&b.name()))?;
    b.open(&b.lasting(&b.name()))?;
    b.open(&b.willing(&b.topic(), "x"))?.disconnect()?;
    held("CONNACK 0x00 for clean, lasting, with a will")
}

fn nothing_after(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 0)?;
    let connects = match b.version {
        Version::V3 => vec![
            b.fresh("").clean(false),
            b.fresh(&b.name()).flip(flag::RESERVED),
        ],
        Version::V5 => {
            let method = Properties::new().field(property::AUTH_METHOD, "no-such-method");
            let refused = b.fresh(&b.name()).properties(method);
            vec![refused, b.fresh(&b.name()).flip(flag::RESERVED)]
        }
    };
    for connect in connects {
        let publish = Message::new(&topic, "not to be seen").frame(b.version);
        let bytes = [connect.frame().bytes(), publish.bytes()].concat();
        b.send_bytes(&bytes)?.refused()?;
    }
    b.put(&Message::new(&topic, "marker"))?;
    watcher.take_payload("marker")?;
    watcher.silent()?;
    held("a PUBLISH behind two refused CONNECTs had no effect")
}

fn pipelined(b: &Broker) -> Outcome {
    for connect in [b.fresh(&b.name()), b.lasting(&b.name())] {
        let topic = b.topic();
        let all = [
            connect.frame(),
            subscribe(b.version, 1, &Properties::new(), &[(&topic, 2)]),
            Message::new(&topic, "one").qos(1).id(2).frame(b.version),
            Message::new(&topic, "two").qos(2).id(3).frame(b.version),
            ack(kind::PUBREL, 3),
            Frame::new(kind::PINGREQ),
        ];
        let bytes: Vec<u8> = all.iter().flat_map(Frame::bytes).collect();
        let mut client = b.send_bytes(&bytes)?;
        let first = client.packet()?;
        demand!(
            matches!(first, Packet::ConnAck { code: 0, .. }),
            "{first} came first"
        );
        client.suback(1)?;
        client.acked(kind::PUBACK, 2)?;
        client.acked(kind::PUBREC, 3)?;
        client.acked(kind::PUBCOMP, 3)?;
        client.find("PINGRESP", |packet| *packet == Packet::PingResp)?;
        let mut came = [client.take()?.payload, client.take()?.payload];
        came.sort();
        demand!(came == [b"one".to_vec(), b"two".to_vec()], "{came:?}");
    }
    held("CONNECT and 5 packets in one write, with a clean and with a lasting session")
}

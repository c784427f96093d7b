//! PINGREQ and keep alive: sections 3.1.2.10 and 3.12.

use std::time::Instant;

use super::prelude::*;

pub const RULES: &[Rule] = &[
    both(
        "3.12.4-1",
        "3.12.4-1",
        "PINGREQ is answered with PINGRESP.",
        answered,
    ),
    both(
        "3.1.2-24",
        "3.1.2-22",
        "A client silent for one and a half keep-alive times is cut off, as if the network had failed.",
        cut_off,
    ),
    v5(
        "3.2.2-22",
        "Without a server keep alive the client's own counts.",
        own_keep_alive,
    ),
    v5(
        "3.1.2.10/half-a-packet",
        "Bytes that make no packet do not keep a client alive.",
        half_a_packet,
    ),
    both(
        "3.1.2.10/one-way",
        "3.1.2.10/one-way",
        "What a client is sent does not keep it alive.",
        one_way,
    ),
];

/// Slack for a broker that looks at its clients only now and then, on a loaded machine.
const SLACK: Duration = Duration::from_secs(6);

fn answered(b: &Broker) -> Outcome {
    let mut client = b.client()?;
    for _ in 0..3 {
        client.send(&Frame::new(kind::PINGREQ));
        let packet = client.packet()?;
        demand!(packet == Packet::PingResp, "{packet}");
    }
    client.silent()?;
    held("one for each")
}

fn cut_off(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut watcher = b.subscriber(&topic, 0)?;
    let mut silent = b.open(&b.willing(&topic, "gone").keep_alive(1))?;
    let said_last = Instant::now();
    // One who says something in time stays, well beyond its own 3 s.
    let mut lively = b.open(&b.fresh(&b.name()).keep_alive(2))?;
    for _ in 0..8 {
        b.pass(Duration::from_millis(500));
        lively.ping()?;
    }
    let said = silent.closed()?;
    let after = said_last.elapsed();
    demand!(
        after < Duration::from_millis(4000) + SLACK,
        "only after {} ms",
        after.as_millis()
    );
    watcher.take_payload("gone")?;
    lively.ping()?;
    held(format!(
        "{said} and the will came; one who says PINGREQ is kept"
    ))
}

fn own_keep_alive(b: &Broker) -> Outcome {
    let mut silent = b.open(&b.fresh(&b.name()).keep_alive(1))?;
    if let Some(own) = silent.connack.number(property::SERVER_KEEP_ALIVE) {
        return not_offered(format!("server keep alive {own}"));
    }
    let started = Instant::now();
    let said = silent.closed()?;
    let after = started.elapsed();
    let right = (Duration::from_millis(1000)..Duration::from_millis(1500) + SLACK).contains(&after);
    demand!(
        right,
        "a keep alive of 1 s ended after {} ms",
        after.as_millis()
    );
    held(format!("{said} after {} ms for 1 s", after.as_millis()))
}

fn half_a_packet(b: &Broker) -> Outcome {
    let mut client = b.open(&b.fresh(&b.name()).keep_alive(1))?;
    let started = Instant::now();
    // A PUBLISH of 100 bytes, of which some come every now and then.
    client.send_bytes(&[0x30, 100]);
    let said = loop {
        if let Some(packets) = client.closed_within(Duration::from_millis(300))? {
            break packets;
        }
        let after = started.elapsed();
        demand!(
            after < Duration::from_millis(1500) + SLACK,
            "open after {} ms with a keep alive of 1 s and no packet",
            after.as_millis()
        );
        client.send_bytes(&[0]);
    };
    held(format!(
        "{said} packets, then closed after {} ms",
        started.elapsed().as_millis()
    ))
}

fn one_way(b: &Broker) -> Outcome {
    let topic = b.topic();
    let mut silent = b.open(&b.fresh(&b.name()).keep_alive(1))?;
    silent.subscribe(&topic, 0)?;
    let started = Instant::now();
    let mut publisher = b.client()?;
    loop {
        publisher.put(&Message::new(&topic, "x"))?;
        if let Some(packets) = silent.closed_within(Duration::from_millis(300))? {
            demand!(packets > 1, "closed after {packets} packets");
            return held(format!("closed after {} ms", started.elapsed().as_millis()));
        }
        let after = started.elapsed();
        demand!(
            after < Duration::from_millis(1500) + SLACK,
            "open after {} ms with a keep alive of 1 s",
            after.as_millis()
        );
    }
}

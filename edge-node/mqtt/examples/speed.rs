//! How fast the machine is, one thread, no I/O. Run with
//! `cargo run --release -p headwater-mqtt --example speed`.
#![allow(clippy::disallowed_methods)] // it reads the clock to measure

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use bytes::BytesMut;
use common::*;
use headwater_mqtt::{Effect, Event, Token};

/// Ten publishers, one subscriber on all, 100-byte payloads, 64 packets a read.
fn run(qos: u8, messages: usize) -> f64 {
    let mut w = World::new();
    let (reader, _) = w.connect(v3("reader", true));
    w.send(reader, &subscribe(1, &[("#", qos)], None));
    let publishers: Vec<u64> = (0..10)
        .map(|n| w.connect(v3(&format!("p{n}"), true)).0)
        .collect();
    let chunk: Vec<u8> = (1..=64u16)
        .flat_map(|id| publish("plant/7/sensor/12/temp", &"x".repeat(100), qos, id).bytes())
        .collect();
    let mut effects = Vec::new();
    let mut acks = Vec::new();
    let start = Instant::now();
    for n in 0..messages / 64 {
        let conn = headwater_mqtt::ConnId(publishers[n % 10]);
        let mut last = Token(0);
        let mut events = vec![Event::Received {
            conn,
            bytes: BytesMut::from(chunk.as_slice()),
        }];
        while !events.is_empty() {
            for event in events.drain(..) {
                w.broker.handle(0, event, &mut effects);
            }
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append(append) => last = append.token,
                    Effect::Send { conn, bytes } => {
                        if conn.0 == reader && qos > 0 {
                            for f in frames(&bytes) {
                                acks.extend(puback(f.publish(false).id));
                            }
                        }
                        events.push(Event::Written {
                            conn,
                            bytes: bytes.len(),
                        });
                    }
                    _ => {}
                }
            }
            if last > Token(0) {
                events.push(Event::Durable(std::mem::take(&mut last)));
            }
            if !acks.is_empty() {
                let conn = headwater_mqtt::ConnId(reader);
                events.push(Event::Received {
                    conn,
                    bytes: BytesMut::from(acks.as_slice()),
                });
                acks.clear();
            }
        }
    }
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    let delivered = w.broker.stats().delivered[usize::from(qos)];
    assert_eq!(delivered as usize, messages / 64 * 64);
    rate
}

fn messages_per_second() {
    for qos in [0, 1] {
        println!("QoS {qos}: {:.0} messages/s in and out", run(qos, 640_000));
    }
}

fn two_hundred_thousand_subscriptions() {
    let mut w = World::new();
    let start = Instant::now();
    for n in 0..200 {
        let (conn, _) = w.connect(v3(&format!("c{n}"), true));
        let names: Vec<String> = (0..1000).map(|t| format!("site/{n}/dev/{t}/+")).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(|f| (f.as_str(), 0)).collect();
        w.send(conn, &subscribe(1, &filters, None));
    }
    println!("200,000 subscriptions in {:?}", start.elapsed());
    let (p, _) = w.connect(v3("p", true));
    let start = Instant::now();
    for n in 0..100_000 {
        let topic = format!("site/{}/dev/{}/temp", n % 200, n % 1000);
        w.send(p, &publish(&topic, "x", 0, 0).bytes());
        w.journal.clear();
        w.durable = 0;
    }
    let took = start.elapsed();
    assert_eq!(w.broker.stats().delivered[0], 100_000);
    println!("{:.0} matched publishes/s", 100_000.0 / took.as_secs_f64());
}

fn main() {
    messages_per_second();
    two_hundred_thousand_subscriptions();
}

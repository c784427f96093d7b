//! From a healed link to data flowing again, after cuts of several lengths, at 100 readings/s.

use std::time::{Duration, Instant};

use e2e::kafka::Consumer;
use e2e::link::Link;
use e2e::mqtt::{Client, Packet};
use e2e::nodes::{Cloud, Edge};
use e2e::wait_for;

use super::{Plan, Result, say};
use crate::readings::{first, reading, wall_clock};
use crate::table::{Line, Spread};

const CUTS_S: [u64; 4] = [1, 3, 8, 20];
const AIM: f64 = 2.0;

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let scratch = tempfile::tempdir_in(plan.dir)?;
    let cloud = Cloud::new(&scratch.path().join("cloud"));
    let link = Link::to(cloud.uplink);
    let cloud = cloud.behind(&link);
    let _cloud_process = cloud.start();
    let bundle = cloud.add_edge("bench", link.address());
    let edge = Edge::new(&scratch.path().join("edge"), Some(bundle));
    let _process = edge.start();
    let (partition, _) = first(edge.mqtt, cloud.kafka)?;
    let mut client = Client::connect(edge.mqtt, "bench-link", true)?;
    let mut consumer = Consumer::connect(cloud.kafka)?;
    let mut times = Vec::new();
    for round in 1..=plan.rounds {
        for cut_s in CUTS_S {
            say(format!(
                "a cut of {cut_s} s, round {round} of {}",
                plan.rounds
            ));
            link.cut();
            publish_for(&mut client, Duration::from_secs(cut_s))?;
            // What was under way before the cut has arrived by now.
            let before = consumer.offset("mqtt", partition, -1)?;
            let dropped = link.dropped();
            if dropped == 0 {
                return Err("the cut dropped nothing".into());
            }
            let healed = Instant::now();
            link.heal();
            wait_for("data after a cut", Duration::from_secs(60), || {
                let end = consumer.offset("mqtt", partition, -1).ok();
                end.filter(|end| *end > before)
            });
            times.push(healed.elapsed().as_secs_f64());
        }
    }
    let times = Spread::of(times);
    Ok(vec![
        Line::new(
            "link back to data flowing, after cuts of 1, 3, 8 and 20 s",
            format!("{} s", times.show(1.0, 2)),
        )
        .aim("2 s, each", times.max() <= AIM),
    ])
}

fn publish_for(client: &mut Client, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    let mut number = 0;
    while Instant::now() < until {
        let (topic, payload) = reading(number, wall_clock().as_millis());
        client.publish(&topic, payload.as_bytes(), 1, 1, false);
        client.flush()?;
        if client.receive()? != Packet::PubAck(1) {
            return Err("not the PUBACK of a reading".into());
        }
        number += 1;
        // Pacing.
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

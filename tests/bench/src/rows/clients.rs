//! What an edge that does nothing takes: alone, and with a thousand clients that do nothing either.
//! It is connected to its cloud, as a gateway is.

use std::time::Duration;

use e2e::mqtt::Client;
use e2e::nodes::{Cloud, Edge};

use super::{Plan, Result, say};
use crate::status;
use crate::table::Line;

const CLIENTS: usize = 1000;
/// The figure is of an idle process: time has to pass.
const IDLE: Duration = Duration::from_secs(3);

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    say("an idle edge");
    let cloud = Cloud::new(&plan.dir.join("idle-cloud"));
    let _cloud_process = cloud.start();
    let bundle = cloud.add_edge("idle", cloud.uplink);
    let edge = Edge::new(&plan.dir.join("idle-edge"), Some(bundle));
    let process = edge.start();
    status::wait_connected(&edge);
    std::thread::sleep(IDLE);
    let idle = process.rss_bytes() as f64 / 1e6;
    let mut clients = Vec::with_capacity(CLIENTS);
    for n in 0..CLIENTS {
        clients.push(Client::connect(edge.mqtt, &format!("idle-{n}"), true)?);
    }
    std::thread::sleep(IDLE);
    let crowded = process.rss_bytes() as f64 / 1e6;
    process.stop();
    Ok(vec![
        Line::new("edge RSS, idle, link up", format!("{idle:.1} MB"))
            .floor("16 MB", idle <= 16.0)
            .aim("8 MB", idle <= 8.0),
        Line::new(
            format!("edge RSS, {CLIENTS} idle clients"),
            format!("{crowded:.1} MB"),
        )
        .aim("12 MB", crowded <= 12.0),
    ])
}

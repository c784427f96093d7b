//! What an edge that does nothing takes: alone, and with a thousand clients that do nothing either.
//! It is connected to its cloud, as a gateway is.

use std::time::Duration;

use e2e::mqtt::Client;
use e2e::nodes::{Cloud, Edge};
use e2e::process::Process;

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
    let (idle, idle_own) = memory(&process);
    let mut clients = Vec::with_capacity(CLIENTS);
    for n in 0..CLIENTS {
        clients.push(Client::connect(edge.mqtt, &format!("idle-{n}"), true)?);
    }
    std::thread::sleep(IDLE);
    let (crowded, crowded_own) = memory(&process);
    process.stop();
    Ok(vec![
        Line::new("edge RSS, idle, link up", show(idle, idle_own))
            .floor("16 MB", idle <= 16.0)
            .aim("8 MB", idle <= 8.0),
        Line::new(
            format!("edge RSS, {CLIENTS} idle clients"),
            show(crowded, crowded_own),
        )
        .aim("12 MB", crowded <= 12.0),
    ])
}

/// All of it, and the part that is not pages of the binary, in MB.
fn memory(process: &Process) -> (f64, f64) {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    (mb(process.rss_bytes()), mb(process.anonymous_bytes()))
}

fn show(all: f64, own: f64) -> String {
    format!("{all:.1} MB, of which {own:.1} MB are not pages of the binary")
}

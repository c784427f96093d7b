//! What an edge that does nothing takes: alone, and with a thousand clients that do nothing either.
//! It is connected to its cloud, as a gateway is.

use std::path::Path;
use std::time::Duration;

use e2e::mqtt::Client;
use e2e::nodes::{Cloud, Edge};
use e2e::process::{Process, binary};

use super::{Plan, Result, say};
use crate::status;
use crate::table::Line;

const CLIENTS: usize = 1000;
/// The figure is of an idle process: time has to pass.
const IDLE: Duration = Duration::from_secs(3);

/// What is flashed onto gateways.
const FLASHED: &str = "target/edge/edge-node";

pub fn run(plan: &Plan<'_>) -> Result<Vec<Line>> {
    let mut lines = of(plan, "release", &binary("edge-node"))?;
    if Path::new(FLASHED).is_file() {
        lines.extend(of(plan, "edge", Path::new(FLASHED))?);
    } else {
        let what = "edge RSS, profile edge, as it is flashed";
        let figure = "not built: `cargo build --profile edge --bin edge-node`";
        lines.push(Line::new(what, figure).aim("8 MB", false));
    }
    Ok(lines)
}

fn of(plan: &Plan<'_>, profile: &str, program: &Path) -> Result<Vec<Line>> {
    say(format!("an idle edge, profile {profile}"));
    let cloud = Cloud::new(&plan.dir.join(format!("idle-cloud-{profile}")));
    let _cloud_process = cloud.start();
    let bundle = cloud.add_edge("idle", cloud.uplink);
    let edge = Edge::new(&plan.dir.join(format!("idle-edge-{profile}")), Some(bundle));
    let process = edge.start_binary(program);
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
        Line::new(
            format!("edge RSS, idle, link up, profile {profile}"),
            show(idle, idle_own),
        )
        .floor("16 MB", idle <= 16.0)
        .aim("8 MB", idle <= 8.0),
        Line::new(
            format!("edge RSS, {CLIENTS} idle clients, profile {profile}"),
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

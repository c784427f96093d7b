//! A cloud node and an edge node in this process, in one data directory.

use std::net::SocketAddr;
use std::path::Path;

use edge_node::config::{Anonymous, Listener};
use headwater_proto::EdgeName;
use headwater_quic::Ca;

use crate::Arguments;

/// The edge's name in bundle, status page and record headers.
const EDGE: &str = "quickstart";

/// Starts the cloud node. Its CA is made on first use.
pub async fn cloud(arguments: &Arguments) -> Result<cloud_cluster::Node, String> {
    let mut config = cloud_cluster::Config {
        data_dir: arguments.data_dir.join("cloud"),
        ..Default::default()
    };
    config.kafka.listen = arguments.kafka;
    config.uplink.listen = arguments.uplink;
    config.admin.listen = arguments.admin;
    cloud_cluster::Node::start(config)
        .await
        .map_err(|error| format!("cloud node: {error}"))
}

/// Starts the edge node with a bundle for it, written once beside its data.
pub async fn edge(arguments: &Arguments, uplink: SocketAddr) -> Result<edge_node::Node, String> {
    let bundle = arguments.data_dir.join("edge.bundle");
    if !bundle.exists() {
        write_bundle(&arguments.data_dir, &bundle, uplink)?;
    }
    let mut config = edge_node::Config {
        data_dir: arguments.data_dir.join("edge"),
        ..Default::default()
    };
    config.uplink.bundle = bundle.display().to_string();
    // The port may be another one than at the first run.
    config.uplink.addresses = vec![uplink.to_string()];
    config.listeners = vec![Listener {
        anonymous: Anonymous::Always,
        ..Listener::at(arguments.mqtt.to_string())
    }];
    config.status.listen = arguments.status.to_string();
    let started = tokio::task::spawn_blocking(move || edge_node::Node::start(config)).await;
    started
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("edge node: {error}"))
}

fn write_bundle(data_dir: &Path, bundle: &Path, uplink: SocketAddr) -> Result<(), String> {
    let name = EdgeName::new(EDGE).map_err(|error| error.to_string())?;
    let ca = Ca::open(&cloud_cluster::node::ca_of(&data_dir.join("cloud")))
        .map_err(|error| error.to_string())?;
    let made = ca
        .issue_edge(&name, &[uplink.to_string()])
        .map_err(|error| error.to_string())?;
    made.write(bundle).map_err(|error| error.to_string())
}

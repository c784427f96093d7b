//! Settings of both binaries: TOML in, an error or checked values out, and back to TOML.
//!
//! Host names are not looked up: an address that is not numeric ends the run before the checks.
//!
//! Memory: toml's tree of a small file.

use std::net::SocketAddr;
use std::path::Path;

use super::named;
use crate::Target;

const INPUT_BYTES_MAX: usize = 8 << 10;

pub const TARGET: Target = Target {
    name: "config",
    run,
    seeds,
    input_bytes_max: INPUT_BYTES_MAX,
    memory_bytes_max: (1 << 20) + 1_024 * INPUT_BYTES_MAX,
};

fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    edge(&text);
    cloud(&text);
}

fn numeric(address: &str) -> bool {
    address.is_empty() || address.parse::<SocketAddr>().is_ok()
}

fn edge(text: &str) {
    let Ok(config) = edge_node::Config::parse(text, Path::new("edge.toml")) else {
        return;
    };
    if !config.listeners.iter().all(|l| numeric(&l.address)) || !numeric(&config.status.listen) {
        return;
    }
    if config.check().is_ok() {
        let again = edge_node::Config::parse(&config.to_toml(), Path::new("again.toml"));
        assert_eq!(again.expect("what was written parses"), config);
    }
}

fn cloud(text: &str) {
    let Ok(config) = toml::from_str::<cloud_cluster::Config>(text) else {
        return;
    };
    if config.check().is_ok() {
        let written = config.to_toml();
        let again: cloud_cluster::Config = toml::from_str(&written).expect("it parses");
        assert_eq!(again.to_toml(), written);
        config.kafka_advertised();
        config.uplink_advertised();
    }
}

/// The reference files without their comments.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let bare = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.trim_start_matches("# ").trim_start_matches('#'));
        let is_setting = |line: &&str| line.contains(" = ") || line.starts_with('[');
        lines.filter(is_setting).collect::<Vec<_>>().join("\n")
    };
    vec![
        named(
            "edge",
            bare(include_str!("../../../../config/edge-node.toml")),
        ),
        named(
            "cloud",
            bare(include_str!("../../../../config/cloud-cluster.toml")),
        ),
        named(
            "huge",
            "[log]\nbatch_bytes = 99999999999999999999\nlinger_ms = -1\n",
        ),
        named(
            "route",
            "[[routes]]\nfilter = \"a/+/#\"\ntopic = \"t\"\nkey = \"{level:9}{x\"\n",
        ),
    ]
}

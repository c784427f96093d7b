//! The brokers that rows of MQTT put side by side: the edge and its two peers.

use std::net::SocketAddr;
use std::path::Path;

use e2e::nodes::Edge;
use e2e::process::Process;

use super::{Plan, Result};
use crate::peers::mqtt::Peer;
use crate::table::Line;

const LOG_LINES: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    Edge,
    Peer(Peer),
}

pub const ALL: [Broker; 3] = [
    Broker::Edge,
    Broker::Peer(Peer::Mosquitto),
    Broker::Peer(Peer::Rumqttd),
];

impl Broker {
    pub fn name(self) -> &'static str {
        match self {
            Broker::Edge => "edge",
            Broker::Peer(peer) => peer.name(),
        }
    }

    /// With its own defaults.
    pub fn start(self, plan: &Plan<'_>) -> Result<(Process, SocketAddr, tempfile::TempDir)> {
        self.start_with(plan, "")
    }

    /// The edge with this configuration, a peer as always.
    pub fn start_with(
        self,
        plan: &Plan<'_>,
        edge_toml: &str,
    ) -> Result<(Process, SocketAddr, tempfile::TempDir)> {
        let scratch = tempfile::tempdir_in(plan.dir)?;
        let (process, address) = match self {
            Broker::Edge => {
                let edge = Edge::new(&scratch.path().join("edge"), None).with_config(edge_toml);
                (edge.start(), edge.mqtt)
            }
            Broker::Peer(peer) => peer.start(scratch.path())?,
        };
        Ok((process, address, scratch))
    }

    /// The end of its log: what it has to say where it does not do something.
    pub fn last_lines(self, scratch: &Path) -> String {
        let log = match self {
            Broker::Edge => scratch.join("edge/log"),
            Broker::Peer(peer) => peer.log(scratch),
        };
        let log = std::fs::read(log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Something that it did not do, which the edge is never to say.
    pub fn did_not(self, why: &str) -> Line {
        let line = Line::new(format!("{}: did not", self.name()), why);
        match self {
            Broker::Edge => line.aim("nothing", false),
            Broker::Peer(_) => line,
        }
    }
}

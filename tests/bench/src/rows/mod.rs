//! The rows, each a file. A row says its progress on stderr and returns its lines.

mod backlog;
mod broker;
mod clients;
mod crowd;
mod kafka;
mod link;
mod path;
mod qos1;
mod size;
mod stalled;

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

use crate::table::Line;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What can be measured. The order is that of the table.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// QoS 1 with fsync, beside mosquitto and rumqttd
    Qos1,
    /// Memory of the edge: idle, and with 1,000 idle clients
    Clients,
    /// 5,000 connections, 200,000 subscriptions, fan-out, beside both brokers
    Crowd,
    /// What a subscriber that does not read costs the others, beside both brokers
    Stalled,
    /// 1,000 readings/s: latency to a Kafka poll, bytes on disk, link and device
    Path,
    /// 20 readings/s at linger 10 s: bytes on disk and link
    Slow,
    /// From a healed link to data flowing
    Link,
    /// Produce and fetch with Kafka's own tools, beside Apache Kafka
    Kafka,
    /// A large unsent backlog: memory, restart after SIGKILL, drain
    Backlog,
    /// Size of the static binaries
    Size,
}

/// How much is measured.
pub struct Plan<'a> {
    /// On the disk that is measured.
    pub dir: &'a Path,
    pub rounds: usize,
    /// Of load, per round.
    pub time: Duration,
    /// Of an unsent backlog, on the edge's disk.
    pub backlog_bytes: u64,
}

impl Row {
    pub fn run(self, plan: &Plan<'_>) -> Result<Vec<Line>> {
        match self {
            Row::Qos1 => qos1::run(plan),
            Row::Clients => clients::run(plan),
            Row::Crowd => crowd::run(plan),
            Row::Stalled => stalled::run(plan),
            Row::Path => path::run(plan),
            Row::Slow => path::run_slow(plan),
            Row::Link => link::run(plan),
            Row::Kafka => kafka::run(plan),
            Row::Backlog => backlog::run(plan),
            Row::Size => Ok(size::run()),
        }
    }
}

/// Progress, beside the table.
fn say(words: impl std::fmt::Display) {
    eprintln!("bench: {words}");
}

//! mosquitto as Debian packages it, and rumqttd from crates.io: a process of this program that runs
//! its broker and nothing else. Neither fsyncs before a PUBACK.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::process::{Process, free_port, wait_listening};
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::missing;

/// Has this program be rumqttd.
pub const RUMQTTD_FLAG: &str = "--be-rumqttd";

/// A broker to be measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Mosquitto,
    Rumqttd,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Mosquitto => "mosquitto",
            Peer::Rumqttd => "rumqttd",
        }
    }

    /// Name and version.
    pub fn version(self) -> Result<String, String> {
        match self {
            Peer::Mosquitto => {
                let said = Command::new(mosquitto()?).arg("-h").output();
                let said = said.map_err(|e| e.to_string())?;
                let text = String::from_utf8_lossy(&said.stdout).into_owned();
                let first = text.lines().next().unwrap_or(self.name());
                Ok(first.replace(" version", ""))
            }
            Peer::Rumqttd => Ok(locked("rumqttd")),
        }
    }

    /// Starts it in `dir` and waits until it listens.
    pub fn start(self, dir: &Path) -> Result<(Process, SocketAddr), String> {
        let address = free_port();
        let config = dir.join(self.name());
        let (program, flag, text) = match self {
            Peer::Mosquitto => (mosquitto()?, "-c", mosquitto_config(address)),
            Peer::Rumqttd => {
                let this = std::env::current_exe().map_err(|e| e.to_string())?;
                (this, RUMQTTD_FLAG, rumqttd_config(address))
            }
        };
        std::fs::write(&config, text).map_err(|e| e.to_string())?;
        let args = [flag.to_owned(), config.display().to_string()];
        let process = Process::spawn(self.name(), &program, &args, &self.log(dir));
        wait_listening(self.name(), address);
        Ok((process, address))
    }

    /// Its log, where it was started in `dir`.
    pub fn log(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.log", self.name()))
    }
}

fn mosquitto() -> Result<PathBuf, String> {
    let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| missing("mosquitto"))
}

/// Runs rumqttd in this process, as its own program does, until it ends. Its log tells why it closed a
/// connection; without the spans that it opens for each publish, which cost it time.
pub fn run_rumqttd(config: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let is_told = filter_fn(|what| what.is_event() && *what.level() <= Level::WARN);
    let is_told = is_told.with_max_level_hint(Level::WARN);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false);
    let lines = lines.with_filter(is_told);
    tracing_subscriber::registry().with(lines).init();
    let config: rumqttd::Config = toml::from_str(&std::fs::read_to_string(config)?)?;
    Ok(rumqttd::Broker::new(config).start()?)
}

/// Name and version of a crate that the workspace is locked to.
fn locked(name: &str) -> String {
    let lock = include_str!("../../../../Cargo.lock");
    let after = lock
        .split(&format!("name = \"{name}\"\nversion = \""))
        .nth(1);
    let version = after.and_then(|rest| rest.split('"').next());
    format!("{name} {}", version.unwrap_or("of an unknown version"))
}

/// No queue limit that would drop for the subscriber, and no persistence: it does not fsync.
fn mosquitto_config(address: SocketAddr) -> String {
    format!(
        "listener {} {}\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000\n",
        address.port(),
        address.ip()
    )
}

/// As its own example file, for this one listener.
fn rumqttd_config(address: SocketAddr) -> String {
    format!(
        r#"id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "{address}"
next_connection_delay_ms = 1
    [v4.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 20480
    max_inflight_count = 100
    dynamic_filters = true
[console]
listen = "{}"
"#,
        free_port()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rumqttd_takes_its_config_and_has_a_version() {
        let config = rumqttd_config(free_port());
        let config: rumqttd::Config = toml::from_str(&config).unwrap();
        assert_eq!(config.v4.unwrap().len(), 1);
        assert!(locked("rumqttd").starts_with("rumqttd 0."));
    }
}

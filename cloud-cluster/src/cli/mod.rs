//! The command line.

mod client;
mod edge;
mod log;
mod run;
mod topic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// The cloud of Headwater: takes the logs of edges and serves them, and its own, over the Kafka
/// protocol.
#[derive(Debug, Parser)]
#[command(name = "cloud-cluster", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Run(run::Run),
    /// Check a configuration file.
    CheckConfig {
        /// The file.
        #[arg(conflicts_with = "config")]
        file: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Edges: add, list, revoke.
    #[command(subcommand)]
    Edge(edge::EdgeCommand),
    /// What edges could not deliver, and where their histories split.
    Ledger(AdminAddress),
    /// Topics: list, create, delete, tail.
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Look into a data directory; the node must not run.
    #[command(subcommand)]
    Log(log::LogCommand),
}

/// Where settings come from. A flag wins over the file.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Configuration file (TOML); without it the defaults hold.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Journal, checkpoints, segments and CA.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Kafka listener, ADDRESS:PORT.
    #[arg(long)]
    kafka: Option<SocketAddr>,
    /// HOST:PORT that Kafka clients are told.
    #[arg(long)]
    kafka_advertised: Option<String>,
    /// Uplink listener (UDP), ADDRESS:PORT.
    #[arg(long)]
    uplink: Option<SocketAddr>,
    /// HOST:PORT that edges are told; may be repeated.
    #[arg(long)]
    uplink_advertised: Vec<String>,
    /// Admin listener (HTTP), ADDRESS:PORT.
    #[arg(long)]
    admin: Option<SocketAddr>,
}

impl Settings {
    /// The effective configuration.
    fn effective(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        if let Some(data_dir) = &self.data_dir {
            config.data_dir = data_dir.clone();
        }
        if let Some(kafka) = self.kafka {
            config.kafka.listen = kafka;
        }
        if let Some(advertised) = &self.kafka_advertised {
            config.kafka.advertised = advertised.clone();
        }
        if let Some(uplink) = self.uplink {
            config.uplink.listen = uplink;
        }
        if !self.uplink_advertised.is_empty() {
            config.uplink.advertised = self.uplink_advertised.clone();
        }
        if let Some(admin) = self.admin {
            config.admin.listen = admin;
        }
        config.check()?;
        Ok(config)
    }
}

/// Which node is asked.
#[derive(Debug, Args)]
pub(crate) struct AdminAddress {
    /// Admin address of the running node.
    #[arg(long, default_value = "127.0.0.1:8080")]
    admin: String,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloud-cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<(), String> {
    match command {
        Command::Run(run) => run.run(),
        Command::CheckConfig { file, mut settings } => {
            settings.config = file.or(settings.config.take());
            settings.effective().map_err(|e| e.to_string())?;
            println!("the configuration is valid");
            Ok(())
        }
        Command::Edge(command) => command.run(),
        Command::Ledger(at) => edge::ledger(&at),
        Command::Topic(command) => command.run(),
        Command::Log(command) => command.run(),
    }
}

/// A time for people, without a time zone database: seconds ago.
fn ago(at_ms: i64) -> String {
    let seconds = (crate::clock::Clock::system().wall_ms() - at_ms).max(0) / 1000;
    match seconds {
        s if s < 120 => format!("{s} s ago"),
        s if s < 7200 => format!("{} min ago", s / 60),
        s if s < 172_800 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_defaults() {
        let line = "cloud-cluster run --data-dir /d --kafka 127.0.0.1:1 --uplink 127.0.0.1:2 \
                    --admin 127.0.0.1:3 --uplink-advertised a:1 --uplink-advertised b:2";
        let Command::Run(run) = Cli::parse_from(line.split_whitespace()).command else {
            panic!("not run");
        };
        let config = run.settings.effective().unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/d"));
        assert_eq!(config.kafka.listen.port(), 1);
        assert_eq!(config.uplink.listen.port(), 2);
        assert_eq!(config.admin.listen.port(), 3);
        assert_eq!(config.uplink.advertised, ["a:1", "b:2"]);
    }
}

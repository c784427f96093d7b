//! The node's configuration: TOML, every key with a default, every bad value named.
//!
//! `config/cloud-cluster.toml` documents each key; a test holds the two together.

mod check;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// All settings. An empty file gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub data_dir: PathBuf,
    pub log_level: String,
    pub node_id: i32,
    pub kafka: Kafka,
    pub topics: TopicDefaults,
    pub uplink: Uplink,
    pub admin: Admin,
    pub log: Log,
}

/// The Kafka listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    pub listen: SocketAddr,
    pub advertised: String,
    pub connections_max: usize,
    pub request_bytes_max: usize,
    pub in_flight_bytes_max: usize,
    pub fetch_bytes_max: u32,
    pub idle_timeout_s: u64,
    pub initial_rebalance_delay_ms: u32,
}

/// What topics get that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicDefaults {
    pub partitions: u32,
    pub auto_create: bool,
    pub retention_ms: i64,
    pub retention_bytes: i64,
}

/// The listener for edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uplink {
    pub listen: SocketAddr,
    pub advertised: Vec<String>,
    pub connections_max: usize,
}

/// Status, metrics and administration over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    pub listen: SocketAddr,
}

/// Journal, memory and cold segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub shards: u8,
    pub journal_file_bytes: u64,
    pub journal_files_max: usize,
    pub hot_bytes: u64,
    pub segment_bytes: u64,
    pub segment_bytes_min: u64,
    pub segment_age_s: u64,
    pub checkpoint_interval_s: u64,
    pub retention_check_s: u64,
    pub reserve_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: "headwater-cloud".into(),
            log_level: "info".into(),
            node_id: 1,
            kafka: Kafka::default(),
            topics: TopicDefaults::default(),
            uplink: Uplink::default(),
            admin: Admin::default(),
            log: Log::default(),
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Default for Kafka {
    fn default() -> Kafka {
        Kafka {
            listen: loopback(9092),
            advertised: String::new(),
            connections_max: 4096,
            request_bytes_max: 100 << 20,
            in_flight_bytes_max: 8 << 20,
            fetch_bytes_max: 55 << 20,
            idle_timeout_s: 600,
            initial_rebalance_delay_ms: 3000,
        }
    }
}

impl Default for TopicDefaults {
    fn default() -> TopicDefaults {
        TopicDefaults {
            partitions: 8,
            auto_create: true,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
        }
    }
}

impl Default for Uplink {
    fn default() -> Uplink {
        Uplink {
            listen: loopback(4433),
            advertised: Vec::new(),
            connections_max: 20_000,
        }
    }
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            listen: loopback(8080),
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log {
            shards: 8,
            journal_file_bytes: 32 << 20,
            journal_files_max: 32,
            hot_bytes: 128 << 20,
            segment_bytes: 256 << 20,
            segment_bytes_min: 256 << 10,
            segment_age_s: 600,
            checkpoint_interval_s: 300,
            retention_check_s: 60,
            reserve_bytes: 256 << 20,
        }
    }
}

/// Why a configuration is not taken.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("config {path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("config {path}: {what}", path = path.display())]
    Syntax { path: PathBuf, what: String },
    #[error("config: {key} = {value}: {valid}")]
    Value {
        key: &'static str,
        value: String,
        valid: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.into(),
            source,
        })?;
        let config: Config = toml::from_str(&text).map_err(|e| ConfigError::Syntax {
            path: path.into(),
            what: e.to_string(),
        })?;
        config.check()?;
        Ok(config)
    }

    /// The effective configuration as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data always encodes")
    }

    /// `host:port` that Kafka clients are told.
    pub fn kafka_advertised(&self) -> (String, u16) {
        let listen = self.kafka.listen;
        match self.kafka.advertised.rsplit_once(':') {
            Some((host, port)) => {
                let host = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                (host, port.parse().unwrap_or(listen.port()))
            }
            None if listen.ip().is_unspecified() => ("127.0.0.1".into(), listen.port()),
            None => (listen.ip().to_string(), listen.port()),
        }
    }

    /// `host:port` of the uplink that bundles and edges are told.
    pub fn uplink_advertised(&self) -> Vec<String> {
        if !self.uplink.advertised.is_empty() {
            return self.uplink.advertised.clone();
        }
        let listen = self.uplink.listen;
        if listen.ip().is_unspecified() {
            vec![format!("127.0.0.1:{}", listen.port())]
        } else {
            vec![listen.to_string()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../../config/cloud-cluster.toml");

    #[test]
    fn the_reference_file_is_the_defaults() {
        let config: Config = toml::from_str(REFERENCE).unwrap();
        assert_eq!(config, Config::default());
        config.check().unwrap();
    }

    /// A key without a word about it, or a key that is missing, fails here.
    #[test]
    fn the_reference_file_documents_every_key() {
        let effective = Config::default().to_toml();
        let keys = |text: &str| -> Vec<String> {
            let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.trim().to_owned());
            text.lines()
                .filter(|l| !l.starts_with('#'))
                .filter_map(key)
                .collect()
        };
        let (mut have, mut want) = (keys(REFERENCE), keys(&effective));
        have.sort();
        want.sort();
        assert_eq!(have, want);
        for section in REFERENCE.split("\n\n") {
            assert!(section.contains('#'), "no word about: {section}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        let config = Config {
            node_id: 7,
            ..Config::default()
        };
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = toml::from_str::<Config>("[kafka]\nlissten = \"x\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("lissten") && error.contains("listen"),
            "{error}"
        );
    }

    #[test]
    fn addresses_are_told_as_they_can_be_reached() {
        let mut config = Config::default();
        assert_eq!(config.kafka_advertised(), ("127.0.0.1".into(), 9092));
        config.kafka.listen = "0.0.0.0:9999".parse().unwrap();
        assert_eq!(config.kafka_advertised(), ("127.0.0.1".into(), 9999));
        config.kafka.advertised = "kafka.example.org:443".into();
        assert_eq!(config.kafka_advertised(), ("kafka.example.org".into(), 443));
        config.kafka.advertised = "[2001:db8::1]:9092".into();
        assert_eq!(config.kafka_advertised(), ("2001:db8::1".into(), 9092));
        config.uplink.listen = "0.0.0.0:4433".parse().unwrap();
        assert_eq!(config.uplink_advertised(), ["127.0.0.1:4433"]);
    }
}

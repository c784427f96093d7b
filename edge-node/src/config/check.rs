//! Ranges of the settings, and the settings as the parts of the node want them.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use headwater_batch::{Level, TopicName};
use headwater_log::store::{Full, StoreConfig};
use headwater_quic::{Bundle, Transport, is_address};

use super::{Config, ConfigError, Route, WhenFull};
use crate::routes::KeyTemplate;

/// Partitions of one topic on one edge. More only makes batches smaller.
pub const PARTITIONS_MAX: u32 = 64;

impl Config {
    /// Checks every value; the error names the first that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        crate::logging::parse(&self.log_level)
            .map_err(|valid| value("log_level", &self.log_level, valid))?;
        self.check_listeners()?;
        self.check_mqtt()?;
        self.check_log()?;
        self.check_uplink()?;
        if !self.name.is_empty() {
            headwater_quic::EdgeName::new(&self.name)
                .map_err(|e| value("name", &self.name, e.to_string()))?;
        }
        if !self.status.listen.is_empty() {
            socket("status.listen", &self.status.listen)?;
        }
        for (index, route) in self.routes.iter().enumerate() {
            check_route(index, route)?;
        }
        self.check_topics_agree()
    }

    fn check_mqtt(&self) -> Result<(), ConfigError> {
        let mqtt = &self.mqtt;
        positive("mqtt.connections_max", mqtt.connections_max as u64)?;
        positive("mqtt.receive_maximum", mqtt.receive_maximum.into())?;
        positive("mqtt.inflight_max", mqtt.inflight_max.into())?;
        positive("mqtt.queue_messages_max", mqtt.queue_messages_max as u64)?;
        positive("mqtt.queue_bytes_max", mqtt.queue_bytes_max as u64)?;
        positive("mqtt.queues_bytes_max", mqtt.queues_bytes_max as u64)
    }

    fn check_log(&self) -> Result<(), ConfigError> {
        if !(0..=19).contains(&self.log.compression_level) {
            let level = self.log.compression_level;
            let valid = "0 (none) to 19; 3 is the default".into();
            return Err(value("log.compression_level", level, valid));
        }
        let checked = self.store_config(Path::new("")).validate();
        checked.map_err(|text| {
            // "batch_bytes is 5, valid is ..." becomes this file's form.
            let (key, rest) = text.split_once(" is ").unwrap_or((&text, ""));
            let (shown, valid) = rest.split_once(", ").unwrap_or((rest, ""));
            value(&format!("log.{key}"), shown, valid.to_owned())
        })
    }

    fn check_uplink(&self) -> Result<(), ConfigError> {
        let uplink = &self.uplink;
        if let Some(bad) = uplink.addresses.iter().find(|a| !is_address(a)) {
            return Err(value("uplink.addresses", bad, "host:port".into()));
        }
        positive("uplink.idle_timeout_s", uplink.idle_timeout_s)?;
        positive("uplink.backoff_max_ms", uplink.backoff_max_ms)?;
        if uplink.keep_alive_s > 0 && uplink.idle_timeout_s < 2 * uplink.keep_alive_s {
            let valid = format!(
                "at least twice uplink.keep_alive_s = {}, or one lost ping ends the connection",
                uplink.keep_alive_s
            );
            return Err(value("uplink.idle_timeout_s", uplink.idle_timeout_s, valid));
        }
        if uplink.send_window_bytes < 64 << 10 {
            let valid = "at least 65536".into();
            return Err(value(
                "uplink.send_window_bytes",
                uplink.send_window_bytes,
                valid,
            ));
        }
        Ok(())
    }

    /// Two routes into one topic must agree on its partitions, or a key would have two homes.
    fn check_topics_agree(&self) -> Result<(), ConfigError> {
        for (index, route) in self.routes.iter().enumerate() {
            let earlier = self.routes[..index]
                .iter()
                .position(|r| r.topic == route.topic);
            let Some(earlier) = earlier else { continue };
            if self.routes[earlier].partitions != route.partitions {
                let valid = format!(
                    "the {} that routes[{earlier}].partitions gives the same topic {:?}",
                    self.routes[earlier].partitions, route.topic
                );
                let key = format!("routes[{index}].partitions");
                return Err(value(&key, route.partitions, valid));
            }
        }
        Ok(())
    }

    /// The bundle, when one is set.
    pub fn bundle(&self) -> Result<Option<Bundle>, ConfigError> {
        if self.uplink.bundle.is_empty() {
            return Ok(None);
        }
        let path = self.uplink.bundle.clone();
        match Bundle::read(Path::new(&path)) {
            Ok(bundle) => Ok(Some(bundle)),
            Err(source) => Err(ConfigError::Bundle { path, source }),
        }
    }

    pub(crate) fn store_config(&self, dir: &Path) -> StoreConfig {
        let log = &self.log;
        StoreConfig {
            journal_file_bytes: log.journal_file_bytes,
            budget_bytes: log.budget_bytes,
            reserve_bytes: log.reserve_bytes,
            batch_bytes: log.batch_bytes,
            linger_ms: log.linger_ms,
            hold_ms: log.hold_ms,
            level: match log.compression_level {
                0 => Level::None,
                level => Level::Zstd(level),
            },
            segment_bytes: log.segment_bytes,
            retention_ms: (log.retention_ms > 0).then_some(log.retention_ms),
            retention_bytes: (log.retention_bytes > 0).then_some(log.retention_bytes),
            full: match log.when_full {
                WhenFull::Refuse => Full::Refuse,
                WhenFull::DropOldest => Full::DropOldest,
            },
            interval_ms: log.interval_ms,
            commit_gather_ms: log.commit_gather_ms,
            memory_bytes: log.memory_bytes,
            ..StoreConfig::new(dir)
        }
    }

    pub(crate) fn broker_config(&self, random: u64) -> headwater_mqtt::Config {
        let mqtt = &self.mqtt;
        // Both stand in two checkpoints: together they leave half of the log to records.
        let share = usize::try_from(self.log.budget_bytes / 8).unwrap_or(usize::MAX);
        headwater_mqtt::Config {
            hash_seed: random,
            assigned_id_seed: random.rotate_left(32),
            authenticate: true,
            connections_max: mqtt.connections_max,
            session_expiry_max_s: match mqtt.session_expiry_max_s {
                0 => u32::MAX,
                seconds => seconds,
            },
            keep_alive_max_s: mqtt.keep_alive_max_s,
            sys_interval_s: mqtt.sys_interval_s,
            receive_maximum: mqtt.receive_maximum,
            inflight_max: mqtt.inflight_max,
            queue_messages_max: mqtt.queue_messages_max,
            queue_bytes_max: mqtt.queue_bytes_max,
            queues_bytes_max: mqtt.queues_bytes_max.min(share),
            retained_bytes_max: mqtt.retained_bytes_max.min(share),
            ..headwater_mqtt::Config::default()
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        Transport {
            keep_alive: Duration::from_secs(self.uplink.keep_alive_s),
            idle_timeout: Duration::from_secs(self.uplink.idle_timeout_s),
            send_window_bytes: self.uplink.send_window_bytes,
            segmentation_offload: self.uplink.segmentation_offload,
            ..Transport::default()
        }
    }
}

fn check_route(index: usize, route: &Route) -> Result<(), ConfigError> {
    let key = |name: &str| format!("routes[{index}].{name}");
    if !crate::routes::is_filter(&route.filter) {
        let valid = "an MQTT topic filter, such as sensors/+/temp or #".into();
        return Err(value(&key("filter"), &route.filter, valid));
    }
    TopicName::new(&route.topic).map_err(|e| value(&key("topic"), &route.topic, e.to_string()))?;
    KeyTemplate::parse(&route.key).map_err(|valid| value(&key("key"), &route.key, valid))?;
    if !(1..=PARTITIONS_MAX).contains(&route.partitions) {
        let valid = format!("1 to {PARTITIONS_MAX}");
        return Err(value(&key("partitions"), route.partitions, valid));
    }
    Ok(())
}

pub(super) fn positive(key: &str, number: u64) -> Result<(), ConfigError> {
    if number > 0 {
        Ok(())
    } else {
        Err(value(key, number, "at least 1".into()))
    }
}

/// `host:port`; port 0 lets the system choose, which tests use.
pub(crate) fn socket(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let resolved = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    resolved.ok_or_else(|| value(key, text, "host:port, such as 0.0.0.0:1883".into()))
}

pub(super) fn value(key: &str, shown: impl std::fmt::Display, valid: String) -> ConfigError {
    let value = format!("{:?}", shown.to_string());
    let plain = shown.to_string().parse::<i64>().is_ok();
    let value = if plain { shown.to_string() } else { value };
    ConfigError::Value {
        key: key.to_owned(),
        value,
        valid,
    }
}

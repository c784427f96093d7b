//! What values are valid. Each error names the key, its value and what would do; where two keys
//! contradict each other, both.

use headwater_log::durable::FRAME_BYTES_MAX;
use headwater_quic::is_address;

use super::{Config, ConfigError};

impl Config {
    /// Checks every value.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_node()?;
        self.check_kafka()?;
        self.check_topics()?;
        self.check_uplink()?;
        self.check_log()
    }

    fn check_node(&self) -> Result<(), ConfigError> {
        if self.data_dir.as_os_str().is_empty() {
            return refuse("data_dir", "\"\"", "a directory");
        }
        let level = tracing_subscriber::EnvFilter::try_new(&self.log_level);
        if level.is_err() || self.log_level.is_empty() {
            return refuse(
                "log_level",
                &self.log_level,
                "such as info, or info,headwater_quic=debug",
            );
        }
        within("node_id", self.node_id, 0, i32::MAX)
    }

    fn check_kafka(&self) -> Result<(), ConfigError> {
        let kafka = &self.kafka;
        if !kafka.advertised.is_empty() && !is_address(&kafka.advertised) {
            return refuse("kafka.advertised", &kafka.advertised, "host:port, or empty");
        }
        within("kafka.connections_max", kafka.connections_max, 1, 1_000_000)?;
        within(
            "kafka.request_bytes_max",
            kafka.request_bytes_max,
            2 << 20,
            1 << 30,
        )?;
        within(
            "kafka.in_flight_bytes_max",
            kafka.in_flight_bytes_max,
            1 << 20,
            1 << 29,
        )?;
        within(
            "kafka.fetch_bytes_max",
            kafka.fetch_bytes_max,
            1 << 20,
            1 << 30,
        )?;
        within("kafka.idle_timeout_s", kafka.idle_timeout_s, 1, 86_400)?;
        within(
            "kafka.initial_rebalance_delay_ms",
            kafka.initial_rebalance_delay_ms,
            0,
            60_000,
        )
    }

    fn check_topics(&self) -> Result<(), ConfigError> {
        let topics = &self.topics;
        let partitions_max = headwater_shard::bounds::PARTITIONS_PER_TOPIC;
        within("topics.partitions", topics.partitions, 1, partitions_max)?;
        within("topics.retention_ms", topics.retention_ms, -1, i64::MAX)?;
        within(
            "topics.retention_bytes",
            topics.retention_bytes,
            -1,
            i64::MAX,
        )
    }

    fn check_uplink(&self) -> Result<(), ConfigError> {
        let uplink = &self.uplink;
        if let Some(bad) = uplink
            .advertised
            .iter()
            .find(|address| !is_address(address))
        {
            return refuse("uplink.advertised", bad, "host:port");
        }
        let max = headwater_quic::ADDRESSES_MAX;
        within(
            "uplink.advertised (number of addresses)",
            uplink.advertised.len(),
            0,
            max,
        )?;
        within(
            "uplink.connections_max",
            uplink.connections_max,
            1,
            1_000_000,
        )
    }

    fn check_log(&self) -> Result<(), ConfigError> {
        let log = &self.log;
        within(
            "log.shards",
            log.shards,
            1,
            crate::shardlog::frames::SHARDS_MAX - 2,
        )?;
        within(
            "log.journal_file_bytes",
            log.journal_file_bytes,
            4 << 20,
            1 << 30,
        )?;
        within("log.journal_files_max", log.journal_files_max, 8, 4_096)?;
        within("log.hot_bytes", log.hot_bytes, 1 << 20, 1 << 40)?;
        within(
            "log.segment_bytes",
            log.segment_bytes,
            FRAME_BYTES_MAX as u64,
            1 << 30,
        )?;
        within(
            "log.segment_bytes_min",
            log.segment_bytes_min,
            1,
            log.segment_bytes,
        )?;
        within("log.segment_age_s", log.segment_age_s, 1, 30 * 86_400)?;
        within(
            "log.checkpoint_interval_s",
            log.checkpoint_interval_s,
            1,
            86_400,
        )?;
        within("log.retention_check_s", log.retention_check_s, 1, 86_400)?;
        within("log.reserve_bytes", log.reserve_bytes, 1 << 20, 1 << 40)?;
        // What is hot is in the journal too, and so is what is sealed while a round runs.
        let journal = log
            .journal_file_bytes
            .saturating_mul(log.journal_files_max as u64);
        if journal < log.hot_bytes.saturating_mul(4) {
            return Err(ConfigError::Value {
                key: "log.journal_file_bytes * log.journal_files_max",
                value: journal.to_string(),
                valid: format!(
                    "at least 4 * log.hot_bytes = {}",
                    log.hot_bytes.saturating_mul(4)
                ),
            });
        }
        Ok(())
    }
}

fn refuse(key: &'static str, value: &str, valid: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Value {
        key,
        value: value.into(),
        valid: valid.into(),
    })
}

fn within<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if value >= min && value <= max {
        return Ok(());
    }
    Err(ConfigError::Value {
        key,
        value: value.to_string(),
        valid: format!("{min} to {max}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(toml: &str) -> String {
        let config: Config = toml::from_str(toml).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn errors_name_key_value_and_what_is_valid() {
        let error = error_of("[topics]\npartitions = 0");
        assert_eq!(error, "config: topics.partitions = 0: 1 to 10000");
        let error = error_of("[kafka]\nadvertised = \"nowhere\"");
        assert_eq!(
            error,
            "config: kafka.advertised = nowhere: host:port, or empty"
        );
        let error = error_of("[log]\nhot_bytes = 1073741824");
        assert!(
            error.contains("journal_files_max") && error.contains("hot_bytes"),
            "{error}"
        );
    }
}

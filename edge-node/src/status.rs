//! What the node says about itself: one report, as JSON and as Prometheus text.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use headwater_quic::client::LinkStatus;
use serde::Serialize;
use tokio::sync::watch;

use crate::broker::BrokerView;
use crate::clock::Clock;
use crate::mirror::{Alarm, Mirror};
use crate::pulse::Pulse;
use crate::store::{Counters, LogView};

/// Where the report's parts come from.
#[derive(Clone)]
pub struct Sources {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) started_ms: u64,
    pub(crate) broker: Arc<Mutex<BrokerView>>,
    pub(crate) log: Arc<LogView>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) link: watch::Receiver<LinkStatus>,
    pub(crate) uplink_configured: bool,
    pub(crate) pulse: Pulse,
}

/// The state of a node.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The edge's name.
    pub name: String,
    /// Version of this program.
    pub version: &'static str,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// MQTT.
    pub mqtt: MqttReport,
    /// Journal and segments.
    pub log: LogReport,
    /// The link to the cloud.
    pub uplink: UplinkReport,
    /// Every partition.
    pub partitions: Vec<PartitionReport>,
    /// The last alarms.
    pub alarms: Vec<Alarm>,
}

/// See [`Report::mqtt`].
#[derive(Debug, Clone, Serialize)]
pub struct MqttReport {
    /// Clients connected now.
    pub connected: u64,
    /// Sessions, with and without a connection.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages received, by QoS.
    pub published: [u64; 3],
    /// Of those, resent by a client that saw no acknowledgement.
    pub duplicates: u64,
    /// Messages delivered to subscribers, by QoS.
    pub delivered: [u64; 3],
    /// Messages that a slow subscriber missed.
    pub dropped: u64,
    /// Messages waiting for subscribers.
    pub queued: u64,
    /// Malformed packets.
    pub malformed: u64,
}

/// See [`Report::log`].
#[derive(Debug, Clone, Serialize)]
pub struct LogReport {
    /// Records taken since the start.
    pub records: u64,
    /// Their keys, values and headers, roughly.
    pub record_bytes: u64,
    /// Messages without a route.
    pub unrouted: u64,
    /// Frames refused since the budget was used up.
    pub refused: u64,
    /// fdatasyncs of the journal.
    pub commits: u64,
    /// Time in them.
    pub commit_us: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// On disk.
    pub journal_bytes: u64,
    /// On disk.
    pub segment_bytes: u64,
    /// On disk.
    pub checkpoint_bytes: u64,
    /// New records are refused above this.
    pub limit_bytes: u64,
}

/// See [`Report::uplink`].
#[derive(Debug, Clone, Serialize)]
pub struct UplinkReport {
    /// A bundle is set.
    pub configured: bool,
    /// The cloud has answered on the present connection.
    pub connected: bool,
    /// The cloud's address.
    pub remote: Option<String>,
    /// Connections since the start.
    pub connects: u64,
    /// Why there is none, or why the last one ended.
    pub last_error: Option<String>,
    /// UDP payload.
    pub sent_bytes: u64,
    /// UDP payload.
    pub received_bytes: u64,
    /// QUIC's estimate.
    pub round_trip_us: u64,
    /// Batch bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
    /// The cloud's wall clock less ours.
    pub clock_ahead_ms: i64,
    /// Records the cloud does not have yet, all partitions.
    pub lag: u64,
}

/// See [`Report::partitions`].
#[derive(Debug, Clone, Serialize)]
pub struct PartitionReport {
    /// Topic and number.
    pub partition: String,
    /// The first offset.
    pub start: i64,
    /// The offset after the last sealed record.
    pub sealed_end: i64,
    /// The offset the next record gets.
    pub next: i64,
    /// The cloud has everything below.
    pub acked: i64,
    /// Its history's name.
    pub incarnation: String,
}

impl Sources {
    /// One line about the state now.
    pub fn summary(&self) -> String {
        let report = self.report();
        let link = match (report.uplink.configured, report.uplink.connected) {
            (false, _) => "no uplink is set",
            (true, false) => "link down",
            (true, true) => "link up",
        };
        format!(
            "{} clients, {} records since the start, {} to send, {link}",
            report.mqtt.connected, report.log.records, report.uplink.lag
        )
    }

    /// The state now.
    pub fn report(&self) -> Report {
        let partitions = self.partitions();
        let lag = partitions
            .iter()
            .map(|p| u64::try_from(p.next - p.acked).unwrap_or(0))
            .sum();
        Report {
            name: self.name.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: self.clock.now_ms() - self.started_ms,
            mqtt: self.mqtt(),
            log: self.log(),
            uplink: self.uplink(lag),
            partitions,
            alarms: self.mirror.alarms(),
        }
    }

    fn partitions(&self) -> Vec<PartitionReport> {
        let partitions = self.log.partitions();
        let report = partitions.iter().map(|(tp, view)| PartitionReport {
            partition: tp.to_string(),
            start: view.start.0,
            sealed_end: view.sealed_end.0,
            next: view.next.0,
            acked: view.acked.0,
            incarnation: format!("{:032x}", view.lineage.incarnation),
        });
        report.collect()
    }

    fn mqtt(&self) -> MqttReport {
        let stats = self
            .broker
            .lock()
            .expect("no code panics while it holds this lock")
            .stats;
        MqttReport {
            connected: stats.connected,
            sessions: stats.sessions,
            subscriptions: stats.subscriptions,
            retained: stats.retained,
            published: stats.published,
            duplicates: stats.publish_duplicates,
            delivered: stats.delivered,
            dropped: stats.dropped_qos0 + stats.dropped_queued,
            queued: stats.queued,
            malformed: stats.malformed,
        }
    }

    fn log(&self) -> LogReport {
        let (usage, counters) = (self.log.usage(), &self.counters);
        LogReport {
            records: counters.records.load(Relaxed),
            record_bytes: counters.record_bytes.load(Relaxed),
            unrouted: counters.unrouted.load(Relaxed),
            refused: counters.refused_full.load(Relaxed) + counters.refused_invalid.load(Relaxed),
            commits: counters.commits.load(Relaxed),
            commit_us: counters.commit_us.load(Relaxed),
            checkpoints: counters.checkpoints.load(Relaxed),
            journal_bytes: usage.journal_bytes,
            segment_bytes: usage.segment_bytes,
            checkpoint_bytes: usage.checkpoint_bytes,
            limit_bytes: usage.limit_bytes,
        }
    }

    fn uplink(&self, lag: u64) -> UplinkReport {
        let link = self.link.borrow().clone();
        UplinkReport {
            configured: self.uplink_configured,
            connected: link.connected,
            remote: link.remote.map(|remote| remote.to_string()),
            connects: link.connects,
            last_error: link.last_error,
            sent_bytes: link.sent_bytes,
            received_bytes: link.received_bytes,
            round_trip_us: u64::try_from(link.round_trip.as_micros()).unwrap_or(u64::MAX),
            in_flight_bytes: link.in_flight_bytes as u64,
            clock_ahead_ms: self.mirror.clock_ahead_ms.load(Relaxed),
            lag,
        }
    }

    /// The report in Prometheus' text format, version 0.0.4.
    pub fn metrics(&self) -> String {
        let report = self.report();
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, value: u64| {
            let _ = writeln!(text, "# TYPE headwater_edge_{name} {kind}");
            let _ = writeln!(text, "headwater_edge_{name} {value}");
        };
        let (mqtt, log, uplink) = (&report.mqtt, &report.log, &report.uplink);
        put("uptime_ms", "counter", report.uptime_ms);
        put("mqtt_connected", "gauge", mqtt.connected);
        put("mqtt_sessions", "gauge", mqtt.sessions);
        put("mqtt_subscriptions", "gauge", mqtt.subscriptions);
        put("mqtt_retained", "gauge", mqtt.retained);
        put("mqtt_queued", "gauge", mqtt.queued);
        put("mqtt_publish_duplicates_total", "counter", mqtt.duplicates);
        put("mqtt_dropped_total", "counter", mqtt.dropped);
        put("mqtt_malformed_total", "counter", mqtt.malformed);
        put("log_records_total", "counter", log.records);
        put("log_record_bytes_total", "counter", log.record_bytes);
        put("log_unrouted_total", "counter", log.unrouted);
        put("log_refused_total", "counter", log.refused);
        put("log_checkpoints_total", "counter", log.checkpoints);
        put("log_journal_bytes", "gauge", log.journal_bytes);
        put("log_segment_bytes", "gauge", log.segment_bytes);
        put("log_checkpoint_bytes", "gauge", log.checkpoint_bytes);
        put("log_limit_bytes", "gauge", log.limit_bytes);
        put("uplink_connected", "gauge", uplink.connected.into());
        put("uplink_connects_total", "counter", uplink.connects);
        put("uplink_sent_bytes_total", "counter", uplink.sent_bytes);
        put(
            "uplink_received_bytes_total",
            "counter",
            uplink.received_bytes,
        );
        put("uplink_in_flight_bytes", "gauge", uplink.in_flight_bytes);
        put("uplink_lag_records", "gauge", uplink.lag);
        self.labelled(&report, &mut text);
        text
    }

    fn labelled(&self, report: &Report, text: &mut String) {
        for (name, counts) in [
            ("published", report.mqtt.published),
            ("delivered", report.mqtt.delivered),
        ] {
            let _ = writeln!(text, "# TYPE headwater_edge_mqtt_{name}_total counter");
            for (qos, count) in counts.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "headwater_edge_mqtt_{name}_total{{qos=\"{qos}\"}} {count}"
                );
            }
        }
        let name = "headwater_edge_log_commit_seconds";
        let _ = writeln!(text, "# TYPE {name} histogram");
        let histogram = self.counters.commit_histogram();
        for (bound, count) in crate::store::COMMIT_BUCKETS_US.iter().zip(&histogram) {
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(text, "{name}_bucket{{le=\"{seconds}\"}} {count}");
        }
        let all = histogram.last().copied().unwrap_or(0);
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {all}");
        let _ = writeln!(text, "{name}_sum {}", report.log.commit_us as f64 / 1e6);
        let _ = writeln!(text, "{name}_count {all}");
        for (name, value) in [
            ("start", (|p| p.start) as fn(&PartitionReport) -> i64),
            ("sealed_end", |p| p.sealed_end),
            ("next", |p| p.next),
            ("acked", |p| p.acked),
        ] {
            let _ = writeln!(text, "# TYPE headwater_edge_partition_{name}_offset gauge");
            for partition in &report.partitions {
                let (label, value) = (&partition.partition, value(partition));
                let _ = writeln!(
                    text,
                    "headwater_edge_partition_{name}_offset{{partition=\"{label}\"}} {value}"
                );
            }
        }
    }
}

//! The report in Prometheus' text format, version 0.0.4.
//!
//! Names are `headwater_edge_` and the unit; what only rises until a restart is a counter and ends in
//! `_total`, everything else is a gauge.

use std::fmt::{Display, Write};

use crate::status::{PartitionReport, Report, Sources};
use crate::store::COMMIT_BUCKETS_US;

const PREFIX: &str = "headwater_edge_";

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// The page under construction.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}");
        let _ = writeln!(self.0, "# TYPE {PREFIX}{name} {kind}");
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{PREFIX}{name} {value}");
    }

    fn labelled(&mut self, name: &str, label: &str, text: &str, value: impl Display) {
        let text = escaped(text);
        let _ = writeln!(self.0, "{PREFIX}{name}{{{label}=\"{text}\"}} {value}");
    }
}

impl Sources {
    /// The state now, for Prometheus. `healthy` as in [`Sources::health`].
    pub fn metrics(&self, healthy: bool) -> String {
        let report = self.report();
        let mut page = Page(String::new());
        process(&mut page, &report, healthy);
        mqtt(&mut page, &report);
        log(&mut page, &report);
        self.commits(&mut page, &report);
        partitions(&mut page, &report.partitions);
        uplink(&mut page, &report);
        page.0
    }

    fn commits(&self, page: &mut Page, report: &Report) {
        let name = "log_commit_seconds";
        page.head(
            name,
            "histogram",
            "Time of a group commit: write and fdatasync.",
        );
        let histogram = self.counters.commit_histogram();
        let bucket = format!("{name}_bucket");
        for (bound, count) in COMMIT_BUCKETS_US.iter().zip(&histogram) {
            let seconds = (*bound as f64 / 1e6).to_string();
            page.labelled(&bucket, "le", &seconds, count);
        }
        let all = histogram.last().copied().unwrap_or(0);
        page.labelled(&bucket, "le", "+Inf", all);
        let sum = report.log.commit_us as f64 / 1e6;
        let _ = writeln!(page.0, "{PREFIX}{name}_sum {sum}");
        let _ = writeln!(page.0, "{PREFIX}{name}_count {all}");
    }
}

fn process(page: &mut Page, report: &Report, healthy: bool) {
    use Kind::{Counter, Gauge};
    page.family("info", Gauge, "Which node this is; always 1.");
    let (name, version) = (escaped(&report.name), report.version);
    let labels = format!("name=\"{name}\",version=\"{version}\"");
    let _ = writeln!(page.0, "{PREFIX}info{{{labels}}} 1");
    let healthy = u8::from(healthy);
    page.one(
        "healthy",
        Gauge,
        "1 while the node takes publishes, else 0.",
        healthy,
    );
    let uptime = report.uptime_ms as f64 / 1e3;
    page.one(
        "uptime_seconds",
        Gauge,
        "Since the start of the process.",
        uptime,
    );
    page.one(
        "resident_memory_bytes",
        Gauge,
        "Resident memory of the process.",
        report.memory_bytes,
    );
    if let Some(free) = report.disk_free_bytes {
        page.one(
            "disk_free_bytes",
            Gauge,
            "Free on the data directory's file system.",
            free,
        );
    }
    page.family(
        "log_lines_total",
        Counter,
        "Warnings and errors in the node's own log.",
    );
    page.labelled("log_lines_total", "level", "warn", report.lines.warnings);
    page.labelled("log_lines_total", "level", "error", report.lines.errors);
}

fn mqtt(page: &mut Page, report: &Report) {
    use Kind::{Counter, Gauge};
    let mqtt = &report.mqtt;
    for (name, kind, help, value) in [
        ("connected", Gauge, "Clients connected now.", mqtt.connected),
        (
            "sessions",
            Gauge,
            "Sessions, with and without a connection.",
            mqtt.sessions,
        ),
        (
            "subscriptions",
            Gauge,
            "Subscriptions of all sessions.",
            mqtt.subscriptions,
        ),
        ("retained", Gauge, "Retained messages.", mqtt.retained),
        (
            "retained_bytes",
            Gauge,
            "Bytes of retained messages.",
            mqtt.retained_bytes,
        ),
        (
            "queued",
            Gauge,
            "Messages that wait for subscribers.",
            mqtt.queued,
        ),
        (
            "connects_total",
            Counter,
            "CONNECTs accepted.",
            mqtt.connects,
        ),
        (
            "connects_refused_total",
            Counter,
            "CONNECTs refused.",
            mqtt.connects_refused,
        ),
        (
            "publish_duplicates_total",
            Counter,
            "QoS 2 publishes that were sent again and are in the log once.",
            mqtt.duplicates,
        ),
        (
            "dropped_total",
            Counter,
            "Messages that a slow subscriber missed; the log has them.",
            mqtt.dropped,
        ),
        (
            "malformed_total",
            Counter,
            "Packets that break the protocol.",
            mqtt.malformed,
        ),
        (
            "received_bytes_total",
            Counter,
            "Bytes from clients.",
            mqtt.received_bytes,
        ),
        (
            "sent_bytes_total",
            Counter,
            "Bytes to clients.",
            mqtt.sent_bytes,
        ),
    ] {
        page.one(&format!("mqtt_{name}"), kind, help, value);
    }
    for (name, help, counts) in [
        (
            "mqtt_published_total",
            "Messages from clients.",
            mqtt.published,
        ),
        (
            "mqtt_delivered_total",
            "Messages to subscribers.",
            mqtt.delivered,
        ),
    ] {
        page.family(name, Counter, help);
        for (qos, count) in counts.iter().enumerate() {
            page.labelled(name, "qos", &qos.to_string(), count);
        }
    }
}

fn log(page: &mut Page, report: &Report) {
    use Kind::{Counter, Gauge};
    let log = &report.log;
    for (name, kind, help, value) in [
        ("records_total", Counter, "Records taken.", log.records),
        (
            "record_bytes_total",
            Counter,
            "Keys, values and headers of records taken, roughly.",
            log.record_bytes,
        ),
        (
            "unrouted_total",
            Counter,
            "Messages that matched no route.",
            log.unrouted,
        ),
        (
            "refused_total",
            Counter,
            "Frames that the log refused.",
            log.refused,
        ),
        (
            "checkpoints_total",
            Counter,
            "Checkpoints taken.",
            log.checkpoints,
        ),
        (
            "journal_bytes",
            Gauge,
            "The journal on disk.",
            log.journal_bytes,
        ),
        (
            "segment_bytes",
            Gauge,
            "All segments on disk.",
            log.segment_bytes,
        ),
        (
            "checkpoint_bytes",
            Gauge,
            "All checkpoints on disk.",
            log.checkpoint_bytes,
        ),
        (
            "memory_bytes",
            Gauge,
            "Records in memory, in no segment yet.",
            log.memory_bytes,
        ),
        (
            "limit_bytes",
            Gauge,
            "What journal, segments and checkpoints may take.",
            log.limit_bytes,
        ),
        (
            "full",
            Gauge,
            "1 while new records are refused for want of room.",
            log.full.into(),
        ),
    ] {
        page.one(&format!("log_{name}"), kind, help, value);
    }
}

/// A name, what it says, and where it stands in a partition's report.
type Column = (&'static str, &'static str, fn(&PartitionReport) -> i64);

fn partitions(page: &mut Page, partitions: &[PartitionReport]) {
    let columns: [Column; 7] = [
        ("start_offset", "The first offset that is kept.", |p| {
            p.start
        }),
        (
            "sealed_end_offset",
            "The offset after the last sealed batch.",
            |p| p.sealed_end,
        ),
        ("next_offset", "The offset the next record gets.", |p| {
            p.next
        }),
        ("acked_offset", "The cloud has everything below.", |p| {
            p.acked
        }),
        ("lag_records", "Records the cloud does not have yet.", |p| {
            p.next - p.acked
        }),
        ("bytes", "Segments on disk.", |p| {
            i64::try_from(p.bytes).unwrap_or(i64::MAX)
        }),
        ("segments", "Segments on disk.", |p| p.segments as i64),
    ];
    for (name, help, value) in columns {
        let name = format!("partition_{name}");
        page.family(&name, Kind::Gauge, help);
        for partition in partitions {
            page.labelled(&name, "partition", &partition.partition, value(partition));
        }
    }
}

fn uplink(page: &mut Page, report: &Report) {
    use Kind::{Counter, Gauge};
    let uplink = &report.uplink;
    let round_trip = uplink.round_trip_us as f64 / 1e6;
    for (name, kind, help, value) in [
        (
            "configured",
            Gauge,
            "1 if a bundle is set.",
            u64::from(uplink.configured),
        ),
        (
            "connected",
            Gauge,
            "1 while the cloud answers.",
            uplink.connected.into(),
        ),
        (
            "connects_total",
            Counter,
            "Connections to the cloud.",
            uplink.connects,
        ),
        (
            "sent_bytes_total",
            Counter,
            "UDP payload sent.",
            uplink.sent_bytes,
        ),
        (
            "received_bytes_total",
            Counter,
            "UDP payload received.",
            uplink.received_bytes,
        ),
        (
            "in_flight_bytes",
            Gauge,
            "Batches sent and not acknowledged.",
            uplink.in_flight_bytes,
        ),
        (
            "lag_records",
            Gauge,
            "Records the cloud does not have yet.",
            uplink.lag,
        ),
    ] {
        page.one(&format!("uplink_{name}"), kind, help, value);
    }
    page.one(
        "uplink_round_trip_seconds",
        Gauge,
        "QUIC's estimate.",
        round_trip,
    );
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

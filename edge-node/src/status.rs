//! What the node says about itself: one report, shown as JSON, as Prometheus text and as a page.
//! `STATUS.md` beside this crate's manifest names every field.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use headwater_log::RealDisk;
use headwater_log::disk::Disk;
use headwater_quic::client::LinkStatus;
use serde::Serialize;
use tokio::sync::watch;

use crate::broker::BrokerView;
use crate::clock::Clock;
use crate::config::WhenFull;
use crate::control::Control;
use crate::logging::{self, Line, Logging};
use crate::mirror::{Alarm, Mirror};
use crate::pulse::Pulse;
use crate::store::{Counters, LogView};
use crate::taps::Taps;

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
    pub(crate) taps: Arc<Taps>,
    pub(crate) control: Arc<Control>,
    pub(crate) data_dir: Arc<Path>,
    pub(crate) when_full: WhenFull,
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
    /// The wall clock, ms since 1970.
    pub wall_ms: i64,
    /// The data directory, from the root.
    pub data_dir: String,
    /// What the log lines show; null where another program writes them.
    pub log_filter: Option<String>,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Free on the data directory's file system, for this node's user; null if the system does not
    /// say.
    pub disk_free_bytes: Option<u64>,
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
    /// Log lines since the start.
    pub lines: LineCounts,
    /// The last warnings and errors of the log, newest first.
    pub recent: Vec<Line>,
}

/// See [`Report::lines`].
#[derive(Debug, Clone, Default, Serialize)]
pub struct LineCounts {
    /// At level warn.
    pub warnings: u64,
    /// At level error.
    pub errors: u64,
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
    /// Their bytes.
    pub retained_bytes: u64,
    /// CONNECTs accepted since the start.
    pub connects: u64,
    /// And refused.
    pub connects_refused: u64,
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
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
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
    /// Records in memory that are in no segment yet.
    pub memory_bytes: u64,
    /// New records are refused now.
    pub full: bool,
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
    /// Its segments on disk, without their indexes.
    pub bytes: u64,
    /// How many.
    pub segments: usize,
    /// Its history is lost: it is not sent before `log trust` says so.
    pub in_doubt: bool,
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
        let log = logging::installed();
        let (warnings, errors) = log.map(Logging::counts).unwrap_or_default();
        let partitions = self.partitions();
        let lag = partitions
            .iter()
            .map(|p| u64::try_from(p.next - p.acked).unwrap_or(0))
            .sum();
        Report {
            name: self.name.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: self.clock.now_ms() - self.started_ms,
            wall_ms: self.clock.wall_ms(),
            data_dir: self.data_dir.display().to_string(),
            log_filter: log.map(Logging::filter),
            memory_bytes: resident_bytes(),
            disk_free_bytes: RealDisk.free_bytes(&self.data_dir).ok(),
            mqtt: self.mqtt(),
            log: self.log(),
            uplink: self.uplink(lag),
            partitions,
            alarms: self.mirror.alarms(),
            lines: LineCounts { warnings, errors },
            recent: log.map(Logging::recent).unwrap_or_default(),
        }
    }

    fn partitions(&self) -> Vec<PartitionReport> {
        let partitions = self.log.partitions();
        let report = partitions.iter().map(|(tp, view)| {
            let (bytes, segments) = view.reader.size();
            PartitionReport {
                partition: tp.to_string(),
                start: view.start.0,
                sealed_end: view.sealed_end.0,
                next: view.next.0,
                acked: view.acked.0,
                bytes,
                segments,
                in_doubt: view.in_doubt,
                incarnation: format!("{:032x}", view.lineage.incarnation),
            }
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
            retained_bytes: stats.retained_bytes,
            connects: stats.connects,
            connects_refused: stats.connects_refused,
            published: stats.published,
            duplicates: stats.publish_duplicates,
            delivered: stats.delivered,
            dropped: stats.dropped_qos0 + stats.dropped_queued,
            queued: stats.queued,
            malformed: stats.malformed,
            received_bytes: stats.bytes_received,
            sent_bytes: stats.bytes_sent,
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
            memory_bytes: usage.memory_bytes,
            full: usage.is_full,
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
}

/// Of this process; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * page_bytes()
}

#[allow(unsafe_code)] // Safety: sysconf takes and gives integers.
fn page_bytes() -> u64 {
    // SAFETY: see above; a name that is unknown gives -1.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

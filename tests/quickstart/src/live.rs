//! The live line: what was published, what the edge acknowledged, what the cloud has.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;

use edge_node::status::{Report, UplinkReport};

use crate::sensors::Counts;

/// State of the line: the first report is what the run started from.
pub struct Line {
    first: Report,
    redraw: bool,
}

impl Line {
    pub fn new(first: Report) -> Line {
        Line {
            first,
            redraw: std::io::stdout().is_terminal(),
        }
    }

    /// Draws the line; over the last one on a terminal, below it elsewhere.
    pub fn draw(&self, counts: &Counts, now: &Report) {
        let text = self.text(counts, now);
        let mut out = std::io::stdout().lock();
        // A closed pipe ends the run by signal or at its end: the line alone is no reason.
        let _ = match self.redraw {
            true => write!(out, "\r\x1b[2K{text}").and_then(|()| out.flush()),
            false => writeln!(out, "{text}"),
        };
    }

    fn text(&self, counts: &Counts, now: &Report) -> String {
        let mirrored = acked(now) - acked(&self.first);
        let stored: i64 = now.partitions.iter().map(|p| p.sealed_end - p.start).sum();
        let per = |bytes: u64, readings: i64| match u64::try_from(readings) {
            Ok(readings) if readings > 0 => format!("{:.1} B", bytes as f64 / readings as f64),
            _ => "-".to_owned(),
        };
        let link = link(&now.uplink);
        let missed = match counts.missed.load(Ordering::Relaxed) {
            0 => String::new(),
            missed => format!("  missed {missed}"),
        };
        format!(
            "published {}  acked {}  mirrored {}  lag {}  per reading: disk {}, link {}{missed}{link}",
            counts.published.load(Ordering::Relaxed),
            counts.acked.load(Ordering::Relaxed),
            mirrored,
            now.uplink.lag,
            per(now.log.segment_bytes, stored),
            per(now.uplink.sent_bytes, mirrored),
        )
    }
}

/// What there is to say of the link: nothing while it stands. The first one takes a moment, which is
/// no failure.
fn link(uplink: &UplinkReport) -> String {
    match (uplink.connected, &uplink.last_error) {
        (true, _) => String::new(),
        (false, Some(error)) => format!("  link down: {error}"),
        (false, None) if uplink.connects == 0 => "  connecting".to_owned(),
        (false, None) => "  link down".to_owned(),
    }
}

/// Records that the cloud has, over all partitions.
pub fn acked(report: &Report) -> i64 {
    report
        .partitions
        .iter()
        .map(|partition| partition.acked)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_down_only_once_it_was_up_or_has_failed() {
        let mut uplink = UplinkReport {
            configured: true,
            connected: false,
            remote: None,
            connects: 0,
            last_error: None,
            sent_bytes: 0,
            received_bytes: 0,
            round_trip_us: 0,
            in_flight_bytes: 0,
            clock_ahead_ms: 0,
            lag: 0,
        };
        assert_eq!(link(&uplink), "  connecting");
        uplink.last_error = Some("no answer".to_owned());
        assert_eq!(link(&uplink), "  link down: no answer");
        (uplink.connected, uplink.connects, uplink.last_error) = (true, 1, None);
        assert_eq!(link(&uplink), "");
        uplink.connected = false;
        assert_eq!(link(&uplink), "  link down");
    }
}

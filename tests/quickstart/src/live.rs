//! The live line: what was published, what the edge acknowledged, what the cloud has.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;

use edge_node::status::Report;

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
        let link = match (now.uplink.connected, &now.uplink.last_error) {
            (true, _) => String::new(),
            (false, Some(error)) => format!("  link down: {error}"),
            (false, None) => "  link down".to_owned(),
        };
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

/// Records that the cloud has, over all partitions.
pub fn acked(report: &Report) -> i64 {
    report
        .partitions
        .iter()
        .map(|partition| partition.acked)
        .sum()
}

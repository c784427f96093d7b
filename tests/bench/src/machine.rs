//! What the figures were taken on.

use std::path::Path;

use crate::probe;
use crate::table::Line;

/// Cores, processor, memory, kernel, and how busy others keep it.
pub fn describe() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kb = field(&read("/proc/meminfo"), "MemTotal");
    let memory_kb: f64 = memory_kb.trim_end_matches(" kB").parse().unwrap_or(0.0);
    format!(
        "{cores} cores, {}, {:.0} GB, Linux {}, load average {}",
        field(&read("/proc/cpuinfo"), "model name"),
        memory_kb / 1e6,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("unknown"),
    )
}

/// The disk below `dir`, now.
pub fn disk(name: &str, dir: &Path) -> std::io::Result<Line> {
    let probe = probe::disk(dir)?;
    let figure = format!(
        "{:.0} fdatasync/s (p50 {:.2?}, p99 {:.2?}), {:.0} MB/s sequential",
        probe.fdatasync_per_s, probe.fdatasync_p50, probe.fdatasync_p99, probe.sequential_mb_per_s
    );
    Ok(Line::new(name, figure))
}

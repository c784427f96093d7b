//! What the disk itself does, printed beside every figure: the same binary differs tenfold on the
//! same machine from one hour to the next.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// One reading of the disk below a folder.
pub struct Probe {
    pub fdatasync_per_s: f64,
    pub fdatasync_p50: Duration,
    pub fdatasync_p99: Duration,
    pub sequential_mb_per_s: f64,
}

/// 4 KiB writes into a file whose blocks exist, each followed by fdatasync, for two seconds; then
/// 256 MB in 1 MiB writes with one fdatasync at the end.
pub fn disk(dir: &Path) -> std::io::Result<Probe> {
    let path = dir.join("probe");
    let block = [0x5a; 4096];
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; 16 << 20], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        let at = Instant::now();
        file.write_all_at(&block, (times.len() as u64 * 4096) % (16 << 20))?;
        file.sync_data()?;
        times.push(at.elapsed());
    }
    let total = started.elapsed();
    times.sort();

    let mut file = File::create(&path)?;
    let chunk = vec![0xa5; 1 << 20];
    let started = Instant::now();
    for _ in 0..256 {
        file.write_all(&chunk)?;
    }
    file.sync_data()?;
    let sequential = 256.0 * 1.048576 / started.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(Probe {
        fdatasync_per_s: times.len() as f64 / total.as_secs_f64(),
        fdatasync_p50: times[times.len() / 2],
        fdatasync_p99: times[times.len() * 99 / 100],
        sequential_mb_per_s: sequential,
    })
}

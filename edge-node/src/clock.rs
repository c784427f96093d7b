//! The node's clocks (rule J9).
//!
//! Age, expiry and deadlines count on a monotonic clock that goes on across restarts: a gateway's
//! wall clock starts in 1970 and jumps when the network comes. Only record timestamps are wall time.
//!
//! The file `clock` in the data directory holds a time that the running node has not reached yet;
//! it is moved on before it is reached, and a start goes on from it. So the clock never goes back,
//! and a crash makes it jump ahead by [`AHEAD_MS`] at most. Time while the node is off does not
//! count: nothing expires because of an outage of the device itself.
//!
//! On a medium without room the file is written over where it stands: 21 bytes, in one sector.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_log::disk::{Disk, Open, read_all, replace};

/// How far ahead the file is written: one small write in this time.
pub const AHEAD_MS: u64 = 600_000;

/// Time from elsewhere than the system: a simulation's.
pub trait Time: Send + Sync + 'static {
    /// Monotonic, ms since any moment before this process started.
    fn elapsed_ms(&self) -> u64;
    /// The wall clock, ms since 1970. It may jump either way.
    fn wall_ms(&self) -> i64;
}

/// Where a node's time comes from.
#[derive(Clone)]
pub enum TimeSource {
    /// The system's clocks; the monotonic one counts from this moment.
    System(Instant),
    /// What it is told.
    Given(Arc<dyn Time>),
}

impl TimeSource {
    /// The system's clocks, from now on.
    pub fn system() -> TimeSource {
        TimeSource::System(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        match self {
            TimeSource::System(started) => started.elapsed(),
            TimeSource::Given(time) => Duration::from_millis(time.elapsed_ms()),
        }
    }
}

/// Monotonic milliseconds since the data directory was made, and the wall clock. Copies agree.
#[derive(Clone)]
pub struct Clock {
    base_ms: u64,
    /// What `time` said when the clock was at `base_ms`.
    from: Duration,
    time: TimeSource,
}

impl Clock {
    /// A clock that goes on from `base_ms`.
    pub fn from(base_ms: u64, time: TimeSource) -> Clock {
        Clock {
            base_ms,
            from: time.elapsed(),
            time,
        }
    }

    fn elapsed(&self) -> Duration {
        self.time.elapsed().saturating_sub(self.from)
    }

    /// Now.
    pub fn now_ms(&self) -> u64 {
        self.base_ms + u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long it is until [`Clock::now_ms`] will be `at_ms`; zero when that is past.
    pub fn until(&self, at_ms: u64) -> Duration {
        Duration::from_millis(at_ms.saturating_sub(self.base_ms)).saturating_sub(self.elapsed())
    }

    /// The wall clock in ms since 1970, for record timestamps; 0 when it is set before that.
    pub fn wall_ms(&self) -> i64 {
        match &self.time {
            TimeSource::System(_) => system_wall_ms(),
            TimeSource::Given(time) => time.wall_ms().max(0),
        }
    }
}

/// Keeps the clock's file ahead of the clock.
pub struct ClockFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    written_ms: u64,
}

impl ClockFile {
    /// Reads the file and starts the clock from it. A missing or damaged file starts at 0: times
    /// in sessions then lie ahead, so they expire late, never early.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        time: TimeSource,
    ) -> std::io::Result<(ClockFile, Clock)> {
        let path = dir.join("clock");
        let read = read_all(&*disk, &path, 64).ok();
        let text = read.and_then(|bytes| String::from_utf8(bytes).ok());
        let base_ms = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let mut file = ClockFile {
            disk,
            path,
            written_ms: 0,
        };
        file.write(base_ms + AHEAD_MS)?;
        Ok((file, Clock::from(base_ms, time)))
    }

    /// Writes when less than half of the lead is left.
    pub fn keep_ahead(&mut self, now_ms: u64) -> std::io::Result<()> {
        if now_ms + AHEAD_MS / 2 < self.written_ms {
            return Ok(());
        }
        self.write(now_ms + AHEAD_MS)
    }

    /// An orderly stop: the next start goes on from here.
    pub fn stop(&mut self, now_ms: u64) -> std::io::Result<()> {
        self.write(now_ms)
    }

    fn write(&mut self, at_ms: u64) -> std::io::Result<()> {
        // Of one length, so that it never needs more room than it has.
        let text = format!("{at_ms:020}\n");
        match replace(&*self.disk, &self.path, text.as_bytes()) {
            Err(full) if full.kind() == std::io::ErrorKind::StorageFull => {
                let file = self.disk.open(&self.path, Open::Write).map_err(|_| full)?;
                file.write_at(text.as_bytes(), 0)?;
                file.sync_data()?;
            }
            done => done?,
        }
        self.written_ms = at_ms;
        Ok(())
    }
}

fn system_wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_log::disk::Crash;
    use headwater_log::{RealDisk, SimDisk};

    #[test]
    fn never_goes_back_over_stop_crash_and_damage() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (mut file, clock) =
            ClockFile::open(disk.clone(), dir.path(), TimeSource::system()).unwrap();
        assert!(clock.now_ms() < 1_000);
        file.keep_ahead(400_000).unwrap();
        file.stop(500_000).unwrap();
        // An orderly restart goes on; the run that follows crashes.
        let (_, clock) = ClockFile::open(disk.clone(), dir.path(), TimeSource::system()).unwrap();
        assert!((500_000..501_000).contains(&clock.now_ms()));
        let (_, clock) = ClockFile::open(disk.clone(), dir.path(), TimeSource::system()).unwrap();
        assert!(clock.now_ms() >= 500_000 + AHEAD_MS);
        std::fs::write(dir.path().join("clock"), "nonsense").unwrap();
        assert!(ClockFile::open(disk, dir.path(), TimeSource::system()).is_ok());
    }

    #[test]
    fn goes_on_where_there_is_no_room_and_over_a_power_cut_there() {
        let disk = SimDisk::new(3);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let open = || ClockFile::open(shared.clone(), Path::new("/"), TimeSource::system());
        let (mut file, _) = open().unwrap();
        disk.set_capacity(0);
        file.keep_ahead(AHEAD_MS * 2).unwrap();
        assert!(disk.counters().enospc > 0, "it found no room");
        disk.crash(Crash::Power);
        disk.restart();
        let (_, clock) = open().unwrap();
        assert!(clock.now_ms() >= AHEAD_MS * 3);
    }
}

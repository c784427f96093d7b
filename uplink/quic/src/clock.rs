//! Time for the machines: milliseconds since this clock was made, and tokio's sleep to go with it.

use headwater_proto::Ms;
use tokio::time::{Duration, Instant, Sleep};

/// A monotonic clock. Copies agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(&self) -> Ms {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sleeps until `at`; for `None` so long that it does not matter.
    pub(crate) fn sleep_until(&self, at: Option<Ms>) -> Sleep {
        const NEVER: Duration = Duration::from_secs(24 * 3600);
        let pause = at.map_or(NEVER, |at| {
            Duration::from_millis(at).min(NEVER + self.0.elapsed())
        });
        tokio::time::sleep_until(match at {
            Some(_) => self.0 + pause,
            None => Instant::now() + NEVER,
        })
    }
}

/// The wall clock in ms since 1970; 0 before that.
pub(crate) fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}

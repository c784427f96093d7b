//! Whether the node takes publishes now, and if not, why.

use std::time::Duration;

use crate::config::WhenFull;
use crate::status::Sources;

/// What a sign of life may take. A checkpoint on a slow card stops the store thread for a while.
const PATIENCE: Duration = Duration::from_secs(5);
/// A commit under way for so long is as good as none.
const COMMIT_MAX: Duration = Duration::from_secs(10);

impl Sources {
    /// `Err` with the reason, in words for the operator.
    pub async fn health(&self) -> Result<(), String> {
        self.disk_takes_records()?;
        let beat = self.pulse.beat(PATIENCE).await;
        beat.map_err(|silent| format!("{silent}: no answer within {} s", PATIENCE.as_secs()))
    }

    fn disk_takes_records(&self) -> Result<(), String> {
        let commit_age = self.counters.commit_age().unwrap_or_default();
        if commit_age > COMMIT_MAX {
            let s = commit_age.as_secs();
            return Err(format!("the disk has not finished a sync for {s} s"));
        }
        let usage = self.log.usage();
        if usage.is_full {
            let (used, limit) = (usage.used_bytes(), usage.limit_bytes);
            let why = match self.when_full {
                WhenFull::Refuse => "new records are refused until the cloud has taken some",
                WhenFull::DropOldest => "and nothing may be dropped for new records",
            };
            return Err(format!(
                "the log is full ({used} bytes of {limit} are used), {why}"
            ));
        }
        Ok(())
    }
}

//! What a store is told at its start.

use std::path::PathBuf;

use headwater_batch::{BATCH_BYTES_MAX, Level};

use crate::durable::Rules;
use crate::store::Ms;

/// What happens to new records when the budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// New records are refused; what is stored stays. The default.
    #[default]
    Refuse,
    /// The oldest sealed segments go, unsent ones too, each as a GAP that travels to the cloud.
    DropOldest,
}

/// When the publisher of an entry may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After its fdatasync.
    #[default]
    Fsync,
    /// At once; synced within [`StoreConfig::interval_ms`]. A power cut or a kill may lose that much.
    Interval,
    /// Once the operating system has it. This version syncs in the same step, as for `Fsync`:
    /// never weaker than said.
    Os,
}

/// Nothing stays unsynced for longer (rule J7).
pub const SYNC_MS_MAX: Ms = 5_000;

/// The most of [`StoreConfig::commit_gather_ms`]: publishers resend what is not answered.
pub const GATHER_MS_MAX: Ms = 1_000;

/// Wall clocks before this are not believed (rule J9): 2026-01-01.
pub const CLOCK_FLOOR_MS: i64 = 1_767_225_600_000;

/// Settings of a [`Store`](crate::store::Store).
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data directory: partitions' directories and `journal/` live in it. The checkpoint store
    /// belongs into `checkpoints/` in it, where the budget finds it.
    pub dir: PathBuf,
    /// One journal file. A checkpoint is due each time this much has been journaled.
    pub journal_file_bytes: u64,
    /// Journal, segments and checkpoints together stay below this.
    pub budget_bytes: u64,
    /// Part of the budget that new records cannot use: for recovery, and for the acks that free
    /// space.
    pub reserve_bytes: u64,
    /// A batch is sealed when its records reach this, before compression. At most
    /// [`BATCH_BYTES_MAX`].
    pub batch_bytes: usize,
    /// A batch is sealed when its first record is this old.
    pub linger_ms: Ms,
    /// With the link down a busy partition's batch may grow for this long instead (rule J8: an
    /// idle partition's single record is still sealed at `linger_ms`).
    pub hold_ms: Ms,
    pub level: Level,
    /// A segment is rolled before it grows beyond this.
    pub segment_bytes: u64,
    /// Acked records older than this may go; `None` keeps them until space is needed.
    pub retention_ms: Option<Ms>,
    /// Acked records beyond this size per partition may go.
    pub retention_bytes: Option<u64>,
    pub full: Full,
    /// The longest an entry with [`Durability::Interval`] waits for its sync; at most
    /// [`SYNC_MS_MAX`].
    pub interval_ms: Ms,
    /// The longest an entry with [`Durability::Fsync`] waits for others to share its commit, while
    /// others keep coming; 0 commits at once.
    pub commit_gather_ms: Ms,
    /// Records staged or packed but not yet in a segment, over all partitions: more are refused
    /// with [`Refused::Busy`](crate::store::Refused::Busy) until a commit, or sealed early.
    pub memory_bytes: usize,
    /// A record with an earlier timestamp carries the header `headwater-clock: unset`.
    pub clock_floor_ms: i64,
    /// Off-switches for tests.
    pub rules: Rules,
}

impl StoreConfig {
    pub fn new(dir: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            dir: dir.into(),
            journal_file_bytes: 16 << 20,
            budget_bytes: 10 << 30,
            reserve_bytes: 64 << 20,
            batch_bytes: 64 << 10,
            linger_ms: 250,
            hold_ms: 10_000,
            level: Level::Zstd(3),
            segment_bytes: 64 << 20,
            retention_ms: None,
            retention_bytes: None,
            full: Full::Refuse,
            interval_ms: 1_000,
            commit_gather_ms: 50,
            memory_bytes: 8 << 20,
            clock_floor_ms: CLOCK_FLOOR_MS,
            rules: Rules::default(),
        }
    }

    /// The first setting that cannot work, in words an operator can act on.
    pub fn validate(&self) -> Result<(), String> {
        let journal_share = self.journal_file_bytes.saturating_mul(8);
        let checks: [(bool, String); 9] = [
            (
                (1024..=BATCH_BYTES_MAX).contains(&self.batch_bytes),
                format!(
                    "batch_bytes is {}, valid is 1024..={BATCH_BYTES_MAX}",
                    self.batch_bytes
                ),
            ),
            (
                (1 << 12..=1 << 30).contains(&self.segment_bytes),
                format!(
                    "segment_bytes is {}, valid is 4096..=1073741824",
                    self.segment_bytes
                ),
            ),
            (
                self.journal_file_bytes % 4096 == 0
                    && (64 << 10..=1 << 30).contains(&self.journal_file_bytes),
                format!(
                    "journal_file_bytes is {}, valid is a multiple of 4096 in 65536..=1073741824",
                    self.journal_file_bytes
                ),
            ),
            (
                self.interval_ms <= SYNC_MS_MAX,
                format!(
                    "interval_ms is {}, at most {SYNC_MS_MAX} (rule J7)",
                    self.interval_ms
                ),
            ),
            (
                self.commit_gather_ms <= GATHER_MS_MAX,
                format!(
                    "commit_gather_ms is {}, at most {GATHER_MS_MAX}",
                    self.commit_gather_ms
                ),
            ),
            (
                self.linger_ms <= 3_600_000,
                format!("linger_ms is {}, at most 3600000", self.linger_ms),
            ),
            (
                self.hold_ms <= 3_600_000,
                format!("hold_ms is {}, at most 3600000", self.hold_ms),
            ),
            (
                self.memory_bytes >= self.batch_bytes,
                format!(
                    "memory_bytes is {}, at least batch_bytes ({})",
                    self.memory_bytes, self.batch_bytes
                ),
            ),
            (
                self.budget_bytes >= self.reserve_bytes.saturating_add(journal_share),
                format!(
                    "budget_bytes is {}, at least reserve_bytes ({}) + 8 x journal_file_bytes ({})",
                    self.budget_bytes, self.reserve_bytes, self.journal_file_bytes
                ),
            ),
        ];
        match checks.into_iter().find(|(ok, _)| !ok) {
            Some((_, problem)) => Err(problem),
            None => Ok(()),
        }
    }
}

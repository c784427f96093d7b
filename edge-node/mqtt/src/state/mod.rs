//! The durable part: what survives a restart.

/// What a restore found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    pub sessions: usize,
    pub retained: usize,
    pub queued: usize,
    /// Ops applied on top of the checkpoint, and those it already held.
    pub ops_applied: usize,
    pub ops_skipped: usize,
    /// What could not be read, one line each (16 at most, then a count).
    pub problems: Vec<String>,
}

//! What time it is, for whom.

/// Milliseconds of the simulated world since its start. Every process's monotonic clock.
pub type Ms = u64;

/// Handed to a process with each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: what `Instant` would say. It goes on while a device is off; the device itself may
    /// not rely on that (rule J9).
    pub ms: Ms,
    /// This machine's own wall clock, ms since 1970. It jumps.
    pub wall_ms: i64,
}

//! The group coordinator: one machine for all groups of a node, `(now, event) -> effects`.

mod types;

pub use types::*;

/// Bounds and delays of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members. Kafka: 3000.
    pub initial_rebalance_delay_ms: u32,
    pub session_timeout_ms_min: u32,
    pub session_timeout_ms_max: u32,
    pub groups_max: usize,
    pub members_max: usize,
    /// Per member: all protocols' metadata together, and the assignment.
    pub member_bytes_max: usize,
    /// Of the metadata string of one committed offset. Kafka: 4096.
    pub offset_metadata_bytes_max: usize,
    /// Offsets that one group may hold.
    pub offsets_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            groups_max: 10_000,
            members_max: 1_000,
            member_bytes_max: 1 << 20,
            offset_metadata_bytes_max: 4_096,
            offsets_max: 100_000,
        }
    }
}

/// The machine. One owner calls `handle`; effects are carried out in their order.
#[derive(Debug)]
pub struct Coordinator {
    _config: GroupConfig,
}

impl Coordinator {
    /// `seed` makes the member ids: draw it at random once per start of the node.
    pub fn new(config: GroupConfig, _seed: u64) -> Self {
        Self { _config: config }
    }

    /// Handles one event at the monotonic time `now_ms`.
    pub fn handle(&mut self, _now_ms: u64, _event: GroupEvent, _effects: &mut Vec<GroupEffect>) {
        unimplemented!()
    }

    /// When to call `handle` with [`GroupEvent::Timer`] at the latest; ask after every event.
    pub fn deadline(&self) -> Option<u64> {
        None
    }
}

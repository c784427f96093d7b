//! The dedup rules (U1, U2, U4 and the table), as a pure function of state and entry.
//!
//! Invariant: [`EdgeStreams::apply`] reads nothing but its arguments; replicas that apply the same
//! entries hold the same state (C1). Times and random numbers come stamped in the entries.
//!
//! [`EdgeStreams`] holds all incarnations of ONE edge partition of ONE edge: the state machine keeps
//! a map from (edge, topic partition) to it and stores a changed one beside the data, atomically.

mod apply;
mod entry;
mod lineage;
mod outcome;
mod state;
#[cfg(test)]
mod tests;

pub use entry::{DataEntry, EntryError, GapEntry, SessionEntry, StreamEntry};
pub use outcome::{GapRecord, Opened, StreamOutcome};
pub use state::{EdgeStreams, StreamState};

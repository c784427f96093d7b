//! The rules.

use super::{EdgeStreams, StreamEntry, StreamOutcome};
use crate::Incarnation;

pub(super) fn apply(_: &mut EdgeStreams, _: Incarnation, _: &StreamEntry) -> StreamOutcome {
    unimplemented!("being written")
}

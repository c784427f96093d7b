//! From a frame to what has to be done for it.

use bytes::Bytes;

use crate::api::admin::{AdminPlan, AutoCreatePlan};
use crate::api::fetch::FetchPlan;
use crate::api::groups::GroupPlan;
use crate::api::offsets::{EpochPlan, ListOffsetsPlan};
use crate::api::produce::ProducePlan;
use crate::api::producer_id::ProducerIdPlan;
use crate::node::{Node, Peer};
use crate::wire::{Reply, WireError};

/// What a request asks of the shell. Every plan has a `respond` that makes the reply.
#[derive(Debug)]
pub enum Outcome {
    /// Send this; nothing else to do.
    Reply(Reply),
    /// Send nothing and close the connection, as Kafka does; log the reason once.
    Close(CloseReason),
    /// Append batches to partitions.
    Produce(ProducePlan),
    /// Read partitions, waiting for more if the plan says so.
    Fetch(FetchPlan),
    /// Look offsets up, by time or at the ends.
    ListOffsets(ListOffsetsPlan),
    /// Look up where leader epochs end.
    Epochs(EpochPlan),
    /// Hand out a producer id.
    ProducerId(ProducerIdPlan),
    /// Change topics, partitions or configs.
    Admin(AdminPlan),
    /// Make topics that Metadata named, then answer it.
    AutoCreate(AutoCreatePlan),
    /// Ask the group coordinator.
    Group(GroupPlan),
}

/// Why a connection has to be closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    #[error(transparent)]
    Wire(#[from] WireError),
    /// acks=0 has no reply that could carry an error; the close makes the client look again.
    #[error("a produce request with acks=0 failed: {0}")]
    SilentProduce(crate::ErrorCode),
}

/// Decodes and validates one request and says what to do for it. `frame` is the request without
/// its length. Reads no clock and touches no record beyond validating produced batches; that may
/// decompress up to `Settings::records_bytes_max` bytes, so large Produce frames are better
/// served off the reactor.
pub fn serve(_node: &dyn Node, _peer: &Peer, _frame: Bytes) -> Outcome {
    unimplemented!()
}

//! The group APIs (8 to 16, 42) between the wire and the coordinator.

use crate::KafkaError;
use crate::group::{GroupRequest, GroupResponse};
use crate::wire::{Call, Reply};

/// A request for the group coordinator. Give `request` to [`crate::group::Coordinator::handle`]
/// under a token of your own, keep `pending` under that token, and answer with it when
/// [`crate::group::GroupEffect::Reply`] comes.
#[derive(Debug)]
pub struct GroupPlan {
    pub request: GroupRequest,
    pub pending: GroupPending,
}

/// Turns the coordinator's response into a reply.
#[derive(Debug)]
pub struct GroupPending {
    pub call: Call,
}

impl GroupPending {
    pub fn respond(self, _response: GroupResponse) -> Reply {
        unimplemented!()
    }
}

/// An error for the whole request.
pub type GroupError = KafkaError;

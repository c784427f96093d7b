//! InitProducerId (key 22), without transactions.
//!
//! An idempotent producer that asks again, naming its id and epoch, gets a new id as in Kafka:
//! only transactional producers have their epoch raised.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::produce::no_transactions;
use crate::wire::{Call, Reply};
use crate::{KafkaError, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub id: i64,
    pub epoch: i16,
}

/// A producer id to hand out.
#[derive(Debug)]
pub struct ProducerIdPlan {
    call: Call,
}

pub(crate) fn plan(call: Call, request: InitProducerIdRequest) -> Outcome {
    let plan = ProducerIdPlan { call };
    if request.transactional_id.is_some() {
        return Outcome::Reply(plan.respond(Err(no_transactions())));
    }
    Outcome::ProducerId(plan)
}

impl ProducerIdPlan {
    /// A new id with epoch 0; ids are never given twice. Without one, say
    /// COORDINATOR_LOAD_IN_PROGRESS: the client asks again.
    pub fn respond(self, result: Result<ProducerIdentity, KafkaError>) -> Reply {
        let response = match result {
            Ok(identity) => InitProducerIdResponse::default()
                .with_producer_id(ProducerId(identity.id))
                .with_producer_epoch(identity.epoch),
            Err(error) => InitProducerIdResponse::default()
                .with_error_code(error.code.code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1),
        };
        self.call.reply(&response)
    }
}

//! InitProducerId (key 22), without transactions.

use crate::KafkaError;
use crate::wire::Reply;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub id: i64,
    pub epoch: i16,
}

/// A producer id to hand out.
#[derive(Debug)]
pub struct ProducerIdPlan {
    _private: (),
}

impl ProducerIdPlan {
    /// A new id with epoch 0; ids are never given twice.
    pub fn respond(self, _result: Result<ProducerIdentity, KafkaError>) -> Reply {
        unimplemented!()
    }
}

//! Stateless resets (RFC 9000 section 10.3) that outlive the process.
//!
//! A node that was killed says no good-bye, and edges would wait for their time-outs. When it is
//! back it answers what belongs to no connection with a reset, which an edge believes if the token
//! is the one that the node gave it before. So the key of the tokens is the same at every start,
//! and ids are not keyed: quinn's own are, anew at every start, and it drops what does not fit.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// Long enough that nobody guesses one.
const ID_BYTES: usize = 8;

pub(super) fn endpoint_config(key: Option<&[u8; 32]>) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    if let Some(key) = key {
        config
            .reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
            .cid_generator(|| Box::new(RandomIds(SystemRandom::new())));
    }
    config
}

struct RandomIds(SystemRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        self.0
            .fill(&mut id)
            .expect("the system gives randomness once it has given some");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

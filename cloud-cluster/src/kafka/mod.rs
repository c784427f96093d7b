//! The Kafka listener: a thin loop around `headwater-kafka`, and the work its plans ask for.

mod budget;
mod carry_out;
mod census;
mod connection;
mod errors;
mod groups;
mod listener;
mod offsets;
mod reads;
mod view;

pub use budget::Budget;
pub use carry_out::Answer;
pub use groups::Groups;
pub use listener::{KafkaConfig, Listener};
pub use reads::Reader;
pub use view::View;

use std::sync::Arc;

use crate::clock::Clock;
use crate::shardlog::ShardLog;
use crate::tasks::Tasks;
use crate::topics::Topics;

/// What a connection works with.
#[derive(Debug, Clone)]
pub struct Service {
    pub view: Arc<View>,
    pub log: Arc<dyn ShardLog>,
    pub reader: Reader,
    pub topics: Topics,
    pub groups: Groups,
    pub clock: Clock,
    pub tasks: Tasks,
}

//! One connection between an edge's process and the cloud: ordered within a channel, delayed and
//! reordered between channels. Either end may see it die first.

use std::collections::BTreeMap;

use headwater_batch::TopicPartition;

use super::log::Id;
use super::watch::Watch;
use crate::{Channel, CloudSession, Ms};

pub(super) type ConnId = usize;

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) device: usize,
    pub(super) run: u64,
    /// The edge's end still stands.
    pub(super) edge_up: bool,
    /// The cloud's end; None once it has seen the connection die.
    pub(super) cloud: Option<CloudSession>,
    /// Nothing sent after this arrives, in either direction.
    pub(super) cut: bool,
    pub(super) delay_max: Ms,
    /// Until then the cloud's own timers do not run: the edge must ask.
    pub(super) hung_until: Ms,
    /// The oracle's memory: each log's records as of the last read.
    pub(super) hists: BTreeMap<TopicPartition, Vec<Id>>,
    pub(super) watch: Watch,
    last_up: BTreeMap<Channel, Ms>,
    last_down: Ms,
}

impl Conn {
    pub(super) fn new(device: usize, run: u64, cloud: CloudSession, delay_max: Ms) -> Conn {
        Conn {
            device,
            run,
            edge_up: true,
            cloud: Some(cloud),
            cut: false,
            delay_max,
            hung_until: 0,
            hists: BTreeMap::new(),
            watch: Watch::default(),
            last_up: BTreeMap::new(),
            last_down: 0,
        }
    }

    /// When bytes sent at `at` arrive, never before those sent earlier on the channel.
    pub(super) fn arrival_up(&mut self, channel: Channel, at: Ms) -> Ms {
        let last = self.last_up.entry(channel).or_default();
        *last = at.max(*last);
        *last
    }

    pub(super) fn arrival_down(&mut self, at: Ms) -> Ms {
        self.last_down = at.max(self.last_down);
        self.last_down
    }
}

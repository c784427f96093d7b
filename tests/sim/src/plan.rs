//! What a seed's world is like, and what may happen in it. Each kind of fault is in about half of the
//! worlds, so that no kind is always hidden behind another.

mod mqtt;
mod uplink;

use headwater_log::durable::Rules;
use headwater_log::store::Full;

use crate::cloud::CloudSettings;
use crate::edge::Settings;
use crate::rng::Rng;
pub use mqtt::MqttPlan;
pub use uplink::{Kind, UplinkFaults};

#[derive(Debug, Clone)]
pub struct Plan {
    pub steps: u32,
    pub devices: usize,
    pub publishers: usize,
    pub consumers: usize,
    pub subscribers: usize,
    pub producers: usize,
    pub members: usize,
    /// Pause between two steps at most.
    pub pause_ms_max: u64,
    pub bytes_max: u64,
    pub faults: Faults,
    pub uplink: UplinkFaults,
    pub mqtt: MqttPlan,
    pub edge: Settings,
    pub cloud: CloudSettings,
}

/// Which kinds of fault a world has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    pub edge_crashes: bool,
    pub cloud_crashes: bool,
    pub links: bool,
    pub edge_eio: bool,
    pub cloud_eio: bool,
    pub enospc: bool,
    pub rot: bool,
    pub clocks: bool,
    pub cards: bool,
    pub checkpoints: bool,
    pub clients: bool,
    pub topics: bool,
    pub routes: bool,
    pub stalls: bool,
}

impl Plan {
    /// Topics with as many partitions on the edge as in the cloud, and more than one: there the numbers
    /// stay the same (U6).
    pub fn equal_counts(&self) -> Vec<String> {
        let cloud = self.cloud.partitions;
        if self.faults.topics || self.faults.routes || cloud == 1 {
            return Vec::new();
        }
        let routes = self.edge.routes.iter();
        let equal = routes.filter(|(_, _, partitions)| *partitions == cloud);
        equal.map(|(_, topic, _)| topic.clone()).collect()
    }

    pub fn of(seed: u64, rng: &mut Rng, rules: Rules) -> Plan {
        let mut half = || rng.one_in(2);
        let faults = Faults {
            edge_crashes: half() || half(),
            cloud_crashes: half() || half(),
            links: half() || half(),
            edge_eio: half() && half(),
            cloud_eio: half() && half(),
            enospc: half() && half(),
            rot: half() && half(),
            clocks: half(),
            cards: half() && half(),
            checkpoints: half() && half(),
            clients: half(),
            topics: half() && half(),
            routes: half() && half(),
            stalls: half(),
        };
        let uplink = UplinkFaults::of(seed, faults.cards);
        // Budgets fill only if the link is down and messages are large.
        let tight = rng.one_in(4) || uplink.floods;
        let tame = usize::from(uplink.kinds().is_empty());
        let crowd = uplink.crowd;
        Plan {
            steps: if crowd { 120 } else { 30 } + rng.below(90) as u32,
            devices: if crowd { 1 } else { 1 + rng.index(2) },
            publishers: 1 + rng.index(3),
            consumers: 1 + rng.index(2),
            // Worlds that hurt the uplink are without these: they hold the cloud and the broker to words
            // that a restored cloud and a resumed machine break rightly.
            subscribers: rng.index(3) * tame,
            producers: rng.index(3) * tame,
            members: [0, 0, 2, 3][rng.index(4)] * tame,
            pause_ms_max: [80, 400, 2_000][rng.index(3)],
            bytes_max: if tight {
                4_000
            } else {
                [40, 200, 900][rng.index(3)]
            },
            faults,
            uplink,
            mqtt: MqttPlan::of(seed, tame == 1),
            edge: edge(rng, tight, uplink),
            cloud: cloud(rng, rules),
        }
    }
}

fn edge(rng: &mut Rng, tight: bool, uplink: UplinkFaults) -> Settings {
    let partitions = 1 + rng.below(3) as u32;
    let mut routes = vec![("#".to_owned(), "mqtt".to_owned(), 1)];
    if rng.one_in(2) {
        routes.insert(0, ("b/#".to_owned(), "b".to_owned(), partitions));
    }
    Settings {
        routes,
        budget_bytes: if tight { 792 << 10 } else { 64 << 20 },
        full: if tight && (rng.one_in(2) || uplink.floods) && !uplink.resumes {
            Full::DropOldest
        } else {
            Full::Refuse
        },
        journal_file_bytes: 64 << 10,
        segment_bytes: 4096 << rng.below(3),
        batch_bytes: 1024 << rng.below(3),
        linger_ms: [20, 100, 250][rng.index(3)],
        interval: rng.one_in(5),
        interval_ms: [1_000, 5_000][rng.index(2)],
        retention_bytes: rng.one_in(2).then_some(16 << 10),
        retention_ms: rng.one_in(3).then_some(5_000),
        window_bytes: 2_000 << rng.below(4),
        read_bytes: 500 << rng.below(6),
        zstd_level: 1,
    }
}

fn cloud(rng: &mut Rng, rules: Rules) -> CloudSettings {
    let (retains, by_age) = (rng.one_in(6), rng.one_in(2));
    CloudSettings {
        data_shards: 1 + rng.below(3) as u8,
        partitions: 1 + rng.below(4) as u32,
        file_bytes: 128 << 10,
        files_max: 12 + rng.index(12),
        group_bytes: 64 << 10,
        hot_bytes: 16_384 << rng.below(4),
        interval_ms: 500 << rng.below(5),
        partition_bytes_min: 1_024 << rng.below(4),
        partition_age_ms: 1_000 << rng.below(5),
        segment_bytes: 4_096 << rng.below(3),
        retention_bytes: if retains && !by_age { 8 << 10 } else { -1 },
        retention_ms: if retains && by_age { 20_000 } else { -1 },
        sync_ms_max: rng.below(12),
        reserve_bytes: 256 << 10,
        rules,
    }
}

//! Faults between the edge's log and the cloud's state, by world.

use crate::rng::Rng;

/// Those that come as steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Hole,
    Sink,
    Backup,
    Copy,
    Flood,
    Resume,
    /// Another card goes in.
    Card,
    /// An operator gives an incarnation up.
    Retire,
}

const WORLDS: u64 = 8;
/// Worlds in which the uplink and what lies at its ends goes wrong.
const WORLDS_WITH: [u64; 2] = [1, 5];
/// Worlds with more cards than the cloud has places for.
const CROWDED: u64 = 7;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UplinkFaults {
    /// Connections that swallow what is sent, in one direction or both, and never end.
    pub holes: bool,
    /// The sink answers late, loses answers, refuses entries for now.
    pub sink: bool,
    /// The sink never takes one record in so many.
    pub poison_one_in: Option<u64>,
    /// The cloud's disk and object store are copied, and later the node is restored from them.
    pub backup: bool,
    /// Cards are copied while their machines run, most often as their logs fork; both go on.
    pub copies: bool,
    /// Machines lose power as their logs fork.
    pub fork_crashes: bool,
    /// More comes than a log has room for, while what it has is under way.
    pub floods: bool,
    /// The image of a running machine, memory included, goes on beside it.
    pub resumes: bool,
    /// So many cards come and go that the cloud has no place for all of them, and an operator makes
    /// room (U2).
    pub crowd: bool,
}

impl UplinkFaults {
    /// One world in four has some of them, one in eight is crowded. They are drawn beside all else, so
    /// that the other worlds do not change with them.
    pub fn of(seed: u64, cards: bool) -> UplinkFaults {
        let mut rng = Rng::new(!seed);
        let mut half = || rng.one_in(2);
        let world = seed % WORLDS;
        if world == CROWDED {
            return UplinkFaults {
                crowd: true,
                copies: half(),
                ..UplinkFaults::default()
            };
        }
        if !WORLDS_WITH.contains(&world) {
            return UplinkFaults::default();
        }
        // Who starts from a copy of such a machine would take for common what is not, and what was
        // dropped, or went with the cloud, cannot be compared.
        let resumes = !cards && half();
        let (backup, copies) = (half() && !resumes, half() && !resumes);
        let floods = half() && half() && !resumes;
        UplinkFaults {
            holes: half(),
            sink: half(),
            backup,
            poison_one_in: half().then_some(if resumes { 20 } else { 60 }),
            copies,
            fork_crashes: half(),
            floods,
            resumes,
            crowd: false,
        }
    }

    /// What may happen at a step.
    pub fn kinds(&self) -> Vec<Kind> {
        let kinds = [
            (self.holes, Kind::Hole),
            (self.sink, Kind::Sink),
            (self.backup, Kind::Backup),
            (self.copies, Kind::Copy),
            (self.floods, Kind::Flood),
            (self.resumes, Kind::Resume),
            (self.crowd, Kind::Card),
            (self.crowd, Kind::Retire),
        ];
        let had = kinds.into_iter().filter(|(had, _)| *had);
        had.map(|(_, kind)| kind).collect()
    }
}

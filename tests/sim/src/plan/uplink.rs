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
}

const WORLDS: u64 = 4;
const WORLDS_WITH: u64 = 1;

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
}

impl UplinkFaults {
    /// One world in four has some of them. They are drawn beside all else, so that the other worlds do
    /// not change with them.
    pub fn of(seed: u64, cards: bool) -> UplinkFaults {
        let mut rng = Rng::new(!seed);
        if seed % WORLDS != WORLDS_WITH {
            return UplinkFaults::default();
        }
        let mut half = || rng.one_in(2);
        let (backup, copies) = (half(), half());
        let floods = half() && half();
        UplinkFaults {
            holes: half(),
            sink: half(),
            backup,
            poison_one_in: half().then_some(60),
            copies,
            fork_crashes: half(),
            floods,
            // Who starts from a copy of such a machine would take for common what is not, and what was
            // dropped, or went with the cloud, cannot be compared.
            resumes: !(cards || backup || copies || floods) && half(),
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
        ];
        let had = kinds.into_iter().filter(|(had, _)| *had);
        had.map(|(_, kind)| kind).collect()
    }
}

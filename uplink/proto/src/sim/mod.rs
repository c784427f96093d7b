//! Both machines against each other on simulated links, from one seed.
//!
//! Honest models stand at the ends: [`log`] is an edge's log with acked records, trims, drop-oldest,
//! rot, boots, images and clones; [`sink`] applies committed entries to `EdgeStreams` and stalls,
//! forgets and restarts like a cluster. Between them lies a [`link`] that delays, reorders between
//! channels, cuts frames in half and dies on one side first. [`edge_shell`] and [`cloud_shell`] carry
//! out what the machines ask, [`world`] drives it all by its clock and each [`event`] in turn,
//! [`chaos`] hurts it, [`cards`] come and go, an [`operator`] answers alarms, [`watch`] reads along, and [`oracle`] says whether everything acked on an edge is in the cloud once,
//! or in the ledger.

mod cards;
mod chaos;
mod cloud_shell;
mod device;
mod edge_shell;
mod event;
mod link;
mod log;
mod operator;
mod oracle;
mod sink;
mod tests;
mod watch;
mod world;

use crate::rng::Rng;

/// What may happen in a run, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) steps: u32,
    /// Digests are one bit: lineage alone must do.
    pub(crate) collide: bool,
    /// The image of a running machine is resumed; no reboot after it, which nothing could tell apart.
    pub(crate) running_image: bool,
    /// The cloud is restored from a backup once.
    pub(crate) cloud_back: bool,
    /// Cards come and go until the cloud knows as many incarnations as it may (U2).
    pub(crate) crowd: bool,
}

/// Which worlds a seed may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    All,
    /// Only those whose cards come and go.
    Crowds,
}

/// Of ten kinds, this one and the next.
const CROWD: u64 = 5;

impl Plan {
    pub(crate) fn of(rng: &mut Rng, kinds: Kinds) -> Plan {
        let kind = match kinds {
            Kinds::All => rng.below(10),
            Kinds::Crowds => CROWD + rng.below(2),
        };
        let crowd = (CROWD..CROWD + 2).contains(&kind);
        Plan {
            steps: 20 + rng.below(if crowd { 160 } else { 60 }) as u32,
            crowd,
            collide: kind < 3,
            running_image: kind == 7,
            cloud_back: kind >= 8,
        }
    }
}

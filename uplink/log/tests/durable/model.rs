//! An owner of a [`Durable`], and what must be true of it after any crash.
//!
//! The owner's state is a list of items, numbered without a gap. Some are *slow*: they stay out of
//! checkpoints and are copied forward (J8) until they are settled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub use headwater_batch::SplitMix64 as Rng;
use headwater_log::checkpoint::FileStore;
use headwater_log::durable::{CheckpointUse, Durable, DurableConfig, Position, Recovered, Rules};
use headwater_log::{ErrorKind, LogError, SimDisk};

pub const ITEM: u8 = 1;
pub const SLOW: u8 = 2;

pub fn config(salt_seed: u64, rules: Rules) -> DurableConfig {
    DurableConfig {
        file_bytes: 32 << 10,
        group_bytes_max: 4 << 10,
        files_max: 6,
        compress_above_bytes: 256,
        // Both ways of placing groups, in one life or another.
        whole_pages: salt_seed % 2 == 1,
        rules,
        ..DurableConfig::new("d/journal", salt_seed)
    }
}

pub fn open(disk: &SimDisk, cfg: DurableConfig) -> Result<(Durable, Recovered), LogError> {
    let disk: Arc<SimDisk> = Arc::new(disk.clone());
    let store = FileStore::open(disk.clone(), Path::new("d/checkpoints"))?;
    Durable::open(disk, Box::new(store), cfg)
}

/// An item's content follows from its number, so that any mixture shows.
pub fn payload(id: u64) -> Vec<u8> {
    let mut rng = Rng(id);
    let len = match rng.below(8) {
        0 => 1500,
        1 => 300,
        _ => 20 + rng.below(80),
    };
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend((0..len).map(|i| {
        if id % 3 == 0 {
            rng.draw() as u8
        } else {
            (i / 9) as u8
        }
    }));
    bytes
}

pub fn id_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

/// What outlives a crash: promises made.
#[derive(Default)]
pub struct Promises {
    /// Items below were acked.
    pub acked: u64,
    /// Items below were staged at some time.
    pub staged: u64,
    /// Slow items that were not settled when last seen, and maybe-settled ones.
    pub settling: BTreeSet<u64>,
    pub slow: BTreeSet<u64>,
}

pub struct Owner {
    pub durable: Durable,
    pub next: u64,
    /// Item of each position that is staged and not acked.
    pub unacked: BTreeMap<Position, u64>,
    /// Slow items and where they are.
    pub slow: BTreeMap<u64, Position>,
    /// Items since the last checkpoint.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owner {
    /// Opens and checks everything that a restart must give.
    pub fn start(
        disk: &SimDisk,
        cfg: DurableConfig,
        promises: &mut Promises,
    ) -> Result<Result<Owner, String>, LogError> {
        let (durable, recovered) = open(disk, cfg)?;
        Ok(Owner::check(durable, recovered, promises))
    }

    fn check(durable: Durable, recovered: Recovered, p: &mut Promises) -> Result<Owner, String> {
        let report = recovered.report.clone();
        if !report.is_whole() || matches!(report.checkpoint, CheckpointUse::FellBack { .. }) {
            return Err(format!("no rot was made, yet: {report:?}"));
        }
        let mut items = BTreeMap::new();
        let mut slow = BTreeMap::new();
        for (key, value) in recovered.checkpoint {
            items.insert(id_of(&key), value);
        }
        let mut changes = Vec::new();
        let mut last = None;
        let mut unsettled = BTreeSet::new();
        for frame in recovered.frames {
            let frame = frame.map_err(|e| format!("replay: {e}"))?;
            let id = id_of(&frame.payload);
            if frame.origin == frame.position {
                if last.is_some_and(|l| l >= id) {
                    return Err(format!("item {id} came after {last:?}"));
                }
                last = Some(id);
            }
            if frame.kind == SLOW {
                slow.insert(id, frame.position);
                unsettled.insert(id);
            } else {
                changes.push((id.to_be_bytes().to_vec(), Some(frame.payload.clone())));
            }
            if items.insert(id, frame.payload).is_some() {
                return Err(format!("item {id} came twice"));
            }
        }
        for (id, value) in &items {
            if *value != payload(*id) {
                return Err(format!("item {id} has another content"));
            }
        }
        let next = items
            .keys()
            .last()
            .map_or(0, |id| id + 1)
            .max(header_next(&recovered.header));
        for id in 0..p.acked {
            let settled = p.settling.contains(&id);
            if !items.contains_key(&id) && !settled {
                return Err(format!("item {id} was acked and is lost; {report:?}"));
            }
        }
        for id in p.acked..next {
            if !items.contains_key(&id) && !p.settling.contains(&id) {
                return Err(format!("items end at {next} without {id}"));
            }
        }
        if next > p.staged {
            return Err(format!("item {} was never staged", next - 1));
        }
        p.acked = next;
        p.slow = unsettled;
        let unacked = BTreeMap::new();
        Ok(Owner {
            durable,
            next,
            unacked,
            slow,
            changes,
        })
    }

    pub fn stage(&mut self, slow: bool, p: &mut Promises) -> Result<(), LogError> {
        let id = self.next;
        if self.durable.wants_header() {
            self.durable.set_header(header(id))?;
        }
        let kind = if slow { SLOW } else { ITEM };
        let position = self.durable.stage(kind, &payload(id))?;
        self.next += 1;
        p.staged = p.staged.max(self.next);
        self.unacked.insert(position, id);
        if slow {
            self.slow.insert(id, position);
        } else {
            self.changes
                .push((id.to_be_bytes().to_vec(), Some(payload(id))));
        }
        Ok(())
    }

    pub fn acked(&mut self, to: Position, p: &mut Promises) {
        let left = self.unacked.split_off(&to);
        for id in std::mem::replace(&mut self.unacked, left).into_values() {
            p.acked = p.acked.max(id + 1);
        }
    }

    /// A slow item is done with: the owner needs it no longer.
    pub fn settle(&mut self, p: &mut Promises) {
        let oldest = self.slow.keys().next().copied();
        if let Some(id) = oldest.filter(|id| *id < p.acked) {
            self.slow.remove(&id);
            p.settling.insert(id);
        }
    }

    pub fn checkpoint(&mut self, p: &mut Promises) -> Result<(), LogError> {
        let at = self.durable.end();
        let changes = std::mem::take(&mut self.changes);
        let forward: Vec<Position> = self.slow.values().copied().collect();
        let done = self
            .durable
            .checkpoint(at, changes, header(self.next), &forward)?;
        for (place, (old, new)) in self.slow.values_mut().zip(done.forwarded) {
            assert_eq!(*place, old);
            *place = new;
        }
        self.acked(done.durable, p);
        Ok(())
    }
}

pub fn header(next: u64) -> Vec<u8> {
    next.to_le_bytes().to_vec()
}

pub fn header_next(header: &[u8]) -> u64 {
    header.try_into().map_or(0, u64::from_le_bytes)
}

/// Errors that a crashed machine gives, and nothing else.
pub fn is_crash(disk: &SimDisk, e: &LogError) -> bool {
    disk.is_down() || matches!(e.kind(), ErrorKind::Fatal)
}

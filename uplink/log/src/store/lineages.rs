//! Lineages once more, beside the journal (U1).
//!
//! What names a log towards the cloud stands in the journal's frames and headers and in the
//! checkpoints. Between a change and the next header a single frame would tell of it alone, and rot
//! in that frame would make the log a stranger to the cloud, or undo a fork: what the cloud has would
//! be sent again. So every birth, fork and start of a partition is also written to two small files,
//! after its frame is durable and before anybody is told: before a record of the partition can be
//! read, before a fork is in force, before the first record of a start.
//!
//! Of all that tell, the greatest count of forks holds, and starts unite. When nothing tells of a
//! partition that has records, or may tell too little, it is *in doubt*: it takes records and nothing
//! of it is offered to the cloud until an operator trusts it ([`trust`]).
//!
//! A medium without room for the files stops nothing: they are tried again at each look at it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use headwater_batch::{Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use super::Store;
use super::frames::{Plausible, plausible};
use super::meta::PartitionMeta;
use super::open::Replay;
use crate::disk::{Disk, read_all, replace};
use crate::error::{ErrorKind, LogError};

/// Starts both files. The last two characters are the format's version.
pub const LINEAGE_MAGIC: [u8; 8] = *b"HWLNGE01";
/// The two files, in the order in which they are written.
pub const LINEAGE_FILES: [&str; 2] = ["lineage", "lineage.copy"];
/// The most bytes of one that are read.
pub const LINEAGE_BYTES_MAX: u64 = 4 << 20;

/// Magic, checksum, and length of the rest.
const HEAD_BYTES: usize = 16;
/// When all starts of all partitions take more, only as many of each are kept as the cloud knows.
const LONG_BYTES: usize = 256 << 10;
const BOOTS_WHEN_LONG: usize = 8;

/// What the files say of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    tp: TopicPartition,
    incarnation: u128,
    since: Offset,
    forks: u32,
    in_doubt: bool,
    boots: Vec<(u64, Offset)>,
}

impl Plausible for Named {
    fn is_plausible(&self) -> bool {
        let starts = self.boots.iter().map(|(_, start)| *start);
        starts.chain([self.since]).all(plausible) && self.forks < u32::MAX
    }
}

/// Offsets below were in use, and durable, when a lineage said so.
fn floor(since: Offset, boots: &[(u64, Offset)]) -> Offset {
    boots
        .iter()
        .map(|(_, start)| *start)
        .fold(since, Offset::max)
}

impl Named {
    /// Both copies together: one may be a write behind.
    fn unite(&mut self, other: Named) {
        let meta = |named: &Named| {
            let mut meta = PartitionMeta::new(named.tp.clone(), named.incarnation, named.since);
            meta.forks = named.forks;
            meta
        };
        let (mut ours, theirs) = (meta(self), meta(&other));
        ours.boots = std::mem::take(&mut self.boots);
        ours.fork(theirs.incarnation, theirs.since, theirs.forks);
        ours.merge_boots(other.boots);
        *self = Named {
            tp: ours.tp,
            incarnation: ours.incarnation,
            since: ours.since,
            forks: ours.forks,
            in_doubt: self.in_doubt || other.in_doubt,
            boots: ours.boots,
        };
    }
}

/// What the two files hold.
#[derive(Default)]
pub(super) struct Lineages {
    named: BTreeMap<TopicPartition, Named>,
    /// Why a file that is there does not count.
    pub(super) damaged: Vec<(PathBuf, String)>,
    /// Files that prove themselves.
    whole: usize,
}

impl Lineages {
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Lineages, LogError> {
        let mut found = Lineages::default();
        let mut unread = None;
        for name in LINEAGE_FILES {
            let path = dir.join(name);
            match read_all(disk, &path, LINEAGE_BYTES_MAX) {
                Ok(bytes) => match decode(&bytes) {
                    Some(all) => {
                        found.whole += 1;
                        all.into_iter().for_each(|named| found.add(named));
                    }
                    None => found.damage(&path, "its checksum is wrong"),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    found.damage(&path, &error.to_string());
                }
                Err(error) => {
                    found.damage(&path, &error.to_string());
                    unread = Some(LogError::io("read", &path)(error));
                }
            }
        }
        match unread {
            // A medium that cannot be read now is no rotten one.
            Some(error) if found.whole == 0 => Err(error),
            _ => Ok(found),
        }
    }

    fn damage(&mut self, path: &Path, what: &str) {
        self.damaged.push((path.to_owned(), what.to_owned()));
    }

    fn add(&mut self, named: Named) {
        match self.named.get_mut(&named.tp) {
            Some(ours) => ours.unite(named),
            None => drop(self.named.insert(named.tp.clone(), named)),
        }
    }

    /// They were written once, and none can be read.
    fn are_lost(&self) -> bool {
        self.whole == 0 && !self.damaged.is_empty()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.named.keys()
    }

    /// Tells a partition its name before the journal's frames speak of it.
    pub(super) fn name(&self, meta: &mut PartitionMeta) {
        if let Some(named) = self.named.get(&meta.tp) {
            meta.born(named.incarnation, named.since);
            meta.fork(named.incarnation, named.since, named.forks);
        }
    }
}

fn encode(all: &[Named]) -> Vec<u8> {
    let body = super::frames::encode(&all);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(&LINEAGE_MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    let len = u32::try_from(body.len()).expect("bounded by partitions and their boots");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&body);
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// `None` when the bytes do not prove themselves.
fn decode(bytes: &[u8]) -> Option<Vec<Named>> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let whole = head[..8] == LINEAGE_MAGIC
        && number(12) as usize == body.len()
        && number(8) == crc32fast::hash(&bytes[12..]);
    let all: Vec<Named> = whole.then(|| postcard::from_bytes(body).ok()).flatten()?;
    all.iter().all(Plausible::is_plausible).then_some(all)
}

fn save(disk: &dyn Disk, dir: &Path, mut all: Vec<Named>) -> Result<(), LogError> {
    let mut bytes = encode(&all);
    if bytes.len() > LONG_BYTES {
        for named in &mut all {
            let old = named.boots.len().saturating_sub(BOOTS_WHEN_LONG);
            named.boots.drain(..old);
        }
        bytes = encode(&all);
    }
    for name in LINEAGE_FILES {
        let path = dir.join(name);
        replace(disk, &path, &bytes).map_err(LogError::io("write", &path))?;
    }
    Ok(())
}

/// Which of the files do not count, and why.
pub(crate) fn damaged_lineages(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Vec<(PathBuf, String)>, LogError> {
    Lineages::load(disk, dir).map(|found| found.damaged)
}

/// The operator's word that a partition in doubt may be offered to the cloud: under a name that the
/// cloud may not know, so that what it has may arrive there twice. `false` if it is not in doubt.
/// The store must not be open.
pub fn trust(disk: &dyn Disk, dir: &Path, tp: &TopicPartition) -> Result<bool, LogError> {
    let mut found = Lineages::load(disk, dir)?;
    let doubted = found.named.get_mut(tp).filter(|named| named.in_doubt);
    let Some(named) = doubted else {
        return Ok(false);
    };
    named.in_doubt = false;
    save(disk, dir, found.named.into_values().collect())?;
    Ok(true)
}

impl Replay {
    pub(super) fn load_lineages(&mut self) -> Result<(), LogError> {
        self.lineages = Lineages::load(&*self.store.disk, &self.store.cfg.dir)?;
        let damaged = self.lineages.damaged.iter();
        let notes = damaged.map(|(path, what)| format!("{}: {what}", path.display()));
        self.out.notes.extend(notes);
        Ok(())
    }

    /// Unites what the files say with what checkpoint, headers and frames did. Nothing below their
    /// floor is given again.
    pub(super) fn settle_lineages(&mut self, frames_lost: bool) {
        let lineages = std::mem::take(&mut self.lineages);
        let unsure = lineages.are_lost() && frames_lost;
        for number in 0..self.packed.len() {
            let named = lineages
                .named
                .get(&self.store.table.partitions[number].meta.tp);
            let meta = &mut self.store.table.partitions[number].meta;
            if let Some(named) = named {
                meta.merge_boots(named.boots.clone());
            }
            // Of all that tell, since the files will hold it from now on.
            let floor = floor(meta.since, &meta.boots);
            if self.packed[number] < floor && self.store.cfg.rules.j2() {
                self.found += (floor.0 - self.packed[number].0) as u64;
                self.hole(number, floor);
                self.packed[number] = floor;
            }
            let packed = self.packed[number];
            let partition = &mut self.store.table.partitions[number];
            let meta = &mut partition.meta;
            meta.next = meta.next.max(packed);
            let holds = meta.next > meta.start;
            let unnamed = holds && meta.boots.is_empty() && meta.forks == 0;
            let doubted = named.is_some_and(|named| named.in_doubt);
            partition.in_doubt = doubted || unnamed || (unsure && holds);
            if partition.in_doubt {
                let tp = meta.tp.clone();
                self.note(format!("{tp}: its lineage is lost, nothing of it is sent"));
            }
        }
    }
}

impl Store {
    /// Writes the files if a lineage has changed.
    pub(super) fn save_lineages(&mut self) -> Result<(), LogError> {
        if !self.lineages_due {
            return Ok(());
        }
        let named = self.table.partitions.iter().map(|partition| {
            let meta = &partition.meta;
            Named {
                tp: meta.tp.clone(),
                incarnation: meta.incarnation,
                since: meta.since,
                forks: meta.forks,
                in_doubt: partition.in_doubt,
                boots: meta.boots.clone(),
            }
        });
        match save(&*self.disk, &self.cfg.dir, named.collect()) {
            Err(error) if error.kind() == ErrorKind::Full => {
                tracing::warn!(%error, "no room for the second place of lineages");
                Ok(())
            }
            saved => {
                self.lineages_due = saved.is_err();
                self.fatal(saved)
            }
        }
    }
}

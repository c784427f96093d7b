//! What applying came to, written into the journal beside the entries (J2).
//!
//! Entries carry no offsets: those are assigned at apply. So that a rotten frame costs what is in it
//! and nothing else, each group begins with the results of the groups before it:
//! ```text
//! group N     [entries]                       applied once it is synced
//! group N+1   [results of N][entries]
//! file        [the whole state, if it is small][entries] ...
//! ```
//! A result is a set of rows, as a checkpoint would store them, with the position from which on they
//! are complete. Rows that were written by the groups in the last [`WINDOW_BYTES`] are written again,
//! so that a bad block of the medium, which takes several small groups at once, is met too. Each new
//! file, and each start, begins with the whole state; where that is larger than an eighth of a file,
//! with what changed since the last time, as after each MiB within a file.

use std::collections::{BTreeSet, VecDeque};

use headwater_batch::Offset;
use headwater_log::{Durable, ErrorKind, LogError};
use headwater_shard::Key;
use serde::{Deserialize, Serialize};

use super::frames::{self, KIND_RESULTS};
use crate::machine::Machine;
use crate::shards::Shards;

/// Groups are told again until so many bytes of journal lie between: a block of the medium.
const WINDOW_BYTES: u64 = 4096;
/// All that changed is told again after so many bytes of entries, for larger damage.
const AGAIN_BYTES: u64 = 1 << 20;
/// Rows of one frame, in bytes.
const PART_BYTES: usize = 256 << 10;

/// Where an entry's batch was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The journal frame of the entry.
    pub position: u64,
    pub base: Offset,
    pub epoch: i32,
}

/// A stored row of a shard, with the shard's number in front of its key; `None`: it is gone.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// One frame of results; large ones come in several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    pub part: u32,
    pub parts: u32,
    /// All that changed by frames from here on is in these rows.
    pub since: u64,
    /// These rows are the whole state.
    pub is_whole: bool,
    pub extents: Vec<Extent>,
    pub rows: Vec<Row>,
}

/// A group that was applied.
#[derive(Debug)]
struct Past {
    /// Frames from here on changed what it names.
    since: u64,
    /// Bytes of its entries.
    bytes: u64,
    keys: BTreeSet<(u8, Key)>,
    extents: Vec<Extent>,
    told: bool,
}

/// Keeps account of what the next group has to tell.
#[derive(Debug)]
pub(super) struct Ledgered {
    window: VecDeque<Past>,
    /// What changed since the last whole state or its like, and from where on.
    changed: BTreeSet<(u8, Key)>,
    changed_since: u64,
    /// Bytes of entries since then.
    untold_bytes: u64,
    /// The next group begins a file or a run.
    begins: bool,
    /// Nothing but the whole state will do.
    must_be_whole: bool,
    /// The state is not larger than this when it is told as a whole.
    whole_bytes_max: usize,
    /// After the newest entry that was applied.
    applied_to: u64,
}

impl Ledgered {
    /// At start. `changed_since`: the replay changed what `shards` name as touched, from there on.
    pub fn new(
        shards: &Shards,
        changed_since: u64,
        applied_to: u64,
        must_be_whole: bool,
        file_bytes: u64,
    ) -> Ledgered {
        Ledgered {
            window: VecDeque::new(),
            changed: touched(shards),
            changed_since,
            untold_bytes: 0,
            begins: true,
            must_be_whole,
            whole_bytes_max: (file_bytes / 8) as usize,
            applied_to,
        }
    }

    /// A file begins with the next group.
    pub fn begin_file(&mut self) {
        self.begins = true;
    }

    /// A group was applied, whose frames end at `to`.
    pub fn applied(&mut self, shards: &Shards, bytes: u64, extents: Vec<Extent>, to: u64) {
        let keys = touched(shards);
        self.changed.extend(keys.iter().cloned());
        self.untold_bytes += bytes;
        self.window.push_back(Past {
            since: self.applied_to,
            bytes,
            keys,
            extents,
            told: false,
        });
        self.applied_to = to;
    }

    /// Stages what there is to tell. A journal that is full is told nothing: the rows are told later.
    pub fn stage(&mut self, machine: &Machine, durable: &mut Durable) -> Result<(), LogError> {
        self.trim();
        let is_due = self.begins || self.untold_bytes >= AGAIN_BYTES;
        let whole = is_due && self.stage_begin(machine, durable)?;
        if !whole && self.window.iter().any(|past| !past.told) {
            let keys = self.window.iter().flat_map(|past| past.keys.clone());
            let since = self.window.front().map_or(0, |past| past.since);
            let rows = rows(&machine.shards, keys.collect());
            if !put(durable, since, false, self.extents(), rows)? {
                return Ok(());
            }
        }
        self.window.iter_mut().for_each(|past| past.told = true);
        Ok(())
    }

    /// False: nothing was told.
    fn stage_begin(&mut self, machine: &Machine, durable: &mut Durable) -> Result<bool, LogError> {
        let whole = match self.begins {
            true => whole(&machine.shards, self.whole_bytes_max, self.must_be_whole),
            false => None,
        };
        let is_whole = whole.is_some();
        let (rows, since) = match whole {
            Some(rows) => (rows, 0),
            None => (
                rows(&machine.shards, self.changed.clone()),
                self.changed_since,
            ),
        };
        if !put(durable, since, is_whole, self.extents(), rows)? {
            return Ok(false);
        }
        self.begins = false;
        self.must_be_whole = false;
        self.untold_bytes = 0;
        self.changed.clear();
        self.changed_since = self.applied_to;
        Ok(true)
    }

    fn extents(&self) -> Vec<Extent> {
        let all = self.window.iter().flat_map(|past| &past.extents);
        all.copied().collect()
    }

    /// Forgets what was told and lies far enough behind.
    fn trim(&mut self) {
        let mut newer_bytes = 0;
        let matters = |past: &&Past| {
            let matters = !past.told || newer_bytes < WINDOW_BYTES;
            newer_bytes += past.bytes;
            matters
        };
        let keep = self.window.iter().rev().take_while(matters).count();
        self.window.drain(..self.window.len() - keep);
    }
}

/// Writes rows in as many frames as they need. False: there is no room.
fn put(
    durable: &mut Durable,
    since: u64,
    is_whole: bool,
    extents: Vec<Extent>,
    rows: Vec<Row>,
) -> Result<bool, LogError> {
    let mut chunks = chunks(rows);
    let parts = chunks.len() as u32;
    let mut extents = Some(extents);
    for (part, rows) in chunks.drain(..).enumerate() {
        let results = Results {
            part: part as u32,
            parts,
            since,
            is_whole,
            extents: extents.take().unwrap_or_default(),
            rows,
        };
        let payload = frames::results(&results);
        metrics::counter!("headwater_journal_results_bytes_total").increment(payload.len() as u64);
        let staged = match durable.stage(KIND_RESULTS, &payload) {
            Err(error) if error.kind() == ErrorKind::Busy => {
                durable.commit()?;
                durable.stage(KIND_RESULTS, &payload)
            }
            other => other,
        };
        match staged {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Fatal => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "results are told later");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn chunks(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let (mut chunks, mut bytes) = (vec![Vec::new()], 0);
    for row in rows {
        let more = row.0.len() + row.1.as_ref().map_or(0, Vec::len) + 16;
        if bytes > 0 && bytes + more > PART_BYTES {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        chunks.last_mut().expect("it starts with one").push(row);
    }
    chunks
}

fn touched(shards: &Shards) -> BTreeSet<(u8, Key)> {
    let mut all = BTreeSet::new();
    for id in shards.ids() {
        let keys = shards.write(id).touched();
        all.extend(keys.into_iter().map(|key| (id.0, key)));
    }
    all
}

fn rows(shards: &Shards, keys: BTreeSet<(u8, Key)>) -> Vec<Row> {
    let mut rows = Vec::with_capacity(keys.len());
    for (id, key) in keys {
        let value = shards.read(super::ShardId(id)).row(&key);
        rows.push((frames::row_key(id, &key.to_bytes()), value));
    }
    rows
}

/// All rows of all shards, unless they take more than `bytes_max`.
fn whole(shards: &Shards, bytes_max: usize, whatever: bool) -> Option<Vec<Row>> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let bytes_max = if whatever { usize::MAX } else { bytes_max };
    for id in shards.ids() {
        let left = bytes_max - bytes;
        let chunk = shards.read(id).snapshot(None, left.saturating_add(1));
        for (key, value) in chunk.rows {
            bytes += key.len() + value.len();
            rows.push((frames::row_key(id.0, &key), Some(value)));
        }
        if bytes > bytes_max {
            return None;
        }
    }
    Some(rows)
}

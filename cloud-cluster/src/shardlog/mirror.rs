//! Checkpoints in two stores that share nothing: the same generations, at the same positions.
//!
//! A generation counts as written once both hold it, so that the journal is only trimmed to what the
//! older generation of either can go on from (J5). Reading takes whichever proves itself; a store
//! that lost what it had gets it again from the other with the next checkpoint.
//!
//! The copy is one file per generation, written whole: with each checkpoint it costs reading the last
//! one twice and writing the new one, in pieces, each of the size of the state (about 100 bytes for a
//! partition, a stream, a producer or a group's offset), and twice that on the disk.
//!
//! Both places are on this node's disk: FORMAT.md says why, and what that means when it is lost.

use headwater_log::checkpoint::{Change, Changes, CheckpointStore, Entries, Mark};
use headwater_log::{ErrorKind, LogError};

/// Two stores as one.
pub(super) struct Mirrored {
    pub first: Box<dyn CheckpointStore>,
    pub copy: Box<dyn CheckpointStore>,
    notes: Vec<String>,
}

impl Mirrored {
    pub fn new(first: Box<dyn CheckpointStore>, copy: Box<dyn CheckpointStore>) -> Mirrored {
        Mirrored {
            first,
            copy,
            notes: Vec::new(),
        }
    }
}

impl CheckpointStore for Mirrored {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        let mut marks = Vec::new();
        for store in [&mut self.first, &mut self.copy] {
            match store.generations() {
                Ok(held) => marks.extend(held),
                Err(error) => self.notes.push(format!("checkpoints: {error}")),
            }
        }
        marks.sort_by_key(|m| (std::cmp::Reverse(m.generation), m.at, m.digest));
        marks.dedup();
        Ok(marks)
    }

    fn load(&mut self, generation: u64) -> Result<Option<Entries>, LogError> {
        let mut full = None;
        for (store, name) in [(&mut self.first, "store"), (&mut self.copy, "copy")] {
            match store.load(generation) {
                Ok(Some(entries)) => return Ok(Some(entries)),
                Ok(None) => self
                    .notes
                    .push(format!("checkpoint {generation}: not in its {name}")),
                Err(error) => {
                    let note = format!("checkpoint {generation} in its {name}: {error}");
                    self.notes.push(note);
                    full = Some(error)
                        .filter(|error| error.kind() == ErrorKind::Full)
                        .or(full);
                }
            }
        }
        // Without room it cannot be read, and may be good.
        full.map_or(Ok(None), Err)
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        generation: u64,
        at: u64,
        changes: &Changes,
    ) -> Result<Mark, LogError> {
        let (first, copy, notes) = (&mut self.first, &mut self.copy, &mut self.notes);
        let mark = commit(first, copy, base, generation, at, changes, notes)?;
        let copied = commit(copy, first, base, generation, at, changes, notes)?;
        if copied != mark {
            notes.push(format!("checkpoint {generation}: the copy differed"));
            let all = first.load(generation)?.unwrap_or_default();
            copy.commit(None, generation, at, &whole(all, &[]))?;
        }
        Ok(mark)
    }

    fn notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.first.notes());
        notes.extend(self.copy.notes());
        notes
    }
}

/// Commits to `store`; if it has not got the base any more, from what `other` has.
fn commit(
    store: &mut Box<dyn CheckpointStore>,
    other: &mut Box<dyn CheckpointStore>,
    base: Option<u64>,
    generation: u64,
    at: u64,
    changes: &Changes,
    notes: &mut Vec<String>,
) -> Result<Mark, LogError> {
    let Some(from) = base else {
        return store.commit(None, generation, at, changes);
    };
    let held = store.generations().unwrap_or_default();
    let why = if held.iter().any(|mark| mark.generation == from) {
        match store.commit(base, generation, at, changes) {
            Err(error) if error.kind() == ErrorKind::Corrupt => error.to_string(),
            done => return done,
        }
    } else {
        "it is gone".into()
    };
    notes.push(format!("checkpoint {from} in one store: {why}; rebuilt"));
    tracing::warn!(
        generation = from,
        why,
        "a checkpoint store is rebuilt from its copy"
    );
    let gone = || LogError::Corrupt {
        path: "checkpoints".into(),
        at: 0,
        what: format!("generation {from} is in neither store"),
    };
    let all = other.load(from)?.ok_or_else(gone)?;
    store.commit(None, generation, at, &whole(all, changes))
}

fn whole(entries: Entries, changes: &Changes) -> Vec<Change> {
    let all = entries.into_iter().map(|(key, value)| (key, Some(value)));
    all.chain(changes.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use headwater_log::SimDisk;
    use headwater_log::checkpoint::FileStore;
    use headwater_log::disk::{Disk, Open};

    use super::*;

    fn open(disk: &SimDisk) -> Mirrored {
        let store = |dir: &str| -> Box<dyn CheckpointStore> {
            let disk = Arc::new(disk.clone());
            Box::new(FileStore::open(disk, Path::new(dir)).unwrap())
        };
        Mirrored::new(store("first"), store("copy"))
    }

    fn row(n: u8) -> Change {
        (vec![n], Some(vec![n; 10]))
    }

    /// Two generations of three rows and four.
    fn written() -> SimDisk {
        let disk = SimDisk::new(1);
        let mut store = open(&disk);
        store
            .commit(None, 1, 10, &[row(1), row(2), row(3)])
            .unwrap();
        store.commit(Some(1), 2, 20, &[row(4)]).unwrap();
        disk
    }

    /// Either place may be damaged or empty: both generations are read from the other, and the next
    /// checkpoint fills it again, whole.
    #[test]
    fn one_place_is_enough_and_fills_the_other() {
        for lost in ["first", "copy"] {
            for deleted in [true, false] {
                let disk = written();
                let mut files = disk.files();
                files.retain(|file| file.starts_with(lost));
                assert_eq!(files.len(), 2);
                for file in &files {
                    match deleted {
                        true => disk.remove(file).unwrap(),
                        false => disk.open(file, Open::Write).unwrap().set_len(9).unwrap(),
                    }
                }
                let mut store = open(&disk);
                let found = store.generations().unwrap();
                let found: Vec<u64> = found.iter().map(|mark| mark.generation).collect();
                assert_eq!(found, [2, 1], "{lost}");
                assert_eq!(store.load(1).unwrap().map(|rows| rows.len()), Some(3));
                assert_eq!(store.load(2).unwrap().map(|rows| rows.len()), Some(4));
                let mark = store.commit(Some(2), 3, 30, &[row(5)]).unwrap();
                for store in [&mut store.first, &mut store.copy] {
                    assert!(store.generations().unwrap().contains(&mark), "{lost}");
                    assert_eq!(store.load(3).unwrap().map(|rows| rows.len()), Some(5));
                }
            }
        }
    }
}

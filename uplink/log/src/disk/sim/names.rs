//! Directories, twice: live names, durable names, and the changes between them in order.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::SimCounters;
use headwater_batch::SplitMix64 as Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Dir,
}

type Map = BTreeMap<PathBuf, Node>;

#[derive(Clone)]
enum Change {
    Link(PathBuf, Node),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

#[derive(Clone, Default)]
pub(super) struct Names {
    pub live: Map,
    durable: Map,
    pending: Vec<Change>,
}

/// Drops `.` parts, so that `./a` and `a` are one name.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components()
        .filter(|c| !matches!(c, Component::CurDir))
        .collect()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/")
}

impl Names {
    pub fn dir_exists(&self, path: &Path) -> bool {
        is_root(path) || self.live.get(path) == Some(&Node::Dir)
    }

    pub fn link(&mut self, path: PathBuf, node: Node) {
        self.change(Change::Link(path, node));
    }

    pub fn unlink(&mut self, path: PathBuf) {
        self.change(Change::Unlink(path));
    }

    pub fn rename(&mut self, from: PathBuf, to: PathBuf, node: Node) {
        for change in &mut self.pending {
            match change {
                // The children of a renamed directory are renamed with it.
                Change::Link(path, _) | Change::Unlink(path) if path != &from => {
                    if let Some(moved) = moved(path, &from, &to) {
                        *path = moved;
                    }
                }
                _ => {}
            }
        }
        self.change(Change::Rename(from, to, node));
    }

    fn change(&mut self, change: Change) {
        apply(&change, &mut self.live);
        self.pending.push(change);
    }

    /// Makes the names directly in `dir` durable.
    pub fn sync(&mut self, dir: &Path) {
        let (done, left) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|c| match c {
                Change::Link(path, _) | Change::Unlink(path) => parent(path) == dir,
                Change::Rename(from, to, _) => parent(from) == dir || parent(to) == dir,
            });
        self.pending = left;
        let done: Vec<Change> = done;
        done.iter().for_each(|c| apply(c, &mut self.durable));
    }

    pub fn power_cut(&mut self, keep_of_8: u64, rng: &mut Rng, counters: &mut SimCounters) {
        for change in std::mem::take(&mut self.pending) {
            if rng.chance(keep_of_8, 8) {
                counters.names_kept_unsynced += 1;
                apply(&change, &mut self.durable);
            } else {
                counters.names_lost += 1;
            }
        }
        // A name whose directory was never made durable is not reachable. Parents sort first.
        let mut reachable = Map::new();
        for (path, node) in &self.durable {
            let up = parent(path);
            if is_root(up) || reachable.get(up) == Some(&Node::Dir) {
                reachable.insert(path.clone(), *node);
            }
        }
        self.live.clone_from(&reachable);
        self.durable = reachable;
    }

    /// Whether any image or pending change still reaches the file.
    pub fn reaches(&self, ino: u64) -> bool {
        let node = Node::File(ino);
        self.live
            .values()
            .chain(self.durable.values())
            .any(|n| *n == node)
            || self.pending.iter().any(|c| match c {
                Change::Link(_, n) | Change::Rename(_, _, n) => *n == node,
                Change::Unlink(_) => false,
            })
    }
}

fn apply(change: &Change, map: &mut Map) {
    match change {
        Change::Link(path, node) => {
            map.insert(path.clone(), *node);
        }
        Change::Unlink(path) => map.retain(|p, _| !p.starts_with(path)),
        Change::Rename(from, to, node) => {
            let old: Vec<PathBuf> = map
                .keys()
                .filter(|p| p.starts_with(from))
                .cloned()
                .collect();
            map.retain(|p, _| !p.starts_with(to) || p.starts_with(from));
            for path in old {
                let node = map.remove(&path).expect("listed from this map");
                map.insert(moved(&path, from, to).expect("starts with `from`"), node);
            }
            map.insert(to.clone(), *node);
        }
    }
}

fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(from).ok()?;
    Some(if rest.as_os_str().is_empty() {
        to.to_path_buf()
    } else {
        to.join(rest)
    })
}

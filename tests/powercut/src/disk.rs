//! A file system made of a trace: what the process saw, and what a power cut leaves of it.
//!
//! The model is POSIX at its word, harsher than any file system in use:
//! - Bytes and lengths are durable once an fsync or fdatasync of that file *began* after the write
//!   had *returned*, and returned itself before the cut. sync_file_range makes nothing durable.
//! - Names (created, renamed, removed) are durable after an fsync of their directory, not before: not
//!   after one of the file.
//! - Whatever is not durable may be there, or not, each call and each sector of 512 bytes by itself.
//!
//! A call that this model does not know is an error, never passed over.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use headwater_batch::SplitMix64;

use crate::trace::{Call, Moment};

const SECTOR: u64 = 512;

type Node = usize;

/// What a cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing of it.
    Lost,
    /// All of it: the process was killed, the machine was not.
    Kept,
    /// This and that, even within one write: `n` of 8.
    Torn(u64),
}

/// Everything that happened to the files under one directory.
pub struct Disk {
    /// The path of that directory, to which the process's relative paths refer too.
    home: String,
    nodes: Vec<History>,
    syncs: Vec<(Node, Moment, Moment)>,
    /// What each descriptor of the process stands for, and whether its `write` goes to the end.
    open: HashMap<u64, (Node, bool)>,
}

#[derive(Default)]
struct History {
    is_dir: bool,
    /// Durable before the trace began.
    content: Vec<u8>,
    entries: BTreeMap<String, Node>,
    data: Vec<Change<Data>>,
    names: Vec<Change<Name>>,
    /// What the process sees now.
    live: BTreeMap<String, Node>,
}

struct Change<T> {
    entry: Moment,
    exit: Moment,
    what: T,
}

enum Data {
    Write(u64, Vec<u8>),
    Length(u64),
    /// At least so long; new bytes are zeros.
    Allocate(u64),
}

enum Name {
    Link(String, Node),
    Remove(String),
    Rename(String, String, Node),
}

const HOME: Node = 0;

impl Disk {
    /// Everything in `home` was durable when the trace began.
    pub fn new(home: &Path) -> std::io::Result<Disk> {
        let mut disk = Disk {
            home: home.display().to_string(),
            nodes: Vec::new(),
            syncs: Vec::new(),
            open: HashMap::new(),
        };
        disk.adopt(home)?;
        Ok(disk)
    }

    fn adopt(&mut self, path: &Path) -> std::io::Result<Node> {
        let node = self.nodes.len();
        self.nodes.push(History::default());
        if !path.is_dir() {
            self.nodes[node].content = fs::read(path)?;
            return Ok(node);
        }
        self.nodes[node].is_dir = true;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let child = self.adopt(&entry.path())?;
            self.nodes[node].entries.insert(name.clone(), child);
            self.nodes[node].live.insert(name, child);
        }
        Ok(node)
    }

    /// Takes the next call. Calls on other files and on sockets are none of its business.
    ///
    /// A thread that is killed on its way back from a call shows another one that never returns: its
    /// name is what the call before it gave, its arguments are whatever lay there. 40 bytes written look
    /// like a `sendfile`. So what makes no sense and never returned was not called.
    pub fn take(&mut self, call: &Call) -> Result<(), String> {
        match self.take_whole(call) {
            Err(_) if call.exit == Moment::MAX => Ok(()),
            taken => taken,
        }
    }

    fn take_whole(&mut self, call: &Call) -> Result<(), String> {
        match call.name.as_str() {
            "openat" => self.open(call, 1, call.text(2)?),
            "open" => self.open(call, 0, call.text(1)?),
            "close" => {
                self.open.remove(&call.number(0)?);
                Ok(())
            }
            "dup" | "dup2" | "dup3" => self.duplicate(call),
            "fcntl" if call.text(1)?.starts_with("F_DUPFD") => self.duplicate(call),
            "write" | "writev" => match self.node(call)? {
                Some(_) if !self.open[&call.number(0)?].1 => {
                    Err("a write at a descriptor's own place is not modelled".to_owned())
                }
                Some(node) => {
                    let at = self.length(node);
                    self.data(node, call, Data::Write(at, written(call)?))
                }
                None => Ok(()),
            },
            "pwrite64" | "pwritev" => match self.node(call)? {
                Some(node) => {
                    let what = Data::Write(call.number(3)?, written(call)?);
                    self.data(node, call, what)
                }
                None => Ok(()),
            },
            "ftruncate" => match self.node(call)? {
                Some(node) => self.data(node, call, Data::Length(call.number(1)?)),
                None => Ok(()),
            },
            "fallocate" => match (self.node(call)?, call.text(1)?) {
                (None, _) => Ok(()),
                (Some(node), "0") => {
                    let bytes = call.number(2)? + call.number(3)?;
                    self.data(node, call, Data::Allocate(bytes))
                }
                (Some(_), mode) => Err(format!("fallocate with mode {mode} is not modelled")),
            },
            "fsync" | "fdatasync" => {
                if let Some(node) = self.node(call)? {
                    self.syncs.push((node, call.entry, call.exit));
                }
                Ok(())
            }
            "mkdir" => self.make_dir(call, 0),
            "mkdirat" => self.make_dir(call, 1),
            "link" => self.link(call, (0, 1)),
            "linkat" => self.link(call, (1, 3)),
            "rename" => self.rename(call, (0, 1)),
            "renameat" | "renameat2" => self.rename(call, (1, 3)),
            "unlink" | "rmdir" => self.remove(call, 0),
            "unlinkat" => self.remove(call, 1),
            "mmap" => match (call.number(4).ok(), call.text(2)?, call.text(3)?) {
                (Some(fd), protection, flags)
                    if self.open.contains_key(&fd)
                        && protection.contains("PROT_WRITE")
                        && flags.contains("MAP_SHARED") =>
                {
                    Err("a file that is written through memory is not modelled".to_owned())
                }
                _ => Ok(()),
            },
            "pwritev2" | "copy_file_range" | "sendfile" | "splice" | "io_uring_setup" | "msync"
            | "truncate" | "symlink" | "symlinkat" | "creat" | "chdir" | "fchdir" => {
                Err(format!("{} is not modelled", call.name))
            }
            _ => Ok(()),
        }
    }

    /// Writes what a power cut at `cut` may leave into `dir`.
    pub fn image(
        &self,
        cut: Moment,
        unsynced: Unsynced,
        rng: &mut SplitMix64,
        dir: &Path,
    ) -> std::io::Result<()> {
        self.restore(HOME, cut, unsynced, rng, dir)
    }

    fn restore(
        &self,
        node: Node,
        cut: Moment,
        unsynced: Unsynced,
        rng: &mut SplitMix64,
        path: &Path,
    ) -> std::io::Result<()> {
        let history = &self.nodes[node];
        if !history.is_dir {
            return fs::write(path, self.content(node, cut, unsynced, rng));
        }
        fs::create_dir_all(path)?;
        let known = history.entries.iter();
        let mut names: BTreeMap<&str, Node> =
            known.map(|(name, node)| (name.as_str(), *node)).collect();
        for change in history.names.iter().filter(|change| change.entry <= cut) {
            if !self.is_durable(node, change.exit, cut) && !unsynced.keeps(rng) {
                continue;
            }
            match &change.what {
                Name::Link(name, node) => {
                    names.insert(name, *node);
                }
                Name::Remove(name) => {
                    names.remove(name.as_str());
                }
                Name::Rename(from, to, node) => {
                    names.remove(from.as_str());
                    names.insert(to, *node);
                }
            }
        }
        for (name, node) in names {
            self.restore(node, cut, unsynced, rng, &path.join(name))?;
        }
        Ok(())
    }

    fn content(
        &self,
        node: Node,
        cut: Moment,
        unsynced: Unsynced,
        rng: &mut SplitMix64,
    ) -> Vec<u8> {
        let mut content = self.nodes[node].content.clone();
        let changes = &self.nodes[node].data;
        for change in changes.iter().filter(|change| change.entry <= cut) {
            let is_durable = self.is_durable(node, change.exit, cut);
            if !is_durable && unsynced == Unsynced::Lost {
                continue;
            }
            match &change.what {
                Data::Write(at, bytes) if is_durable => write(&mut content, *at, bytes),
                Data::Write(at, bytes) => {
                    for (at, sector) in sectors(*at, bytes) {
                        if unsynced.keeps(rng) {
                            write(&mut content, at, sector);
                        }
                    }
                }
                _ if !is_durable && !unsynced.keeps(rng) => {}
                Data::Length(bytes) => content.resize(*bytes as usize, 0),
                Data::Allocate(bytes) => {
                    let bytes = (*bytes as usize).max(content.len());
                    content.resize(bytes, 0);
                }
            }
        }
        content
    }

    fn is_durable(&self, node: Node, done: Moment, cut: Moment) -> bool {
        let mut of_node = self.syncs.iter().filter(|sync| sync.0 == node);
        of_node.any(|(_, entry, exit)| done < *entry && *exit <= cut)
    }

    fn open(&mut self, call: &Call, path_at: usize, flags: &str) -> Result<(), String> {
        let fd = u64::try_from(call.returned).map_err(|e| e.to_string())?;
        let Some((dir, name)) = self.resolve(call, path_at)? else {
            self.open.remove(&fd);
            return Ok(());
        };
        let found = match name.as_str() {
            "" => Some(dir),
            name => self.nodes[dir].live.get(name).copied(),
        };
        let node = match found {
            Some(node) => node,
            None if flags.contains("O_CREAT") => self.create(dir, name, false, call),
            None => return Err(format!("{name} was opened and never made")),
        };
        if flags.contains("O_TRUNC") {
            self.data(node, call, Data::Length(0))?;
        }
        if call.exit != Moment::MAX {
            let at_end = flags.contains("O_APPEND") || self.length(node) == 0;
            self.open.insert(fd, (node, at_end));
        }
        Ok(())
    }

    fn create(&mut self, dir: Node, name: String, is_dir: bool, call: &Call) -> Node {
        let node = self.nodes.len();
        let history = History {
            is_dir,
            ..History::default()
        };
        self.nodes.push(history);
        self.nodes[dir].live.insert(name.clone(), node);
        self.name(dir, call, Name::Link(name, node));
        node
    }

    fn make_dir(&mut self, call: &Call, path_at: usize) -> Result<(), String> {
        if let Some((dir, name)) = self.resolve(call, path_at)? {
            self.create(dir, name, true, call);
        }
        Ok(())
    }

    fn remove(&mut self, call: &Call, path_at: usize) -> Result<(), String> {
        if let Some((dir, name)) = self.resolve(call, path_at)? {
            self.nodes[dir].live.remove(&name);
            self.name(dir, call, Name::Remove(name));
        }
        Ok(())
    }

    fn rename(&mut self, call: &Call, paths_at: (usize, usize)) -> Result<(), String> {
        let (from, to) = (
            self.resolve(call, paths_at.0)?,
            self.resolve(call, paths_at.1)?,
        );
        let (Some((from_dir, from)), Some((dir, to))) = (from, to) else {
            return Ok(());
        };
        if from_dir != dir {
            return Err(format!(
                "renaming {from} into another directory is not modelled"
            ));
        }
        let node = self.nodes[dir].live.remove(&from);
        let node = node.ok_or_else(|| format!("{from} was renamed and never made"))?;
        self.nodes[dir].live.insert(to.clone(), node);
        self.name(dir, call, Name::Rename(from, to, node));
        Ok(())
    }

    fn link(&mut self, call: &Call, paths_at: (usize, usize)) -> Result<(), String> {
        let (from, to) = (
            self.resolve(call, paths_at.0)?,
            self.resolve(call, paths_at.1)?,
        );
        let (Some((from_dir, from)), Some((dir, to))) = (from, to) else {
            return Ok(());
        };
        let node = self.nodes[from_dir].live.get(&from).copied();
        let node = node.ok_or_else(|| format!("{from} got a second name and was never made"))?;
        self.nodes[dir].live.insert(to.clone(), node);
        self.name(dir, call, Name::Link(to, node));
        Ok(())
    }

    fn duplicate(&mut self, call: &Call) -> Result<(), String> {
        if let Some(handle) = self.open.get(&call.number(0)?).copied() {
            let fd = u64::try_from(call.returned).map_err(|e| e.to_string())?;
            self.open.insert(fd, handle);
        }
        Ok(())
    }

    fn node(&self, call: &Call) -> Result<Option<Node>, String> {
        Ok(self.open.get(&call.number(0)?).map(|(node, _)| *node))
    }

    fn data(&mut self, node: Node, call: &Call, what: Data) -> Result<(), String> {
        let (entry, exit) = (call.entry, call.exit);
        self.nodes[node].data.push(Change { entry, exit, what });
        Ok(())
    }

    fn name(&mut self, dir: Node, call: &Call, what: Name) {
        let (entry, exit) = (call.entry, call.exit);
        self.nodes[dir].names.push(Change { entry, exit, what });
    }

    fn length(&self, node: Node) -> u64 {
        let before = self.nodes[node].content.len() as u64;
        self.nodes[node]
            .data
            .iter()
            .fold(before, |length, change| match &change.what {
                Data::Write(at, bytes) => length.max(at + bytes.len() as u64),
                Data::Length(bytes) => *bytes,
                Data::Allocate(bytes) => length.max(*bytes),
            })
    }

    /// Directory and last name of a path; `None` outside of home, an empty name for home itself.
    fn resolve(&self, call: &Call, path_at: usize) -> Result<Option<(Node, String)>, String> {
        let path = call.path(path_at)?;
        let (mut dir, rest) = match path.strip_prefix(&self.home) {
            Some(rest) => (HOME, rest),
            None if path.starts_with('/') => return Ok(None),
            None => {
                // A call that takes a directory names it right before the path.
                let at = path_at.checked_sub(1).map(|at| call.text(at)).transpose()?;
                match at.and_then(|at| at.parse::<u64>().ok()) {
                    None => (HOME, path.as_str()),
                    Some(fd) => match self.open.get(&fd) {
                        Some((dir, _)) => (*dir, path.as_str()),
                        None => return Ok(None),
                    },
                }
            }
        };
        let mut parts = rest.split('/').filter(|part| !matches!(*part, "" | "."));
        let last = parts.next_back().unwrap_or_default().to_owned();
        for part in parts {
            let found = self.nodes[dir].live.get(part);
            dir = *found.ok_or_else(|| format!("{path}: {part} was never made"))?;
        }
        Ok(Some((dir, last)))
    }
}

impl Unsynced {
    fn keeps(self, rng: &mut SplitMix64) -> bool {
        match self {
            Unsynced::Lost => false,
            Unsynced::Kept => true,
            Unsynced::Torn(n) => rng.chance(n, 8),
        }
    }
}

/// What a call wrote; all that it was given, if it never returned.
fn written(call: &Call) -> Result<Vec<u8>, String> {
    let mut bytes = call.bytes(1)?;
    if call.exit != Moment::MAX {
        bytes.truncate(usize::try_from(call.returned).map_err(|e| e.to_string())?);
    }
    Ok(bytes)
}

fn write(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = at as usize;
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

fn sectors(mut at: u64, mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let room = (SECTOR - at % SECTOR) as usize;
        let (sector, rest) = bytes.split_at(room.min(bytes.len()));
        let from = at;
        (at, bytes) = (at + sector.len() as u64, rest);
        (!sector.is_empty()).then_some((from, sector))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::parse;

    fn image(trace: &str, cut: Moment, unsynced: Unsynced) -> BTreeMap<String, Vec<u8>> {
        let home = tempfile::tempdir().expect("a test has a folder");
        let (calls, _) = parse(trace).expect("well formed");
        let mut disk = Disk::new(home.path()).expect("an empty folder");
        for call in &calls {
            disk.take(call).expect("modelled");
        }
        let left = home.path().join("left");
        let mut rng = SplitMix64(1);
        disk.image(cut, unsynced, &mut rng, &left).expect("written");
        let entries = fs::read_dir(left).expect("a folder");
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("plain");
            (name, fs::read(entry.path()).expect("a file"))
        };
        entries.map(read).collect()
    }

    /// As seen: a thread wrote 40 bytes to a client, and was killed.
    #[test]
    fn a_call_that_nobody_made_changes_nothing() {
        let killed = format!("{TRACE}1 sendfile(0, 336615602, 0x1000, 4095 <unfinished ...>\n");
        let (calls, moments) = parse(&killed).expect("well formed");
        assert_eq!(
            calls.last().map(|call| call.name.as_str()),
            Some("sendfile")
        );
        let whole = image(TRACE, moments, Unsynced::Kept);
        assert_eq!(image(&killed, moments, Unsynced::Kept), whole);
        let made = format!("{TRACE}1 sendfile(3, 4, NULL, 9) = 9\n");
        let (calls, _) = parse(&made).expect("well formed");
        let home = tempfile::tempdir().expect("a test has a folder");
        let mut disk = Disk::new(home.path()).expect("an empty folder");
        let taken: Result<Vec<()>, String> = calls.iter().map(|call| disk.take(call)).collect();
        assert_eq!(taken, Err("sendfile is not modelled".to_owned()));
    }

    const TRACE: &str = "1 openat(AT_FDCWD, \"\\x61\", O_RDWR|O_CREAT, 0666) = 3\n\
        1 pwrite64(3, \"\\x31\\x32\", 2, 0) = 2\n\
        1 fdatasync(3) = 0\n\
        1 openat(AT_FDCWD, \"\\x2e\", O_RDONLY) = 4\n\
        1 fsync(4) = 0\n\
        1 pwrite64(3, \"\\x33\", 1, 2) = 1\n\
        1 rename(\"\\x61\", \"\\x62\") = 0\n\
        1 fdatasync(3 <unfinished ...>\n\
        2 pwrite64(3, \"\\x34\", 1, 3) = 1\n\
        1 <... fdatasync resumed>) = 0\n\
        1 fsync(4) = 0\n";

    #[test]
    fn only_what_was_synced_is_left() {
        let lost = |cut| image(TRACE, cut, Unsynced::Lost);
        let one = |name: &str, bytes: &[u8]| BTreeMap::from([(name.to_owned(), bytes.to_vec())]);
        assert_eq!(lost(2), BTreeMap::new(), "the name is not durable yet");
        assert_eq!(lost(5), one("a", b"12"));
        assert_eq!(lost(8), one("a", b"12"), "the sync has not returned");
        assert_eq!(
            lost(9),
            one("a", b"123"),
            "the rename is not durable, nor what came during it"
        );
        assert_eq!(lost(10), one("b", b"123"));
        assert_eq!(image(TRACE, 8, Unsynced::Kept), one("b", b"1234"));
    }

    #[test]
    fn what_it_does_not_know_is_an_error() {
        let home = tempfile::tempdir().expect("a test has a folder");
        let mut disk = Disk::new(home.path()).expect("an empty folder");
        let (calls, _) = parse("1 truncate(\"\\x61\", 0) = 0\n").expect("well formed");
        assert!(disk.take(&calls[0]).is_err());
    }
}

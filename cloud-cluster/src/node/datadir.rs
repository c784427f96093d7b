//! The data directory: its layout, its lock and the node's identity.
//!
//! ```text
//! lock            held by the running node; never removed
//! node.toml       cluster id and number of shards, made once
//! node.copy.toml  the same once more
//! journal/        the node's journal
//! checkpoints/    the shards' state
//! state/          the same once more, as plain files
//! segments/       cold segments, in Kafka's format
//! ca/             the private CA, the register of edges and the revocation list
//! reserve         laid aside for checkpoints on a full disk; see `headwater-log`
//! ```
//!
//! `unsafe` is used for one system call that this crate's oldest compiler does not have: `flock`.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use headwater_proto::EdgeName;
use headwater_quic::{Revoked, RevokedError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::registry::crc32;

/// An open data directory. The lock goes when this does, also when the process is killed.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    pub cluster_id: String,
    pub shards: u8,
    _lock: File,
}

#[derive(Debug, Error)]
pub enum DataDirError {
    #[error("data directory: {path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("data directory {0} is in use by another process")]
    Locked(PathBuf),
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    #[error("log.shards = {wanted}: this data directory was made with {have}, which stays")]
    Shards { wanted: u8, have: u8 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    cluster_id: String,
    shards: u8,
    /// CRC-32 of the other two as text: most flipped bits would give an identity too.
    crc: Option<u32>,
}

impl Identity {
    fn new(cluster_id: String, shards: u8) -> Identity {
        let crc = Some(crc32(format!("{cluster_id} {shards}").as_bytes()));
        Identity {
            cluster_id,
            shards,
            crc,
        }
    }

    /// `None`: damaged.
    fn parse(text: &str) -> Option<Identity> {
        let found = toml::from_str::<Identity>(text).ok()?;
        let whole = Identity::new(found.cluster_id, found.shards);
        (found.crc.is_none() || found.crc == whole.crc).then_some(whole)
    }
}

impl DataDir {
    /// Locks the directory; makes it, and its identity, on first use.
    pub fn open(root: &Path, shards: u8) -> Result<DataDir, DataDirError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DataDirError::Io { path, source }
        };
        fs::create_dir_all(root).map_err(io(root))?;
        let lock_path = root.join("lock");
        let mut options = File::options();
        let lock = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path);
        let lock = lock.map_err(io(&lock_path))?;
        if !try_lock(&lock).map_err(io(&lock_path))? {
            return Err(DataDirError::Locked(root.to_path_buf()));
        }
        let identity = identity(root, shards)?;
        if identity.shards != shards {
            return Err(DataDirError::Shards {
                wanted: shards,
                have: identity.shards,
            });
        }
        let Identity {
            cluster_id, shards, ..
        } = identity;
        Ok(DataDir {
            root: root.to_path_buf(),
            cluster_id,
            shards,
            _lock: lock,
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    pub fn ca(&self) -> PathBuf {
        ca_of(&self.root)
    }

    pub fn revoked(&self) -> PathBuf {
        revoked_of(&self.root)
    }
}

/// Where the CA lies; it can be used without the lock, since it is only read once it is made.
pub fn ca_of(root: &Path) -> PathBuf {
    root.join("ca")
}

/// The revocation list: see `headwater-quic`.
pub fn revoked_of(root: &Path) -> PathBuf {
    ca_of(root).join("revoked.txt")
}

/// Adds an edge to the revocation list, durably, unless it is there.
pub fn revoke(root: &Path, edge: &EdgeName) -> Result<(), DataDirError> {
    let ca = ca_of(root);
    fs::create_dir_all(&ca).map_err(|source| DataDirError::Io { path: ca, source })?;
    Ok(Revoked::add(&revoked_of(root), edge)?)
}

/// Whether a node runs on this directory. The lock is only asked for, never made.
pub fn in_use(root: &Path) -> bool {
    File::options()
        .write(true)
        .open(root.join("lock"))
        .and_then(|lock| try_lock(&lock))
        .is_ok_and(|taken| !taken)
}

/// What the directory says it is; a damaged file is no reason not to start, there are two.
fn identity(root: &Path, shards: u8) -> Result<Identity, DataDirError> {
    let paths = ["node.toml", "node.copy.toml"].map(|name| root.join(name));
    let mut texts = Vec::new();
    for path in &paths {
        match fs::read_to_string(path) {
            Ok(text) => texts.push(text),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) if source.kind() == std::io::ErrorKind::InvalidData => {
                texts.push(String::new());
            }
            Err(source) if source.kind() == std::io::ErrorKind::IsADirectory => {
                let aside = path.with_extension("damaged");
                fs::rename(path, aside).map_err(|source| {
                    let path = path.clone();
                    DataDirError::Io { path, source }
                })?;
                texts.push(String::new());
            }
            Err(source) => {
                let path = path.clone();
                return Err(DataDirError::Io { path, source });
            }
        }
    }
    let found = texts.iter().find_map(|text| Identity::parse(text));
    let is_damaged = texts.iter().any(|text| Identity::parse(text).is_none());
    match &found {
        None if !texts.is_empty() => {
            tracing::error!(path = %paths[0].display(), "damaged, and so is its copy; made anew");
        }
        Some(_) if is_damaged => {
            tracing::error!(path = %paths[0].display(), "it or its copy is damaged; the other counts");
        }
        _ => {}
    }
    let identity = found.unwrap_or_else(|| Identity::new(uuid::Uuid::new_v4().to_string(), shards));
    let text = toml::to_string(&identity).expect("plain data always encodes");
    if texts != [text.clone(), text.clone()] {
        for path in paths {
            replace(root, &path, text.as_bytes())
                .map_err(|source| DataDirError::Io { path, source })?;
        }
    }
    Ok(identity)
}

/// All of a file or nothing, durably.
fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(dir)?.sync_all()
}

/// False: another process holds it.
fn try_lock(file: &File) -> std::io::Result<bool> {
    // SAFETY: the descriptor is open for as long as `file` lives.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if result == 0 {
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    match error.kind() {
        std::io::ErrorKind::WouldBlock => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_identity_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), 8).unwrap();
        let error = DataDir::open(dir.path(), 8).unwrap_err();
        assert!(matches!(error, DataDirError::Locked(_)), "{error}");
        assert!(in_use(dir.path()));
        let id = first.cluster_id.clone();
        drop(first);
        assert!(!in_use(dir.path()));
        for name in ["node.toml", "node.copy.toml"] {
            let path = dir.path().join(name);
            fs::write(&path, b"cluster_id = \xff").unwrap();
            assert_eq!(DataDir::open(dir.path(), 8).unwrap().cluster_id, id);
            let whole = fs::read(&path).unwrap();
            for bit in (0..whole.len() * 8).step_by(5) {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, damaged).unwrap();
                assert_eq!(DataDir::open(dir.path(), 8).unwrap().cluster_id, id);
                assert_eq!(fs::read(&path).unwrap(), whole, "bit {bit} of {name}");
            }
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            assert_eq!(DataDir::open(dir.path(), 8).unwrap().cluster_id, id);
            assert_eq!(fs::read(&path).unwrap(), whole);
            fs::remove_dir(path.with_extension("damaged")).unwrap();
        }
        let error = DataDir::open(dir.path(), 9).unwrap_err();
        assert!(error.to_string().contains("made with 8"), "{error}");
    }

    #[test]
    fn the_revocation_list_grows_by_lines() {
        let dir = tempfile::tempdir().unwrap();
        for edge in ["gw-1", "gw-2", "gw-1"] {
            revoke(dir.path(), &EdgeName::new(edge).unwrap()).unwrap();
        }
        let list = Revoked::read(&revoked_of(dir.path())).unwrap();
        assert_eq!(list.len(), 2);
    }
}

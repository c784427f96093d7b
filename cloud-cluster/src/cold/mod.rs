//! Cold segments: sealed ranges of partitions in an object store, in Kafka's own file format.
//!
//! ```text
//! <topic>-<partition>/<uuid>/<base offset, 20 digits>.log
//!                                                    .index
//!                                                    .timeindex
//! ```
//! An object is written once and never changed; the uuid makes a retry another object (C4). What
//! counts is the manifest in the shard's state: an object that is not in it is a leftover.
//!
//! With local files every file and directory is fsynced here before the manifest names it, since
//! `object_store`'s LocalFileSystem does not.

mod ask;
mod read;
mod salvage;
mod sealer;
mod sync;

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_log::segment::{SegmentBytes, file_name};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ListResult, ObjectStore, PutPayload};
use thiserror::Error;
use uuid::Uuid;

pub use ask::Patience;
pub use read::{Found, batches};
pub use salvage::{Facts, Salvaged};
pub use sealer::{SealConfig, Sealer};

use ask::Failing;
use read::IndexCache;

/// The object store of this cluster.
#[derive(Debug)]
pub struct ColdStore {
    store: Arc<dyn ObjectStore>,
    /// Set for local files: they are synced here.
    root: Option<PathBuf>,
    indexes: IndexCache,
    failing: Failing,
}

#[derive(Debug, Error)]
pub enum ColdError {
    #[error("{object}: {source}")]
    Store {
        /// Its name in the store, or what was listed.
        object: String,
        source: object_store::Error,
    },
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{object} at byte {at}: {what}")]
    Corrupt {
        object: String,
        at: u64,
        what: String,
    },
}

impl ColdError {
    /// Whether the objects themselves are damaged or gone, and not the way to them.
    pub fn is_rot(&self) -> bool {
        use object_store::Error::NotFound;
        match self {
            ColdError::Corrupt { .. } => true,
            ColdError::Store { source, .. } => matches!(source, NotFound { .. }),
            ColdError::Io { .. } => false,
        }
    }

    /// Whether the store may answer the same request later.
    pub fn is_transient(&self) -> bool {
        matches!(self, ColdError::Store { .. }) && !self.is_rot()
    }

    /// Whether an fsync failed, after which nothing is known about what was written (J6).
    pub fn is_fatal(&self) -> bool {
        matches!(self, ColdError::Io { .. })
    }
}

/// Names one segment's objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    pub tp: TopicPartition,
    pub base: Offset,
    pub uuid: Uuid,
}

impl SegmentName {
    pub fn new(tp: &TopicPartition, base: Offset, uuid: u128) -> SegmentName {
        SegmentName {
            tp: tp.clone(),
            base,
            uuid: Uuid::from_u128(uuid),
        }
    }

    fn object(&self, suffix: &str) -> Path {
        Path::from_iter([
            self.tp.to_string(),
            self.uuid.to_string(),
            file_name(self.base, suffix),
        ])
    }

    /// Reads an object's name back; `None` for what is not ours.
    pub fn parse(object: &Path) -> Option<SegmentName> {
        let parts: Vec<_> = object.parts().collect();
        let [tp, uuid, file] = parts.as_slice() else {
            return None;
        };
        let base = file.as_ref().get(..20)?.parse().ok()?;
        let uuid = uuid.as_ref().parse().ok()?;
        Some(SegmentName {
            tp: tp.as_ref().parse().ok()?,
            base: Offset(base),
            uuid,
        })
    }
}

const SUFFIXES: [&str; 3] = ["log", "index", "timeindex"];

impl ColdStore {
    /// Segments as files below `root`, which is made when missing.
    pub fn local(root: &FsPath) -> Result<ColdStore, ColdError> {
        let io = |source| ColdError::Io {
            path: root.to_path_buf(),
            source,
        };
        std::fs::create_dir_all(root).map_err(io)?;
        let opened = LocalFileSystem::new_with_prefix(root);
        let object = root.display().to_string();
        let opened = opened.map_err(|source| ColdError::Store { object, source })?;
        let store = opened.with_automatic_cleanup(true);
        let root = root.canonicalize().map_err(io)?;
        Ok(ColdStore {
            store: Arc::new(store),
            root: Some(root),
            indexes: IndexCache::default(),
            failing: Failing::default(),
        })
    }

    /// Segments as objects of `store`, which makes durable by itself what it takes.
    pub fn of(store: Arc<dyn ObjectStore>) -> ColdStore {
        ColdStore {
            store,
            root: None,
            indexes: IndexCache::default(),
            failing: Failing::default(),
        }
    }

    /// Writes a segment. When it returns, all of it is durable; after an error nothing of it is left,
    /// or tries without room would fill the rest of a disk.
    pub async fn put(&self, name: &SegmentName, bytes: SegmentBytes) -> Result<(), ColdError> {
        let written = self.write(name, bytes).await;
        if written.is_err() {
            if let Err(error) = self.delete(name).await {
                tracing::warn!(%error, segment = ?name, "a part is left; the next start deletes it");
            }
        }
        written
    }

    async fn write(&self, name: &SegmentName, bytes: SegmentBytes) -> Result<(), ColdError> {
        let SegmentBytes {
            log,
            index,
            timeindex,
        } = bytes;
        let files = [("log", log), ("index", index), ("timeindex", timeindex)];
        for (suffix, bytes) in files {
            let payload = PutPayload::from_bytes(Bytes::from(bytes));
            let object = name.object(suffix);
            let put = || self.store.put(&object, payload.clone());
            let patience = Patience::of_reader();
            self.ask(object.as_ref(), patience, put).await?;
        }
        let Some(root) = self.root.clone() else {
            return Ok(());
        };
        let dir = root.join(name.tp.to_string()).join(name.uuid.to_string());
        let base = name.base;
        let synced = tokio::task::spawn_blocking(move || {
            let files = SUFFIXES.map(|suffix| dir.join(file_name(base, suffix)));
            sync::files_and_dirs(&files, &root)
        });
        synced.await.expect("syncing does not panic")
    }

    /// Deletes a segment; what is not there is not an error.
    pub async fn delete(&self, name: &SegmentName) -> Result<(), ColdError> {
        self.indexes.forget(name);
        for suffix in SUFFIXES {
            let object = name.object(suffix);
            let delete = || self.store.delete(&object);
            let patience = Patience::of_reader();
            match self.ask(object.as_ref(), patience, delete).await {
                Err(error) if !error.is_rot() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Every segment that has an object, in the manifest or not.
    pub async fn list(&self) -> Result<Vec<SegmentName>, ColdError> {
        let top = self.list_in(None).await?;
        let mut names = Vec::new();
        for partition in top.common_prefixes {
            let runs = self.list_in(Some(&partition)).await?;
            for run in runs.common_prefixes {
                let objects = self.list_in(Some(&run)).await?.objects;
                names.extend(objects.iter().find_map(|o| SegmentName::parse(&o.location)));
            }
        }
        Ok(names)
    }

    async fn list_in(&self, prefix: Option<&Path>) -> Result<ListResult, ColdError> {
        let object = prefix.map_or("all segments", AsRef::as_ref);
        let list = || self.store.list_with_delimiter(prefix);
        self.ask(object, Patience::of_start(), list).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let name = SegmentName::new(&"a.b-c-12".parse().unwrap(), Offset(7), 99);
        let object = name.object("log");
        assert!(
            object.as_ref().ends_with("/00000000000000000007.log"),
            "{object}"
        );
        assert_eq!(SegmentName::parse(&object), Some(name));
        assert_eq!(SegmentName::parse(&Path::from("x/y")), None);
        assert_eq!(SegmentName::parse(&Path::from("x/y/z.log")), None);
    }
}

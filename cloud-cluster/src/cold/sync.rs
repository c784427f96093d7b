//! Making files and their directories durable on the local disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::ColdError;

/// Syncs `files`, then every directory from theirs up to `root`: a file's name is durable only when
/// its directory is.
pub(super) fn files_and_dirs(files: &[PathBuf], root: &Path) -> Result<(), ColdError> {
    for file in files {
        sync(file)?;
    }
    let mut dir = files.first().and_then(|file| file.parent());
    while let Some(path) = dir {
        sync(path)?;
        if path == root {
            break;
        }
        dir = path.parent();
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), ColdError> {
    let io = |source| ColdError::Io {
        path: path.to_path_buf(),
        source,
    };
    File::open(path).map_err(io)?.sync_all().map_err(io)
}

//! The checked-in inputs.

use std::path::{Path, PathBuf};

use crate::Target;

/// `corpus/` beside this crate's manifest.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a target, in the order of their names.
pub fn of(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = root().join(target.name);
    let listed = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut inputs: Vec<_> = listed
        .map(|entry| {
            let path = entry.expect("a listed entry").path();
            let name = path.file_name().expect("listed entries have names");
            let bytes = std::fs::read(&path).expect("a checked-in file is readable");
            (name.to_string_lossy().into_owned(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

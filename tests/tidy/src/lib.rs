//! Reads the repository as text, for the tests under `tests/`: rules of the architecture that no
//! compiler checks.

use std::path::{Path, PathBuf};

/// The repository's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/tidy lies two below the root")
        .to_owned()
}

/// Every file below `dir` that could be tracked, as (path from the root, text). Build output, hidden
/// folders and files that are not UTF-8 are passed over.
pub fn texts(dir: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root().join(dir), &mut |path| {
        if let Ok(text) = std::fs::read_to_string(path) {
            let name = path
                .strip_prefix(root())
                .expect("walked from the root")
                .display()
                .to_string();
            found.push((name, text));
        }
    });
    found.sort();
    assert!(!found.is_empty(), "{dir} holds no file");
    found
}

fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).expect("a folder of the checkout is readable") {
        let path = entry.expect("a folder entry is readable").path();
        let name = path
            .file_name()
            .expect("listed entries have names")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !name.starts_with('.')
                && !["target", "out", "node_modules", "data"].contains(&name.as_str())
            {
                walk(&path, visit);
            }
        } else {
            visit(&path);
        }
    }
}

/// The names in the `[dependencies]` table of the manifest in `folder`.
pub fn dependencies(folder: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml"))
        .expect("a member has a manifest");
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                names.push(name.to_owned());
            }
        }
    }
    names
}

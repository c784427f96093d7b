//! Kafka's own DumpLogSegments over our directories. It exits 0 on mismatches, so what it prints is
//! read: every batch must call itself valid and no line may speak of a mismatch.

use std::path::{Path, PathBuf};

/// What the tool read and found good.
#[derive(Debug, Default)]
pub struct Dumped {
    pub segments: usize,
    pub batches: usize,
    /// Indexes with at least one entry.
    pub indexes: usize,
}

/// Checks every segment and index below `dir`.
pub fn check(out: &Path, dir: &Path) -> Result<Dumped, String> {
    let mut files = Vec::new();
    segments(dir, &mut files).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut dumped = Dumped::default();
    for file in &files {
        if file.extension().is_some_and(|extension| extension == "log") {
            dumped.batches += dump(out, file, "--deep-iteration")?;
            dumped.segments += 1;
        } else {
            dumped.indexes += dump(out, file, "--index-sanity-check")?;
        }
    }
    if dumped.segments == 0 || dumped.batches == 0 || dumped.indexes == 0 {
        return Err(format!("{}: {dumped:?} shows too little", dir.display()));
    }
    Ok(dumped)
}

fn dump(out: &Path, file: &Path, mode: &str) -> Result<usize, String> {
    let output = crate::java(out)
        .args(["kafka.tools.DumpLogSegments", mode, "--files"])
        .arg(file)
        .output()
        .map_err(|error| format!("java: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let at = |line: &str| Err(format!("DumpLogSegments {mode} {}: {line}", file.display()));
    if !output.status.success() {
        return at(&text);
    }
    let lowered = text.to_lowercase();
    for (line, original) in lowered.lines().zip(text.lines()) {
        let bad = [
            "mismatch",
            "non-consecutive",
            "non-secutive",
            "out of order",
            "invalid",
            "corrupt",
            "exception",
            "error",
            "isvalid: false",
        ];
        if bad.iter().any(|word| line.contains(word)) {
            return at(original);
        }
    }
    if mode == "--index-sanity-check" {
        // Kafka adds an entry every 4 KiB: the index of a small segment is rightly empty.
        let empty =
            text.contains("is empty") && file.metadata().is_ok_and(|found| found.len() == 0);
        return match text.contains("passed sanity check") {
            true => Ok(1),
            false if empty => Ok(0),
            false => at(&text),
        };
    }
    let read = lowered
        .lines()
        .filter(|line| line.starts_with("baseoffset:"))
        .count();
    let valid = lowered.matches("isvalid: true").count();
    if read != valid {
        return at(&format!("{read} batches, {valid} of them valid"));
    }
    Ok(read)
}

/// Files named as Kafka names them: twenty digits and an ending. Indexes need their `.log` beside.
fn segments(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            segments(&path, found)?;
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let digits = name.len() > 21 && name[..20].bytes().all(|byte| byte.is_ascii_digit());
        let ending = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if digits && ["log", "index", "timeindex"].contains(&ending.as_str()) {
            found.push(path);
        }
    }
    Ok(())
}

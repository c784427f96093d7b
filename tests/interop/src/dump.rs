//! Kafka's own DumpLogSegments over our directories. It exits 0 on mismatches, so what it prints is
//! read: every batch must call itself valid and no line may speak of a mismatch.

use std::path::{Path, PathBuf};

/// Checks every segment and index below `dir`; returns how many segments and batches were read.
pub fn check(out: &Path, dir: &Path) -> Result<(usize, usize), String> {
    let mut files = Vec::new();
    segments(dir, &mut files).map_err(|error| format!("{}: {error}", dir.display()))?;
    let (mut logs, mut batches) = (0, 0);
    for file in &files {
        let is_log = file.extension().is_some_and(|extension| extension == "log");
        batches += if is_log {
            dump(out, file, "--deep-iteration")?
        } else {
            dump(out, file, "--index-sanity-check")?
        };
        logs += usize::from(is_log);
    }
    if logs == 0 || batches == 0 {
        return Err(format!(
            "{}: {logs} segments with {batches} batches",
            dir.display()
        ));
    }
    Ok((logs, batches))
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
    if mode == "--index-sanity-check" && !text.contains("passed sanity check") {
        return at(&text);
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

//! `log ls|dump|verify`: looking into a data directory offline.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use headwater_log::{LogError, RealDisk, inspect};

use crate::node::in_use;

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// List journal files and segments.
    Ls { dir: PathBuf },
    /// Print every batch of every segment.
    Dump {
        dir: PathBuf,
        /// Records too.
        #[arg(long)]
        records: bool,
    },
    /// Read everything and compare checksums, offsets and indexes.
    Verify { dir: PathBuf },
}

impl LogCommand {
    pub(super) fn run(&self) -> Result<(), String> {
        let (LogCommand::Ls { dir } | LogCommand::Dump { dir, .. } | LogCommand::Verify { dir }) =
            self;
        if !dir.is_dir() {
            return Err(format!("{}: no such directory", dir.display()));
        }
        if in_use(dir) {
            return Err(format!("{}: in use by a running node", dir.display()));
        }
        let mut out = std::io::stdout().lock();
        let failed = |e: LogError| e.to_string();
        // The data directory itself for its journal, then every run of a cold segment.
        let runs = runs(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let (mut damages, mut records) = (0, 0);
        for part in std::iter::once(dir.clone()).chain(runs) {
            match self {
                LogCommand::Ls { .. } => {
                    heading(&part, dir, &mut out);
                    inspect::ls(&RealDisk, &part, &mut out).map_err(failed)?;
                }
                LogCommand::Dump { records, .. } => {
                    inspect::dump(&RealDisk, &part, *records, &mut out).map_err(failed)?;
                }
                LogCommand::Verify { .. } => {
                    let found =
                        inspect::verify(&RealDisk, &part, &mut std::io::sink()).map_err(failed)?;
                    for damage in &found.damages {
                        let _ = writeln!(out, "damaged: {damage}");
                    }
                    damages += found.damages.len();
                    records += found.records;
                }
            }
        }
        match (self, damages) {
            (LogCommand::Verify { .. }, 0) => {
                let _ = writeln!(out, "{records} records in cold segments, no damage");
                Ok(())
            }
            (LogCommand::Verify { .. }, n) => Err(format!("{n} damages")),
            _ => Ok(()),
        }
    }
}

fn heading(part: &Path, dir: &Path, out: &mut dyn Write) {
    let name = part
        .strip_prefix(dir.join("segments"))
        .unwrap_or(Path::new("journal"));
    let _ = writeln!(out, "{}", name.display());
}

/// `segments/<partition>/<uuid>`, in the order of names.
fn runs(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let segments = dir.join("segments");
    let mut runs = Vec::new();
    if segments.is_dir() {
        for partition in std::fs::read_dir(segments)? {
            for run in std::fs::read_dir(partition?.path())? {
                runs.push(run?.path());
            }
        }
    }
    runs.sort();
    Ok(runs)
}

//! Opening: which checkpoint counts, and what the journal adds to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Durable, DurableConfig, JournalReport, Position, Replay};
use crate::checkpoint::{CheckpointStore, Entries, Mark};
use crate::disk::{Disk, create_dirs};
use crate::error::LogError;
use crate::journal::{Survey, survey};

/// What [`Durable::open`] found.
pub struct Recovered {
    /// Entries of the checkpoint in use, in key order; empty when there is none.
    pub checkpoint: Entries,
    /// Frames below are in the checkpoint; [`Recovered::frames`] starts here.
    pub from: Position,
    /// The number of the next frame to be staged.
    pub end: Position,
    /// Header bytes of the newest journal file that can be read (J3); empty in a new log.
    pub header: Vec<u8>,
    /// All readable headers with the first frame of their file, oldest first.
    pub headers: Vec<(Position, Vec<u8>)>,
    /// The frames since, oldest first, read one group at a time.
    pub frames: Replay,
    /// What was cut, lost or fallen back on.
    pub report: Report,
}

/// Which checkpoint recovery stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointUse {
    /// There never was one.
    #[default]
    None,
    /// The newest.
    Newest(u64),
    /// An older generation, since a newer one did not prove itself.
    FellBack { to: u64, from: u64 },
    /// A checkpoint that no journal header confirms, since none can be read.
    Unconfirmed(u64),
    /// There were checkpoints and none can be used: state comes from headers and frames alone.
    Lost,
}

/// What recovery met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub journal: JournalReport,
    pub checkpoint: CheckpointUse,
    /// What the checkpoint store moved aside or rebuilt.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing acked is missing.
    pub fn is_whole(&self) -> bool {
        let used = !matches!(self.checkpoint, CheckpointUse::Lost);
        used && self.journal.lost.is_empty()
    }
}

impl Durable {
    /// Recovers what is in `cfg.dir`, or starts anew. When it returns, everything it recovered
    /// is synced (J4) and the journal takes frames. Rot is passed over and reported; a file that the
    /// operating system cannot read is an error, and nothing was changed (U4).
    pub fn open(
        disk: Arc<dyn Disk>,
        mut store: Box<dyn CheckpointStore>,
        cfg: DurableConfig,
    ) -> Result<(Durable, Recovered), LogError> {
        cfg.check()?;
        create_dirs(&*disk, &cfg.dir).map_err(LogError::io("create", &cfg.dir))?;
        let rules = cfg.rules;
        let survey = survey(disk, &cfg)?;
        let chosen = choose(&survey, &mut *store, rules.j5())?;
        let headers = survey.headers();
        let from = if chosen.mark.generation > 0 {
            chosen.mark.at
        } else {
            survey.start()
        };
        let (journal, frames, report) = survey.resume(from, chosen.marks)?;
        let report = Report {
            journal: report,
            checkpoint: chosen.used,
            notes: store.notes(),
        };
        let recovered = Recovered {
            checkpoint: chosen.entries,
            from: Position(from),
            end: Position(journal.next),
            header: headers.last().map(|(_, h)| h.clone()).unwrap_or_default(),
            headers: headers
                .into_iter()
                .map(|(first, h)| (Position(first), h))
                .collect(),
            frames,
            report,
        };
        let durable = Durable {
            reader: journal.reader(),
            journal,
            store,
            rules,
            current: chosen.mark,
            generation: chosen.highest,
            carried: BTreeMap::new(),
        };
        Ok((durable, recovered))
    }
}

struct Chosen {
    mark: Mark,
    /// What the next journal file will confirm.
    marks: [Mark; 2],
    entries: Entries,
    used: CheckpointUse,
    highest: u64,
}

/// The newest generation that a header confirms and that proves itself (J5).
fn choose(
    survey: &Survey,
    store: &mut dyn CheckpointStore,
    check: bool,
) -> Result<Chosen, LogError> {
    let confirmed = survey.marks();
    let held = store.generations()?;
    let highest = confirmed
        .iter()
        .chain(&held)
        .map(|m| m.generation)
        .max()
        .unwrap_or(0);
    let mut chosen = Chosen {
        mark: Mark::default(),
        marks: [Mark::default(); 2],
        entries: Entries::new(),
        used: if highest == 0 {
            CheckpointUse::None
        } else {
            CheckpointUse::Lost
        },
        highest,
    };
    // One that no header confirms was cut short between its own sync and the header's: the
    // journal still holds what it holds. Without any header it is all there is.
    let unconfirmed = !survey.has_headers();
    for mark in &held {
        if check && !unconfirmed && !confirmed.contains(mark) {
            continue;
        }
        let Some(entries) = store.load(mark.generation)? else {
            continue;
        };
        let newest = confirmed.first().map_or(mark.generation, |m| m.generation);
        chosen.used = match newest {
            _ if unconfirmed => CheckpointUse::Unconfirmed(mark.generation),
            n if n <= mark.generation => CheckpointUse::Newest(n),
            n => CheckpointUse::FellBack {
                to: mark.generation,
                from: n,
            },
        };
        chosen.mark = *mark;
        chosen.entries = entries;
        let other = held
            .iter()
            .find(|m| m.generation < mark.generation && confirmed.contains(m));
        chosen.marks = [*mark, other.copied().unwrap_or_default()];
        return Ok(chosen);
    }
    // The first checkpoint ever may have been cut short: then nothing is lost.
    if confirmed.is_empty() && !unconfirmed {
        chosen.used = CheckpointUse::None;
    }
    Ok(chosen)
}

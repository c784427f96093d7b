//! From the files of the last run to shards that stand where they stood.
//!
//! A node starts from whatever is left (J5): from either checkpoint store and the journal, across
//! rotten frames, and at the worst from the places of batches in the journal and the cold segments
//! alone, which is finished in [`crate::rebuild`].

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use headwater_log::checkpoint::{CheckpointStore, FileStore, Reserved};
use headwater_log::durable::{CheckpointUse, Cut, Report};
use headwater_log::{Durable, DurableConfig, LogError};
use headwater_shard::{Doubt, Key, LoadError, Shard, row_value};
use thiserror::Error;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Semaphore, watch};

use super::ShardId;
use super::frames::{FileHeader, SHARDS_MAX};
use super::local::{
    Gauges, LocalLog, LocalLogConfig, Medium, RESERVE_FILES, Reserve, SPARED_FILES,
};
use super::mirror::Mirrored;
use super::replay::{CarriedAt, Replayed, Replayer};
use super::results::Ledgered;
use super::writer::Writer;
use crate::hot::Hot;
use crate::machine::{Gone, Machine};
use crate::shards::Shards;
use crate::topics::TopicCache;

/// Why a node does not start from its files: they cannot be read or written, or a later build wrote
/// them. Damage is no reason.
#[derive(Debug, Error)]
pub enum RecoverError {
    #[error(transparent)]
    Log(#[from] LogError),
    /// The row is whole: to go on without it would be to throw away what that build knows.
    #[error("the checkpoint was written by another build of cloud-cluster: shard {shard}: {error}")]
    Build { shard: u8, error: LoadError },
}

/// A log that stands where it stood.
pub struct Recovery {
    pub log: LocalLog,
    /// Nothing is taken until somebody runs it.
    pub writer: Writer,
    pub machine: Arc<Machine>,
    /// Segments that left the manifest and may be deleted.
    pub gone: UnboundedReceiver<Gone>,
    /// Nothing was lost, cut or fallen back on: leftovers may be cleaned up.
    pub is_clean: bool,
    /// What there is to rebuild a state from that is in doubt.
    pub(crate) remains: Remains,
    /// There was nothing at all: a first start, or everything but the segments is gone.
    pub(crate) is_new: bool,
}

/// What is left of a state that is lost.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Batches that wait for their partitions, with the frames they lie in.
    pub batches: Vec<(CarriedAt, u64)>,
    /// What the journal's files said at their beginnings.
    pub headers: Vec<FileHeader>,
}

impl LocalLog {
    /// Recovers. Blocks; call it off the reactor. `salt_seed` is random.
    pub fn open(
        config: &LocalLogConfig,
        medium: &Medium,
        topics: Arc<TopicCache>,
        salt_seed: u64,
    ) -> Result<Recovery, RecoverError> {
        assert!(
            config.data_shards + 1 < SHARDS_MAX,
            "shard numbers are frame kinds"
        );
        let (durable, recovered) = open_durable(config, medium, salt_seed)?;
        let report = recovered.report;
        say(&report);
        let mut shards = vec![Shard::new(); usize::from(config.data_shards) + 1];
        let loaded = load(&mut shards, &recovered.checkpoint)?;
        let (gone_sender, gone) = mpsc::unbounded_channel();
        let machine = Arc::new(Machine {
            shards: Arc::new(Shards::new(shards)),
            hot: Arc::new(Hot::default()),
            topics,
            gone: gone_sender,
        });
        machine.open_all();
        let known = loaded && knows(report.checkpoint, recovered.from.0);
        let mut replayer = Replayer::new(&machine, &report.journal.lost, known);
        recovered.frames.for_each(|frame| replayer.take(frame));
        let mut replayed = replayer.end();
        let headers: Vec<FileHeader> = recovered
            .headers
            .iter()
            .filter_map(|(_, header)| FileHeader::decode(header))
            .collect();
        if replayed.is_blind || lies_behind(&machine.shards, headers.last()) {
            replayed.was_blind = true;
            doubt(&machine);
        }
        if replayed.was_blind {
            touch(&machine.shards, &recovered.checkpoint);
        }
        let used = matches!(
            report.checkpoint,
            CheckpointUse::None | CheckpointUse::Newest(_)
        );
        let is_clean = report.is_whole() && used && !replayed.was_blind;
        let from = recovered.from.0;
        let is_new = from == 0 && replayed.only_terms;
        tracing::info!(
            from,
            replayed = replayed.frames,
            is_clean,
            ?report,
            "recovered"
        );
        let (log, writer) = start(config, durable, &machine, &replayed, &headers, from);
        let batches = replayed.orphans;
        let remains = Remains { batches, headers };
        Ok(Recovery {
            log,
            writer,
            machine,
            gone,
            is_clean,
            remains,
            is_new,
        })
    }
}

/// Whether the loaded state is that of the first frame to be replayed.
fn knows(used: CheckpointUse, from: u64) -> bool {
    match used {
        CheckpointUse::None => from == 0,
        CheckpointUse::Lost => false,
        CheckpointUse::Newest(_)
        | CheckpointUse::FellBack { .. }
        | CheckpointUse::Unconfirmed(_) => true,
    }
}

/// Names what was found damaged, with file and place.
fn say(report: &Report) {
    for lost in &report.journal.lost {
        let (frames, place) = (&lost.frames, &lost.place);
        match place {
            Some((path, bytes)) => tracing::error!(
                path = %path.display(), from = bytes.start, to = bytes.end, ?frames,
                "journal frames are lost: these bytes are not what was written"
            ),
            None => tracing::error!(?frames, "journal frames are lost: their file is missing"),
        }
    }
    if let Some(Cut { path, bytes, at }) = &report.journal.cut {
        tracing::warn!(
            path = %path.display(), from = bytes.start, to = bytes.end, frame = at.0,
            "the journal's end is cut here: a commit that a crash tore and that nobody was told of. \
             Rot in the last commit of all looks the same"
        );
    }
    for note in &report.notes {
        tracing::error!(note, "checkpoint");
    }
    if !matches!(
        report.checkpoint,
        CheckpointUse::None | CheckpointUse::Newest(_)
    ) {
        tracing::error!(used = ?report.checkpoint, "not the newest checkpoint");
    }
}

/// The newest journal file says where everything stood when it was begun; a state that lies
/// behind that has lost what was acknowledged.
fn lies_behind(shards: &Shards, header: Option<&FileHeader>) -> bool {
    let stood = header
        .map(|header| header.shards.as_slice())
        .unwrap_or_default();
    let mut all = shards.ids().zip(stood);
    all.any(|(id, (index, _))| {
        let applied = shards.read(id).applied().index;
        let behind = applied < *index;
        if behind {
            tracing::error!(
                shard = id.0,
                applied,
                index,
                "the state lies behind the journal"
            );
        }
        behind
    })
}

/// From now on, and until it is rebuilt, this state is known to be lost: also to the next start, if
/// this one does not get that far.
fn doubt(machine: &Machine) {
    let doubt = Doubt {
        at_ms: 0,
        rebuilt: false,
        trusted: Default::default(),
        newcomers: Default::default(),
    };
    let row = row_value(&doubt);
    for id in machine.shards.data() {
        let loaded = machine.shards.write(id).load(&Key::Doubt.to_bytes(), &row);
        loaded.expect("this row was just made");
    }
    machine.open_all();
    machine.resync(machine.shards.meta());
}

/// The whole state is new to the next checkpoint, and what it is based on is gone from it.
fn touch(shards: &Shards, base: &[(Vec<u8>, Vec<u8>)]) {
    for (row, _) in base {
        if let Some((&id, key)) = row.split_first() {
            if shards.ids().any(|known| known.0 == id) {
                shards.write(ShardId(id)).touch_row(key);
            }
        }
    }
    for id in shards.ids() {
        shards.write(id).touch_all();
    }
}

fn open_durable(
    config: &LocalLogConfig,
    medium: &Medium,
    salt_seed: u64,
) -> Result<(Durable, headwater_log::Recovered), LogError> {
    let open = || -> Result<Box<dyn CheckpointStore>, LogError> {
        let first = (medium.checkpoints)(&config.checkpoint_dir)?;
        let copy = Box::new(FileStore::open(medium.disk.clone(), &config.state_dir)?);
        Ok(Box::new(Mirrored::new(first, copy)))
    };
    let store = match &medium.reserve {
        Some(Reserve { dir, bytes }) => {
            Box::new(Reserved::open(medium.disk.clone(), dir, *bytes, open)?)
        }
        None => open()?,
    };
    let durable = DurableConfig {
        file_bytes: config.file_bytes,
        files_max: config.files_max + SPARED_FILES,
        group_bytes_max: config.group_bytes,
        // Batches are compressed; what is not is small.
        compress_above_bytes: usize::MAX,
        rules: config.rules,
        ..DurableConfig::new(&config.journal_dir, salt_seed)
    };
    Durable::open(medium.disk.clone(), store, durable)
}

fn start(
    config: &LocalLogConfig,
    durable: Durable,
    machine: &Arc<Machine>,
    replayed: &Replayed,
    headers: &[FileHeader],
    from: u64,
) -> (LocalLog, Writer) {
    let shards = &machine.shards;
    let applied = shards.ids().map(|id| shards.read(id).applied().term);
    let headed = headers
        .iter()
        .flat_map(|h| &h.shards)
        .map(|(_, term)| *term);
    let seen = applied.chain(headed).max().unwrap_or(0);
    let term = seen.max(replayed.term) + 1;
    machine
        .topics
        .set_epoch(term as i32, shards.read(shards.meta()).topics());
    let (commands, queue) = mpsc::unbounded_channel();
    let (failed, failed_seen) = watch::channel(None);
    let gauges = Arc::new(Gauges::default());
    let end = durable.end().0;
    let results = Ledgered::new(shards, from, end, replayed.was_blind, config.file_bytes);
    let writer = Writer {
        durable,
        machine: machine.clone(),
        commands: queue,
        term,
        gauges: gauges.clone(),
        failed,
        results,
    };
    writer.gauge();
    let log = LocalLog {
        commands,
        queue: Arc::new(Semaphore::new(super::local::QUEUE_BYTES)),
        hot: machine.hot.clone(),
        hot_bytes: config.hot_bytes,
        reserve_bytes: config.file_bytes * RESERVE_FILES,
        disk_full: Arc::new(AtomicBool::new(false)),
        failed: failed_seen,
        gauges,
        thread: Mutex::new(None),
    };
    (log, writer)
}

/// False: some rows were not understood.
fn load(shards: &mut [Shard], rows: &[(Vec<u8>, Vec<u8>)]) -> Result<bool, RecoverError> {
    let mut all = true;
    for (row, value) in rows {
        let (id, key) = row
            .split_first()
            .map_or((u8::MAX, &[][..]), |(id, k)| (*id, k));
        let Some(shard) = shards.get_mut(usize::from(id)) else {
            tracing::error!(shard = id, "a checkpoint's row is of no shard of this node");
            all = false;
            continue;
        };
        match shard.load(key, value) {
            Err(error @ LoadError::Format { .. }) => {
                return Err(RecoverError::Build { shard: id, error });
            }
            Err(error) => {
                tracing::error!(shard = id, %error, "a checkpoint's row does not parse");
                all = false;
            }
            Ok(()) => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use headwater_shard::ROW_FORMAT;

    use super::*;

    /// Damage costs what it damaged; a later build's state is left alone.
    #[test]
    fn a_later_builds_checkpoint_stops_the_start_and_a_bad_row_does_not() {
        let (key, whole) = (super::super::frames::row_key(0, &Key::Head.to_bytes()), {
            Shard::new()
                .row(&Key::Head)
                .expect("a head is always there")
        });
        let mut shards = vec![Shard::new(); 2];
        let mut load = |value: Vec<u8>| load(&mut shards, &[(key.clone(), value)]);
        assert!(load(whole.clone()).expect("it parses"));
        assert!(!load(whole[..2].to_vec()).expect("it is passed over"));
        let mut later = whole;
        later[0] = ROW_FORMAT + 1;
        let error = load(later).expect_err("it is not understood").to_string();
        assert!(
            error.contains("shard 0") && error.contains("format 2"),
            "{error}"
        );
    }
}

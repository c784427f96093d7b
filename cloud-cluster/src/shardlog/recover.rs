//! From the files of the last run to shards that stand where they stood.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_log::durable::{CheckpointUse, FRAME_BYTES_MAX, Frame};
use headwater_log::{Durable, DurableConfig, LogError};
use headwater_shard::{At, Entry, LoadError, Shard, decode};
use thiserror::Error;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Semaphore, watch};

use super::ShardId;
use super::frames::{self, FileHeader, KIND_CARRIED, SHARDS_MAX};
use super::local::{GROUP_BYTES, Gauges, LocalLog, LocalLogConfig, Medium, RESERVE_FILES};
use super::writer::Writer;
use crate::hot::Hot;
use crate::machine::{Gone, Machine};
use crate::shards::Shards;
use crate::topics::TopicCache;

/// Why a node does not start from its files.
#[derive(Debug, Error)]
pub enum RecoverError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("checkpoint: {0}")]
    Row(#[from] LoadError),
    #[error("checkpoint: a row of shard {0}; there are {1} shards")]
    ForeignRow(u8, usize),
    #[error("journal frame {position}: {what}")]
    Frame { position: u64, what: String },
    #[error("{tp}: acknowledged records {from}..{to} are neither in the journal nor in a segment")]
    Hole {
        tp: TopicPartition,
        from: Offset,
        to: Offset,
    },
    #[error(
        "the state lies behind the journal: shard {shard} stands at entry {index}, the journal goes \
         on at {found}. The checkpoints in {dir} are lost or damaged; restore the data directory \
         from a copy, since a start from here would hand out offsets a second time"
    )]
    StateLost {
        shard: u8,
        index: u64,
        found: u64,
        dir: String,
    },
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
        let mut shards = vec![Shard::new(); usize::from(config.data_shards) + 1];
        load(&mut shards, &recovered.checkpoint)?;
        let (gone_sender, gone) = mpsc::unbounded_channel();
        let machine = Arc::new(Machine {
            shards: Arc::new(Shards::new(shards)),
            hot: Arc::new(Hot::default()),
            topics,
            gone: gone_sender,
        });
        machine.open_all();
        let dir = config.checkpoint_dir.display().to_string();
        let mut replayed = 0u64;
        for frame in recovered.frames {
            replay(&machine, frame?, &dir)?;
            replayed += 1;
        }
        check_header(&machine.shards, &recovered.header, &dir)?;
        let report = recovered.report;
        let used = matches!(
            report.checkpoint,
            CheckpointUse::None | CheckpointUse::Newest(_)
        );
        let is_clean = report.is_whole() && used;
        tracing::info!(
            from = recovered.from.0,
            replayed,
            is_clean,
            ?report,
            "recovered"
        );
        check_holes(&machine)?;
        let (log, writer) = start(config, durable, &machine);
        Ok(Recovery {
            log,
            writer,
            machine,
            gone,
            is_clean,
        })
    }
}

fn open_durable(
    config: &LocalLogConfig,
    medium: &Medium,
    salt_seed: u64,
) -> Result<(Durable, headwater_log::Recovered), LogError> {
    let store = (medium.checkpoints)(&config.checkpoint_dir)?;
    let durable = DurableConfig {
        file_bytes: config.file_bytes,
        files_max: config.files_max,
        // The largest frame must fit too, not only what is gathered at most.
        group_bytes_max: GROUP_BYTES.max(FRAME_BYTES_MAX + 1024),
        // Batches are compressed; what is not is small.
        compress_above_bytes: usize::MAX,
        ..DurableConfig::new(&config.journal_dir, salt_seed)
    };
    Durable::open(medium.disk.clone(), store, durable)
}

fn start(config: &LocalLogConfig, durable: Durable, machine: &Arc<Machine>) -> (LocalLog, Writer) {
    let shards = &machine.shards;
    let term = shards
        .ids()
        .map(|id| shards.read(id).applied().term)
        .max()
        .unwrap_or(0)
        + 1;
    machine
        .topics
        .set_epoch(term as i32, shards.read(shards.meta()).topics());
    let (commands, queue) = mpsc::unbounded_channel();
    let (failed, failed_seen) = watch::channel(None);
    let gauges = Arc::new(Gauges::default());
    let writer = Writer {
        durable,
        machine: machine.clone(),
        commands: queue,
        term,
        gauges: gauges.clone(),
        failed,
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

fn load(shards: &mut [Shard], rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), RecoverError> {
    let count = shards.len();
    for (row, value) in rows {
        let Some((&id, key)) = row.split_first() else {
            return Err(LoadError::Key.into());
        };
        let shard = shards.get_mut(usize::from(id));
        shard
            .ok_or(RecoverError::ForeignRow(id, count))?
            .load(key, value)?;
    }
    Ok(())
}

fn replay(machine: &Machine, frame: Frame, dir: &str) -> Result<(), RecoverError> {
    let position = frame.position.0;
    let payload = Bytes::from(frame.payload);
    let bad = |what: String| RecoverError::Frame { position, what };
    if frame.kind == KIND_CARRIED {
        let carried = frames::carried(&payload).ok_or(bad("not a carried batch".into()))?;
        machine.restore(carried, position);
        return Ok(());
    }
    let (at, encoded) = frames::split(&payload).ok_or(bad("too short".into()))?;
    if !machine.shards.ids().any(|id| id.0 == frame.kind) {
        return Err(bad(format!("of shard {}, which is not there", frame.kind)));
    }
    let (entry, batch) = decode(&encoded).map_err(|e| bad(e.to_string()))?;
    let id = ShardId(frame.kind);
    check_next(machine.shards.read(id).applied(), at, id, dir)?;
    let _: headwater_shard::Outcome = machine.apply(id, at, &entry, &batch, position);
    if let Entry::NewTerm = entry {
        tracing::debug!(shard = id.0, term = at.term, "a term of the past");
    }
    Ok(())
}

fn check_next(applied: At, at: At, id: ShardId, dir: &str) -> Result<(), RecoverError> {
    if at.index == applied.index + 1 && at.term >= applied.term {
        return Ok(());
    }
    let (index, found, dir) = (applied.index, at.index, dir.to_owned());
    Err(RecoverError::StateLost {
        shard: id.0,
        index,
        found,
        dir,
    })
}

/// What is not in a cold segment must have come from the journal, without a hole.
fn check_holes(machine: &Machine) -> Result<(), RecoverError> {
    for id in machine.shards.data() {
        let shard = machine.shards.read(id);
        for (tp, partition) in shard.partitions() {
            let mut at = partition.start.max(partition.cold_end);
            let log = machine.hot.partition(tp);
            let held = log
                .map(|log| log.range(at, partition.next))
                .unwrap_or_default();
            for (base, batch) in held {
                if base > at {
                    break;
                }
                at = batch.end;
            }
            if at < partition.next {
                let (tp, to) = (tp.clone(), partition.next);
                return Err(RecoverError::Hole { tp, from: at, to });
            }
        }
    }
    Ok(())
}

/// The newest journal file says where everything stood when it was begun; a state that lies
/// behind that has lost what was acknowledged.
fn check_header(shards: &Shards, header: &[u8], dir: &str) -> Result<(), RecoverError> {
    let Some(header) = FileHeader::decode(header) else {
        return Ok(());
    };
    for (id, (found, _)) in shards.ids().zip(&header.shards) {
        let index = shards.read(id).applied().index;
        if index < *found {
            let dir = dir.to_owned();
            return Err(RecoverError::StateLost {
                shard: id.0,
                index,
                found: *found,
                dir,
            });
        }
    }
    Ok(())
}

//! Recovery: checkpoint, headers and frames of the journal, and the data directory, put together.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_batch::{Limits, Offset, TopicPartition};

use super::checkpointed::Checkpointed;
use super::frames::{self, BOOT_PARTITIONS_MAX, BootFrame, BootPartition, GapFrame, Plausible};
use super::gather::Gather;
use super::lineages::Lineages;
use super::meta::{Header, OWNER, PARTITION_KEY, PartitionMeta, STORE, STORE_KEY, StoreMeta};
use super::table::{Partition, Table};
use super::{Durability, Gap, Ms, Recovered, Store, StoreConfig};
use crate::disk::{Disk, create_dirs};
use crate::durable::{self, CheckpointStore, Durable, DurableConfig};
use crate::error::{ErrorKind, LogError};
use crate::pack::{PackConfig, Packer};
use crate::partition::{self, Known};

/// Journal files that entries may fill. Two generations of checkpoints need fewer.
const JOURNAL_FILES_MAX: usize = 8;
/// Journal files beyond that, for the store's own frames: each start takes a file, and a node that
/// dies before its first checkpoint, again and again, must still start.
const JOURNAL_FILES_SPARED: usize = 64;
/// Files that the journal keeps ready.
const JOURNAL_SPARES: usize = crate::journal::SPARES;
/// Smaller files than this do not hold a group with the largest frame: groups, and with them
/// entries, are smaller too.
const JOURNAL_FILE_FULL_BYTES: u64 = 2 << 20;
/// The budget holds at least this many segments, so that there is always one that can go.
const SEGMENTS_PER_BUDGET: u64 = 8;

/// Who opens the store, and when.
pub(super) struct Start {
    pub(super) now: Ms,
    pub(super) boot: u64,
    pub(super) incarnation_if_new: u128,
}

/// A replay in progress.
pub(super) struct Replay {
    pub(super) store: Store,
    pub(super) out: Recovered,
    /// Holes that nothing explains yet, to be journaled.
    pub(super) holes: Vec<(usize, Gap)>,
    /// The offset behind what is in segments and packer, by partition.
    pub(super) packed: Vec<Offset>,
    /// Where the first segment begins of those partitions whose log start nothing has told yet.
    pub(super) untold: Vec<Option<Offset>>,
    /// Records that are known to be lost, and those whose offsets are known.
    pub(super) lost: u64,
    pub(super) found: u64,
    /// Lost frames behind which nothing has counted records yet.
    pub(super) uncounted: u64,
    /// Frames that were durable are gone.
    pub(super) rotten: bool,
    /// Partitions not heard of since frames were lost.
    pub(super) unsure: Vec<bool>,
    pub(super) expected: u64,
    /// Headers still ahead, with the first frame of their file.
    pub(super) headers: VecDeque<(u64, Header)>,
    /// What the lineages' own files say.
    pub(super) lineages: Lineages,
    /// J2 switched off: the next offset by counting.
    pub(super) counted: Vec<Offset>,
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    checkpoints: Box<dyn CheckpointStore>,
    mut cfg: StoreConfig,
    start: Start,
) -> Result<(Store, Recovered), LogError> {
    cfg.validate().map_err(|valid| LogError::Config {
        key: "store",
        value: cfg.dir.display().to_string(),
        valid,
    })?;
    let room = cfg.budget_bytes - cfg.reserve_bytes;
    cfg.segment_bytes = cfg
        .segment_bytes
        .min((room / SEGMENTS_PER_BUDGET).max(4096));
    create_dirs(disk.as_ref(), &cfg.dir).map_err(LogError::io("create", &cfg.dir))?;
    let mut journal = DurableConfig::new(cfg.dir.join("journal"), start.boot);
    journal.file_bytes = cfg.journal_file_bytes;
    if cfg.journal_file_bytes < JOURNAL_FILE_FULL_BYTES {
        journal.group_bytes_max = (cfg.journal_file_bytes / 4) as usize;
    }
    let files = usize::try_from(room / cfg.journal_file_bytes / 4).unwrap_or(usize::MAX);
    let files = files.clamp(4, JOURNAL_FILES_MAX);
    journal.files_max = files + JOURNAL_FILES_SPARED;
    journal.rules = cfg.rules;
    journal.whole_pages = true;
    let live_max = files as u64 * cfg.journal_file_bytes;
    let journal_file_bytes = cfg.journal_file_bytes;
    let (durable, recovered) = Durable::open(Arc::clone(&disk), checkpoints, journal)?;
    let mut store = Store::empty(disk, durable, cfg, &start);
    store.journal_live_max = live_max;
    store.journal_bytes_max = (files + JOURNAL_SPARES) as u64 * journal_file_bytes;
    let frames_lost = !recovered.report.is_whole();
    let mut replay = Replay::new(store, &recovered);
    replay.rotten = !recovered.report.journal.lost.is_empty();
    replay.load(recovered)?;
    replay.finish(&start, frames_lost)
}

impl Store {
    fn empty(disk: Arc<dyn Disk>, durable: Durable, cfg: StoreConfig, start: &Start) -> Store {
        let pack = PackConfig {
            batch_bytes: cfg.batch_bytes,
            linger_ms: cfg.linger_ms,
            hold_ms: cfg.hold_ms,
            level: cfg.level,
            memory_bytes: cfg.memory_bytes,
        };
        Store {
            packer: Packer::new(pack, cfg.rules.seal_idle()),
            disk,
            durable,
            table: Table::default(),
            boot: start.boot,
            incarnation_if_new: start.incarnation_if_new,
            total: 0,
            clock_base: 0,
            clock_from: start.now,
            clock_seen: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sealed: Vec::new(),
            marks: VecDeque::new(),
            scratch: Vec::new(),
            due: None,
            gather: Gather::new(cfg.commit_gather_ms),
            unsynced_since: None,
            in_flight_since: None,
            acks_moved: false,
            lineages_due: false,
            keep_at: start.now,
            segment_bytes: 0,
            checkpoint_bytes: 0,
            going_bytes: 0,
            medium_bytes: u64::MAX,
            looked_at: start.now,
            disk_full: false,
            stopped: false,
            checkpoint_wanted: false,
            stale_checkpoints: 0,
            checkpoint_failed: false,
            live_bytes_then: 0,
            journal_live_max: u64::MAX,
            journal_bytes_max: 0,
            cfg,
        }
    }
}

impl Replay {
    fn new(store: Store, recovered: &durable::Recovered) -> Replay {
        let mut replay = Replay {
            store,
            out: Recovered::default(),
            holes: Vec::new(),
            packed: Vec::new(),
            untold: Vec::new(),
            lost: 0,
            found: 0,
            uncounted: 0,
            rotten: false,
            unsure: Vec::new(),
            expected: recovered.from.0,
            headers: VecDeque::new(),
            lineages: Lineages::default(),
            counted: Vec::new(),
        };
        let report = &recovered.report;
        if *report != durable::Report::default() {
            replay.out.notes.push(format!("journal: {report:?}"));
        }
        replay
    }

    /// Everything that was stored, in the order it was.
    fn load(&mut self, recovered: durable::Recovered) -> Result<(), LogError> {
        let from = recovered.from.0;
        let fresh = recovered.checkpoint.is_empty() && recovered.headers.is_empty();
        let mut known = Checkpointed::default();
        for (key, value) in recovered.checkpoint {
            self.load_key(&mut known, key, value);
        }
        for (position, bytes) in recovered.headers {
            match Header::decode(&bytes) {
                Some(header) if position.0 <= from => known.merge(header),
                Some(header) => self.headers.push_back((position.0, header)),
                None if bytes.is_empty() => {}
                None => self.note("a journal file's header does not decode".to_owned()),
            }
        }
        self.store.total = known.store.total;
        self.store.clock_base = known.store.clock_ms;
        self.load_lineages()?;
        self.open_partitions(known, fresh)?;
        for frame in recovered.frames {
            match frame {
                Ok(frame) => self.frame(frame)?,
                // Its checksum was right. The frames that it should hold count as lost.
                Err(error) if error.kind() == ErrorKind::Corrupt => self.note(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        while let Some((_, header)) = self.headers.pop_front() {
            self.header(header)?;
        }
        Ok(())
    }

    fn load_key(&mut self, known: &mut Checkpointed, key: Vec<u8>, value: Vec<u8>) {
        if key == STORE_KEY {
            match postcard::from_bytes(&value) {
                Ok(meta) if StoreMeta::is_plausible(&meta) => known.store = meta,
                Ok(_) => self.note("checkpointed store state: no log's numbers".to_owned()),
                Err(error) => self.note(format!("checkpointed store state: {error}")),
            }
        } else if key.starts_with(PARTITION_KEY) {
            match postcard::from_bytes::<PartitionMeta>(&value) {
                Ok(meta) => {
                    let tp = meta.tp.clone();
                    match meta.read_back() {
                        Some(meta) => drop(known.partitions.insert(tp, (meta, value))),
                        None => self.note(format!("checkpointed state of {tp}: no log's numbers")),
                    }
                }
                Err(error) => self.note(format!("checkpointed partition state: {error}")),
            }
        } else if key.first() == Some(&OWNER) {
            self.out.kv.push((key[1..].to_vec(), value));
        } else {
            debug_assert_eq!(key.first(), Some(&STORE), "keys are ours or the owner's");
            self.note("the checkpoint holds a key of no known kind".to_owned());
        }
    }

    /// Partitions are found in the data directory, whatever the configuration says (U5), and in
    /// what the journal remembers.
    fn open_partitions(&mut self, mut known: Checkpointed, fresh: bool) -> Result<(), LogError> {
        let dir = self.store.cfg.dir.clone();
        let listed = self
            .store
            .disk
            .list(&dir)
            .map_err(LogError::io("list", &dir))?;
        let on_disk = listed.iter().filter(|listed| listed.is_dir);
        let on_disk: Vec<TopicPartition> = on_disk
            .filter_map(|listed| listed.name.parse().ok())
            .collect();
        let mut all: Vec<TopicPartition> = known.partitions.keys().cloned().collect();
        all.extend(
            on_disk
                .iter()
                .filter(|tp| !known.partitions.contains_key(tp))
                .cloned(),
        );
        all.extend(self.lineages.partitions().cloned());
        all.sort();
        all.dedup();
        let journal_lost = fresh && !on_disk.is_empty();
        for tp in all {
            let (meta, saved) = known.partitions.remove(&tp).unzip();
            let exists = on_disk.contains(&tp);
            self.open_partition(tp, meta, saved.unwrap_or_default(), exists, journal_lost)?;
        }
        Ok(())
    }

    pub(super) fn open_partition(
        &mut self,
        tp: TopicPartition,
        meta: Option<PartitionMeta>,
        saved: Vec<u8>,
        exists: bool,
        journal_lost: bool,
    ) -> Result<usize, LogError> {
        let store = &self.store;
        let log = if exists {
            let known = Known {
                synced: meta.as_ref().and_then(|meta| meta.synced),
                journal_lost,
                segment_bytes: store.cfg.segment_bytes,
                stamp: store.clock_base,
            };
            let dir = store.cfg.dir.join(tp.to_string());
            let limits = Limits::UPLINK;
            let opened = partition::open(&store.disk, dir, tp.clone(), &known, &limits)?;
            self.out.notes.extend(opened.notes);
            opened.log
        } else {
            store.new_log(&tp)
        };
        let first = log.shared.state().segments.first().map(|first| first.base);
        let untold = meta.is_none().then(|| first.unwrap_or_default());
        let mut meta = meta.unwrap_or_else(|| {
            let mut meta = PartitionMeta::new(tp, self.store.incarnation_if_new, Offset::ZERO);
            meta.since = first.unwrap_or_default();
            meta
        });
        self.lineages.name(&mut meta);
        if first.is_none() {
            log.shared.state().end = meta.start;
        }
        let packed = log.end();
        meta.next = meta.next.max(packed);
        self.counted.push(meta.next);
        log.restamp(&meta.stamps);
        let mut partition = Partition::new(meta, log, exists);
        partition.saved = saved;
        partition.publish();
        self.packed.push(packed);
        self.untold.push(untold);
        self.unsure.push(false);
        Ok(self.store.table.add(partition))
    }

    pub(super) fn note(&mut self, note: String) {
        self.out.notes.push(note);
    }

    /// Makes sure that no lost offset is used again, journals what was found, and begins.
    fn finish(mut self, start: &Start, frames_lost: bool) -> Result<(Store, Recovered), LogError> {
        // Gaps hold once everything before them is in its place.
        self.store.packer.seal_all(&mut self.store.sealed);
        self.store.append_sealed(start.now)?;
        self.settle_lineages(frames_lost);
        self.skip_lost();
        self.guess_starts();
        for number in 0..self.packed.len() {
            let next = match self.store.cfg.rules.j2() {
                true => self.store.table.partitions[number].meta.next,
                false => self.counted[number],
            };
            if next > self.packed[number] {
                self.hole(number, next);
            }
            let partition = &mut self.store.table.partitions[number];
            partition.meta.next = next.max(partition.log.end());
            partition.going = partition.meta.start;
            let clock = self.store.clock_base;
            partition.log.stamp_others(&partition.meta.stamps, clock);
            partition.log.delete_below(partition.meta.start)?;
        }
        let mut holes = self.unexplained();
        if self.rotten {
            holes.extend(self.unheard());
        }
        let Replay {
            mut store,
            mut out,
            untold,
            ..
        } = self;
        store.clock_seen = store.clock_base;
        store.segment_bytes = store.table.partitions.iter().map(|p| p.log.bytes()).sum();
        for (number, gap) in &holes {
            store.table.partitions[*number].meta.add_gap(*gap);
        }
        // Before anything is written: a new file's header says where the logs begin.
        for (partition, untold) in store.table.partitions.iter_mut().zip(untold) {
            if untold.is_some() {
                partition.meta.begin_with_gaps();
            }
        }
        store.journal_start(&holes, start)?;
        let gaps = holes.iter().map(|(number, gap)| {
            let tp = &store.table.partitions[*number].meta.tp;
            format!("{tp}: offsets {}..{} are lost", gap.from, gap.to)
        });
        out.notes.extend(gaps);
        for partition in &mut store.table.partitions {
            partition.meta.prune();
            partition.publish();
            partition.extend_over_gaps();
        }
        store.weigh_checkpoints();
        // What was replayed now need not be replayed again.
        store.checkpoint_wanted = store.durable.live_bytes() >= store.cfg.journal_file_bytes;
        Ok((store, out))
    }
}

impl Store {
    /// GAPs that recovery found and BOOT, durable before the first record (U1).
    fn journal_start(&mut self, holes: &[(usize, Gap)], start: &Start) -> Result<(), LogError> {
        for (number, gap) in holes {
            let meta = &self.table.partitions[*number].meta;
            let frame = frames::encode(&GapFrame {
                tp: meta.tp.clone(),
                gap: *gap,
            });
            self.stage_start(frames::GAP, &frame, start.now)?;
        }
        for partition in &mut self.table.partitions {
            partition.meta.add_boot(start.boot, partition.meta.next);
        }
        let starts: Vec<_> = self
            .table
            .partitions
            .iter()
            .map(|partition| {
                let meta = &partition.meta;
                BootPartition {
                    tp: meta.tp.clone(),
                    start: meta.next,
                    incarnation: meta.incarnation,
                    since: meta.since,
                    forks: meta.forks,
                    acked: meta.acked,
                }
            })
            .collect();
        let mut chunks: Vec<_> = starts
            .chunks(BOOT_PARTITIONS_MAX)
            .map(<[_]>::to_vec)
            .collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        for starts in chunks {
            let (total, clock_ms) = (self.total, self.clock_base);
            let frame = BootFrame {
                total,
                clock_ms,
                boot: start.boot,
                starts,
            };
            self.stage_start(frames::BOOT, &frames::encode(&frame), start.now)?;
        }
        self.commit_inline(start.now)?;
        self.lineages_due = true;
        self.save_lineages()
    }

    /// At the start nothing is in flight, so a full group is committed to make room.
    fn stage_start(&mut self, kind: u8, payload: &[u8], now: Ms) -> Result<(), LogError> {
        match self.stage_own(kind, payload, Durability::Fsync, now) {
            Err(LogError::Busy { .. }) => {
                self.commit_inline(now)?;
                self.stage_own(kind, payload, Durability::Fsync, now)
                    .map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }
}

//! The shard log on one journal of this node: for a cluster of one, before Raft.
//!
//! One [`Writer`] owns the journal, on a thread of its own or wherever its owner runs it. It takes what waits in the queue, up to [`GROUP_BYTES`], writes and
//! syncs it as one group, applies it in order and answers. While it syncs, the next group gathers in
//! the queue; no timer is involved.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_log::checkpoint::{CheckpointStore, FileStore, SledStore};
use headwater_log::durable::{FRAME_BYTES_MAX, Rules};
use headwater_log::{Disk, LogError, Position, RealDisk};
use headwater_shard::{Entry, encode};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::frames::{Carried, PREFIX_BYTES};
use super::writer::Writer;
use super::{Pending, ProposeError, Proposed, ShardId, ShardLog};
use crate::hot::Hot;

/// The most bytes that one sync covers (C6).
pub const GROUP_BYTES: usize = 1 << 20;
/// The most bytes of entries that wait; a proposer beyond it waits for its turn.
pub(super) const QUEUE_BYTES: usize = 32 << 20;
/// Journal files that data leaves to the entries that make room: new terms, manifest entries,
/// batches carried forward.
pub(super) const RESERVE_FILES: u64 = 2;
/// Journal files beyond `files_max`, made when they are needed, for the same entries: each start takes a
/// file, however little is in it, and what clients ask for takes the rest, while no segment can be
/// written. Without them nothing would make room any more.
pub(super) const SPARED_FILES: usize = 16;
/// How long data may wait for the sealer to make room before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(20);

/// How often data that waits looks again.
const ROOM_LOOK: Duration = Duration::from_millis(50);

/// Where the journal lies and how large it may get.
#[derive(Debug, Clone)]
pub struct LocalLogConfig {
    pub journal_dir: PathBuf,
    pub checkpoint_dir: PathBuf,
    /// A second copy of the checkpoints, as plain files.
    pub state_dir: PathBuf,
    pub file_bytes: u64,
    pub files_max: usize,
    pub data_shards: u8,
    /// The sealer's aim; data waits at twice that.
    pub hot_bytes: u64,
    /// The most bytes of one group in the journal: [`GROUP_BYTES`] and the largest frame, but in
    /// simulations.
    pub group_bytes: usize,
    /// Off-switches for tests.
    pub rules: Rules,
}

/// What the journal and the checkpoints lie on.
#[derive(Clone)]
pub struct Medium {
    pub disk: Arc<dyn Disk>,
    /// Opens the checkpoints in a directory.
    pub checkpoints: OpenCheckpoints,
    /// Laid aside for checkpoints, for when others have filled the medium.
    pub reserve: Option<Reserve>,
}

/// See [`Medium::reserve`].
#[derive(Debug, Clone)]
pub struct Reserve {
    pub dir: PathBuf,
    pub bytes: u64,
}

/// See [`Medium::checkpoints`].
pub type OpenCheckpoints =
    Arc<dyn Fn(&Path) -> Result<Box<dyn CheckpointStore>, LogError> + Send + Sync>;

impl Medium {
    /// The operating system's files, checkpoints in sled.
    pub fn real(reserve: Option<Reserve>) -> Medium {
        Medium {
            disk: Arc::new(RealDisk),
            checkpoints: Arc::new(|dir| Ok(Box::new(SledStore::open(dir)?))),
            reserve,
        }
    }

    /// Everything as files on `disk`, checkpoints included: for a disk that is simulated.
    pub fn files(disk: Arc<dyn Disk>) -> Medium {
        let of = disk.clone();
        Medium {
            disk,
            checkpoints: Arc::new(move |dir| Ok(Box::new(FileStore::open(of.clone(), dir)?))),
            reserve: None,
        }
    }
}

/// A handle; the journal belongs to its [`Writer`].
#[derive(Debug)]
pub struct LocalLog {
    pub(super) commands: UnboundedSender<Command>,
    pub(super) queue: Arc<Semaphore>,
    pub(super) hot: Arc<Hot>,
    pub(super) hot_bytes: u64,
    /// Data leaves so much of the journal to the entries that make room.
    pub(super) reserve_bytes: u64,
    /// Set by the free-space check: new data is refused before it is written (C5).
    pub(super) disk_full: Arc<AtomicBool>,
    pub(super) failed: watch::Receiver<Option<String>>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// How full the journal is, as its thread last saw it.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// Waits for a checkpoint.
    pub live_bytes: AtomicU64,
    /// May still be written.
    pub room_bytes: AtomicU64,
}

/// What the journal's writer is asked.
#[derive(Debug)]
pub(super) enum Command {
    Propose(Proposal),
    Mark(oneshot::Sender<Mark>),
    Carry(Vec<Carried>, oneshot::Sender<Result<(), String>>),
    Checkpoint(Position, Rows, oneshot::Sender<Result<(), String>>),
    Stop,
}

/// Changed rows of all shards.
pub type Rows = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Debug)]
pub(super) struct Proposal {
    pub shard: ShardId,
    pub entry: Entry,
    pub batch: Bytes,
    pub encoded: Vec<u8>,
    pub answer: oneshot::Sender<Result<headwater_shard::Outcome, ProposeError>>,
    /// Room in the queue, given back when the entry is answered.
    pub _permit: OwnedSemaphorePermit,
}

/// A point between two entries: the start of a checkpoint.
#[derive(Debug)]
pub struct Mark {
    /// Frames from here on are not in `rows`.
    pub at: Position,
    /// What changed in all shards since the last mark.
    pub rows: Rows,
    /// Up to where each partition's hot batches lie in frames before `at`.
    pub hot: Vec<(TopicPartition, Offset)>,
}

impl ShardLog for LocalLog {
    fn propose(&self, shard: ShardId, entry: Entry, batch: Bytes) -> Proposed<'_> {
        Box::pin(self.enqueue(shard, entry, batch))
    }
}

impl LocalLog {
    async fn enqueue(
        &self,
        shard: ShardId,
        entry: Entry,
        batch: Bytes,
    ) -> Result<Pending, ProposeError> {
        if !batch.is_empty() {
            self.admit().await?;
        } else if is_asked_for(&entry) && self.room_bytes() == 0 {
            return Err(ProposeError::Full("the journal waits for a checkpoint"));
        }
        let encoded = encode(&entry, &batch);
        let bytes = encoded.len() + PREFIX_BYTES;
        if bytes > FRAME_BYTES_MAX {
            return Err(ProposeError::TooLarge {
                bytes,
                max: FRAME_BYTES_MAX,
            });
        }
        let permits = u32::try_from(bytes).expect("FRAME_BYTES_MAX fits u32");
        let permit = self.queue.clone().acquire_many_owned(permits).await;
        let _permit = permit.map_err(|_| ProposeError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let proposal = Proposal {
            shard,
            entry,
            batch,
            encoded,
            answer,
            _permit,
        };
        self.send(Command::Propose(proposal))?;
        Ok(Pending(answered))
    }

    /// Data is let in while there is room in memory and on the disk.
    async fn admit(&self) -> Result<(), ProposeError> {
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(ProposeError::Full("the disk's reserve is reached"));
        }
        if self.has_room() {
            return Ok(());
        }
        let room = async {
            while !self.has_room() {
                // Told when something went; looked at anyway, since the journal's room also grows
                // without anything going.
                let drained = self.hot.drained.notified();
                let _ = tokio::time::timeout(ROOM_LOOK, drained).await;
            }
        };
        let waited = tokio::time::timeout(ROOM_WAIT, room).await;
        waited.map_err(|_| ProposeError::Full("cold segments are not written fast enough"))
    }

    fn has_room(&self) -> bool {
        self.hot.has_room(self.hot_bytes) && self.room_bytes() >= self.reserve_bytes
    }

    fn send(&self, command: Command) -> Result<(), ProposeError> {
        self.commands
            .send(command)
            .map_err(|_| ProposeError::Stopped)
    }

    /// Takes the changed rows at a point between two entries.
    pub async fn mark(&self) -> Result<Mark, ProposeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Mark(answer))?;
        answered.await.map_err(|_| ProposeError::Stopped)
    }

    /// Writes hot batches into the journal again, so that their old frames may go (J8).
    pub async fn carry(&self, batches: Vec<Carried>) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Carry(batches, answer))
            .map_err(|e| e.to_string())?;
        answered
            .await
            .unwrap_or_else(|_| Err(ProposeError::Stopped.to_string()))
    }

    /// Stores rows as of `at` and lets go of the journal before it (J5).
    pub async fn checkpoint(&self, at: Position, rows: Rows) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Checkpoint(at, rows, answer))
            .map_err(|e| e.to_string())?;
        answered
            .await
            .unwrap_or_else(|_| Err(ProposeError::Stopped.to_string()))
    }

    /// Bytes of the journal that wait for a checkpoint.
    pub fn live_bytes(&self) -> u64 {
        self.gauges.live_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the journal still takes. Every start uses up a file, however little is in it.
    pub fn room_bytes(&self) -> u64 {
        self.gauges.room_bytes.load(Ordering::Relaxed)
    }

    pub fn set_disk_full(&self, full: bool) {
        self.disk_full.store(full, Ordering::Relaxed);
    }

    pub fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Waits until the journal has failed (J6) and says why. Pending for ever while it works.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        loop {
            if let Some(why) = failed.borrow_and_update().clone() {
                return why;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs the writer on a thread, until [`LocalLog::stop`] or the journal fails.
    pub fn run_on_thread(&self, writer: Writer) {
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run())
            .expect("the system has room for one thread at start");
        *self.thread.lock().expect("no holder panics") = Some(thread);
    }

    /// Ends the writer, and its thread if it has one, once everything before has been answered.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread.lock().expect("no holder panics").take();
        if let Some(thread) = thread {
            // A panic there was logged and answered as Stopped; there is nothing left to do.
            let _ = thread.join();
        }
    }
}

/// Whether clients or edges ask for it, as often as they like; others make room, or come a few times.
fn is_asked_for(entry: &Entry) -> bool {
    matches!(
        entry,
        Entry::Stream { .. }
            | Entry::Produce { .. }
            | Entry::CreateTopic { .. }
            | Entry::CreatePartitions { .. }
            | Entry::AlterConfig { .. }
            | Entry::InitProducerId
            | Entry::PinStream { .. }
            | Entry::GroupGeneration { .. }
            | Entry::CommitOffsets { .. }
    )
}

/// What a journal error is to a proposer.
pub(super) fn refusal(error: &LogError) -> ProposeError {
    match error.kind() {
        headwater_log::ErrorKind::Full => ProposeError::Full("the journal waits for a checkpoint"),
        headwater_log::ErrorKind::Invalid => ProposeError::TooLarge {
            bytes: FRAME_BYTES_MAX + 1,
            max: FRAME_BYTES_MAX,
        },
        _ => ProposeError::Stopped,
    }
}

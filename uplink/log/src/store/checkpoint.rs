//! Checkpoints in the order of rule J5.

use super::meta::{Header, OWNER, STORE_KEY, StoreMeta};
use super::{Ms, Store, Token, frames};
use crate::durable::Position;
use crate::error::LogError;

impl Store {
    pub(super) fn checkpoint_all(
        &mut self,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        now: Ms,
    ) -> Result<Token, LogError> {
        // Before anything can fail: the owner gives each change once.
        let owners = changes
            .into_iter()
            .map(|(key, value)| ([&[OWNER][..], &key].concat(), value));
        self.durable.carry(owners.collect());
        let done = self.checkpoint_carried(now);
        self.checkpoint_failed = done.is_err();
        self.checkpoint_wanted |= done.is_err();
        done
    }

    fn checkpoint_carried(&mut self, now: Ms) -> Result<Token, LogError> {
        self.check_running()?;
        if self.durable.in_flight() {
            return Err(LogError::Busy { what: "checkpoint" });
        }
        self.retry_stalled(now)?;
        // The owner's changes count every op staged so far, so every op must be durable first.
        self.commit_inline(now)?;
        if self.cfg.rules.seal_idle() {
            self.packer.seal_all(&mut self.sealed);
            self.append_sealed(now)?;
        }
        if self.disk_full {
            let what = "the medium";
            return Err(LogError::Full {
                what,
                need: self.packer.bytes() as u64,
                have: 0,
            });
        }
        if self.cfg.rules.segments_synced() {
            for partition in &mut self.table.partitions {
                if partition.log.is_dirty() {
                    let synced = partition.log.sync();
                    self.stopped |= synced.is_err();
                    synced?;
                }
            }
        } else {
            self.table
                .partitions
                .iter_mut()
                .for_each(|p| p.log.pretend_synced());
        }
        let at = self.packer.oldest().map_or(self.durable.end(), Position);
        let (all, saved) = self.changes(now);
        let header = self.header_at(now);
        let done = self.durable.checkpoint(at, all, header, &[]);
        let done = self.fatal(done)?;
        for (number, bytes) in saved {
            self.table.partitions[number].saved = bytes;
        }
        self.checkpoint_wanted = false;
        self.stale_checkpoints = self.stale_checkpoints.saturating_sub(1);
        self.live_bytes_then = self.durable.live_bytes();
        self.weigh_checkpoints();
        Ok(Token(done.durable.0))
    }

    /// The store's own entries that changed, and what to remember once they are durable.
    #[allow(clippy::type_complexity)]
    fn changes(&mut self, now: Ms) -> (Vec<(Vec<u8>, Option<Vec<u8>>)>, Vec<(usize, Vec<u8>)>) {
        let store = StoreMeta {
            total: self.total,
            clock_ms: self.clock(now),
        };
        let mut all = vec![(STORE_KEY.to_vec(), Some(frames::encode(&store)))];
        let mut saved = Vec::new();
        for (number, partition) in self.table.partitions.iter().enumerate() {
            let meta = partition.snapshot();
            let bytes = frames::encode(&meta);
            if bytes != partition.saved {
                all.push((meta.key(), Some(bytes.clone())));
                saved.push((number, bytes));
            }
        }
        (all, saved)
    }

    /// Every partition's state, staged records counted, for a journal file's header (J3).
    pub(super) fn header(&self) -> Vec<u8> {
        self.header_with(self.clock_seen)
    }

    fn header_at(&mut self, now: Ms) -> Vec<u8> {
        let clock_ms = self.clock(now);
        self.header_with(clock_ms)
    }

    fn header_with(&self, clock_ms: u64) -> Vec<u8> {
        let header = Header {
            store: StoreMeta {
                total: self.total,
                clock_ms,
            },
            partitions: self.table.partitions.iter().map(|p| p.snapshot()).collect(),
        };
        header.encode()
    }
}

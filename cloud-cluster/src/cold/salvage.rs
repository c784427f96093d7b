//! What is still good in a segment that rotted, read batch by batch without its indexes.

use bytes::Bytes;
use headwater_batch::{BatchView, HEADER_BYTES, Offset, stamp};
use headwater_log::segment::SegmentBuilder;

use super::{ColdError, ColdStore, Patience, SegmentName};
use crate::batches::{ANY_SIZE, peek};
use crate::cold::Found;

/// The good batches of a segment, in order.
#[derive(Debug, Default)]
pub struct Salvaged {
    pub batches: Vec<Found>,
    /// Ranges of offsets that no good batch holds.
    pub missing: Vec<(Offset, Offset)>,
}

/// What the manifest has to know of a segment that it does not name.
#[derive(Debug)]
pub struct Facts {
    pub end: Offset,
    pub log_bytes: u64,
    pub index_bytes: u64,
    pub time_index_bytes: u64,
    pub max_timestamp: i64,
    /// (leader epoch, first offset), as they change.
    pub epochs: Vec<(i32, Offset)>,
}

impl ColdStore {
    /// Reads a whole segment whose records should be `[base, end)`; `None`: as far as it goes.
    /// Objects that are missing hold nothing. An error says nothing about what is there.
    pub async fn salvage(
        &self,
        name: &SegmentName,
        end: Option<Offset>,
        patience: Patience,
    ) -> Result<Salvaged, ColdError> {
        let log = match self.whole(name, "log", patience).await {
            Err(error) if error.is_rot() => Bytes::new(),
            log => log?,
        };
        let salvaged = salvage(&log, name.base, end);
        if !salvaged.batches.is_empty() {
            self.reindex(name, &salvaged);
        }
        Ok(salvaged)
    }

    /// Looks at a segment that the manifest does not name. `None`: there is nothing good in it.
    pub async fn facts(&self, name: &SegmentName) -> Result<Option<Facts>, ColdError> {
        let patience = Patience::of_start();
        let salvaged = self.salvage(name, None, patience).await?;
        let Some(last) = salvaged.batches.last() else {
            return Ok(None);
        };
        let mut epochs: Vec<(i32, Offset)> = Vec::new();
        for found in &salvaged.batches {
            let header = headwater_batch::Header::parse(&found.bytes, &ANY_SIZE);
            let epoch = header.map_or(-1, |header| header.leader_epoch);
            if epochs.last().is_none_or(|(newest, _)| *newest < epoch) {
                epochs.push((epoch, found.meta.base));
            }
        }
        let times = salvaged.batches.iter().map(|f| f.meta.max_timestamp);
        Ok(Some(Facts {
            end: last.meta.end(),
            log_bytes: self.size(name, "log").await?,
            index_bytes: self.size(name, "index").await?,
            time_index_bytes: self.size(name, "timeindex").await?,
            max_timestamp: times.max().unwrap_or(-1),
            epochs,
        }))
    }

    /// Bytes of one object; 0 when it is gone.
    async fn size(&self, name: &SegmentName, suffix: &str) -> Result<u64, ColdError> {
        let object = name.object(suffix);
        let head = || self.store.head(&object);
        match self.ask(object.as_ref(), Patience::of_start(), head).await {
            Err(error) if error.is_rot() => Ok(0),
            head => head.map(|meta| meta.size),
        }
    }

    /// Indexes of what is whole from the front on, in memory: the objects stay as they are.
    fn reindex(&self, name: &SegmentName, salvaged: &Salvaged) {
        if !salvaged.missing.is_empty() {
            return;
        }
        let mut builder = SegmentBuilder::new(name.base);
        for found in &salvaged.batches {
            if builder.append(&found.bytes, &ANY_SIZE).is_err() {
                return;
            }
        }
        let bytes = builder.finish();
        self.indexes
            .replace(name, bytes.index.into(), bytes.timeindex.into());
    }
}

/// Batches follow each other in bytes and in offsets. Behind damage the next one is looked for.
fn salvage(log: &Bytes, base: Offset, end: Option<Offset>) -> Salvaged {
    let (mut salvaged, mut at, mut expected, mut in_turn) = (Salvaged::default(), 0, base, true);
    while at + HEADER_BYTES <= log.len() {
        let Some(found) = good(log, at, expected, end, in_turn) else {
            at += 1;
            in_turn = false;
            continue;
        };
        if found.meta.base > expected {
            salvaged.missing.push((expected, found.meta.base));
        }
        expected = found.meta.end();
        at += found.meta.bytes;
        in_turn = true;
        salvaged.batches.push(found);
    }
    if let Some(end) = end.filter(|end| expected < *end) {
        salvaged.missing.push((expected, end));
    }
    salvaged
}

/// A batch at `at` that proves itself. Its base offset is not under its checksum: in turn, it is
/// known anyway.
fn good(
    log: &Bytes,
    at: usize,
    expected: Offset,
    end: Option<Offset>,
    in_turn: bool,
) -> Option<Found> {
    let mut meta = peek(&log[at..]).filter(|meta| at + meta.bytes <= log.len())?;
    let mut bytes = log.slice(at..at + meta.bytes);
    let is_good = BatchView::parse(&bytes, &ANY_SIZE).is_ok_and(|b| b.verify_crc().is_ok());
    if !is_good {
        return None;
    }
    if in_turn && meta.base != expected {
        let header = headwater_batch::Header::parse(&bytes, &ANY_SIZE).ok()?;
        let mut mended = bytes.to_vec();
        stamp(&mut mended, expected, header.leader_epoch).ok()?;
        bytes = mended.into();
        meta = peek(&bytes)?;
    }
    let fits = meta.base >= expected && end.is_none_or(|end| meta.end() <= end);
    fits.then_some(Found { meta, bytes })
}

#[cfg(test)]
mod tests {
    use headwater_batch::{BatchBuilder, Level, NewRecord};

    use super::*;

    fn log() -> Vec<u8> {
        let mut log = Vec::new();
        for i in 0..4 {
            let mut batch = BatchBuilder::new(Offset(10 + 2 * i), Level::None);
            for _ in 0..2 {
                batch.push(&NewRecord::new(i, "k", "value")).unwrap();
            }
            log.extend(batch.finish());
        }
        log
    }

    /// Every byte flipped in turn: at most its own batch is missing, and no other moves.
    #[test]
    fn one_flipped_byte_costs_one_batch_at_most() {
        let clean = log();
        let whole = salvage(&clean.clone().into(), Offset(10), Some(Offset(18)));
        assert_eq!((whole.batches.len(), whole.missing.len()), (4, 0));
        let batch = clean.len() / 4;
        for at in 0..clean.len() {
            let mut rotten = clean.clone();
            rotten[at] ^= 0x10;
            let found = salvage(&rotten.into(), Offset(10), Some(Offset(18)));
            let hit = (at / batch) as i64;
            for (from, to) in &found.missing {
                assert_eq!((from.0, to.0), (10 + 2 * hit, 12 + 2 * hit), "byte {at}");
            }
            assert_eq!(found.batches.len() + found.missing.len(), 4, "byte {at}");
            for found in &found.batches {
                assert_eq!(found.meta.base.0 % 2, 0, "byte {at}");
            }
        }
        let none = salvage(&Bytes::new(), Offset(10), Some(Offset(18)));
        assert_eq!(none.missing, [(Offset(10), Offset(18))]);
    }
}

//! The digest of one record (U1): finds the image of a running machine, where boots are equal.

use headwater_batch::{BatchView, Decoder, Limits, Offset, Record};
use serde::{Deserialize, Serialize};

/// 64 bits over one record's offset, timestamp, key, value and headers. Independent of where batch
/// borders lie, since a packer may draw them differently after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub u64);

/// Of records that do not decode although the batch's CRC holds: both times the same, so that such
/// a batch still travels.
const UNREADABLE: Digest = Digest(0);

/// The digest of one record.
pub fn digest_of_record(record: &Record<'_>) -> Digest {
    Digest(fold(headwater_batch::digest(record)))
}

/// The digest of the record at `offset` in the batch; `None` if the batch does not hold it.
pub(crate) fn digest_at(
    batch: &BatchView<'_>,
    offset: Offset,
    decoder: &mut Decoder,
    limits: &Limits,
) -> Option<Digest> {
    if !(batch.base_offset() <= offset && offset <= batch.last_offset()) {
        return None;
    }
    let Ok(records) = batch.records(decoder, limits) else {
        return Some(UNREADABLE);
    };
    for record in records {
        match record {
            Ok(record) if record.offset == offset => return Some(digest_of_record(&record)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Some(UNREADABLE)
}

#[cfg(not(test))]
const fn fold(hash: u64) -> u64 {
    hash
}

#[cfg(test)]
thread_local! { static BITS: std::cell::Cell<u32> = const { std::cell::Cell::new(64) }; }

#[cfg(test)]
fn fold(hash: u64) -> u64 {
    BITS.with(|bits| hash >> (64 - bits.get()))
}

/// Runs `body` with digests so short that they collide.
#[cfg(test)]
pub(crate) fn with_digest_bits<T>(bits: u32, body: impl FnOnce() -> T) -> T {
    BITS.with(|b| b.set(bits));
    let result = body();
    BITS.with(|b| b.set(64));
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_batch::{BatchBuilder, Level, NewRecord};

    #[test]
    fn borders_do_not_count() {
        let records: Vec<_> = (0..4)
            .map(|n| NewRecord::new(n, "k", format!("v{n}")))
            .collect();
        let of = |from: usize, to: usize, level| {
            let mut builder = BatchBuilder::new(Offset(from as i64), level);
            records[from..to].iter().for_each(|r| {
                builder.push(r).unwrap();
            });
            let bytes = builder.finish();
            let batch = BatchView::parse(&bytes, &Limits::UPLINK).unwrap();
            digest_at(&batch, Offset(3), &mut Decoder::new(), &Limits::UPLINK)
        };
        assert_eq!(of(0, 4, Level::Zstd(3)), of(2, 4, Level::None));
        assert_eq!(of(0, 3, Level::None), None);
    }
}

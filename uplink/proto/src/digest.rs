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

/// FNV-1a, 64 bits (RFC draft-eastlake-fnv): it need only tell records apart, not resist an attacker,
/// who could as well send other records.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Length first, so that no two fields can trade bytes. None differs from empty.
    fn field(&mut self, field: Option<&[u8]>) {
        let length = field.map_or(u64::MAX, |bytes| bytes.len() as u64);
        self.bytes(&length.to_le_bytes());
        self.bytes(field.unwrap_or_default());
    }
}

/// The digest of one record.
pub fn digest_of_record(record: &Record<'_>) -> Digest {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.bytes(&record.offset.0.to_le_bytes());
    hash.bytes(&record.timestamp.to_le_bytes());
    hash.field(record.key);
    hash.field(record.value);
    for header in record.headers.iter() {
        hash.field(Some(header.key));
        hash.field(header.value);
    }
    Digest(fold(hash.0))
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
    use headwater_batch::{BatchBuilder, Level, NewHeader, NewRecord};

    fn digest(record: &NewRecord, offset: i64) -> Digest {
        digest_of_record(&record.at(Offset(offset)))
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let plain = NewRecord::new(1, "k", "v");
        let others = [
            NewRecord::new(2, "k", "v"),
            NewRecord::new(1, "kv", ""),
            NewRecord::new(1, "", "kv"),
            NewRecord {
                key: None,
                ..plain.clone()
            },
            plain.clone().header("edge", "gw"),
        ];
        for other in &others {
            assert_ne!(digest(&plain, 5), digest(other, 5), "{other:?}");
        }
        assert_ne!(digest(&plain, 5), digest(&plain, 6));
    }

    /// The log of the edge (`store::digest`) has the same test: what edge and cloud compare, and store, must never differ.
    #[test]
    fn golden_values() {
        let bare = NewRecord {
            key: None,
            value: None,
            ..NewRecord::new(0, "", "")
        };
        let none = NewHeader {
            key: "none".to_owned(),
            value: None,
        };
        let mut full = NewRecord::new(1_780_000_000_123, "sensor-7", r#"{"seq":1}"#);
        full = full.header("edge", "gw-1");
        full.headers.push(none);
        full = full.header("", "");
        let odd = NewRecord::new(-1, "", vec![0xff; 300]);
        let golden = [
            (NewRecord::new(1, "k", "v"), 5, 0x8adb_0bdd_8a1f_e352),
            (bare, 0, 0x1096_dd64_dd34_3d95),
            (full, 1 << 40, 0xe829_0886_41b8_0eb8),
            (odd, i64::MAX - 1, 0x6b57_9483_ae4e_82d7),
        ];
        for (record, offset, expected) in golden {
            let found = digest(&record, offset).0;
            assert_eq!(found, expected, "{record:?} at {offset}: {found:#x}");
        }
    }

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

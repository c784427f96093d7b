//! The digest of a record, by which edge and cloud compare the ends of a stream (U1, U2).
//!
//! The edge's log keeps it, the uplink sends it, the cloud stores it: it is defined here once, and
//! in `uplink/proto/PROTOCOL.md`.

use crate::Record;

/// 64 bits of FNV-1a (draft-eastlake-fnv) over offset, timestamp, key, value and headers, each field
/// with its length, as `PROTOCOL.md` says.
///
/// It depends on what the record says and not on the batch it lies in, since a packer may draw
/// batch borders differently after a crash. It tells accidents apart, not attacks.
pub fn digest(record: &Record<'_>) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.bytes(&record.offset.0.to_le_bytes());
    hash.bytes(&record.timestamp.to_le_bytes());
    hash.field(record.key);
    hash.field(record.value);
    for header in record.headers.iter() {
        hash.field(Some(header.key));
        hash.field(header.value);
    }
    hash.0
}

struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A missing field differs from an empty one.
    fn field(&mut self, bytes: Option<&[u8]>) {
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        self.bytes(&length.to_le_bytes());
        self.bytes(bytes.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use crate::{NewHeader, NewRecord, Offset};

    use super::digest;

    /// Both ends keep digests on disk and compare them: these values hold for ever.
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
            let found = digest(&record.at(Offset(offset)));
            assert_eq!(found, expected, "{record:?} at {offset}: {found:#x}");
        }
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let of = |record: &NewRecord, offset| digest(&record.at(Offset(offset)));
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
            assert_ne!(of(&plain, 5), of(other, 5), "{other:?}");
        }
        assert_ne!(of(&plain, 5), of(&plain, 6));
    }
}

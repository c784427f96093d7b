//! What stands in the node's journal, and in its checkpoints.
//!
//! ```text
//! journal frame, kind = shard number (0..=63)
//!   index u64 LE | term u64 LE | shard entry (see headwater-shard)
//! journal frame, kind 0x80: a batch that was copied forward so that the journal can be trimmed (J8)
//!   format u8 = 1 | head length u32 LE | postcard (tp, topic id, epoch, at_ms) | stamped batch
//! journal frame, kind 0x81: what applying the frames before it came to (see [`results`](super::results))
//!   format u8 = 1 | postcard of `Results`: part, parts, since, is whole,
//!                   (position, base offset, leader epoch)*, (checkpoint row key, value or gone)*
//! journal file header
//!   postcard: per shard (index, term), then (partition, next offset) as far as there is room, then
//!   (topic, id, partitions) as far as there is room
//! checkpoint row
//!   shard number u8 | row key of the shard  ->  row value of the shard
//! ```

use bytes::Bytes;
use headwater_batch::{Offset, TopicName, TopicPartition};
use headwater_shard::{At, Shard};
use serde::{Deserialize, Serialize};

use super::results::Results;

/// Shard numbers are journal frame kinds below this.
pub const SHARDS_MAX: u8 = 64;
/// The frame kind of a batch that was copied forward.
pub const KIND_CARRIED: u8 = 0x80;
/// The frame kind of results.
pub const KIND_RESULTS: u8 = 0x81;
/// `index` and `term` in front of a shard's entry.
pub const PREFIX_BYTES: usize = 16;
/// What a journal file header may take: below the journal's own bound.
const HEADER_BYTES: usize = 200 << 10;
const FORMAT: u8 = 1;

/// The prefix of a shard's frame.
pub fn prefix(at: At) -> [u8; PREFIX_BYTES] {
    let mut bytes = [0; PREFIX_BYTES];
    bytes[..8].copy_from_slice(&at.index.to_le_bytes());
    bytes[8..].copy_from_slice(&at.term.to_le_bytes());
    bytes
}

/// Splits a shard's frame; `None` when it is too short.
pub fn split(payload: &Bytes) -> Option<(At, Bytes)> {
    let index = u64::from_le_bytes(payload.get(..8)?.try_into().ok()?);
    let term = u64::from_le_bytes(payload.get(8..PREFIX_BYTES)?.try_into().ok()?);
    Some((At { index, term }, payload.slice(PREFIX_BYTES..)))
}

/// A hot batch with all that is needed to index it again.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    pub head: CarriedHead,
    /// Stamped with base offset and epoch.
    pub batch: Bytes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CarriedHead {
    pub tp: TopicPartition,
    pub topic_id: u128,
    pub epoch: i32,
    pub at_ms: i64,
}

/// The head of a carried frame; the batch follows it.
pub fn carried_head(head: &CarriedHead) -> Vec<u8> {
    let body = postcard::to_stdvec(head).expect("plain data always encodes");
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads a carried frame; `None` when it is not one.
pub fn carried(payload: &Bytes) -> Option<Carried> {
    if *payload.first()? != FORMAT {
        return None;
    }
    let length = u32::from_le_bytes(payload.get(1..5)?.try_into().ok()?) as usize;
    let end = length.checked_add(5)?;
    let head = postcard::from_bytes(payload.get(5..end)?).ok()?;
    Some(Carried {
        head,
        batch: payload.slice(end..),
    })
}

/// A frame of results.
pub fn results(results: &Results) -> Vec<u8> {
    let bytes = postcard::to_extend(results, vec![FORMAT]);
    bytes.expect("plain data always encodes")
}

/// Reads a frame of results; `None` when it is not one.
pub fn of_results(payload: &[u8]) -> Option<Results> {
    let (format, body) = payload.split_first()?;
    if *format != FORMAT {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// Where every shard and partition stands (J3): what a recovered state must not lie behind.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileHeader {
    pub shards: Vec<(u64, u64)>,
    pub next: Vec<(TopicPartition, Offset)>,
    pub topics: Vec<(TopicName, u128, u32)>,
}

impl FileHeader {
    /// Of the state as it is. Partitions beyond the bound are left to their shard's index.
    pub fn of<'a>(shards: impl Iterator<Item = &'a Shard>) -> FileHeader {
        let (mut header, mut bytes) = (FileHeader::default(), 0);
        for shard in shards {
            let at = shard.applied();
            header.shards.push((at.index, at.term));
            for (tp, partition) in shard.partitions() {
                bytes += tp.topic.len() + 16;
                if bytes < HEADER_BYTES {
                    header.next.push((tp.clone(), partition.next));
                }
            }
            for (name, topic) in shard.topics() {
                bytes += name.len() + 24;
                if bytes < HEADER_BYTES {
                    header
                        .topics
                        .push((name.clone(), topic.id, topic.partitions));
                }
            }
        }
        header
    }

    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always encodes")
    }

    pub fn decode(bytes: &[u8]) -> Option<FileHeader> {
        postcard::from_bytes(bytes).ok()
    }
}

/// A checkpoint row's key.
pub fn row_key(shard: u8, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + 1);
    row.push(shard);
    row.extend_from_slice(key);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_damage_is_none() {
        let at = At { index: 3, term: 9 };
        let payload = Bytes::from([&prefix(at)[..], b"entry"].concat());
        assert_eq!(split(&payload), Some((at, Bytes::from_static(b"entry"))));
        assert_eq!(split(&payload.slice(..15)), None);

        let head = CarriedHead {
            tp: "readings-3".parse().unwrap(),
            topic_id: 4,
            epoch: 2,
            at_ms: 7,
        };
        let payload = Bytes::from([carried_head(&head), b"batch".to_vec()].concat());
        let back = carried(&payload).unwrap();
        assert_eq!((back.head, &back.batch[..]), (head, &b"batch"[..]));
        for cut in 0..payload.len() - 5 {
            assert!(carried(&payload.slice(..cut)).is_none());
        }
    }

    #[test]
    fn a_header_says_where_everything_stands() {
        let shards = [Shard::new(), Shard::new()];
        let header = FileHeader::of(shards.iter());
        assert_eq!(FileHeader::decode(&header.encode()), Some(header));
    }
}

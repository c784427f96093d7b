//! All shards of this node, for one writer and many readers.
//!
//! Invariant: only the thread that applies takes a write lock, for one entry at a time; readers hold
//! theirs for a look and never across an await.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use headwater_batch::{TopicPartition, murmur2};
use headwater_shard::Shard;

use crate::shardlog::ShardId;

/// The data shards and, after them, the metadata shard.
#[derive(Debug)]
pub struct Shards {
    all: Vec<RwLock<Shard>>,
}

impl Shards {
    /// `all` holds the data shards and then the metadata shard.
    pub fn new(all: Vec<Shard>) -> Shards {
        assert!(
            all.len() > 1,
            "at least one data shard and the metadata shard"
        );
        Shards {
            all: all.into_iter().map(RwLock::new).collect(),
        }
    }

    fn data_count(&self) -> u32 {
        self.all.len() as u32 - 1
    }

    pub fn meta(&self) -> ShardId {
        ShardId(self.data_count() as u8)
    }

    pub fn data(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.data_count() as u8).map(ShardId)
    }

    pub fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.all.len() as u8).map(ShardId)
    }

    /// The shard of a partition: pinned for the life of the cluster.
    pub fn of(&self, tp: &TopicPartition) -> ShardId {
        let mut key = tp.topic.as_bytes().to_vec();
        key.push(0);
        key.extend_from_slice(&tp.partition.to_be_bytes());
        self.hashed(&key)
    }

    /// The shard that keeps a consumer group's offsets.
    pub fn of_group(&self, group: &str) -> ShardId {
        self.hashed(group.as_bytes())
    }

    fn hashed(&self, key: &[u8]) -> ShardId {
        ShardId(((murmur2(key) & 0x7fff_ffff) % self.data_count()) as u8)
    }

    pub fn read(&self, id: ShardId) -> RwLockReadGuard<'_, Shard> {
        self.all[usize::from(id.0)]
            .read()
            .expect("apply does not panic")
    }

    /// For the thread that applies.
    pub(crate) fn write(&self, id: ShardId) -> RwLockWriteGuard<'_, Shard> {
        self.all[usize::from(id.0)]
            .write()
            .expect("apply does not panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pinned: another answer would look for partitions in shards that do not have them.
    #[test]
    fn partitions_stay_in_their_shard() {
        let shards = Shards::new(vec![Shard::new(); 9]);
        let of = |tp: &str| shards.of(&tp.parse().unwrap()).0;
        let found: Vec<u8> = (0..8).map(|p| of(&format!("mqtt-{p}"))).collect();
        assert_eq!(found, [7, 2, 6, 7, 2, 0, 4, 4]);
        assert_eq!(shards.meta(), ShardId(8));
    }
}

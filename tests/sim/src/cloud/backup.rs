//! A copy of the node's disk and object store, and the node restored from it.

use std::sync::Arc;

use headwater_batch::{Offset, TopicPartition};
use headwater_log::SimDisk;
use headwater_proto::{EdgeName, Incarnation};
use object_store::memory::InMemory;

use super::{Cloud, State};

/// Both as they were at one moment, while no process ran.
pub struct Backup {
    disk: SimDisk,
    objects: InMemory,
}

impl Cloud {
    /// The node is off.
    pub fn backup(&self, seed: u64) -> Backup {
        assert!(self.is_off(), "both are copied at rest");
        let disk = self.disk.copy(seed);
        disk.set_capacity(u64::MAX);
        Backup {
            disk,
            objects: self.objects.fork(),
        }
    }

    /// The node is off; when it starts again it is as it was. Gives back what it had.
    pub fn restore(&mut self, backup: Backup) -> SimDisk {
        assert!(self.is_off(), "both are replaced at rest");
        self.objects = Arc::new(backup.objects);
        std::mem::replace(&mut self.disk, backup.disk)
    }

    /// What the node wants next of a stream, or wanted until that was given up. `None` while it is off, or
    /// of one it does not know.
    pub fn next_of(
        &self,
        edge: &EdgeName,
        tp: &TopicPartition,
        incarnation: Incarnation,
    ) -> Option<Offset> {
        let State::Up(parts) = &self.state else {
            return None;
        };
        let shards = &parts.machine.shards;
        shards.data().find_map(|id| {
            let shard = shards.read(id);
            let streams = shard.streams_of(edge, tp)?;
            let mut all = streams.streams().iter().chain(streams.retired());
            let stream = all.find(|stream| stream.incarnation == incarnation);
            stream.map(|stream| stream.next)
        })
    }
}

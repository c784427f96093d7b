//! Reads along on one connection, as the oracle: what was announced, and when the cloud discards.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::TopicPartition;

use crate::frame::{Decoder, ToCloud, ToEdge};
use crate::{Attempt, Channel, StreamId};

#[derive(Debug, Default)]
pub(super) struct Watch {
    up: BTreeMap<Channel, Decoder>,
    down: Decoder,
    /// Each partition's stream now, and the partition count that it was announced with.
    announced: BTreeMap<TopicPartition, (StreamId, u32)>,
    /// Told to resume with this attempt, and has not done so.
    discarding: BTreeMap<StreamId, Attempt>,
}

impl Watch {
    /// Bytes that the cloud is about to get.
    pub(super) fn up(&mut self, channel: Channel, bytes: Bytes) {
        let decoder = self.up.entry(channel).or_default();
        decoder.push(bytes);
        while let Ok(Some(frame)) = decoder.next_frame() {
            match frame.decode() {
                Ok(ToCloud::Announce(a)) => {
                    self.announced.insert(a.tp, (a.stream, a.partitions));
                }
                Ok(ToCloud::Resume { stream, attempt }) => {
                    self.discarding
                        .retain(|id, told| (*id, *told) != (stream, attempt));
                }
                _ => {}
            }
        }
    }

    /// Bytes that the cloud has just sent.
    pub(super) fn down(&mut self, bytes: Bytes) {
        self.down.push(bytes);
        while let Ok(Some(frame)) = self.down.next_frame() {
            let (stream, attempt) = match frame.decode() {
                Ok(ToEdge::OutOfOrder {
                    stream, attempt, ..
                }) => (stream, attempt),
                Ok(ToEdge::Resync { stream, attempt }) => (stream, attempt),
                Ok(ToEdge::Retry {
                    stream, attempt, ..
                }) if attempt > Attempt(0) => (stream, attempt),
                Ok(ToEdge::Rejected {
                    stream, attempt, ..
                }) => (stream, attempt),
                _ => continue,
            };
            self.discarding.insert(stream, attempt);
        }
    }

    pub(super) fn discards(&self, tp: &TopicPartition) -> bool {
        let stream = self.announced.get(tp).map(|(stream, _)| stream);
        stream.is_some_and(|stream| self.discarding.contains_key(stream))
    }

    pub(super) fn partitions(&self, tp: &TopicPartition) -> Option<u32> {
        self.announced.get(tp).map(|(_, partitions)| *partitions)
    }
}

//! What a device's log holds, told as it is sealed; all of it again after a start and a fork.

use std::collections::BTreeMap;

use headwater_batch::{BatchView, Decoder, Limits, Offset, TopicPartition};
use headwater_log::store::{Chunk, PartitionReader, ReadError, Store};
use headwater_proto::Incarnation;

use super::Output;
use crate::payload::{Id, id_of_record};

#[derive(Default)]
pub(super) struct Sealed {
    told: BTreeMap<TopicPartition, (Incarnation, Offset)>,
    decoder: Decoder,
}

const READ_BYTES: usize = 64 << 10;

impl Sealed {
    /// Tells what is new.
    pub(super) fn look(&mut self, log: &Store, out: &mut impl Extend<Output>) {
        for tp in log.partitions() {
            let (Some(lineage), Some(end)) = (log.lineage(&tp), log.sealed_end(&tp)) else {
                continue;
            };
            let incarnation = Incarnation(lineage.incarnation);
            let told = self.told.get(&tp).filter(|(of, _)| *of == incarnation);
            let from = told.map_or(lineage.since, |(_, to)| *to);
            self.told.insert(tp.clone(), (incarnation, end));
            let Some(reader) = log.reader(&tp).filter(|_| from < end) else {
                continue;
            };
            let records = self.read(reader, from, end);
            if !records.is_empty() {
                out.extend([Output::Sealed {
                    tp,
                    incarnation,
                    records,
                }]);
            }
        }
    }

    fn read(&mut self, mut reader: PartitionReader, from: Offset, end: Offset) -> Vec<(i64, Id)> {
        let mut records = Vec::new();
        let mut at = from.max(reader.start());
        while at < end {
            at = match reader.read(at, READ_BYTES) {
                Ok(Chunk::Batches(batches)) if !batches.is_empty() => {
                    let mut next = at;
                    for bytes in &batches {
                        next = next.max(self.decode(bytes, at, &mut records));
                    }
                    match next > at {
                        true => next,
                        false => break,
                    }
                }
                Ok(Chunk::Gap(gap)) => gap.to,
                Err(ReadError::Corrupt { to, .. }) => to,
                _ => break,
            };
        }
        records
    }

    /// The end of the batch; its records from `from` on are added.
    fn decode(&mut self, bytes: &[u8], from: Offset, records: &mut Vec<(i64, Id)>) -> Offset {
        let limits = Limits::UPLINK;
        let Ok(batch) = BatchView::parse(bytes, &limits) else {
            return Offset::ZERO;
        };
        if let Ok(all) = batch.records(&mut self.decoder, &limits) {
            let ids = all.filter_map(|record| {
                let record = record.ok()?;
                Some((record.offset, id_of_record(&record)?))
            });
            records.extend(ids.filter(|(at, _)| *at >= from).map(|(at, id)| (at.0, id)));
        }
        batch.next_offset()
    }
}

//! The uplink's streams: dedup state beside the data, moved in the same step (U2).
//!
//! The rules are `headwater-proto`'s; here they meet the partition. A stream outlives its topic: an
//! entry for a partition that is not there changes nothing and is refused, so that the proposer can
//! make the topic again and repeat it (U5).

use bytes::Bytes;
use headwater_batch::TopicPartition;
use headwater_proto::{
    AlarmKind, QuarantineReason, RejectCode, StreamEntry, StreamKey, StreamOutcome,
    stream::DataEntry,
};

use crate::key::Key;
use crate::ledger::{LedgerEntry, Loss};
use crate::lost::Admission;
use crate::outcome::{Applied, Effect, Outcome, Refusal};
use crate::partition::BatchFacts;
use crate::state::{At, Shard};

impl Shard {
    pub(crate) fn stream(
        &mut self,
        at: At,
        to: &TopicPartition,
        key: &StreamKey,
        head: &[u8],
        batch: &Bytes,
        at_ms: i64,
    ) -> Applied {
        let entry = match StreamEntry::decode(head, batch.clone()) {
            Ok(entry) => entry,
            Err(e) => {
                return Applied::quiet(Outcome::Refused(Refusal::BadStreamEntry(e.to_string())));
            }
        };
        let facts = match &entry {
            StreamEntry::Data(data) => match self.check_data(to, data) {
                Ok(facts) => Some(facts),
                Err(outcome) => return Applied::quiet(*outcome),
            },
            _ => None,
        };
        let admission = match &entry {
            StreamEntry::Session(session) => self.admit(key, session),
            _ => Admission::Open,
        };
        let outcome = match &entry {
            _ if admission == Admission::Aside => {
                StreamOutcome::Quarantine(QuarantineReason::StateLost)
            }
            entry => {
                let place = (key.edge.clone(), key.tp.clone());
                let streams = self.streams.entry(place).or_default();
                streams.apply(key.incarnation, entry)
            }
        };
        self.touch(Key::Streams(key.edge.clone(), key.tp.clone()));
        let mut effects = Vec::new();
        if let (StreamOutcome::Append { .. }, Some(facts)) = (&outcome, &facts) {
            let (_, effect) = self
                .append(at, to, facts, at_ms)
                .expect("check_data saw partition and range");
            effects.push(effect);
        }
        let repeat = match admission {
            Admission::Repeating(from, to) => Some(Loss::Repeat { from, to }),
            Admission::Aside | Admission::Open => None,
        };
        for loss in repeat.into_iter().chain(loss_of(&outcome)) {
            let number = self.enter_ledger(LedgerEntry {
                at_ms,
                stream: key.clone(),
                loss,
            });
            effects.push(Effect::Ledger(number));
        }
        Applied::with(Outcome::Stream(outcome), effects)
    }

    /// Invariant: after this said Ok, `append` of the same batch does not fail. So the stream's
    /// table never moves without the data.
    fn check_data(
        &self,
        to: &TopicPartition,
        data: &DataEntry,
    ) -> Result<BatchFacts, Box<Outcome>> {
        let malformed = || {
            Box::new(Outcome::Stream(StreamOutcome::Rejected(
                RejectCode::Malformed,
            )))
        };
        let refused = |refusal| Box::new(Outcome::Refused(refusal));
        let facts = BatchFacts::of(&data.batch).map_err(|_| malformed())?;
        if data.next.0.checked_sub(data.base.0) != Some(i64::from(facts.records)) {
            return Err(malformed());
        }
        let partition = self.partitions.get(to);
        let partition = partition.ok_or_else(|| refused(Refusal::UnknownPartition))?;
        if partition
            .next
            .checked_add(i64::from(facts.records))
            .is_none()
        {
            return Err(refused(Refusal::OffsetOutOfRange));
        }
        Ok(facts)
    }
}

fn loss_of(outcome: &StreamOutcome) -> Option<Loss> {
    match outcome {
        StreamOutcome::Ledger { gap, .. } => Some(Loss::Gap(*gap)),
        StreamOutcome::Opened(opened) => match (&opened.forked, &opened.alarm) {
            (Some(parent), _) => Some(Loss::Fork(*parent)),
            (None, Some(AlarmKind::Quarantine(reason))) => Some(Loss::Quarantine(*reason)),
            _ => None,
        },
        StreamOutcome::Quarantine(reason) => Some(Loss::Quarantine(*reason)),
        _ => None,
    }
}

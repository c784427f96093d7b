//! Idempotent producers: which batches of a producer a partition already has.
//!
//! Kafka's rules (KIP-98, KIP-360): the last five batches per producer and partition are known by
//! their sequence numbers; one of them again is answered with its first offset, the next sequence
//! is taken, anything else is out of order. A new epoch starts at sequence 0; an old epoch is
//! fenced. Sequence numbers wrap from 2^31-1 to 0.
//!
//! Stricter than Kafka: a producer that is not known starts at 0 as well. Of several batches in
//! flight the first may have been refused (too large, no room, a partition not open yet); were the
//! second taken, the first would come in behind it and pass for a duplicate, and so be lost. As it
//! is, what a producer has here is whole from 0 on, and what lies behind is a duplicate for certain.

use std::collections::VecDeque;

use headwater_batch::{Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::bounds::{PRODUCER_BATCHES, PRODUCERS_PER_PARTITION};
use crate::key::Key;
use crate::outcome::Refusal;
use crate::partition::BatchFacts;
use crate::state::Shard;

/// One producer as one partition knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    pub epoch: i16,
    /// Newest last; never empty.
    pub batches: VecDeque<SeenBatch>,
    pub at_ms: i64,
}

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base: Offset,
    pub end: Offset,
}

/// What the table says about a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Repeated(SeenBatch),
}

/// `sequence + step`, wrapping at 2^31 as Kafka's do.
pub(crate) fn sequence_add(sequence: i32, step: i32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(step)) & i64::from(i32::MAX);
    sum as i32
}

/// Steps forward from `from` to `to` on the circle of sequence numbers.
fn sequence_distance(from: i32, to: i32) -> i32 {
    let steps = (i64::from(to) - i64::from(from)) & i64::from(i32::MAX);
    steps as i32
}

impl Producer {
    fn judge(&self, facts: &BatchFacts) -> Result<Verdict, Refusal> {
        let (first, last) = (facts.base_sequence, facts.last_sequence());
        if facts.producer_epoch < self.epoch {
            return Err(Refusal::ProducerFenced {
                current: self.epoch,
                got: facts.producer_epoch,
            });
        }
        if facts.producer_epoch > self.epoch {
            return match first {
                0 => Ok(Verdict::New),
                got => Err(Refusal::OutOfOrderSequence { expected: 0, got }),
            };
        }
        let same = |seen: &&SeenBatch| seen.first_sequence == first && seen.last_sequence == last;
        if let Some(seen) = self.batches.iter().find(same) {
            return Ok(Verdict::Repeated(*seen));
        }
        let newest = self.batches.back().map_or(-1, |seen| seen.last_sequence);
        let expected = sequence_add(newest, 1);
        if first == expected {
            Ok(Verdict::New)
        } else if sequence_distance(last, newest) < i32::MAX / 2 {
            // Behind the newest by less than half the circle: an old duplicate, no jump ahead.
            Err(Refusal::DuplicateSequence)
        } else {
            Err(Refusal::OutOfOrderSequence {
                expected,
                got: first,
            })
        }
    }
}

impl Shard {
    /// Whether the batch is new to this partition.
    pub(crate) fn judge_producer(
        &self,
        tp: &TopicPartition,
        facts: &BatchFacts,
    ) -> Result<Verdict, Refusal> {
        if facts.producer_id < 0 {
            return Ok(Verdict::New);
        }
        match self
            .producers
            .get(tp)
            .and_then(|of| of.get(&facts.producer_id))
        {
            Some(producer) => producer.judge(facts),
            None if facts.base_sequence != 0 => Err(Refusal::OutOfOrderSequence {
                expected: 0,
                got: facts.base_sequence,
            }),
            None => Ok(Verdict::New),
        }
    }

    /// Remembers a batch that was just appended.
    pub(crate) fn remember_producer(
        &mut self,
        tp: &TopicPartition,
        facts: &BatchFacts,
        base: Offset,
        end: Offset,
        at_ms: i64,
    ) {
        if facts.producer_id < 0 {
            return;
        }
        let seen = SeenBatch {
            first_sequence: facts.base_sequence,
            last_sequence: facts.last_sequence(),
            base,
            end,
        };
        let of_partition = self.producers.entry(tp.clone()).or_default();
        let producer = of_partition
            .entry(facts.producer_id)
            .or_insert_with(|| Producer {
                epoch: facts.producer_epoch,
                batches: VecDeque::new(),
                at_ms,
            });
        if producer.epoch != facts.producer_epoch {
            producer.epoch = facts.producer_epoch;
            producer.batches.clear();
        }
        producer.at_ms = at_ms;
        producer.batches.push_back(seen);
        if producer.batches.len() > PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        self.touch(Key::Producer(tp.clone(), facts.producer_id));
        self.evict_producer(tp);
    }

    fn evict_producer(&mut self, tp: &TopicPartition) {
        let Some(of_partition) = self.producers.get_mut(tp) else {
            return;
        };
        if of_partition.len() <= PRODUCERS_PER_PARTITION {
            return;
        }
        let oldest = of_partition
            .iter()
            .min_by_key(|(id, p)| (p.at_ms, **id))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            of_partition.remove(&id);
            self.touch(Key::Producer(tp.clone(), id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(epoch: i16, first: i32, records: i32) -> BatchFacts {
        BatchFacts {
            records,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: first,
        }
    }

    fn producer(batches: &[(i32, i32)]) -> Producer {
        let seen = |(i, (first, last)): (usize, &(i32, i32))| SeenBatch {
            first_sequence: *first,
            last_sequence: *last,
            base: Offset(i as i64 * 10),
            end: Offset(i as i64 * 10 + 1),
        };
        Producer {
            epoch: 1,
            batches: batches.iter().enumerate().map(seen).collect(),
            at_ms: 0,
        }
    }

    #[test]
    fn kafkas_rules() {
        let p = producer(&[(10, 14), (15, 15), (16, 20)]);
        assert_eq!(p.judge(&facts(1, 21, 5)), Ok(Verdict::New));
        assert!(matches!(p.judge(&facts(1, 15, 1)), Ok(Verdict::Repeated(s)) if s.base.0 == 10));
        assert_eq!(p.judge(&facts(1, 0, 5)), Err(Refusal::DuplicateSequence));
        assert_eq!(
            p.judge(&facts(1, 22, 1)),
            Err(Refusal::OutOfOrderSequence {
                expected: 21,
                got: 22
            })
        );
        assert_eq!(
            p.judge(&facts(0, 21, 1)),
            Err(Refusal::ProducerFenced { current: 1, got: 0 })
        );
        assert_eq!(p.judge(&facts(2, 0, 1)), Ok(Verdict::New));
        assert_eq!(
            p.judge(&facts(2, 5, 1)),
            Err(Refusal::OutOfOrderSequence {
                expected: 0,
                got: 5
            })
        );
    }

    #[test]
    fn sequences_wrap() {
        let p = producer(&[(i32::MAX - 1, i32::MAX)]);
        assert_eq!(p.judge(&facts(1, 0, 3)), Ok(Verdict::New));
        let wrapped = facts(1, i32::MAX - 1, 4);
        assert_eq!(wrapped.last_sequence(), 1);
        let p = producer(&[(i32::MAX - 1, 1)]);
        assert_eq!(p.judge(&facts(1, 2, 1)), Ok(Verdict::New));
        assert!(matches!(p.judge(&wrapped), Ok(Verdict::Repeated(_))));
        // Before the wrap, forgotten by now: behind, although its number is larger.
        assert_eq!(
            p.judge(&facts(1, i32::MAX - 5, 4)),
            Err(Refusal::DuplicateSequence)
        );
    }
}

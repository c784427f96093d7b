//! Acknowledged records of a partition that are gone: the cloud's own lines of the loss ledger.
//!
//! A medium rotted, or every copy of the state went. The offsets stay used: nothing else is ever
//! stored under them, and readers go on behind them.

use std::collections::BTreeSet;

use headwater_batch::{Offset, TopicPartition};
use headwater_proto::stream::SessionEntry;
use headwater_proto::{Incarnation, StreamKey};
use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::outcome::{Applied, Effect, Outcome, Refusal};
use crate::state::Shard;

/// One line: records from the offset in its key to `to` are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    pub to: Offset,
    pub reason: LostReason,
    pub at_ms: i64,
}

/// Where the records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LostReason {
    /// Their journal frames rotted before they were in a segment.
    Journal,
    /// Their cold segment rotted or is missing.
    Segment,
    /// The state was lost with all its copies: how many records there were is not known, so the
    /// range reaches further than any of them.
    State,
}

/// The state of this shard was lost with all its copies, and rebuilt from what was left.
///
/// Nobody knows any more which records of an edge are stored. So each stream waits for the operator
/// ([`Entry::TrustStream`](crate::Entry)), but for those that cannot have sent any: of an edge that
/// came later, or with nothing ever written.
///
/// The metadata shard has one too, if it is known which edges there were: an edge that is added from
/// then on is a newcomer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub at_ms: i64,
    /// What was left has been put into the state.
    pub rebuilt: bool,
    /// Streams that may go on: all incarnations where the operator said so, and single ones that
    /// did.
    pub trusted: BTreeSet<(String, TopicPartition, Option<Incarnation>)>,
    pub newcomers: BTreeSet<String>,
}

/// What a session comes to before its stream's table looks at it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Aside,
    Open,
    /// On the edge's word, and once: these of its records may be stored already, and come again.
    Repeating(Offset, Offset),
}

impl Shard {
    pub(crate) fn lose(
        &mut self,
        tp: &TopicPartition,
        topic_id: u128,
        from: Offset,
        range: &LostRange,
    ) -> Applied {
        let known = self.partitions.get(tp).filter(|p| p.topic_id == topic_id);
        let Some(partition) = known else {
            return Applied::quiet(Outcome::Refused(Refusal::UnknownPartition));
        };
        let from = self.lost_end(tp, from);
        if from < Offset::ZERO || range.to > partition.next {
            return Applied::quiet(Outcome::Refused(Refusal::OffsetOutOfRange));
        }
        if from >= range.to {
            return Applied::quiet(Outcome::Done);
        }
        // No bound but the medium's: each line stands for stored bytes that are gone, more of them
        // than the line takes.
        self.lost.insert((tp.clone(), from), range.clone());
        self.touch(Key::Lost(tp.clone(), from));
        let effect = Effect::Lost(tp.clone(), from, range.to);
        Applied::with(Outcome::Done, vec![effect])
    }

    /// The first offset from `from` on that is not known to be lost.
    pub fn lost_end(&self, tp: &TopicPartition, from: Offset) -> Offset {
        let mut at = from;
        let below = self.lost.range(..=(tp.clone(), from)).next_back();
        if let Some(((of, _), range)) = below {
            if of == tp {
                at = at.max(range.to);
            }
        }
        let after = (tp.clone(), from);
        for ((of, start), range) in self.lost.range(after..) {
            if of != tp || *start > at {
                break;
            }
            at = at.max(range.to);
        }
        at
    }

    /// All lines of the ledger that are about this shard's partitions.
    pub fn lost(&self) -> impl Iterator<Item = (&TopicPartition, Offset, &LostRange)> {
        self.lost
            .iter()
            .map(|((tp, from), range)| (tp, *from, range))
    }

    /// Set when this shard's state was rebuilt.
    pub fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// The operator trusts the edge's own word on where this stream stands.
    pub(crate) fn trust(
        &mut self,
        edge: &str,
        tp: &TopicPartition,
        one: Option<Incarnation>,
    ) -> Outcome {
        let stream = (edge.to_owned(), tp.clone(), one);
        if self
            .doubt
            .as_mut()
            .is_some_and(|doubt| doubt.trusted.insert(stream))
        {
            self.touch(Key::Doubt);
        }
        Outcome::Done
    }

    pub(crate) fn newcomer(&mut self, edge: &str) -> Outcome {
        let doubt = self.doubt.as_mut();
        if doubt.is_some_and(|doubt| doubt.newcomers.insert(edge.to_owned())) {
            self.touch(Key::Doubt);
        }
        Outcome::Done
    }

    /// Looks at a session before its stream's table does: the table may lie behind what was
    /// acknowledged, and stored.
    pub(crate) fn admit(&mut self, key: &StreamKey, session: &SessionEntry) -> Admission {
        let Some(doubt) = &self.doubt else {
            return Admission::Open;
        };
        let (edge, tp, one) = (key.edge.as_str(), &key.tp, key.incarnation);
        let trusts = |one| doubt.trusted.contains(&(edge.to_owned(), tp.clone(), one));
        if trusts(Some(one)) || doubt.newcomers.contains(edge) {
            return Admission::Open;
        }
        // It was never written to, so there is nothing that can have been sent.
        if session.end <= session.origin {
            self.trust(edge, tp, Some(one));
            return Admission::Open;
        }
        if !trusts(None) {
            return Admission::Aside;
        }
        let streams = self.streams.entry((key.edge.clone(), tp.clone()));
        let streams = streams.or_default();
        if session.acked > Offset::ZERO {
            streams.trust(one, session);
        }
        // Not heard of by the edge, these may have been stored all the same.
        let known = streams.stream(one).map_or(session.origin, |s| s.next);
        let from = known.max(session.acked).max(session.origin);
        self.trust(edge, tp, Some(one));
        match from < session.end {
            true => Admission::Repeating(from, session.end),
            false => Admission::Open,
        }
    }

    pub(crate) fn forget_lost(&mut self, tp: &TopicPartition) {
        let all = self.lost.range((tp.clone(), Offset::ZERO)..);
        let of: Vec<Offset> = all
            .take_while(|((of, _), _)| of == tp)
            .map(|((_, from), _)| *from)
            .collect();
        for from in of {
            self.lost.remove(&(tp.clone(), from));
            self.touch(Key::Lost(tp.clone(), from));
        }
    }
}

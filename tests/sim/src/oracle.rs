//! What was promised to clients, and whether it holds: looked at from where the clients stand.
//!
//! - An acknowledged attempt can be read once, or the loss ledger covers its very offset.
//! - The ledger tells of no loss that is none; each stream stands in its order (see `stored`).
//! - No attempt can be read twice; a QoS 2 message is one attempt for ever.
//! - What can be read is what was sent: payload, key, device, and in a topic of the device's.
//! - The attempts of one publisher on one card stand in their order in each partition.
//! - An offset that was readable stays readable and the same; ends never go back; no holes.
//! - A committed group offset never goes back.
//!
//! Some losses are the operator's own doing: the only card that held a record was overwritten, a
//! topic was deleted. The world says so when it does it, by exempting attempts.

mod back;
mod stored;

use std::collections::{BTreeMap, BTreeSet};

use headwater_batch::{BatchView, Decoder, Limits, TopicPartition};

use crate::kafka::requests::Place;
use crate::now::Ms;
use crate::payload::{Id, id_of_record};
use crate::produced::Produced;
pub use back::Known;
use stored::Stored;
pub use stored::{Gone, Ledger, Why};

/// Numbers a card over all devices it was in.
pub type CardId = usize;

/// What was sent.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub qos: u8,
    pub publisher: usize,
    pub card: CardId,
    /// The card's contents were exchanged so often: order holds within one history.
    pub history: u32,
    pub edge: String,
    pub mqtt_topic: String,
    /// The log topic and the edge partition that the routes give.
    pub log_topic: String,
    pub edge_partition: u32,
    /// Sent again after its route had changed: the log topic and partition that it had before.
    pub rerouted: Option<(String, u32)>,
    pub at: Ms,
    /// Counts what was sent, by all; set when it is entered.
    pub order: u64,
    /// The same of its first sending: a QoS 2 message may have been stored then.
    pub first: u64,
    /// Sent more than once, so it may stand where it was sent first or last.
    pub again: bool,
    pub acked: bool,
    /// When it was; of a route whose promise is a sync some seconds later.
    pub acked_at: Option<Ms>,
    pub interval: bool,
    pub refused: bool,
    pub retain: bool,
    /// It is without a payload: what is retained is deleted.
    pub deletes: bool,
    /// Why it may be missing.
    pub may_miss: Option<&'static str>,
    pub may_repeat: bool,
}

impl Attempt {
    fn topic_before(&self) -> Option<&str> {
        self.rerouted.as_ref().map(|(topic, _)| topic.as_str())
    }

    /// Whether its route leads, or led, there.
    pub fn is_for(&self, tp: &TopicPartition) -> bool {
        let before = self.rerouted.as_ref();
        let is = |topic: &str, part: u32| *topic == *tp.topic && part == tp.partition;
        is(&self.log_topic, self.edge_partition) || before.is_some_and(|(t, p)| is(t, *p))
    }

    /// Where it may be missing: one that was sent on two routes may have been lost from either.
    fn losses(&self) -> Vec<Loss> {
        let now = (
            self.edge.clone(),
            self.log_topic.clone(),
            self.edge_partition,
        );
        let before = self.rerouted.as_ref();
        let before = before.map(|(topic, part)| (self.edge.clone(), topic.clone(), *part));
        [Some(now), before].into_iter().flatten().collect()
    }
}

#[derive(Debug, Clone, Default)]
struct Part {
    /// Base offset to end and fingerprint.
    batches: BTreeMap<i64, (i64, u64)>,
    records: BTreeMap<i64, Id>,
    start: i64,
    end: i64,
}

#[derive(Default)]
pub struct Oracle {
    pub attempts: BTreeMap<Id, Attempt>,
    parts: BTreeMap<Place, Part>,
    found: BTreeMap<Id, (Place, i64)>,
    /// Lives of topics that the operator deleted, or is deleting.
    deleting: BTreeSet<String>,
    stored: Stored,
    decoder: Decoder,
    pub produced: Produced,
    sent: u64,
    failure: Option<String>,
    /// Cards whose log was full at some time: it holds what a 3.1.1 client sent from QoS 1 on, and not
    /// what it sent at QoS 0. MQTT orders by QoS (section 4.6).
    pub refusing: BTreeSet<CardId>,
    /// Topics whose edge partitions keep their numbers (U6).
    pub equal_counts: Vec<String>,
    /// Then the streams of two copies of a card may bring anew what one had brought: each keeps its order.
    went_back: bool,
    /// Retention may move log starts.
    pub retention: bool,
    /// A committed offset is forgotten with its topic.
    pub topics_deleted: bool,
}

/// What was known of a partition when something was asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ends {
    pub start: i64,
    pub end: i64,
}

/// Publisher, card, its history, edge partition: what keeps its order. Apart: QoS 0 where a log was
/// full, see [`Oracle::refusing`].
type Line = (usize, CardId, u32, u32, bool);
/// Order of sending, and where it stands.
type Stood = (u64, Id, i64);

/// Where something may be missing: edge, log topic, edge partition.
pub type Loss = (String, String, u32);

impl Oracle {
    pub fn new(retention: bool) -> Oracle {
        Oracle {
            retention,
            ..Oracle::default()
        }
    }

    pub fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    pub fn failure(&self) -> Option<&String> {
        self.failure.as_ref()
    }

    pub fn sent(&mut self, id: Id, mut attempt: Attempt) {
        self.sent += 1;
        (attempt.order, attempt.first) = (self.sent, self.sent);
        // A QoS 2 message that is sent again is the same; it belongs to where it was sent last.
        let before = self.attempts.insert(id, attempt);
        if let (Some(before), Some(now)) = (before, self.attempts.get_mut(&id)) {
            now.again = true;
            now.first = before.first;
            now.acked |= before.acked;
            now.acked_at = before.acked_at;
            now.may_repeat |= before.may_repeat;
            now.may_miss = now.may_miss.or(before.may_miss);
            now.rerouted = match before.log_topic != now.log_topic {
                true => Some((before.log_topic, before.edge_partition)),
                false => before.rerouted,
            };
            if before.card != now.card || before.history != now.history {
                // It may stand on the other card too, and nobody there knows of this one.
                now.may_repeat = true;
            }
        }
    }

    pub fn acked(&mut self, id: Id, now: Ms) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.acked = true;
            attempt.acked_at.get_or_insert(now);
        }
    }

    pub fn refused(&mut self, id: Id) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        // This card refused it; another one may have it from an earlier time.
        if attempt.may_repeat {
            return;
        }
        attempt.refused = true;
        if self.found.contains_key(&id) {
            self.fail(format!("REFUSED AND STORED: {id:?}"));
        }
    }

    /// So many attempts were sent.
    pub fn sent_count(&self) -> u64 {
        self.sent
    }

    pub fn is_found(&self, id: Id) -> bool {
        self.found.contains_key(&id)
    }

    pub fn read_records(&self) -> usize {
        self.found.len()
    }

    /// One batch as a consumer got it. `from` it on every record is looked at.
    pub fn read(&mut self, place: &Place, batch: &BatchView<'_>) {
        let (base, end) = (batch.base_offset().0, batch.next_offset().0);
        if let Err(error) = batch.verify_crc() {
            return self.fail(format!("{place:?} at {base}: {error}"));
        }
        let print = fingerprint(batch.bytes());
        let part = self.parts.entry(place.clone()).or_default();
        if let Some(known) = part.batches.get(&base) {
            if *known != (end, print) {
                self.fail(format!(
                    "CHANGED: {place:?} at {base} reads otherwise than before"
                ));
            }
            return;
        }
        let overlaps = part
            .batches
            .range(..end)
            .next_back()
            .is_some_and(|(_, (known_end, _))| *known_end > base);
        if overlaps {
            return self.fail(format!(
                "CHANGED: {place:?} has other batches around {base}"
            ));
        }
        part.batches.insert(base, (end, print));
        part.end = part.end.max(end);
        let limits = Limits::default();
        let mut decoder = std::mem::take(&mut self.decoder);
        let records: Result<Vec<_>, _> = batch.records(&mut decoder, &limits).map(|records| {
            let own = records.map(|record| {
                let record = record.map_err(|e| e.to_string())?;
                let id = id_of_record(&record).ok_or("a payload nobody sent")?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let edge = record
                    .headers
                    .iter()
                    .find(|header| header.key == "edge".as_bytes())
                    .and_then(|header| header.value.map(text));
                Ok((record.offset.0, id, record.key.map(text), edge))
            });
            own.collect::<Vec<Result<_, String>>>()
        });
        self.decoder = decoder;
        let records = match records {
            Ok(records) => records,
            Err(error) => return self.fail(format!("{place:?} at {base}: {error}")),
        };
        for record in records {
            match record {
                Ok((offset, id, key, edge)) => self.found(place, offset, id, key, edge),
                Err(what) => self.fail(format!("{place:?} in the batch at {base}: {what}")),
            }
        }
    }

    fn found(
        &mut self,
        place: &Place,
        offset: i64,
        id: Id,
        key: Option<String>,
        edge: Option<String>,
    ) {
        if self.produced.is_of_producer(id) {
            let found = self.produced.found(place, offset, id);
            return found.unwrap_or_else(|what| self.fail(what));
        }
        let Some(attempt) = self.attempts.get(&id) else {
            return self.fail(format!("{place:?} at {offset}: {id:?} was never sent"));
        };
        if attempt.refused {
            return self.fail(format!(
                "REFUSED AND STORED: {id:?} in {place:?} at {offset}"
            ));
        }
        let as_sent = key.as_deref() == Some(&*attempt.mqtt_topic)
            && edge.as_deref() == Some(&*attempt.edge)
            && (place.topic == attempt.log_topic || attempt.topic_before() == Some(&place.topic));
        if !as_sent {
            let what = format!("{id:?} in {place:?} at {offset}: key {key:?}, edge {edge:?}");
            return self.fail(format!("ALTERED: {what}, sent as {attempt:?}"));
        }
        let may_repeat = attempt.may_repeat;
        let part = self
            .parts
            .get_mut(place)
            .expect("its batch was just entered");
        part.records.insert(offset, id);
        if let Some((other, at)) = self.found.insert(id, (place.clone(), offset)) {
            if !may_repeat {
                let sent = &self.attempts[&id];
                self.fail(format!(
                    "DUPLICATE: {id:?} in {other:?} at {at} and in {place:?} at {offset}: {sent:?}"
                ));
            }
        }
    }

    /// Where a partition is known to begin and end.
    pub fn ends(&self, place: &Place) -> Ends {
        let part = self.parts.get(place);
        part.map_or(Ends::default(), |part| Ends {
            start: part.start,
            end: part.end,
        })
    }

    /// What a fetch says about a partition's ends, that was asked when `known` was known.
    pub fn marks(&mut self, place: &Place, known: Ends, start: i64, high: i64) {
        let part = self.parts.entry(place.clone()).or_default();
        let (old_start, old_end) = (known.start, known.end);
        part.start = part.start.max(start);
        part.end = part.end.max(high);
        if high < old_end {
            self.fail(format!(
                "WENT BACK: {place:?} ended at {old_end}, now at {high}"
            ));
        }
        if start < old_start {
            self.fail(format!(
                "WENT BACK: {place:?} began at {old_start}, now at {start}"
            ));
        }
        if start > old_start && !self.retention {
            self.fail(format!(
                "LOST: {place:?} begins at {start} without retention"
            ));
        }
    }

    pub fn latest(&mut self, place: &Place, known: Ends, latest: i64) {
        // Asked by name: the topic may be another one by now.
        if !self.topics_deleted {
            let end = known.end;
            if latest < end {
                self.fail(format!(
                    "WENT BACK: {place:?} ended at {end}, latest is {latest}"
                ));
            }
        }
    }

    /// A fetch at a position that was once readable, or the next to come.
    pub fn out_of_range(&mut self, place: &Place, at: i64, start: i64, high: i64) {
        let part = self.parts.entry(place.clone()).or_default();
        part.start = part.start.max(start);
        if !(self.retention && at < start) {
            self.fail(format!(
                "OUT OF RANGE: {place:?} at {at}, which is {start}..{high}"
            ));
        }
    }

    pub fn topic_gone(&mut self, place: &Place) {
        if !self.deleting.contains(&place.topic) {
            self.fail(format!("TOPIC GONE: {place:?} was not deleted"));
        }
    }

    pub fn offset_moved(&mut self, group: &str, place: &Place, found: i64, acked: i64, asked: i64) {
        if !self.deleting.contains(&place.topic) {
            self.fail(format!(
                "COMMITTED OFFSET MOVED: {group} at {place:?}: {found}, committed {acked}, asked \
                 at most {asked}"
            ));
        }
    }

    /// The operator deletes a topic: what was sent to it until now may go with it.
    pub fn deletes(&mut self, topic: &str) {
        self.deleting.insert(topic.to_owned());
        self.topics_deleted = true;
    }

    /// What was sent so far and is not seen yet may miss, for this reason.
    pub fn exempt(&mut self, why: &'static str, which: impl Fn(Id, &Attempt) -> bool) -> u64 {
        self.exempt_most(u64::MAX, why, which)
    }

    /// As [`Oracle::exempt`], and `most` of them at most.
    pub fn exempt_most(
        &mut self,
        most: u64,
        why: &'static str,
        which: impl Fn(Id, &Attempt) -> bool,
    ) -> u64 {
        let mut count = 0;
        for (id, attempt) in &mut self.attempts {
            let is_found = self.found.contains_key(id);
            if count < most && attempt.may_miss.is_none() && which(*id, attempt) {
                attempt.may_miss = Some(why);
                // One that is found has nothing to be forgiven, unless the cloud goes back.
                count += u64::from(!is_found);
            }
        }
        count
    }

    pub fn may_repeat(&mut self, ids: impl IntoIterator<Item = Id>) {
        for id in ids {
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.may_repeat = true;
            }
        }
    }

    /// Healed and read to the end: what does not hold?
    pub fn check_end(&mut self, ledger: &Ledger) {
        self.check_holes();
        if !self.went_back {
            self.check_order();
        }
        self.check_streams();
        self.check_ledger(ledger);
        self.check_losses(ledger);
        let starts = self.parts.iter();
        let starts = starts.map(|(p, part)| ((p.topic.as_str(), p.partition), part.start));
        let starts: BTreeMap<(&str, i32), i64> = starts.collect();
        let start = |topic: &str, p: i32| starts.get(&(topic, p)).copied().unwrap_or(0);
        if let Err(what) = self.produced.check_end(start) {
            self.fail(what);
        }
    }

    fn check_holes(&mut self) {
        let mut holes = Vec::new();
        for (place, part) in &self.parts {
            let mut at = None;
            for (base, (end, _)) in &part.batches {
                if at.is_some_and(|at| at != *base) && !self.retention {
                    holes.push(format!("HOLE: {place:?} from {at:?} to {base}"));
                }
                at = Some(*end);
            }
        }
        if let Some(hole) = holes.pop() {
            self.fail(hole);
        }
    }

    fn check_order(&mut self) {
        let mut wrong = None;
        for (place, part) in &self.parts {
            let mut last: BTreeMap<Line, Stood> = BTreeMap::new();
            for (offset, id) in &part.records {
                let attempt = &self.attempts[id];
                if attempt.may_repeat || attempt.again {
                    continue;
                }
                let line = (
                    attempt.publisher,
                    attempt.card,
                    attempt.history,
                    attempt.edge_partition,
                    attempt.qos == 0 && self.refusing.contains(&attempt.card),
                );
                let this = (attempt.order, *id, *offset);
                if let Some((order, before, at)) = last.insert(line, this) {
                    if order > attempt.order {
                        wrong = Some(format!(
                            "REORDERED: {place:?}: {before:?} at {at} before {id:?} at {offset}, \
                             publisher, card, history, partition, apart {line:?}"
                        ));
                    }
                }
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    fn check_losses(&mut self, ledger: &Ledger) {
        let (mut lost, mut unseen) = (Vec::new(), Vec::new());
        for (id, attempt) in &self.attempts {
            if attempt.acked && attempt.may_miss.is_none() && !self.found.contains_key(id) {
                match self.is_covered(*id, ledger) {
                    Some(true) => {}
                    Some(false) => lost.push(*id),
                    None => unseen.push(*id),
                }
            }
        }
        // Covered offsets at which nobody was seen, by line; each stands for one of these.
        let mut spare: BTreeMap<Loss, u64> = BTreeMap::new();
        for id in unseen {
            let lines = self.attempts[&id].losses();
            let taken = lines.into_iter().find(|line| {
                let left = self.unseen(line, ledger);
                let left = spare.entry(line.clone()).or_insert(left);
                *left > 0 && {
                    *left -= 1;
                    true
                }
            });
            if taken.is_none() {
                lost.push(id);
            }
        }
        let mut unread: BTreeMap<String, u64> = BTreeMap::new();
        for id in lost {
            let attempt = &self.attempts[&id];
            let left = self.unread_below_start(&attempt.log_topic);
            let left = unread.entry(attempt.log_topic.clone()).or_insert(left);
            if *left == 0 {
                let seen = self.seen(id);
                let what = format!("LOST: {id:?}, which lay at [{seen}]: {attempt:?}");
                return self.fail(what);
            }
            *left -= 1;
        }
    }

    /// Offsets that retention took before anybody read them.
    fn unread_below_start(&self, topic: &str) -> u64 {
        let parts = self.parts.iter().filter(|(place, _)| place.topic == topic);
        let unread = parts.map(|(_, part)| {
            let read = part.batches.iter().map(|(base, (end, _))| {
                let end = (*end).min(part.start);
                (end - base).max(0) as u64
            });
            (part.start as u64).saturating_sub(read.sum())
        });
        unread.sum()
    }

    /// For the report.
    pub fn acked_count(&self) -> usize {
        self.attempts.values().filter(|a| a.acked).count()
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

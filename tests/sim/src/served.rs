//! What a subscriber was sent, and whether it holds.
//!
//! - It is what was published, at the lesser of the two QoS.
//! - At QoS 2, and at QoS 0, a message is taken once; at QoS 1 it comes again with DUP only.
//! - A session that stays is sent every message that was first sent after it had subscribed, and
//!   acknowledged, unless its broker had to let go of some that waited.
//! - The first deliveries of one publisher on one topic at one QoS stand in their order.
//! - What was delivered from QoS 1 on is durable: it stands in the cloud as what was acknowledged
//!   does (the world tells the oracle so).
//!
//! Not judged: what an older session, put into the broker by an operator, or by rot, did until the
//! subscriber has subscribed anew; and what a broker that answers before the sync lost by a crash.

use std::collections::BTreeMap;

use crate::mqtt::subscriber::{Manner, Taken};
use crate::oracle::{Attempt, CardId, Oracle};
use crate::payload::{Id, id_of};

/// Publisher, topic, QoS: what keeps its order.
type Line = (usize, String, u8);

#[derive(Default)]
pub struct Served {
    /// What was sent after this is owed; `None` before it has subscribed.
    since: Option<u64>,
    /// Some of it was let go of.
    loses: bool,
    taken: BTreeMap<Id, u32>,
    last: BTreeMap<Line, (u64, Id)>,
}

impl Served {
    /// Whatever the session was, it is another one.
    pub fn begin_anew(&mut self) {
        *self = Served::default();
    }

    /// Its queue may have been too long for the broker.
    pub fn lose(&mut self) {
        self.loses = true;
    }

    /// SUBACK came, when so many had been sent by all.
    pub fn subscribed(&mut self, sent: u64) {
        self.since.get_or_insert(sent);
    }

    /// A message was taken. Which it is, or what is wrong with it.
    pub fn took(&mut self, manner: &Manner, taken: &Taken, oracle: &Oracle) -> Result<Id, String> {
        let who = &manner.client_id;
        let id = id_of(&taken.payload).ok_or_else(|| format!("{who}: a payload nobody sent"))?;
        let attempt = oracle.attempts.get(&id);
        let attempt = attempt.ok_or_else(|| format!("{who}: {id:?} was never sent"))?;
        if attempt.mqtt_topic != taken.topic || taken.qos != attempt.qos.min(manner.qos) {
            return Err(format!("ALTERED for {who}: {taken:?}, sent as {attempt:?}"));
        }
        if attempt.refused {
            return Err(format!(
                "REFUSED AND DELIVERED to {who}: {id:?} {attempt:?}"
            ));
        }
        if self.since.is_none() {
            return Ok(id);
        }
        let count = self.taken.entry(id).or_default();
        *count += 1;
        if *count > 1 {
            return match taken.qos == 1 && taken.dup || attempt.may_repeat {
                true => Ok(id),
                false => Err(format!(
                    "DELIVERED TWICE to {who}: {id:?} (packet {}, QoS {}, DUP {}) {attempt:?}",
                    taken.id, taken.qos, taken.dup
                )),
            };
        }
        self.order(who, id, attempt, taken)?;
        Ok(id)
    }

    fn order(&mut self, who: &str, id: Id, attempt: &Attempt, taken: &Taken) -> Result<(), String> {
        // With DUP it may have come for the first time before this session was judged.
        if attempt.again || attempt.may_repeat || taken.dup {
            return Ok(());
        }
        let line = (attempt.publisher, attempt.mqtt_topic.clone(), attempt.qos);
        match self.last.insert(line, (attempt.order, id)) {
            Some((order, before)) if order > attempt.order => Err(format!(
                "DELIVERED OUT OF ORDER to {who}: {before:?} before {id:?} (packet {}, DUP {}) {attempt:?}",
                taken.id, taken.dup
            )),
            _ => Ok(()),
        }
    }

    /// What the broker owes it and has not sent. `here`: the card, and how often its content was
    /// exchanged, that the broker works on.
    pub fn missing<'a>(
        &'a self,
        manner: &'a Manner,
        here: (CardId, u32),
        oracle: &'a Oracle,
    ) -> impl Iterator<Item = (&'a Id, &'a Attempt)> {
        let since = self
            .since
            .filter(|_| !manner.clean && manner.qos > 0 && !self.loses);
        let root = manner.filter.trim_end_matches('#');
        oracle.attempts.iter().filter(move |(id, attempt)| {
            since.is_some_and(|since| attempt.first > since)
                && attempt.qos > 0
                && attempt.acked
                && attempt.may_miss.is_none()
                && (attempt.card, attempt.history) == here
                && attempt.mqtt_topic.starts_with(root)
                && !self.taken.contains_key(id)
        })
    }
}

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
use crate::mqtt::wire::Version;
use crate::oracle::{Attempt, CardId, Oracle};
use crate::payload::{Id, id_of};

/// What a broker works on.
#[derive(Debug, Clone, Copy)]
pub struct Here {
    pub card: CardId,
    /// How often the card's content was exchanged.
    pub history: u32,
    /// How much had been sent when what it retains was last older than what it had acknowledged.
    pub kept_since: u64,
}

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

    /// A message was taken. Which it is, or what is wrong with it; `None`: nothing names it.
    pub fn took(
        &mut self,
        manner: &Manner,
        taken: &Taken,
        oracle: &Oracle,
    ) -> Result<Option<Id>, String> {
        match identify(manner, taken, oracle)? {
            Some((id, attempt)) => self.judge(manner, id, attempt, taken).map(Some),
            None => Ok(None),
        }
    }

    fn judge(
        &mut self,
        manner: &Manner,
        id: Id,
        attempt: &Attempt,
        taken: &Taken,
    ) -> Result<Id, String> {
        let who = &manner.client_id;
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

    /// What the broker owes it and has not sent.
    pub fn missing<'a>(
        &'a self,
        manner: &'a Manner,
        here: Here,
        oracle: &'a Oracle,
    ) -> impl Iterator<Item = (&'a Id, &'a Attempt)> {
        let since = self
            .since
            .filter(|_| !manner.clean && manner.qos > 0 && !self.loses);
        oracle.attempts.iter().filter(move |(id, attempt)| {
            since.is_some_and(|since| attempt.is_owed(since, here, manner.root()))
                && (manner.version == Version::V5 || !attempt.deletes)
                && !self.taken.contains_key(id)
        })
    }
}

impl Attempt {
    /// A session that subscribed to what begins with `root`, when `since` had been sent, has to get it.
    pub fn is_owed(&self, since: u64, here: Here, root: &str) -> bool {
        self.first > since
            && self.qos > 0
            && self.acked
            && self.may_miss.is_none()
            && (self.card, self.history) == (here.card, here.history)
            && self.mqtt_topic.starts_with(root)
    }
}

/// Which message it is, and what is wrong with it by itself. `None`: one without a payload, which on
/// 3.1.1 nothing names.
pub fn identify<'a>(
    manner: &Manner,
    taken: &Taken,
    oracle: &'a Oracle,
) -> Result<Option<(Id, &'a Attempt)>, String> {
    let who = &manner.client_id;
    let id = match (taken.payload.is_empty(), manner.version) {
        (true, Version::V4) => return Ok(None),
        (true, Version::V5) => taken.named,
        (false, _) => id_of(&taken.payload),
    };
    let id = id.ok_or_else(|| format!("{who}: a payload nobody sent"))?;
    let attempt = oracle.attempts.get(&id);
    let attempt = attempt.ok_or_else(|| format!("{who}: {id:?} was never sent"))?;
    let as_sent = attempt.mqtt_topic == taken.topic
        && attempt.deletes == taken.payload.is_empty()
        && taken.qos == attempt.qos.min(manner.qos);
    if !as_sent || (taken.retain && !attempt.retain) {
        return Err(format!(
            "ALTERED for {who} {manner:?}: {taken:?}, sent as {attempt:?}"
        ));
    }
    if attempt.refused {
        return Err(format!(
            "REFUSED AND DELIVERED to {who}: {id:?} {attempt:?}"
        ));
    }
    Ok(Some((id, attempt)))
}

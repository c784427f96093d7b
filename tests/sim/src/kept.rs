//! What a subscriber was sent of retained messages, and whether it is what had to be retained.
//!
//! Each topic has one writer, so that there is an order. On a subscription the subscriber gets, for
//! each topic that it matches, one message: the last one that was acknowledged before it asked, or one
//! that was sent after that. None, if that one deletes, or if one sent after it may have deleted it.
//! What was refused is neither kept nor deletes.
//!
//! A copy belongs to the last SUBSCRIBE if it comes at QoS 0 or to a session that began with the
//! connection. One that waited in a session may be of an earlier SUBSCRIBE of it: there the last
//! subscription is owed one that is new enough, and no copy may be older than the first allows.
//!
//! Not judged: what was retained before an operator, or rot, put an older state into the broker.

use std::collections::BTreeMap;

use crate::mqtt::subscriber::{Manner, Taken};
use crate::now::Ms;
use crate::oracle::{Attempt, Oracle};
use crate::payload::Id;
use crate::served::{Here, identify};

#[derive(Debug, Default)]
pub struct Kept {
    /// When the session's first SUBSCRIBE, and its last, were sent.
    first: Option<Ms>,
    asked: Option<Ms>,
    asks: usize,
    /// What came since the last one, by topic.
    copies: BTreeMap<String, Vec<Id>>,
    /// Of those, how many are of that SUBSCRIBE for certain.
    of_last: BTreeMap<String, usize>,
    /// Copies without DUP over the session's life.
    counts: BTreeMap<String, usize>,
    /// What waited for it was let go of.
    loses: bool,
    /// The session may be an older one, that had asked before.
    is_older: bool,
}

impl Kept {
    /// The session is another one.
    pub fn begin_anew(&mut self) {
        *self = Kept::default();
    }

    /// Which session it is, nobody knows: the broker's state may be older than what it had told.
    pub fn went_back(&mut self) {
        *self = Kept {
            is_older: true,
            ..Kept::default()
        };
    }

    pub fn lose(&mut self) {
        self.loses = true;
    }

    /// A SUBSCRIBE goes out.
    pub fn asks(&mut self, now: Ms) {
        self.first.get_or_insert(now);
        self.asked = Some(now);
        self.asks += 1;
        self.copies.clear();
        self.of_last.clear();
    }

    /// It came back without asking again: what it had asked for may have gone with its connection.
    pub fn goes_on(&mut self) {
        self.asked = None;
    }

    /// A message with RETAIN set was taken.
    pub fn took(
        &mut self,
        manner: &Manner,
        taken: &Taken,
        here: Here,
        oracle: &Oracle,
    ) -> Result<Id, String> {
        let who = &manner.client_id;
        // A message that deletes is not kept itself.
        let Some((id, attempt)) = identify(manner, taken, oracle)?.filter(|(_, a)| !a.deletes)
        else {
            return Err(format!("RETAINED WITHOUT A PAYLOAD: {taken:?} for {who}"));
        };
        self.copies.entry(taken.topic.clone()).or_default().push(id);
        let of_last = manner.clean || taken.qos == 0;
        let counts = match of_last {
            true => &mut self.of_last,
            false => &mut self.counts,
        };
        let count = counts.entry(taken.topic.clone()).or_default();
        *count += usize::from(of_last || !taken.dup);
        let count = *count;
        let most = if of_last { 1 } else { self.asks };
        // Nobody knows what an older session was owed.
        let Some(first) = self.first.filter(|_| of_last || !self.is_older) else {
            return Ok(id);
        };
        if count > most {
            return Err(format!(
                "RETAINED AND SENT TWICE: {id:?} for {who}, {count} copies of {most}: {attempt:?}"
            ));
        }
        let asked = if of_last { self.asked } else { Some(first) };
        match asked.and_then(|asked| newer(attempt, asked, here, oracle)) {
            Some(newer) => Err(format!(
                "RETAINED BUT REPLACED: {id:?} for {who} (packet {}, QoS {}, DUP {}), asked {asked:?} \
                 {attempt:?}; acknowledged later: {newer:?}",
                taken.id, taken.qos, taken.dup
            )),
            None => Ok(id),
        }
    }

    /// A topic of which the last subscription should have been sent something, and was not.
    pub fn missing(&self, manner: &Manner, here: Here, oracle: &Oracle) -> Option<String> {
        let asked = self.asked.filter(|_| !self.loses)?;
        // By topic: the first sending of the last that stands for certain, and what it is.
        let mut last: BTreeMap<&str, (u64, Id)> = BTreeMap::new();
        for (id, attempt) in certain(asked, here, oracle) {
            if !attempt.deletes && attempt.mqtt_topic.starts_with(manner.root()) {
                let it = last.entry(&attempt.mqtt_topic).or_insert((0, id));
                *it = (*it).max((attempt.first, id));
            }
        }
        let missing = last.into_iter().find(|(topic, (first, _))| {
            let deleted = oracle
                .attempts
                .values()
                .any(|a| a.deletes && !a.refused && a.mqtt_topic == *topic && a.order > *first);
            let is_new = |id: &Id| newer(&oracle.attempts[id], asked, here, oracle).is_none();
            let mut copies = self.copies.get(*topic).into_iter().flatten();
            !deleted && !copies.any(is_new)
        });
        missing.map(|(topic, (_, id))| {
            let (who, copies) = (&manner.client_id, self.copies.get(topic));
            format!(
                "{id:?}, retained at {topic}, for {who}, which asked at {asked} and has {copies:?}"
            )
        })
    }
}

/// What was retained, or deleted, for certain when a SUBSCRIBE was sent at `asked`.
fn certain(asked: Ms, here: Here, oracle: &Oracle) -> impl Iterator<Item = (Id, &Attempt)> {
    let all = oracle.attempts.iter().map(|(id, attempt)| (*id, attempt));
    all.filter(move |(_, attempt)| {
        attempt.retain
            && attempt.acked_at.is_some_and(|at| at < asked)
            && attempt.may_miss.is_none()
            && (attempt.card, attempt.history) == (here.card, here.history)
            && attempt.first > here.kept_since
    })
}

/// What had taken an attempt's place for certain.
fn newer<'a>(
    than: &'a Attempt,
    asked: Ms,
    here: Here,
    oracle: &'a Oracle,
) -> Option<(Id, &'a Attempt)> {
    if than.may_repeat {
        return None;
    }
    let mut certain = certain(asked, here, oracle);
    certain.find(|(_, a)| a.mqtt_topic == than.mqtt_topic && a.first > than.order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::subscriber::NEVER;
    use crate::mqtt::wire::Version;
    use crate::payload;

    const HERE: Here = Here {
        card: 0,
        history: 0,
        kept_since: 0,
    };

    fn manner() -> Manner {
        Manner {
            client_id: "watcher".into(),
            version: Version::V5,
            clean: true,
            expiry_s: NEVER,
            trusts: false,
            ends: false,
            stays_ms: None,
            away_ms: 0,
            filter: "r/#".into(),
            qos: 1,
            receive_maximum: None,
            slow_ms: 0,
        }
    }

    /// A retained message, or a deletion, that was sent and, if so, acknowledged at that time.
    fn sent(oracle: &mut Oracle, id: u64, deletes: bool, acked: Option<Ms>) {
        let attempt = Attempt {
            qos: 1,
            publisher: 0,
            card: 0,
            history: 0,
            edge: "gw".into(),
            mqtt_topic: "r/0".into(),
            log_topic: "mqtt".into(),
            edge_partition: 0,
            rerouted: None,
            at: 0,
            order: 0,
            first: 0,
            again: false,
            acked: false,
            acked_at: None,
            interval: false,
            refused: false,
            retain: true,
            deletes,
            may_miss: None,
            may_repeat: false,
        };
        oracle.sent(Id(id), attempt);
        if let Some(at) = acked {
            oracle.acked(Id(id), at);
        }
    }

    fn copy(id: u64) -> Taken {
        Taken {
            topic: "r/0".into(),
            payload: payload::of(Id(id), 20),
            qos: 1,
            id: 1,
            dup: false,
            retain: true,
            named: None,
        }
    }

    #[test]
    fn a_subscription_is_owed_the_last_acknowledged_message_once() {
        let mut oracle = Oracle::new(false);
        sent(&mut oracle, 1, false, Some(10));
        sent(&mut oracle, 2, false, Some(20));
        // Nobody promised this one.
        sent(&mut oracle, 3, false, None);
        let mut kept = Kept::default();
        kept.asks(30);
        assert!(kept.missing(&manner(), HERE, &oracle).is_some());
        let old = kept.took(&manner(), &copy(1), HERE, &oracle);
        assert!(old.unwrap_err().starts_with("RETAINED BUT REPLACED"));
        for id in [2, 3] {
            let mut kept = Kept::default();
            kept.asks(30);
            kept.took(&manner(), &copy(id), HERE, &oracle).unwrap();
            assert_eq!(kept.missing(&manner(), HERE, &oracle), None);
            let again = kept.took(&manner(), &copy(id), HERE, &oracle);
            assert!(again.unwrap_err().starts_with("RETAINED AND SENT TWICE"));
        }
    }

    #[test]
    fn what_was_deleted_is_not_owed_and_must_not_come() {
        let mut oracle = Oracle::new(false);
        sent(&mut oracle, 1, false, Some(10));
        sent(&mut oracle, 2, true, Some(20));
        let mut kept = Kept::default();
        kept.asks(30);
        assert_eq!(kept.missing(&manner(), HERE, &oracle), None);
        let came = kept.took(&manner(), &copy(1), HERE, &oracle);
        assert!(came.unwrap_err().starts_with("RETAINED BUT REPLACED"));
    }

    #[test]
    fn what_an_older_state_retains_is_not_judged() {
        let mut oracle = Oracle::new(false);
        sent(&mut oracle, 1, false, Some(10));
        sent(&mut oracle, 2, false, Some(20));
        let older = Here {
            kept_since: oracle.sent_count(),
            ..HERE
        };
        let mut kept = Kept::default();
        kept.asks(30);
        assert_eq!(kept.missing(&manner(), older, &oracle), None);
        assert_eq!(kept.took(&manner(), &copy(1), older, &oracle), Ok(Id(1)));
    }
}

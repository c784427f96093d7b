//! Retained messages: the last one of each topic, up to a bound in bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::session::Message;
use crate::{QoS, topic};

/// An answer of [`Retained::next`].
#[derive(Debug)]
pub(crate) enum Scan {
    Found(Arc<Message>),
    /// The budget is used up.
    Later,
    End,
}

#[derive(Debug)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Arc<str>, Arc<Message>>,
    /// Those that end, in the order in which they do.
    ends: BTreeSet<(u64, Arc<str>)>,
    bytes: usize,
    bytes_max: usize,
    /// At QoS 0 a message is served before it is durable: who subscribes then is to find it. By topic the
    /// last one under way, and its frame. Nothing of it survives a restart.
    coming: BTreeMap<Arc<str>, (u64, Arc<Message>)>,
}

impl Retained {
    pub fn new(bytes_max: usize) -> Retained {
        Retained {
            by_topic: BTreeMap::new(),
            ends: BTreeSet::new(),
            bytes: 0,
            bytes_max,
            coming: BTreeMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Bytes of all of them, as [`Message::bytes`] counts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.by_topic.get(topic)
    }

    /// Takes a message in the place of the last one; a payload of no bytes only deletes that
    /// [MQTT-3.3.1-6]. False: there is no room, and the last one stays.
    pub fn put(&mut self, message: &Arc<Message>) -> bool {
        let topic = &message.publish.topic;
        let old = self.by_topic.get(topic).map_or(0, |m| m.bytes());
        let deletes = message.publish.payload.is_empty();
        if !deletes && self.bytes - old + message.bytes() > self.bytes_max {
            return false;
        }
        self.remove(topic);
        if !deletes {
            self.restore(message.clone());
        }
        true
    }

    /// One from a checkpoint, whatever the bound is now.
    pub fn restore(&mut self, message: Arc<Message>) {
        let topic = message.publish.topic.clone();
        self.remove(&topic);
        self.bytes += message.bytes();
        if let Some(at) = message.expires_at_ms {
            self.ends.insert((at, topic.clone()));
        }
        self.by_topic.insert(topic, message);
    }

    fn remove(&mut self, topic: &Arc<str>) {
        if let Some(old) = self.by_topic.remove(topic) {
            self.bytes -= old.bytes();
            if let Some(at) = old.expires_at_ms {
                self.ends.remove(&(at, topic.clone()));
            }
        }
    }

    /// A message goes to the journal, in this frame.
    pub fn coming(&mut self, frame: u64, message: &Arc<Message>) {
        let publish = &message.publish;
        if publish.retain && publish.qos == QoS::AtMostOnce {
            let topic = publish.topic.clone();
            self.coming.insert(topic, (frame, message.clone()));
        }
    }

    /// The frame is durable, or refused.
    pub fn came(&mut self, frame: u64, message: &Arc<Message>) {
        let topic = &message.publish.topic;
        if self
            .coming
            .get(topic)
            .is_some_and(|(last, _)| *last == frame)
        {
            self.coming.remove(topic);
        }
    }

    /// When the next one ends, and which.
    pub fn first_to_end(&self) -> Option<&(u64, Arc<str>)> {
        self.ends.first()
    }

    /// Those that have ended by now, `most` at most.
    pub fn ended(&self, now_ms: u64, most: usize) -> Vec<(u64, Arc<str>)> {
        let ended = self.ends.iter().take_while(|(at, _)| *at <= now_ms);
        ended.take(most).cloned().collect()
    }

    /// Deletes the one that ended then. False: another has taken its place.
    pub fn expire(&mut self, topic: &Arc<str>, expires_at_ms: u64) -> bool {
        let there = self.ends.contains(&(expires_at_ms, topic.clone()));
        if there {
            self.remove(topic);
        }
        there
    }

    /// The next message after topic `after` that matches a valid filter. Looks at `budget` topics at
    /// most and says in it what is left.
    pub fn next(&self, filter: &str, after: Option<&str>, budget: &mut usize) -> Scan {
        // Up to the first wildcard all that match begin alike ("a/#" matches "a" too).
        let wildcard = filter.find(['+', '#']);
        let prefix = filter[..wildcard.unwrap_or(filter.len())].trim_end_matches('/');
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let range = (from, Bound::Unbounded);
        let mut kept = self.by_topic.range::<str, _>(range).peekable();
        let mut coming = self.coming.range::<str, _>(range).peekable();
        loop {
            // In order of topics; what is coming takes the place of what is there.
            let next_kept = kept.peek().map(|(topic, _)| *topic);
            let (topic, message) = match coming.peek() {
                Some((topic, (_, message))) if next_kept.is_none_or(|k| *topic <= k) => {
                    if next_kept == Some(topic) {
                        kept.next();
                    }
                    let found = (*topic, message);
                    coming.next();
                    found
                }
                _ => match kept.next() {
                    Some(found) => found,
                    None => break,
                },
            };
            if !topic.starts_with(prefix) {
                break;
            }
            if *budget == 0 {
                return Scan::Later;
            }
            *budget -= 1;
            // Only one that is coming is empty: it deletes.
            if !message.publish.payload.is_empty() && topic::matches(filter, topic) {
                return Scan::Found(message.clone());
            }
        }
        Scan::End
    }
}

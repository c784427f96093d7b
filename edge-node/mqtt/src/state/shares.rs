//! Shared subscriptions (section 4.8.2 of 5.0): each message goes to one session of a group.
//!
//! A group is named by its whole filter, `$share/name/filter`: the same name with another filter is
//! another group. Who gets a message depends on who is connected, which no replay knows. So it is
//! chosen before the frame is written, and the frame says who ([`Deal`]); applying it only does so.
//!
//! # When a member leaves
//! What was dealt to it and may go to another does ([`Session::forwardable`]): QoS 1, and QoS 2 that
//! was never sent [MQTT-4.8.2-5], in the frame that ends it. That frame waits for what is under way to
//! the session. What finds its session gone all the same when it is applied is a [`Stray`]: it is dealt
//! again in a frame of its own, and a crash before that is durable loses it for the group.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::queues::Arrival;
use super::session::{Message, Session, Sid};
use super::{Delivery, State};
use crate::rules::{self, Rule};
use crate::seeded::{Seeded, Table};
use crate::topic::{Match, Options, Tree, check_filter};
use crate::{Publish, QoS};

/// A message for one member of a group, and how it gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deal {
    pub to: Sid,
    /// The group: its whole filter.
    pub share: Arc<str>,
    pub qos: QoS,
    pub retain: bool,
    pub identifier: Option<u32>,
}

/// A message that was dealt to a session that has ended.
#[derive(Debug)]
pub(crate) struct Stray {
    pub share: Arc<str>,
    pub message: Arc<Message>,
}

/// How unwelcome a choice is: not connected; its window is full; how much it has to do then.
type Rank = (bool, bool, usize);

/// Who may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    /// Whoever is connected; if nobody is, a session that outlives its connection.
    All,
    /// Those but this session, which ends.
    AllBut(Sid),
    /// Connected ones whose sessions outlive that: nothing is moved to where it is less safe.
    DurableBut(Sid),
}

/// Whether the access rules let a session have the message in question, as far as they can tell: of
/// one without a connection nobody is asked.
pub(crate) type MayRead<'a> = &'a dyn Fn(&Session) -> bool;

#[derive(Debug)]
struct Group {
    members: BTreeMap<Sid, Options>,
    /// Who was chosen last.
    last: Sid,
}

/// The groups. Of their order and of `last` nothing is kept: any fair choice will do.
#[derive(Debug)]
pub(crate) struct Shares {
    /// By the filter alone: the groups that subscribe to it.
    tree: Tree<u64>,
    names: Table<u64, Arc<str>>,
    groups: BTreeMap<Arc<str>, (u64, Group)>,
    next: u64,
    found: Vec<Match<u64>>,
}

impl Shares {
    pub fn new(hash_seed: u64) -> Shares {
        Shares {
            tree: Tree::new(hash_seed),
            names: Table::with_hasher(Seeded(hash_seed)),
            groups: BTreeMap::new(),
            next: 0,
            found: Vec::new(),
        }
    }

    /// Subscriptions in all groups.
    pub fn len(&self) -> usize {
        self.groups.values().map(|(_, g)| g.members.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether any group's filter begins with this level.
    pub fn begins(&self, level: &str) -> bool {
        self.tree.begins(level)
    }

    pub fn join(&mut self, share: &Arc<str>, filter: &str, sid: Sid, options: Options) {
        let Shares {
            groups,
            tree,
            names,
            next,
            ..
        } = self;
        let (_, group) = groups.entry(share.clone()).or_insert_with(|| {
            *next += 1;
            tree.insert(filter, *next, Options::default());
            names.insert(*next, share.clone());
            let members = BTreeMap::new();
            let last = Sid(0);
            (*next, Group { members, last })
        });
        group.members.insert(sid, options);
    }

    pub fn leave(&mut self, share: &str, filter: &str, sid: Sid) {
        let Some((id, group)) = self.groups.get_mut(share) else {
            return;
        };
        group.members.remove(&sid);
        if group.members.is_empty() {
            self.tree.remove(filter, *id);
            self.names.remove(id);
            self.groups.remove(share);
        }
    }
}

impl Session {
    /// Ids of what was dealt to it and may go to another member, in order, with the groups. With what is
    /// on its way there: should the session end before, that finds nothing any more.
    pub fn forwardable(&self) -> Vec<(u16, Arc<str>)> {
        let entries = self.queue.entries.values();
        let dealt = entries.filter(|e| e.message.is_some() && !e.done && !e.received);
        let free = dealt
            .filter(|e| e.qos == QoS::AtLeastOnce || !e.maybe_sent || !rules::on(Rule::SentStays));
        free.filter_map(|e| Some((e.id, e.share.clone()?)))
            .collect()
    }
}

impl State {
    /// Who gets a message, one session of each group that it matches.
    pub fn deals(&mut self, publish: &Publish, may_read: MayRead<'_>) -> Vec<Deal> {
        if self.shares.is_empty() {
            return Vec::new();
        }
        let mut found = std::mem::take(&mut self.shares.found);
        found.clear();
        self.shares.tree.matches(&publish.topic, &mut found);
        found.sort_unstable();
        let mut deals = Vec::with_capacity(found.len());
        for group in &found {
            let share = self.shares.names.get(&group.key).cloned();
            let chosen = share.and_then(|share| self.choose(&share, publish, Among::All, may_read));
            deals.extend(chosen);
        }
        self.shares.found = found;
        deals
    }

    /// The next member in turn that has room in its window; if none has, the one with the least to do.
    pub fn choose(
        &mut self,
        share: &Arc<str>,
        publish: &Publish,
        among: Among,
        may_read: MayRead<'_>,
    ) -> Option<Deal> {
        let (_, group) = self.shares.groups.get(share)?;
        let next = Sid(group.last.0.saturating_add(1));
        let turn = group
            .members
            .range(next..)
            .chain(group.members.range(..next));
        let mut best: Option<(Rank, Sid, Options)> = None;
        for (sid, options) in turn {
            let Some(session) = self.sessions.get(sid) else {
                continue;
            };
            if session.leaving || !may_read(session) {
                continue;
            }
            let qos = options.qos().min(publish.qos);
            let connected = session.conn.is_some();
            let may = match among {
                Among::All => connected || (session.durable && qos > QoS::AtMostOnce),
                Among::AllBut(not) => *sid != not && (connected || session.durable),
                Among::DurableBut(not) => {
                    *sid != not && connected && session.durable && qos > QoS::AtMostOnce
                }
            };
            if !may {
                continue;
            }
            let waiting = session.queue.entries.len();
            let busy = waiting >= usize::from(session.window);
            let rank = (!connected, busy, if busy { waiting } else { 0 });
            if best.as_ref().is_none_or(|(least, ..)| rank < *least) {
                best = Some((rank, *sid, *options));
            }
        }
        let (_, to, options) = best?;
        if let Some((_, group)) = self.shares.groups.get_mut(share) {
            group.last = to;
        }
        Some(Deal {
            to,
            share: share.clone(),
            qos: options.qos().min(publish.qos),
            retain: options.retain_as_published() && publish.retain,
            identifier: options.identifier(),
        })
    }

    /// Members of a group whose sessions outlive their connections, and whether each has one.
    pub fn durable_members(&self, share: &str) -> Vec<(Sid, bool)> {
        let group = self.shares.groups.get(share);
        let members = group
            .into_iter()
            .flat_map(|(_, group)| group.members.keys());
        let durable = members.filter_map(|sid| {
            let session = self.sessions.get(sid).filter(|s| s.durable)?;
            Some((*sid, session.conn.is_some()))
        });
        durable.collect()
    }

    /// Gives a message to the one it was dealt to.
    pub fn deal(&mut self, deal: &Deal, message: &Arc<Message>, out: &mut Vec<Delivery>) {
        let Some(session) = self.sessions.get(&deal.to) else {
            self.strays.push(Stray {
                share: deal.share.clone(),
                message: message.clone(),
            });
            return;
        };
        let identifiers: Vec<u32> = deal.identifier.into_iter().collect();
        if deal.qos == QoS::AtMostOnce {
            if session.conn.is_some() {
                out.push(Delivery {
                    sid: deal.to,
                    message: Some(message.clone()),
                    retain: deal.retain,
                    identifiers,
                });
            }
            return;
        }
        let arrival = Arrival {
            qos: deal.qos,
            retain: deal.retain,
            identifiers,
            share: Some(deal.share.clone()),
        };
        self.enqueue(deal.to, message, arrival, out);
    }

    /// Takes a message back from the session that it was dealt to, and deals it to another.
    pub fn forward(&mut self, from: Sid, id: u16, deal: &Deal, out: &mut Vec<Delivery>) {
        let message = self.sessions.get(&from).and_then(|session| {
            let entry = session.queue.entries.get(&session.queue.seq(id)?)?;
            entry.message.clone()
        });
        if let Some(message) = message {
            self.done(from, id);
            // Where frames before it are lost to rot, the id may be another message's than it was.
            let group = self.shares.groups.get(&deal.share);
            let options = group.and_then(|(_, group)| group.members.get(&deal.to));
            let qos = options.map_or(deal.qos, |options| options.qos());
            let qos = qos.min(message.publish.qos);
            let deal = Deal {
                qos,
                ..deal.clone()
            };
            self.deal(&deal, &message, out);
        }
    }

    /// A session ends: what is left of what was dealt to it is nobody's.
    pub(super) fn strand(&mut self, session: &Session) {
        for (id, share) in session.forwardable() {
            let entry = session.queue.seq(id).map(|s| &session.queue.entries[&s]);
            if let Some(message) = entry.and_then(|e| e.message.clone()) {
                self.strays.push(Stray { share, message });
            }
        }
    }

    /// Adds a subscription to the tree or to its group.
    pub(super) fn link(&mut self, sid: Sid, name: &Arc<str>, options: Options) {
        match check_filter(name) {
            Ok(parts) if parts.share.is_some() => {
                self.shares.join(name, parts.filter, sid, options);
            }
            _ => drop(self.tree.insert(name, sid, options)),
        }
    }

    /// Takes one out again.
    pub(super) fn unlink(&mut self, sid: Sid, name: &str) {
        match check_filter(name) {
            Ok(parts) if parts.share.is_some() => self.shares.leave(name, parts.filter, sid),
            _ => drop(self.tree.remove(name, sid)),
        }
    }
}

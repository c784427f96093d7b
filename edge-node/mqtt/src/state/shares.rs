//! Shared subscriptions (section 4.8.2 of 5.0): each message goes to one session of a group.
//!
//! A group is named by its whole filter, `$share/name/filter`: the same name with another filter is
//! another group. Who gets a message depends on who is connected, which no replay knows. So it is
//! chosen before the frame is written, and the frame says who ([`Deal`]); applying it only does so.
//!
//! Members whose sessions end with their connection stand in no frame: what was dealt to them goes with
//! them in a crash, as they do.
//!
//! # When a member leaves
//! What was dealt to it and may go to another does ([`Session::forwardable`]): QoS 1, and QoS 2 that
//! was never sent [MQTT-4.8.2-5], in the frame that ends it. What comes to it behind that, or finds it
//! gone, is a [`Stray`], and goes to an heir that follows from the state alone, on every replay the
//! same: the first member whose session outlives its connection. If there is none, the broker deals
//! it to whoever is connected. So it does with QoS 2 that came to a session on its way out, since no replay
//! knows whether that was sent: a crash before that is durable loses it for the group.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::queues::Arrival;
use super::session::{Message, Session, Sid};
use super::{Delivery, State};
use crate::seeded::{Seeded, Table};
use crate::topic::{Match, Options, Tree, check_filter};
use crate::{Publish, QoS};

/// A message for one member of a group, and how it gets it. In an op: for one whose session outlives
/// its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deal {
    pub to: Sid,
    /// The group: its whole filter.
    pub share: Arc<str>,
    pub qos: QoS,
    pub retain: bool,
    pub identifier: Option<u32>,
}

impl Deal {
    fn new(to: Sid, options: Options, share: &Arc<str>, publish: &Publish) -> Deal {
        Deal {
            to,
            share: share.clone(),
            qos: options.qos().min(publish.qos),
            retain: options.retain_as_published() && publish.retain,
            identifier: options.identifier(),
        }
    }
}

/// A message that was dealt to a session that has ended.
#[derive(Debug)]
pub(crate) struct Stray {
    pub share: Arc<str>,
    pub message: Arc<Message>,
    /// That it was not sent is known to a replay too.
    inherited: bool,
}

/// How unwelcome a choice is: not connected; its window is full; how much it has to do then.
type Rank = (bool, bool, usize);

/// Who may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    /// Whoever is connected; if nobody is, a session that outlives its connection.
    All,
    /// Sessions that outlive their connections, but this one, which ends: nothing is moved to where it is
    /// less safe.
    LastingBut(Sid),
    /// Those of them that are connected.
    PresentBut(Sid),
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
    /// Ids of what was dealt to it and may go to another member, in order, with the groups.
    pub fn forwardable(&self) -> Vec<(u16, Arc<str>)> {
        let entries = self.queue.entries.values();
        let dealt = entries.filter(|e| e.message.is_some() && !e.done && !e.received);
        let free = dealt.filter(|e| e.qos == QoS::AtLeastOnce || !e.maybe_sent);
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
                Among::LastingBut(not) => *sid != not && session.durable && qos > QoS::AtMostOnce,
                Among::PresentBut(not) => {
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
        Some(Deal::new(to, options, share, publish))
    }

    /// What the op that was just applied left to nobody, strays from `first` on, goes to heirs.
    pub(super) fn inherit(&mut self, first: usize, out: &mut Vec<Delivery>) {
        for stray in self.strays.split_off(first) {
            match self.heir(&stray).filter(|_| stray.inherited) {
                Some(deal) => {
                    self.deal(&deal, &stray.message, out);
                    self.heirs.push(deal.to);
                }
                None => self.strays.push(stray),
            }
        }
    }

    /// The first member whose session outlives its connection. Whether it is connected, or on its way
    /// out, no replay knows.
    fn heir(&self, stray: &Stray) -> Option<Deal> {
        let (_, group) = self.shares.groups.get(&stray.share)?;
        let publish = &stray.message.publish;
        let lasting = group.members.iter().find(|(sid, options)| {
            let lasts = self.sessions.get(sid).is_some_and(|s| s.durable);
            lasts && options.qos().min(publish.qos) > QoS::AtMostOnce
        });
        lasting.map(|(sid, options)| Deal::new(*sid, *options, &stray.share, publish))
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
                inherited: true,
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
            self.deal(deal, &message, out);
        }
    }

    /// A session ends: what is left of what was dealt to it is nobody's. Of QoS 1 that is all for which no
    /// op says that it is done, since a replay knows no more.
    pub(super) fn strand(&mut self, session: &Session) {
        for entry in session.queue.entries.values() {
            let inherited = entry.qos == QoS::AtLeastOnce;
            let unsent = !entry.done && !entry.received && !entry.maybe_sent;
            let (Some(share), Some(message)) = (&entry.share, &entry.message) else {
                continue;
            };
            if inherited || unsent {
                self.strays.push(Stray {
                    share: share.clone(),
                    message: message.clone(),
                    inherited,
                });
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

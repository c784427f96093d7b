//! Shared subscriptions: a member leaves, and what was dealt to it goes to others.

use std::sync::Arc;

use super::conn::Conn;
use super::connect::Accepted;
use super::journal::{Pending, Reply};
use super::{Broker, identity};
use crate::seeded::Table;
use crate::state::op::Op;
use crate::state::session::{Session, Sid};
use crate::state::{Among, Deal, Stray};
use crate::{Access, ConnId, Publish, QoS, Token};

fn may_read(
    conns: &Table<ConnId, Box<Conn>>,
    access: &dyn Access,
    session: &Session,
    publish: &Publish,
) -> bool {
    let conn = session.conn.and_then(|id| conns.get(&id));
    conn.is_none_or(|conn| access.may_receive(identity(conn), &publish.topic))
}

/// A session that has ended: what frames under way deal to it has to be in its queue before its end
/// gives that to others.
#[derive(Debug)]
pub(super) struct Ending {
    pub after: Token,
    pub sid: Sid,
}

/// A CONNECT that ends such a session, or comes behind its end.
#[derive(Debug)]
pub(super) struct Held {
    pub after: Token,
    pub conn: ConnId,
    pub accepted: Box<Accepted>,
    pub clean: bool,
}

impl Broker {
    /// The last frame under way that deals something to a session.
    pub(super) fn last_dealt(&self, sid: Sid) -> Option<Token> {
        if self.state.shares.is_empty() {
            return None;
        }
        let to = |deals: &[Deal]| deals.iter().any(|deal| deal.to == sid);
        let deals =
            |frame: &&Pending| to(&frame.deals) || frame.ops.iter().any(|op| to(op.deals()));
        self.pending.iter().rev().find(deals).map(|p| p.token)
    }

    /// The frame that a client's CONNECT has to wait for.
    pub(super) fn waits_for(&self, client_id: &str, clean: bool) -> Option<Token> {
        let ends = |ending: &&Ending| {
            let session = self.state.sessions.get(&ending.sid);
            session.is_some_and(|s| *s.client_id == *client_id)
        };
        let ending = self.ending.iter().rev().find(ends).map(|e| e.after);
        let old = self.state.current(client_id).filter(|_| clean);
        ending.max(old.and_then(|sid| self.last_dealt(sid)))
    }

    /// Ends what had to wait, and lets those in who wait for that.
    pub(super) fn end_due(&mut self) {
        let first = self.pending.front().map(|frame| frame.token);
        let due = |after: Token| first.is_none_or(|first| first > after);
        let ending = std::mem::take(&mut self.ending).into_iter();
        let held = std::mem::take(&mut self.held).into_iter();
        let (ended, ending): (Vec<_>, Vec<_>) = ending.partition(|e| due(e.after));
        let (let_in, held): (Vec<_>, Vec<_>) = held.partition(|h| due(h.after));
        (self.ending, self.held) = (ending, held);
        for Ending { sid, .. } in ended {
            self.append_end(sid);
        }
        for held in let_in {
            if self.conns.contains_key(&held.conn) {
                self.start_session(held.conn, *held.accepted, held.clean);
            }
        }
    }

    /// Whom shared subscriptions deal a message to.
    pub(super) fn deals(&mut self, publish: &Publish) -> Vec<Deal> {
        let Broker {
            state,
            conns,
            access,
            checks_delivery,
            ..
        } = self;
        let may = |s: &Session| !*checks_delivery || may_read(conns, &**access, s, publish);
        state.deals(publish, &may)
    }

    fn choose(&mut self, share: &Arc<str>, publish: &Publish, among: Among) -> Option<Deal> {
        let Broker {
            state,
            conns,
            access,
            checks_delivery,
            ..
        } = self;
        let may = |s: &Session| !*checks_delivery || may_read(conns, &**access, s, publish);
        state.choose(share, publish, among, &may)
    }

    /// Offers what waits for a member to others of its groups: it lost its connection, or it ends
    /// (`ends`). Ops that say so are for the frame that ends it; nothing happens before that is durable.
    pub(super) fn forward(&mut self, sid: Sid, ends: bool) -> Vec<Op> {
        let Some(session) = self.state.sessions.get(&sid) else {
            return Vec::new();
        };
        let among = match ends {
            true => Among::AllBut(sid),
            false => Among::DurableBut(sid),
        };
        let mut ops = Vec::new();
        for (id, share) in session.forwardable() {
            let Some(queue) = self.state.sessions.get(&sid).map(|s| &s.queue) else {
                break;
            };
            let entry = queue.seq(id).and_then(|seq| queue.entries.get(&seq));
            let stays = entry.filter(|entry| !entry.moving);
            let Some(message) = stays.and_then(|entry| entry.message.clone()) else {
                continue;
            };
            let Some(deal) = self.choose(&share, &message.publish, among) else {
                continue;
            };
            ops.push(Op::Forward { sid, id, deal });
            // Should its client come back meanwhile, it does not get it any more.
            let session = self.state.session(sid);
            if let Some((_, entry)) = session.and_then(|s| s.queue.by_id(id)) {
                entry.moving = true;
            }
        }
        ops
    }

    /// A member that outlives its connection lost it.
    pub(super) fn forward_from(&mut self, sid: Sid) {
        let ops = self.forward(sid, false);
        if !ops.is_empty() {
            self.append(ops, None, Reply::Nobody);
        }
    }

    /// The frame that would have given a member's part away was refused, and so was its end.
    pub(super) fn keep_part(&mut self, ops: &[Op]) {
        for op in ops {
            let Op::Forward { sid, id, .. } = op else {
                continue;
            };
            let session = self.state.session(*sid);
            if let Some((_, entry)) = session.and_then(|s| s.queue.by_id(*id)) {
                entry.moving = false;
            }
        }
    }

    /// After a frame: whoever a message was dealt to may have left since that was written.
    pub(super) fn look_after_deals(&mut self, ops: &[Op]) {
        for op in ops {
            for deal in op.deals() {
                let members = self.state.durable_members(&deal.share);
                let left = members.contains(&(deal.to, false));
                if left && members.iter().any(|(_, connected)| *connected) {
                    self.forward_from(deal.to);
                }
            }
        }
        self.deal_strays();
    }

    /// A member is there: it takes its part of what waits for members that are not.
    pub(super) fn relieve(&mut self, sid: Sid) {
        let Some(session) = self.state.sessions.get(&sid).filter(|s| s.durable) else {
            return;
        };
        let shares = session.subscriptions.keys();
        let shares: Vec<_> = shares.filter(|f| f.starts_with("$share/")).collect();
        let members = shares.iter().flat_map(|s| self.state.durable_members(s));
        let mut away: Vec<Sid> = members.filter(|(_, there)| !there).map(|m| m.0).collect();
        away.sort_unstable();
        away.dedup();
        for sid in away {
            self.forward_from(sid);
        }
    }

    /// What was dealt to sessions that are gone is dealt again, as long as anybody is left.
    pub(super) fn deal_strays(&mut self) {
        let strays = std::mem::take(&mut self.state.strays);
        for Stray { share, message } in strays {
            let deal = self.choose(&share, &message.publish, Among::All);
            let Some(deal) = deal else { continue };
            let durable = self.state.sessions.get(&deal.to).is_some_and(|s| s.durable);
            if durable && deal.qos > QoS::AtMostOnce {
                self.append(vec![Op::Deal { message, deal }], None, Reply::Nobody);
            } else {
                let mut out = std::mem::take(&mut self.deliveries);
                self.state.deal(&deal, &message, &mut out);
                self.deliver(&mut out);
                self.deliveries = out;
            }
        }
    }
}

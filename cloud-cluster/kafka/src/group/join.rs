//! JoinGroup: how a member gets in.

use super::member::{Member, millis};
use super::state::{Group, State};
use super::{Context, GroupConfig, GroupEffect, GroupResponse, Join, Joined, RequestToken, Synced};
use crate::ErrorCode;

/// Kafka's bound for group.instance.id, and ours for names of protocols.
const NAME_BYTES_MAX: usize = 249;
/// Protocols of one member. Those of all members are compared with each other, by one task for all
/// groups; clients name two or three.
const PROTOCOLS_MAX: usize = 100;

impl Context<'_> {
    pub(super) fn reply(&mut self, token: RequestToken, response: GroupResponse) {
        self.effects.push(GroupEffect::Reply { token, response });
    }

    pub(super) fn joined(&mut self, token: RequestToken, joined: Joined) {
        self.reply(token, GroupResponse::Join(joined));
    }

    pub(super) fn synced(&mut self, token: RequestToken, synced: Synced) {
        self.reply(token, GroupResponse::Sync(synced));
    }
}

/// What can be said of a join without looking at the group.
fn check(config: &GroupConfig, join: &Join) -> Result<(), ErrorCode> {
    let session = u32::try_from(join.session_timeout_ms).unwrap_or(0);
    if !(config.session_timeout_ms_min..=config.session_timeout_ms_max).contains(&session) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    if join
        .instance_id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > NAME_BYTES_MAX)
    {
        return Err(ErrorCode::InvalidRequest);
    }
    if join.protocols.len() > PROTOCOLS_MAX {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let names = join.protocols.iter().map(|(name, _)| name);
    if names
        .chain([&join.protocol_type])
        .any(|name| name.len() > NAME_BYTES_MAX)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let bytes: usize = join
        .protocols
        .iter()
        .map(|(name, data)| name.len() + data.len())
        .sum();
    if bytes > config.member_bytes_max {
        return Err(ErrorCode::GroupMaxSizeReached);
    }
    Ok(())
}

impl Group {
    pub(super) fn join(&mut self, cx: &mut Context<'_>, token: RequestToken, join: Join) {
        let result = check(cx.config, &join).and_then(|()| {
            if join.member_id.is_empty() {
                self.join_unknown(cx, token, &join)
            } else {
                self.join_known(cx, token, &join)
            }
        });
        if let Err(error) = result {
            cx.joined(token, Joined::refused(error, &join.member_id));
        }
    }

    fn join_unknown(
        &mut self,
        cx: &mut Context<'_>,
        token: RequestToken,
        join: &Join,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = &join.instance_id {
            let id = cx.ids.member_id(instance);
            if let Some(old) = self.statics.get(instance).cloned() {
                return self.replace_static(cx, token, join, &old, id);
            }
            self.check_arrival(cx, join)?;
            self.add(cx, token, join, id);
            return Ok(());
        }
        self.check_arrival(cx, join)?;
        let id = cx.ids.member_id(&join.client_id);
        if join.requires_known_member_id {
            // KIP-394: clients that die between two joins do not fill the group with ghosts.
            let lapses = cx.now + u64::from(millis(join.session_timeout_ms));
            self.pending.insert(id.clone(), lapses);
            cx.joined(token, Joined::refused(ErrorCode::MemberIdRequired, &id));
            return Ok(());
        }
        self.add(cx, token, join, id);
        Ok(())
    }

    /// Whether one more member fits, by number and by protocol.
    fn check_arrival(&self, cx: &Context<'_>, join: &Join) -> Result<(), ErrorCode> {
        if !self.accepts(&join.protocol_type, &join.protocols) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.members.len() + self.pending.len() >= cx.config.members_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        Ok(())
    }

    fn join_known(
        &mut self,
        cx: &mut Context<'_>,
        token: RequestToken,
        join: &Join,
    ) -> Result<(), ErrorCode> {
        let id = &join.member_id;
        if join.instance_id.is_none() && self.pending.contains_key(id) {
            if !self.accepts(&join.protocol_type, &join.protocols) {
                return Err(ErrorCode::InconsistentGroupProtocol);
            }
            self.pending.remove(id);
            self.add(cx, token, join, id.clone());
            return Ok(());
        }
        self.validate_member(id, join.instance_id.as_deref())?;
        if !self.accepts_again(id, join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let unchanged = self.members[id].protocols == join.protocols;
        match self.state {
            State::Preparing { .. } => self.rejoin(cx, token, join),
            // The response to its join was lost: it gets the same one again.
            State::Completing { .. } if unchanged => {
                self.touch(id, cx.now);
                cx.joined(token, self.joined(id));
            }
            // A leader that joins again wants a new assignment; the others did not hear of the
            // current one.
            State::Stable if unchanged && !self.is_leader(id) => {
                self.touch(id, cx.now);
                cx.joined(token, self.joined(id));
            }
            State::Completing { .. } | State::Stable => self.rejoin(cx, token, join),
            State::Empty => return Err(ErrorCode::UnknownMemberId),
        }
        Ok(())
    }

    /// As `accepts`, without the member's own former protocols.
    fn accepts_again(&self, id: &str, join: &Join) -> bool {
        let mut others = self
            .members
            .iter()
            .filter(|(other, _)| *other != id)
            .map(|(_, m)| m);
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return false;
        }
        let alone = self.members.len() == 1;
        (alone || self.protocol_type.as_deref() == Some(join.protocol_type.as_str()))
            && (others.clone().next().is_none()
                || join
                    .protocols
                    .iter()
                    .any(|(name, _)| others.all_support(name)))
    }

    fn touch(&mut self, id: &str, now: u64) {
        if let Some(member) = self.members.get_mut(id) {
            member.alive(now);
        }
    }

    /// A new member; its join is parked until the rebalance ends.
    fn add(&mut self, cx: &mut Context<'_>, token: RequestToken, join: &Join, id: String) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.arrivals += 1;
        let mut member = Member::new(join, cx.now, self.arrivals);
        member.joining = Some(token);
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.newcomer = true;
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        self.prepare(cx);
    }

    fn rejoin(&mut self, cx: &mut Context<'_>, token: RequestToken, join: &Join) {
        if self.members.len() == 1 {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        let member = self
            .members
            .get_mut(&join.member_id)
            .expect("validated by the caller");
        member.update(join, cx.now);
        if let Some(earlier) = member.joining.replace(token) {
            // Sent again on another connection; the first may still be read by somebody.
            let refused = Joined::refused(ErrorCode::RebalanceInProgress, &join.member_id);
            cx.joined(earlier, refused);
        }
        self.prepare(cx);
    }

    /// A static member comes back under a new id (KIP-345): it takes the place of its former
    /// self, whose requests are fenced from now on.
    fn replace_static(
        &mut self,
        cx: &mut Context<'_>,
        token: RequestToken,
        join: &Join,
        old: &str,
        id: String,
    ) -> Result<(), ErrorCode> {
        if !self.accepts_again(old, join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let mut member = self.members.remove(old).expect("statics name members");
        self.fence(cx, &mut member, old);
        let was_leader = self.is_leader(old);
        let former_leader = self.leader.clone();
        if was_leader {
            self.leader = Some(id.clone());
        }
        member.update(join, cx.now);
        let instance = join.instance_id.clone().expect("asked for by the caller");
        self.statics.insert(instance, id.clone());
        self.members.insert(id.clone(), member);

        if self.state == State::Stable && self.choose_protocol() == self.protocol {
            // No rebalance: the assignment stands, and SyncGroup hands it out again.
            let mut joined = self.joined(&id);
            if was_leader && join.supports_skip_assignment {
                joined.skip_assignment = true;
            } else {
                // An older client that learnt it is the leader would assign anew.
                joined.leader = former_leader.unwrap_or_default();
                joined.members = Vec::new();
            }
            cx.joined(token, joined);
            return Ok(());
        }
        self.members.get_mut(&id).expect("just inserted").joining = Some(token);
        self.prepare(cx);
        Ok(())
    }

    fn fence(&self, cx: &mut Context<'_>, member: &mut Member, old: &str) {
        if let Some(token) = member.joining.take() {
            cx.joined(token, Joined::refused(ErrorCode::FencedInstanceId, old));
        }
        if let Some(token) = member.syncing.take() {
            cx.synced(token, Synced::refused(ErrorCode::FencedInstanceId));
        }
    }
}

/// Whether every member of an iterator supports a protocol.
trait AllSupport {
    fn all_support(&mut self, name: &str) -> bool;
}

impl<'a, I: Iterator<Item = &'a Member> + Clone> AllSupport for I {
    fn all_support(&mut self, name: &str) -> bool {
        self.clone().all(|member| member.supports(name))
    }
}

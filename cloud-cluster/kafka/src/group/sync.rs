//! SyncGroup, Heartbeat and LeaveGroup: the life of a member.

use std::collections::BTreeMap;

use super::state::{Group, State};
use super::{Context, GroupResponse, Heartbeat, Leave, PendingCommit, RequestToken, Sync, Synced};
use crate::ErrorCode;

impl Group {
    pub(super) fn sync(&mut self, cx: &mut Context<'_>, token: RequestToken, sync: Sync) {
        let checked = self.check_sync(cx, &sync);
        if let Err(error) = checked {
            cx.synced(token, Synced::refused(error));
            return;
        }
        let member = self
            .members
            .get_mut(&sync.member_id)
            .expect("validated above");
        match self.state {
            State::Completing { .. } => {
                if let Some(earlier) = member.syncing.replace(token) {
                    cx.synced(earlier, Synced::refused(ErrorCode::RebalanceInProgress));
                }
                if self.is_leader(&sync.member_id) {
                    self.assign(cx, sync);
                }
            }
            State::Stable => {
                member.alive(cx.now);
                let synced = self.synced(&self.members[&sync.member_id]);
                cx.synced(token, synced);
            }
            State::Empty | State::Preparing { .. } => unreachable!("refused by check_sync"),
        }
    }

    fn check_sync(&self, cx: &Context<'_>, sync: &Sync) -> Result<(), ErrorCode> {
        self.validate(
            &sync.member_id,
            sync.instance_id.as_deref(),
            sync.generation,
        )?;
        let differs = |given: &Option<String>, ours: &Option<String>| {
            given
                .as_ref()
                .is_some_and(|given| Some(given) != ours.as_ref())
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let most = cx.config.member_bytes_max;
        if sync
            .assignments
            .iter()
            .any(|(_, assignment)| assignment.len() > most)
        {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::Preparing { .. } => Err(ErrorCode::RebalanceInProgress),
            State::Completing { .. } | State::Stable => Ok(()),
        }
    }

    /// The leader's assignment: handed out once the generation is durable.
    fn assign(&mut self, cx: &mut Context<'_>, sync: Sync) {
        let mut assignments: BTreeMap<String, _> = sync.assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            // A member that the leader forgot gets nothing to do.
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        let pending = PendingCommit::Sync {
            group: self.name(),
            generation: self.generation,
        };
        let entry = self.generation_entry();
        cx.commits.start(entry, pending, cx.effects);
    }

    pub(super) fn assignment_committed(
        &mut self,
        cx: &mut Context<'_>,
        generation: i32,
        error: Option<ErrorCode>,
    ) {
        let current = generation == self.generation;
        if !current || !matches!(self.state, State::Completing { .. }) {
            return;
        }
        if let Some(error) = error {
            self.answer_syncs(cx, error);
            self.prepare(cx);
            return;
        }
        self.state = State::Stable;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let synced = self.synced(&self.members[&id]);
            let member = self.members.get_mut(&id).expect("its key was just read");
            if let Some(token) = member.syncing.take() {
                member.alive(cx.now);
                cx.synced(token, synced);
            }
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        token: RequestToken,
        beat: &Heartbeat,
    ) {
        let error = match self.validate(
            &beat.member_id,
            beat.instance_id.as_deref(),
            beat.generation,
        ) {
            Err(error) => Some(error),
            Ok(()) => {
                let member = self
                    .members
                    .get_mut(&beat.member_id)
                    .expect("validated above");
                member.alive(cx.now);
                let preparing = matches!(self.state, State::Preparing { .. });
                preparing.then_some(ErrorCode::RebalanceInProgress)
            }
        };
        cx.reply(token, GroupResponse::Heartbeat(error));
    }

    pub(super) fn leave(&mut self, cx: &mut Context<'_>, token: RequestToken, leave: Leave) {
        let before = self.members.len();
        let mut members = Vec::with_capacity(leave.members.len());
        for (id, instance) in leave.members {
            let left = self.leave_one(cx, &id, instance.as_deref());
            members.push((id, instance, left.err()));
        }
        // Answered before the group moves on, so that who leaves is not told of a rebalance.
        cx.reply(
            token,
            GroupResponse::Leave {
                error: None,
                members,
            },
        );
        if self.members.len() < before {
            self.after_removal(cx);
        } else {
            self.after_lapse(cx);
        }
    }

    fn leave_one(
        &mut self,
        cx: &mut Context<'_>,
        id: &str,
        instance: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            let current = self
                .statics
                .get(instance)
                .ok_or(ErrorCode::UnknownMemberId)?
                .clone();
            // An admin removes a static member by its instance id alone.
            if !id.is_empty() && id != current {
                return Err(ErrorCode::FencedInstanceId);
            }
            self.remove_member(cx, &current);
            return Ok(());
        }
        if self.pending.remove(id).is_some() {
            return Ok(());
        }
        if !self.members.contains_key(id) {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.remove_member(cx, id);
        Ok(())
    }
}

/// What those are told who leave a group that is not there.
pub(super) fn left_nobody(leave: &Leave) -> GroupResponse {
    let members = leave.members.iter().map(|(id, instance)| {
        (
            id.clone(),
            instance.clone(),
            Some(ErrorCode::UnknownMemberId),
        )
    });
    GroupResponse::Leave {
        error: None,
        members: members.collect(),
    }
}

//! How a rebalance starts, ends, and what time does to a group.

use super::state::{Group, State};
use super::{Context, GroupEntry, Joined, PendingCommit, Synced};
use crate::ErrorCode;

impl Group {
    /// Starts a rebalance, or moves the one that runs on as far as it goes.
    pub(super) fn prepare(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::Empty => {
                let delay = u64::from(cx.config.initial_rebalance_delay_ms);
                let until = cx.now + self.rebalance_timeout_ms().max(delay);
                self.newcomer = false;
                self.state = State::Preparing {
                    ends: cx.now + delay,
                    initial_until: Some(until),
                };
                if delay == 0 {
                    self.end_initial(cx, until);
                }
            }
            State::Preparing {
                initial_until: Some(_),
                ..
            } => {}
            State::Preparing {
                initial_until: None,
                ..
            } => self.complete_if_all_joined(cx),
            State::Completing { .. } => {
                self.answer_syncs(cx, ErrorCode::RebalanceInProgress);
                self.start(cx);
            }
            State::Stable => self.start(cx),
        }
    }

    fn start(&mut self, cx: &mut Context<'_>) {
        let ends = cx.now + self.rebalance_timeout_ms();
        self.state = State::Preparing {
            ends,
            initial_until: None,
        };
        self.complete_if_all_joined(cx);
    }

    fn complete_if_all_joined(&mut self, cx: &mut Context<'_>) {
        // Without members nobody waits for the ids that are still to come.
        if self.members.is_empty() || self.all_joined() {
            self.complete(cx);
        }
    }

    /// The initial delay is over: once more if somebody came meanwhile and there is time left.
    fn end_initial(&mut self, cx: &mut Context<'_>, until: u64) {
        let again = std::mem::take(&mut self.newcomer) && until > cx.now;
        if again {
            let delay = u64::from(cx.config.initial_rebalance_delay_ms).max(1);
            let ends = (cx.now + delay).min(until);
            self.state = State::Preparing {
                ends,
                initial_until: Some(until),
            };
        } else {
            self.state = State::Preparing {
                ends: cx.now,
                initial_until: None,
            };
            self.complete(cx);
        }
    }

    /// Ends the joining: those who did not come are out, and a generation begins.
    fn complete(&mut self, cx: &mut Context<'_>) {
        let missing: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| m.joining.is_none() && m.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in missing {
            self.remove_member(cx, &id);
        }
        if self.members.is_empty() {
            self.become_empty(cx);
            return;
        }
        if !self.choose_leader() {
            // Only static members, and none has joined: they have until their sessions end.
            let ends = cx.now + self.rebalance_timeout_ms().max(1);
            self.state = State::Preparing {
                ends,
                initial_until: None,
            };
            return;
        }
        self.generation = next_generation(self.generation);
        self.protocol = self.choose_protocol();
        let ends = cx.now + self.rebalance_timeout_ms().max(1);
        self.state = State::Completing { ends };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let member = self.members.get_mut(&id).expect("its key was just read");
            member.assignment = bytes::Bytes::new();
            if let Some(token) = member.joining.take() {
                member.alive(cx.now);
                cx.joined(token, joined);
            }
        }
    }

    /// The leader stays if it joined; else the oldest that did. False if nobody did.
    fn choose_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let mut candidates: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| m.joining.is_some())
            .collect();
        candidates.sort_by_key(|(_, m)| m.joined);
        let oldest = candidates.first().map(|(id, _)| (*id).clone());
        let found = oldest.is_some();
        if found {
            self.leader = oldest;
        }
        found
    }

    fn become_empty(&mut self, cx: &mut Context<'_>) {
        self.generation = next_generation(self.generation);
        self.state = State::Empty;
        self.protocol = None;
        self.leader = None;
        let entry = self.generation_entry();
        cx.commits.start(entry, PendingCommit::Emptied, cx.effects);
    }

    pub(super) fn generation_entry(&self) -> GroupEntry {
        GroupEntry::Generation {
            group: self.name(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
        }
    }

    /// Takes a member out and answers what it waits for. The caller moves the group on.
    pub(super) fn remove_member(&mut self, cx: &mut Context<'_>, id: &str) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = &member.instance_id {
            if self
                .statics
                .get(instance)
                .is_some_and(|current| current == id)
            {
                self.statics.remove(instance);
            }
        }
        if let Some(token) = member.joining {
            cx.joined(token, Joined::refused(ErrorCode::UnknownMemberId, id));
        }
        if let Some(token) = member.syncing {
            cx.synced(token, Synced::refused(ErrorCode::UnknownMemberId));
        }
        if self.is_leader(id) {
            let oldest = self.members.iter().min_by_key(|(_, m)| m.joined);
            self.leader = oldest.map(|(id, _)| id.clone());
        }
    }

    /// Answers all parked syncs with an error; assignments of this generation are void.
    pub(super) fn answer_syncs(&mut self, cx: &mut Context<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = bytes::Bytes::new();
            if let Some(token) = member.syncing.take() {
                member.alive(cx.now);
                cx.synced(token, Synced::refused(error));
            }
        }
    }

    /// After ids that were given out are no longer waited for.
    pub(super) fn after_lapse(&mut self, cx: &mut Context<'_>) {
        if let State::Preparing {
            initial_until: None,
            ..
        } = self.state
        {
            self.complete_if_all_joined(cx);
        }
    }

    /// After members went: rebalance, or end the one that waited for them.
    pub(super) fn after_removal(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::Empty => {}
            State::Preparing {
                initial_until: Some(_),
                ..
            } if !self.members.is_empty() => {}
            State::Preparing { .. } => self.complete_if_all_joined(cx),
            State::Completing { .. } | State::Stable => self.prepare(cx),
        }
    }

    /// Whatever is due by now.
    pub(super) fn expire(&mut self, cx: &mut Context<'_>) {
        let pending = self.pending.len();
        self.pending.retain(|_, lapses| *lapses > cx.now);
        let lapsed = pending != self.pending.len();

        let watched = |m: &super::member::Member| m.is_watched() && m.session_ends <= cx.now;
        let mut gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| watched(m))
            .map(|(id, _)| id.clone())
            .collect();
        if let State::Completing { ends } = self.state {
            if ends <= cx.now {
                // Who has not synced by now never will (KAFKA-13435); with the leader among the
                // missing the group rebalances, and without it the assignment is being committed.
                gone.extend(self.late_to_sync());
                self.state = State::Completing {
                    ends: cx.now + self.rebalance_timeout_ms().max(1),
                };
            }
        }
        for id in &gone {
            self.remove_member(cx, id);
        }
        if !gone.is_empty() {
            self.after_removal(cx);
        } else if lapsed {
            self.after_lapse(cx);
        }
        if let State::Preparing {
            ends,
            initial_until,
        } = self.state
        {
            if ends <= cx.now {
                match initial_until {
                    Some(until) => self.end_initial(cx, until),
                    None => self.complete(cx),
                }
            }
        }
    }

    fn late_to_sync(&self) -> Vec<String> {
        let late = self.members.iter().filter(|(_, m)| m.syncing.is_none());
        late.map(|(id, _)| id.clone()).collect()
    }
}

/// Generations stay positive: -1 means "none" to clients.
fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}

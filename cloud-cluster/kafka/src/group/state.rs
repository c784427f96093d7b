//! One group: what it holds, and what follows from that alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::TopicPartition;

use super::member::Member;
use super::{
    CommittedOffset, GroupDescription, GroupListing, Joined, STATE_COMPLETING, STATE_EMPTY,
    STATE_PREPARING, STATE_STABLE, Synced,
};
use crate::ErrorCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Empty,
    /// Members join until all have, or until the deadline.
    Preparing {
        ends: u64,
        /// The first rebalance of an empty group: it does not end early, and each newcomer makes
        /// it longer until this time.
        initial_until: Option<u64>,
    },
    /// The leader's assignment is awaited until then, or being committed.
    Completing {
        ends: u64,
    },
    Stable,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    /// Its own name; set at the first event.
    pub name: Option<String>,
    pub state: State,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member>,
    /// Member ids by instance id. Invariant: exactly the members that have one.
    pub statics: BTreeMap<String, String>,
    /// Ids that were given out and not yet used to join, with the time that they lapse.
    pub pending: BTreeMap<String, u64>,
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
    pub noted_deadline: Option<u64>,
    /// Counts members ever added.
    pub arrivals: u64,
    /// Whether somebody arrived since the initial delay was last extended.
    pub newcomer: bool,
}

impl Group {
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    /// No members, nor any about to come.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// Nothing would be lost without it. A generation above 0 has been committed and fences.
    pub fn is_unused(&self) -> bool {
        self.is_empty() && self.offsets.is_empty() && self.generation == 0
    }

    pub fn next_deadline(&self) -> Option<u64> {
        let phase = match self.state {
            State::Preparing { ends, .. } | State::Completing { ends } => Some(ends),
            State::Empty | State::Stable => None,
        };
        let sessions = self
            .members
            .values()
            .filter(|m| m.is_watched())
            .map(|m| m.session_ends);
        sessions
            .chain(self.pending.values().copied())
            .chain(phase)
            .min()
    }

    /// The longest time that a member wants for a rebalance.
    pub fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
        u64::from(longest.unwrap_or(0))
    }

    pub fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|m| m.joining.is_some())
    }

    /// Whether a member with these protocols fits the others.
    pub fn accepts(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|m| m.supports(name)))
    }

    /// The protocol that most members prefer, of those that all support.
    ///
    /// Invariant: there is one, since `accepts` was asked for every member.
    pub fn choose_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |name: &&str| self.members.values().all(|m| m.supports(name));
            let preferred = member
                .protocols
                .iter()
                .map(|(name, _)| name.as_str())
                .find(common)?;
            *votes.entry(preferred).or_default() += 1;
        }
        // Of equals the first by name, so that the outcome does not hang on the order.
        let best = votes.iter().rev().max_by_key(|(_, votes)| **votes)?;
        Some((*best.0).to_owned())
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The id of the member that a request names, which must not be fenced by a later one with
    /// the same instance id.
    pub fn validate(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        self.validate_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(())
    }

    pub fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(id) if id != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            return Ok(());
        }
        Err(ErrorCode::UnknownMemberId)
    }

    /// What a member is told of the current generation.
    pub fn joined(&self, member_id: &str) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| {
            (
                id.clone(),
                member.instance_id.clone(),
                member.metadata(&protocol),
            )
        });
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if self.is_leader(member_id) {
                members.collect()
            } else {
                Vec::new()
            },
        }
    }

    pub fn synced(&self, member: &Member) -> Synced {
        Synced {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment.clone(),
        }
    }

    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => STATE_EMPTY,
            State::Preparing { .. } => STATE_PREPARING,
            State::Completing { .. } => STATE_COMPLETING,
            State::Stable => STATE_STABLE,
        }
    }

    pub fn describe(&self, name: &str) -> GroupDescription {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| {
            let mut described = member.describe(id, &protocol);
            if !stable {
                described.metadata = Bytes::new();
                described.assignment = Bytes::new();
            }
            described
        });
        GroupDescription {
            group: name.to_owned(),
            error: None,
            state: self.state_name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol,
        }
    }

    pub fn listing(&self, name: &str) -> GroupListing {
        GroupListing {
            group: name.to_owned(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state_name(),
        }
    }
}

impl Synced {
    pub fn refused(error: ErrorCode) -> Synced {
        Synced {
            error: Some(error),
            ..Synced::default()
        }
    }
}

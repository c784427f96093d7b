//! One member of a group.

use bytes::Bytes;

use super::{Join, MemberDescription, RequestToken};

#[derive(Debug)]
pub(super) struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    /// In the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    /// A parked JoinGroup. Invariant: only while the group prepares.
    pub joining: Option<RequestToken>,
    /// A parked SyncGroup. Invariant: only while the group completes.
    pub syncing: Option<RequestToken>,
    /// Without a sign of life until then the member is removed, unless a request is parked.
    pub session_ends: u64,
    /// Rises with each member of the group: the oldest is the first choice as leader.
    pub joined: u64,
}

impl Member {
    pub fn new(join: &Join, now: u64, joined: u64) -> Member {
        let mut member = Member {
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            session_ends: 0,
            joined,
        };
        member.update(join, now);
        member
    }

    /// Takes over what a later join says.
    pub fn update(&mut self, join: &Join, now: u64) {
        self.client_id.clone_from(&join.client_id);
        self.client_host.clone_from(&join.client_host);
        self.protocols.clone_from(&join.protocols);
        self.session_timeout_ms = millis(join.session_timeout_ms);
        self.rebalance_timeout_ms = millis(join.rebalance_timeout_ms);
        self.alive(now);
    }

    /// A sign of life.
    pub fn alive(&mut self, now: u64) {
        self.session_ends = now + u64::from(self.session_timeout_ms);
    }

    /// Whether the session is being watched: a member with a parked request waits for us.
    pub fn is_watched(&self) -> bool {
        self.joining.is_none() && self.syncing.is_none()
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub fn describe(&self, id: &str, protocol: &str) -> MemberDescription {
        MemberDescription {
            member_id: id.to_owned(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}

/// A timeout as a client gave it. Never 0: a deadline lies in the future.
pub(super) fn millis(given: i32) -> u32 {
    u32::try_from(given).unwrap_or(0).max(1)
}

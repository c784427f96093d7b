//! The group coordinator: one machine for all groups of a node, `(now, event) -> effects`.
//!
//! It follows Kafka's classic group protocol (KIP-62, KIP-134, KIP-345, KIP-394, KIP-814):
//!
//! ```text
//!                 join                    all joined, or the deadline           leader synced and
//!   Empty ──────────────> Preparing ───────────────────────────> Completing ─────committed────> Stable
//!     ▲                    ▲   │ nobody joined                       │                            │
//!     └────────────────────┼───┘                                     │  join, leave, expiry       │
//!                          └─────────────────────────────────────────┴────────────────────────────┘
//! ```
//!
//! What is promised:
//! - Assignors are the clients': the machine chooses a protocol that all members name, and carries
//!   bytes. `protocol_type` is opaque, so consumers, Connect workers and Schema Registry all work.
//! - OffsetCommit is answered after the entry is committed, and OffsetFetch sees only committed
//!   offsets. Entries carry the generation, so that a late one is refused at apply (rule C3).
//! - After a restart the members are gone (they get UNKNOWN_MEMBER_ID and join again), offsets and
//!   generations stand.
//! - Every request gets exactly one reply, at the latest when the rebalance it waits for ends.
//! - Bounds: see [`GroupConfig`]. At a bound the answer is GROUP_MAX_SIZE_REACHED, or
//!   OFFSET_METADATA_TOO_LARGE and INVALID_COMMIT_OFFSET_SIZE for offsets.

mod admin;
mod join;
mod member;
mod offsets;
mod rebalance;
mod state;
mod sync;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use headwater_batch::TopicName;

use crate::ErrorCode;
use state::Group;

pub use types::*;

/// Bounds and delays of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members. Kafka: 3000.
    pub initial_rebalance_delay_ms: u32,
    pub session_timeout_ms_min: u32,
    pub session_timeout_ms_max: u32,
    pub groups_max: usize,
    /// Of one group; with those that were given an id and have not joined with it yet.
    pub members_max: usize,
    /// Per member: all protocols' metadata together, and the assignment.
    pub member_bytes_max: usize,
    /// Of the metadata string of one committed offset. Kafka: 4096.
    pub offset_metadata_bytes_max: usize,
    /// Offsets that one group may hold.
    pub offsets_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            groups_max: 10_000,
            members_max: 1_000,
            member_bytes_max: 1 << 20,
            offset_metadata_bytes_max: 4_096,
            offsets_max: 100_000,
        }
    }
}

/// The machine. One owner calls `handle`; effects are carried out in their order.
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
    groups: BTreeMap<String, Group>,
    /// Groups by their next deadline. Invariant: each group is in at most once, with the deadline
    /// that it noted itself.
    deadlines: BTreeSet<(u64, String)>,
    commits: Commits,
    ids: Ids,
    deletions: BTreeMap<u64, admin::Deletion>,
}

/// What one event may touch besides its group.
struct Context<'a> {
    now: u64,
    config: &'a GroupConfig,
    effects: &'a mut Vec<GroupEffect>,
    commits: &'a mut Commits,
    ids: &'a mut Ids,
}

/// Commits that are under way.
#[derive(Debug, Default)]
struct Commits {
    next: CommitToken,
    pending: BTreeMap<CommitToken, PendingCommit>,
}

/// What to do when a commit is through.
#[derive(Debug)]
enum PendingCommit {
    Offsets(offsets::PendingOffsets),
    /// The leader's assignment waits for its generation to be durable.
    Sync {
        group: String,
        generation: i32,
    },
    /// A group became empty; nobody waits.
    Emptied,
    Delete {
        group: String,
        deletion: Option<u64>,
    },
}

impl Commits {
    fn start(&mut self, entry: GroupEntry, pending: PendingCommit, effects: &mut Vec<GroupEffect>) {
        let token = self.next;
        self.next += 1;
        self.pending.insert(token, pending);
        effects.push(GroupEffect::Commit { token, entry });
    }
}

/// Makes member ids that are not given twice, also not after a restart.
#[derive(Debug)]
struct Ids {
    state: u64,
}

impl Ids {
    /// SplitMix64 (Steele, Lea, Flood 2014): the seed carries the randomness.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn member_id(&mut self, prefix: &str) -> String {
        const PREFIX_CHARS_MAX: usize = 200;
        let bits = u128::from(self.draw()) << 64 | u128::from(self.draw());
        let id = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
        let prefix: String = prefix.chars().take(PREFIX_CHARS_MAX).collect();
        format!("{prefix}-{id}")
    }
}

impl Coordinator {
    /// `seed` makes the member ids: draw it at random once per start of the node.
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            commits: Commits::default(),
            ids: Ids { state: seed },
            deletions: BTreeMap::new(),
        }
    }

    /// Handles one event at the monotonic time `now_ms`.
    pub fn handle(&mut self, now_ms: u64, event: GroupEvent, effects: &mut Vec<GroupEffect>) {
        match event {
            GroupEvent::Request { token, request } => {
                self.request(now_ms, token, request, effects);
            }
            GroupEvent::Committed { token } => self.committed(now_ms, token, None, effects),
            GroupEvent::CommitFailed { token, error } => {
                self.committed(now_ms, token, Some(error), effects);
            }
            GroupEvent::Timer => self.timer(now_ms, effects),
            GroupEvent::Restore(entry) => self.restore(entry),
            GroupEvent::TopicDeleted(topic) => self.topic_deleted(&topic),
        }
    }

    /// When to call `handle` with [`GroupEvent::Timer`] at the latest; ask after every event.
    pub fn deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn request(
        &mut self,
        now: u64,
        token: RequestToken,
        request: GroupRequest,
        effects: &mut Vec<GroupEffect>,
    ) {
        if let Some(group) = request.group() {
            if group.is_empty() || group.len() > GROUP_ID_BYTES_MAX {
                let response = request.refused(ErrorCode::InvalidGroupId);
                effects.push(GroupEffect::Reply { token, response });
                return;
            }
        }
        match request {
            GroupRequest::Join(join) => {
                if !self.groups.contains_key(&join.group) && !self.room(effects) {
                    let error = ErrorCode::GroupMaxSizeReached;
                    let response = GroupResponse::Join(Joined::refused(error, &join.member_id));
                    effects.push(GroupEffect::Reply { token, response });
                    return;
                }
                let name = join.group.clone();
                self.groups.entry(name.clone()).or_default();
                self.within(now, &name, effects, |group, cx| group.join(cx, token, join));
                self.forget_if_unused(&name);
            }
            GroupRequest::Sync(sync) => {
                let name = sync.group.clone();
                let refused = GroupResponse::Sync(Synced::refused(ErrorCode::UnknownMemberId));
                self.with_known(now, &name, token, refused, effects, |group, cx| {
                    group.sync(cx, token, sync);
                });
            }
            GroupRequest::Heartbeat(beat) => {
                let name = beat.group.clone();
                let refused = GroupResponse::Heartbeat(Some(ErrorCode::UnknownMemberId));
                self.with_known(now, &name, token, refused, effects, |group, cx| {
                    group.heartbeat(cx, token, &beat);
                });
            }
            GroupRequest::Leave(leave) => {
                let name = leave.group.clone();
                let refused = sync::left_nobody(&leave);
                self.with_known(now, &name, token, refused, effects, |group, cx| {
                    group.leave(cx, token, leave);
                });
                self.forget_if_unused(&name);
            }
            GroupRequest::CommitOffsets(commit) => {
                self.commit_offsets(now, token, commit, effects);
            }
            GroupRequest::FetchOffsets(asks) => self.fetch_offsets(token, asks, effects),
            GroupRequest::Describe { groups } => self.describe(token, groups, effects),
            GroupRequest::List { states, types } => self.list(token, &states, &types, effects),
            GroupRequest::Delete { groups } => self.delete(token, groups, effects),
        }
    }

    /// Runs `act` on a group that is there, and notes its next deadline.
    fn within(
        &mut self,
        now: u64,
        name: &str,
        effects: &mut Vec<GroupEffect>,
        act: impl FnOnce(&mut Group, &mut Context<'_>),
    ) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let mut context = Context {
            now,
            config: &self.config,
            effects,
            commits: &mut self.commits,
            ids: &mut self.ids,
        };
        group.name.get_or_insert_with(|| name.to_owned());
        act(group, &mut context);
        let next = group.next_deadline();
        let before = std::mem::replace(&mut group.noted_deadline, next);
        if before != group.noted_deadline {
            if let Some(at) = before {
                self.deadlines.remove(&(at, name.to_owned()));
            }
            if let Some(at) = group.noted_deadline {
                self.deadlines.insert((at, name.to_owned()));
            }
        }
    }

    fn with_known(
        &mut self,
        now: u64,
        name: &str,
        token: RequestToken,
        refused: GroupResponse,
        effects: &mut Vec<GroupEffect>,
        act: impl FnOnce(&mut Group, &mut Context<'_>),
    ) {
        if self.groups.contains_key(name) {
            self.within(now, name, effects, act);
        } else {
            effects.push(GroupEffect::Reply {
                token,
                response: refused,
            });
        }
    }

    fn committed(
        &mut self,
        now: u64,
        token: CommitToken,
        error: Option<ErrorCode>,
        effects: &mut Vec<GroupEffect>,
    ) {
        match self.commits.pending.remove(&token) {
            Some(PendingCommit::Offsets(pending)) => {
                self.offsets_committed(now, pending, error, effects);
            }
            Some(PendingCommit::Sync { group, generation }) => {
                self.within(now, &group, effects, |group, cx| {
                    group.assignment_committed(cx, generation, error);
                });
            }
            Some(PendingCommit::Delete { group, deletion }) => {
                self.deleted(&group, deletion, error, effects);
            }
            Some(PendingCommit::Emptied) | None => {}
        }
    }

    fn timer(&mut self, now: u64, effects: &mut Vec<GroupEffect>) {
        while let Some((at, name)) = self.deadlines.first().cloned() {
            if at > now {
                return;
            }
            self.within(now, &name, effects, Group::expire);
            // Invariant: `expire` leaves no deadline at or before now, so this loop ends.
            debug_assert!(
                self.groups[&name]
                    .noted_deadline
                    .is_none_or(|next| next > now),
                "group {name} kept a deadline that has passed"
            );
            self.forget_if_unused(&name);
        }
    }

    fn restore(&mut self, entry: GroupEntry) {
        match entry {
            GroupEntry::Offsets { group, offsets, .. } => {
                self.groups
                    .entry(group)
                    .or_default()
                    .offsets
                    .extend(offsets);
            }
            GroupEntry::Generation {
                group,
                generation,
                protocol_type,
            } => {
                let group = self.groups.entry(group).or_default();
                group.generation = group.generation.max(generation);
                group.protocol_type = Some(protocol_type).filter(|t| !t.is_empty());
            }
            GroupEntry::DeleteGroup { group } => {
                self.groups.remove(&group);
            }
        }
    }

    fn topic_deleted(&mut self, topic: &TopicName) {
        for group in self.groups.values_mut() {
            group.offsets.retain(|tp, _| tp.topic != *topic);
        }
    }

    /// Whether one more group fits. At the bound, groups that hold nothing make room.
    fn room(&mut self, effects: &mut Vec<GroupEffect>) -> bool {
        if self.groups.len() < self.config.groups_max {
            return true;
        }
        // Offsets on their way count: they would be deleted right after they were acknowledged.
        let committing: BTreeSet<&str> = self
            .commits
            .pending
            .values()
            .filter_map(|pending| match pending {
                PendingCommit::Offsets(offsets) => Some(offsets.group()),
                _ => None,
            })
            .collect();
        let idle = |name: &str, group: &Group| {
            group.is_empty() && group.offsets.is_empty() && !committing.contains(name)
        };
        let mut groups = self.groups.iter();
        let Some((name, _)) = groups.find(|(name, group)| idle(name, group)) else {
            return false;
        };
        let name = name.clone();
        self.remove(&name);
        let entry = GroupEntry::DeleteGroup {
            group: name.clone(),
        };
        let pending = PendingCommit::Delete {
            group: name,
            deletion: None,
        };
        self.commits.start(entry, pending, effects);
        true
    }

    /// A group that was made for a request and holds nothing leaves no trace.
    fn forget_if_unused(&mut self, name: &str) {
        if self.groups.get(name).is_some_and(Group::is_unused) {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(group) = self.groups.remove(name) {
            if let Some(at) = group.noted_deadline {
                self.deadlines.remove(&(at, name.to_owned()));
            }
        }
    }
}

//! The group coordinator by scenario: what members see when they join, die, leave and come back.
#![allow(clippy::unwrap_used)] // A test may.

use bytes::Bytes;
use headwater_batch::{TopicName, TopicPartition};
use headwater_kafka::ErrorCode;
use headwater_kafka::group::*;

/// A coordinator with its clock; commits go through at once unless `held`.
struct World {
    machine: Coordinator,
    now: u64,
    next: RequestToken,
    held: bool,
    pending: Vec<(CommitToken, GroupEntry)>,
    log: Vec<GroupEntry>,
    replies: Vec<(RequestToken, GroupResponse)>,
}

impl World {
    fn new(delay: u32) -> World {
        let config = GroupConfig {
            initial_rebalance_delay_ms: delay,
            ..GroupConfig::default()
        };
        World::with(config)
    }

    fn with(config: GroupConfig) -> World {
        World {
            machine: Coordinator::new(config, 1),
            now: 1_000,
            next: 0,
            held: false,
            pending: Vec::new(),
            log: Vec::new(),
            replies: Vec::new(),
        }
    }

    fn event(&mut self, event: GroupEvent) {
        let mut effects = Vec::new();
        self.machine.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                GroupEffect::Reply { token, response } => {
                    assert!(self.replies.iter().all(|(t, _)| *t != token), "two replies");
                    self.replies.push((token, response));
                }
                GroupEffect::Commit { token, entry } => self.pending.push((token, entry)),
            }
        }
        if !self.held {
            self.commit_all();
        }
    }

    fn commit_all(&mut self) {
        while !self.pending.is_empty() {
            let (token, entry) = self.pending.remove(0);
            self.log.push(entry);
            self.event(GroupEvent::Committed { token });
        }
    }

    fn send(&mut self, request: GroupRequest) -> RequestToken {
        self.next += 1;
        self.event(GroupEvent::Request {
            token: self.next,
            request,
        });
        self.next
    }

    fn reply(&self, token: RequestToken) -> Option<&GroupResponse> {
        self.replies
            .iter()
            .find(|(t, _)| *t == token)
            .map(|(_, r)| r)
    }

    fn joined(&self, token: RequestToken) -> &Joined {
        match self.reply(token) {
            Some(GroupResponse::Join(joined)) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn synced(&self, token: RequestToken) -> &Synced {
        match self.reply(token) {
            Some(GroupResponse::Sync(synced)) => synced,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, waking the machine at each of its deadlines.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.event(GroupEvent::Timer);
        }
        self.now = end;
    }

    /// Joins as a client of v4 and later does: twice, the second time with the id.
    fn join(&mut self, protocols: &[&str]) -> (String, RequestToken) {
        let first = self.send(GroupRequest::Join(join("", protocols)));
        let id = self.joined(first).member_id.clone();
        assert_eq!(self.joined(first).error, Some(ErrorCode::MemberIdRequired));
        let token = self.send(GroupRequest::Join(join(&id, protocols)));
        (id, token)
    }

    fn sync(&mut self, id: &str, generation: i32, all: &[&str]) -> RequestToken {
        let assignments = all
            .iter()
            .map(|m| (m.to_string(), Bytes::from(format!("for {m}"))))
            .collect();
        self.send(GroupRequest::Sync(sync(id, generation, assignments)))
    }

    fn beat(&mut self, id: &str, generation: i32) -> Option<ErrorCode> {
        let token = self.send(GroupRequest::Heartbeat(Heartbeat {
            group: "g".into(),
            generation,
            member_id: id.into(),
            instance_id: None,
        }));
        match self.reply(token) {
            Some(GroupResponse::Heartbeat(error)) => *error,
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, id: &str, instance: Option<&str>) -> Option<ErrorCode> {
        let members = vec![(id.to_owned(), instance.map(str::to_owned))];
        let token = self.send(GroupRequest::Leave(Leave {
            group: "g".into(),
            members,
        }));
        match self.reply(token) {
            Some(GroupResponse::Leave { members, .. }) => members[0].2,
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, id: &str, generation: i32, offset: i64) -> RequestToken {
        let committed = CommittedOffset {
            offset,
            leader_epoch: 2,
            metadata: "m".into(),
        };
        self.send(GroupRequest::CommitOffsets(CommitOffsets {
            group: "g".into(),
            generation,
            member_id: id.into(),
            instance_id: None,
            offsets: vec![(tp(0), committed)],
        }))
    }

    fn commit_error(&self, token: RequestToken) -> Option<ErrorCode> {
        match self.reply(token) {
            Some(GroupResponse::CommitOffsets(all)) => all[0].1,
            other => panic!("{other:?}"),
        }
    }

    fn offset(&mut self) -> Option<i64> {
        let ask = FetchOffsets {
            group: "g".into(),
            partitions: Some(vec![tp(0)]),
        };
        let token = self.send(GroupRequest::FetchOffsets(vec![ask]));
        match self.reply(token) {
            Some(GroupResponse::FetchOffsets(all)) => {
                all[0].offsets[&tp(0)].as_ref().map(|o| o.offset)
            }
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self) -> &'static str {
        let token = self.send(GroupRequest::Describe {
            groups: vec!["g".into()],
        });
        match self.reply(token) {
            Some(GroupResponse::Describe(all)) => all[0].state,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self) -> RequestToken {
        self.send(GroupRequest::Delete {
            groups: vec!["g".into()],
        })
    }

    fn deleted(&self, token: RequestToken) -> Option<ErrorCode> {
        match self.reply(token) {
            Some(GroupResponse::Delete(all)) => all[0].1,
            other => panic!("{other:?}"),
        }
    }

    /// A group of one in generation 1, stable.
    fn alone(&mut self) -> String {
        let (id, token) = self.join(&["range"]);
        let generation = self.joined(token).generation;
        self.sync(&id, generation, &[&id]);
        assert_eq!(self.state(), STATE_STABLE);
        id
    }
}

fn tp(partition: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("readings").unwrap(), partition)
}

fn join(id: &str, protocols: &[&str]) -> Join {
    Join {
        group: "g".into(),
        member_id: id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/10.0.0.9".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: protocols
            .iter()
            .map(|p| (p.to_string(), Bytes::from(format!("{p} meta"))))
            .collect(),
        requires_known_member_id: true,
        supports_skip_assignment: true,
    }
}

fn static_join(id: &str, instance: &str) -> Join {
    Join {
        instance_id: Some(instance.into()),
        ..join(id, &["range"])
    }
}

fn sync(id: &str, generation: i32, assignments: Vec<(String, Bytes)>) -> Sync {
    Sync {
        group: "g".into(),
        generation,
        member_id: id.into(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments,
    }
}

#[test]
fn three_members_join_within_the_initial_delay() {
    let mut world = World::new(3_000);
    let (a, ta) = world.join(&["range", "sticky"]);
    world.pass(1_000);
    let (b, tb) = world.join(&["sticky", "range"]);
    world.pass(2_500);
    assert!(
        world.reply(ta).is_none(),
        "the newcomer made the delay longer"
    );
    let (c, tc) = world.join(&["range"]);
    world.pass(10_000);
    for token in [ta, tb, tc] {
        assert_eq!(
            (world.joined(token).error, world.joined(token).generation),
            (None, 1)
        );
        assert_eq!(
            world.joined(token).protocol.as_deref(),
            Some("range"),
            "the common one"
        );
        assert_eq!(world.joined(token).leader, a);
    }
    assert_eq!(world.joined(ta).members.len(), 3);
    assert!(world.joined(tb).members.is_empty());

    let sb = world.sync(&b, 1, &[]);
    assert!(world.reply(sb).is_none(), "waits for the leader");
    let sa = world.sync(&a, 1, &[&a, &b]);
    assert_eq!(world.synced(sb).assignment, format!("for {b}"));
    assert_eq!(world.synced(sa).assignment, format!("for {a}"));
    let sc = world.sync(&c, 1, &[]);
    assert!(
        world.synced(sc).assignment.is_empty(),
        "forgotten by the leader"
    );
    assert_eq!(world.state(), STATE_STABLE);
    assert!(matches!(
        &world.log[..],
        [GroupEntry::Generation { generation: 1, .. }]
    ));
}

#[test]
fn the_assignment_waits_for_its_commit() {
    let mut world = World::new(0);
    let (id, token) = world.join(&["range"]);
    world.held = true;
    let generation = world.joined(token).generation;
    let synced = world.sync(&id, generation, &[&id]);
    assert!(world.reply(synced).is_none());
    world.commit_all();
    assert_eq!(world.synced(synced).error, None);
}

#[test]
fn a_failed_commit_of_the_assignment_rebalances() {
    let mut world = World::new(0);
    let (id, _) = world.join(&["range"]);
    world.held = true;
    let synced = world.sync(&id, 1, &[&id]);
    let (token, _) = world.pending.remove(0);
    world.event(GroupEvent::CommitFailed {
        token,
        error: ErrorCode::NotCoordinator,
    });
    assert_eq!(world.synced(synced).error, Some(ErrorCode::NotCoordinator));
    assert_eq!(world.beat(&id, 1), Some(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_second_member_rebalances_the_first() {
    let mut world = World::new(0);
    let a = world.alone();
    assert_eq!(world.beat(&a, 1), None);
    let (b, tb) = world.join(&["range"]);
    assert!(world.reply(tb).is_none());
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::RebalanceInProgress));
    let ta = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(
        (world.joined(ta).generation, world.joined(tb).generation),
        (2, 2)
    );
    assert_eq!(world.joined(ta).members.len(), 2);
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::IllegalGeneration));
    let stale = world.sync(&a, 1, &[]);
    assert_eq!(
        world.synced(stale).error,
        Some(ErrorCode::IllegalGeneration)
    );
    world.sync(&a, 2, &[&a, &b]);
    let sb = world.sync(&b, 2, &[]);
    assert_eq!(world.synced(sb).assignment, format!("for {b}"));
}

#[test]
fn a_member_that_does_not_come_back_is_out_when_the_rebalance_ends() {
    let mut world = World::new(0);
    let a = world.alone();
    let (_, tb) = world.join(&["range"]);
    for _ in 0..12 {
        world.pass(5_000);
        // It lives, but never joins again.
        world.beat(&a, 1);
    }
    world.pass(1_000);
    assert_eq!(
        (world.joined(tb).generation, world.joined(tb).members.len()),
        (2, 1)
    );
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::UnknownMemberId));
}

#[test]
fn a_dead_member_is_found_by_its_session() {
    let mut world = World::new(0);
    let a = world.alone();
    world.pass(9_000);
    assert_eq!(world.beat(&a, 1), None);
    world.pass(9_999);
    assert_eq!(world.state(), STATE_STABLE);
    world.pass(1);
    assert_eq!(world.state(), STATE_EMPTY);
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::UnknownMemberId));
    assert!(matches!(
        world.log.last(),
        Some(GroupEntry::Generation { generation: 2, .. })
    ));
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn a_parked_member_does_not_expire_and_a_leader_that_never_syncs_does() {
    let mut world = World::new(0);
    let a = world.alone();
    let (b, tb) = world.join(&["range"]);
    let ta = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(world.joined(ta).leader, a);
    let sb = world.sync(&b, 2, &[]);
    // b's sync is parked for longer than its session; the leader is gone.
    world.pass(10_500);
    assert_eq!(world.synced(sb).error, Some(ErrorCode::RebalanceInProgress));
    let again = world.send(GroupRequest::Join(join(&b, &["range"])));
    assert_eq!(
        (world.joined(again).generation, &world.joined(again).leader),
        (3, &b)
    );
    assert_eq!(world.joined(tb).generation, 2);
}

#[test]
fn leaving_moves_the_group_on_at_once() {
    let mut world = World::new(0);
    let a = world.alone();
    assert_eq!(
        world.leave("nobody", None),
        Some(ErrorCode::UnknownMemberId)
    );
    let (b, tb) = world.join(&["range"]);
    assert_eq!(world.leave(&a, None), None);
    assert_eq!(
        (world.joined(tb).generation, &world.joined(tb).leader),
        (2, &b)
    );
    assert_eq!(world.leave(&b, None), None);
    assert_eq!(world.state(), STATE_EMPTY);
}

#[test]
fn ids_that_are_never_used_lapse() {
    let mut world = World::new(0);
    let a = world.alone();
    let first = world.send(GroupRequest::Join(join("", &["range"])));
    let ghost = world.joined(first).member_id.clone();
    assert_eq!(world.state(), STATE_STABLE, "an id alone rebalances nobody");
    for _ in 0..3 {
        world.pass(4_000);
        assert_eq!(world.beat(&a, 1), None);
    }
    let late = world.send(GroupRequest::Join(join(&ghost, &["range"])));
    assert_eq!(world.joined(late).error, Some(ErrorCode::UnknownMemberId));
}

#[test]
fn a_repeated_join_gets_the_same_answer_and_changed_protocols_rebalance() {
    let mut world = World::new(0);
    let (a, ta) = world.join(&["range"]);
    let again = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(world.joined(again), world.joined(ta));
    world.sync(&a, 1, &[&a]);
    let changed = world.send(GroupRequest::Join(join(&a, &["sticky", "range"])));
    assert_eq!(
        (
            world.joined(changed).generation,
            world.joined(changed).error
        ),
        (2, None)
    );
}

#[test]
fn protocols_and_types_must_have_something_in_common() {
    let mut world = World::new(0);
    world.alone();
    let other = world.send(GroupRequest::Join(join("", &["sticky"])));
    assert_eq!(
        world.joined(other).error,
        Some(ErrorCode::InconsistentGroupProtocol)
    );
    let connect = Join {
        protocol_type: "connect".into(),
        ..join("", &["range"])
    };
    let other = world.send(GroupRequest::Join(connect));
    assert_eq!(
        world.joined(other).error,
        Some(ErrorCode::InconsistentGroupProtocol)
    );
    let none = world.send(GroupRequest::Join(join("", &[])));
    assert_eq!(
        world.joined(none).error,
        Some(ErrorCode::InconsistentGroupProtocol)
    );
    let quick = Join {
        session_timeout_ms: 5,
        ..join("", &["range"])
    };
    let quick = world.send(GroupRequest::Join(quick));
    assert_eq!(
        world.joined(quick).error,
        Some(ErrorCode::InvalidSessionTimeout)
    );
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut world = World::new(0);
    let ta = world.send(GroupRequest::Join(static_join("", "one")));
    let a = world.joined(ta).member_id.clone();
    assert_eq!(world.joined(ta).error, None, "static members join at once");
    let first = Sync {
        instance_id: Some("one".into()),
        ..sync(&a, 1, vec![(a.clone(), "mine".into())])
    };
    world.send(GroupRequest::Sync(first));

    let back = world.send(GroupRequest::Join(static_join("", "one")));
    let joined = world.joined(back).clone();
    assert_eq!(
        (joined.error, joined.generation, joined.skip_assignment),
        (None, 1, true)
    );
    assert_ne!(joined.member_id, a);
    let again = Sync {
        instance_id: Some("one".into()),
        ..sync(&joined.member_id, 1, Vec::new())
    };
    let again = world.send(GroupRequest::Sync(again));
    assert_eq!(
        world.synced(again).assignment,
        "mine",
        "the assignment stands"
    );

    let ghost = world.send(GroupRequest::Heartbeat(Heartbeat {
        group: "g".into(),
        generation: 1,
        member_id: a.clone(),
        instance_id: Some("one".into()),
    }));
    let fenced = Some(&GroupResponse::Heartbeat(Some(ErrorCode::FencedInstanceId)));
    assert_eq!(world.reply(ghost), fenced);
    assert_eq!(
        world.leave(&a, Some("one")),
        Some(ErrorCode::FencedInstanceId)
    );
    assert_eq!(
        world.leave("", Some("one")),
        None,
        "an admin names the instance alone"
    );
    assert_eq!(world.state(), STATE_EMPTY);
}

#[test]
fn an_older_static_leader_is_not_told_that_it_leads() {
    let mut world = World::new(0);
    let old = |id: &str| Join {
        supports_skip_assignment: false,
        ..static_join(id, "one")
    };
    let ta = world.send(GroupRequest::Join(old("")));
    let a = world.joined(ta).member_id.clone();
    let first = Sync {
        instance_id: Some("one".into()),
        ..sync(&a, 1, vec![(a.clone(), "mine".into())])
    };
    world.send(GroupRequest::Sync(first));
    let back = world.send(GroupRequest::Join(old("")));
    assert_eq!(
        (
            &world.joined(back).leader,
            world.joined(back).skip_assignment
        ),
        (&a, false)
    );
    assert!(world.joined(back).members.is_empty());
}

#[test]
fn commits_are_acknowledged_when_durable_and_seen_from_then_on() {
    let mut world = World::new(0);
    let a = world.alone();
    world.held = true;
    let token = world.commit(&a, 1, 17);
    assert!(world.reply(token).is_none());
    assert_eq!(world.offset(), None);
    assert!(matches!(
        &world.pending[0].1,
        GroupEntry::Offsets { generation: 1, .. }
    ));
    world.commit_all();
    assert_eq!(world.commit_error(token), None);
    assert_eq!(world.offset(), Some(17));

    let token = world.commit(&a, 1, 18);
    let (commit, _) = world.pending.remove(0);
    world.event(GroupEvent::CommitFailed {
        token: commit,
        error: ErrorCode::IllegalGeneration,
    });
    assert_eq!(
        world.commit_error(token),
        Some(ErrorCode::IllegalGeneration)
    );
    assert_eq!(world.offset(), Some(17));
}

#[test]
fn commits_are_fenced() {
    let mut world = World::new(0);
    let outside = world.commit("", -1, 5);
    assert_eq!(world.commit_error(outside), None, "the group is empty");
    let a = world.alone();
    for (id, generation, error) in [
        ("", -1, ErrorCode::UnknownMemberId),
        ("nobody", 1, ErrorCode::UnknownMemberId),
        (a.as_str(), 0, ErrorCode::IllegalGeneration),
        (a.as_str(), -1, ErrorCode::IllegalGeneration),
    ] {
        let token = world.commit(id, generation, 9);
        assert_eq!(
            world.commit_error(token),
            Some(error),
            "{id:?} {generation}"
        );
    }
    assert_eq!(world.offset(), Some(5));
    let (_, _) = world.join(&["range"]);
    let during = world.commit(&a, 1, 6);
    assert_eq!(
        world.commit_error(during),
        None,
        "while preparing, before revoking"
    );
    world.send(GroupRequest::Join(join(&a, &["range"])));
    let between = world.commit(&a, 2, 7);
    assert_eq!(
        world.commit_error(between),
        Some(ErrorCode::RebalanceInProgress)
    );

    let ghost = world.send(GroupRequest::CommitOffsets(CommitOffsets {
        group: "never".into(),
        generation: 3,
        member_id: "m".into(),
        instance_id: None,
        offsets: vec![(
            tp(0),
            CommittedOffset {
                offset: 1,
                leader_epoch: -1,
                metadata: String::new(),
            },
        )],
    }));
    assert_eq!(
        world.commit_error(ghost),
        Some(ErrorCode::IllegalGeneration)
    );
}

#[test]
fn after_a_restart_offsets_and_generations_stand_and_members_join_again() {
    let mut world = World::new(0);
    let a = world.alone();
    world.commit(&a, 1, 17);
    let log = std::mem::take(&mut world.log);
    let mut world = World::new(0);
    log.into_iter()
        .for_each(|entry| world.event(GroupEvent::Restore(entry)));
    assert_eq!(world.offset(), Some(17));
    assert_eq!(world.state(), STATE_EMPTY);
    assert_eq!(world.beat(&a, 1), Some(ErrorCode::UnknownMemberId));
    let late = world.commit(&a, 1, 18);
    assert_eq!(world.commit_error(late), Some(ErrorCode::UnknownMemberId));
    let again = world.send(GroupRequest::Join(join(&a, &["range"])));
    assert_eq!(world.joined(again).error, Some(ErrorCode::UnknownMemberId));
    let (_, token) = world.join(&["range"]);
    assert_eq!(world.joined(token).generation, 2);
}

#[test]
fn groups_are_deleted_when_empty() {
    let mut world = World::new(0);
    let missing = world.delete();
    assert_eq!(world.deleted(missing), Some(ErrorCode::GroupIdNotFound));
    let a = world.alone();
    world.commit(&a, 1, 17);
    let busy = world.delete();
    assert_eq!(world.deleted(busy), Some(ErrorCode::NonEmptyGroup));
    world.leave(&a, None);
    world.held = true;
    world.commit_all();
    let token = world.delete();
    assert!(world.reply(token).is_none());
    world.commit_all();
    assert_eq!(world.deleted(token), None);
    assert_eq!((world.state(), world.offset()), (STATE_DEAD, None));
}

#[test]
fn offsets_of_a_deleted_topic_go() {
    let mut world = World::new(0);
    world.commit("", -1, 5);
    world.event(GroupEvent::TopicDeleted(TopicName::new("other").unwrap()));
    assert_eq!(world.offset(), Some(5));
    world.event(GroupEvent::TopicDeleted(
        TopicName::new("readings").unwrap(),
    ));
    assert_eq!(world.offset(), None);
}

#[test]
fn bounds() {
    let config = GroupConfig {
        initial_rebalance_delay_ms: 0,
        members_max: 2,
        groups_max: 2,
        member_bytes_max: 100,
        offset_metadata_bytes_max: 4,
        offsets_max: 1,
        ..GroupConfig::default()
    };
    let mut world = World::with(config);
    world.alone();
    world.join(&["range"]);
    let third = world.send(GroupRequest::Join(join("", &["range"])));
    assert_eq!(
        world.joined(third).error,
        Some(ErrorCode::GroupMaxSizeReached)
    );
    let fat = Join {
        protocols: vec![("range".into(), vec![0; 101].into())],
        ..join("", &[])
    };
    let fat = world.send(GroupRequest::Join(Join {
        group: "h".into(),
        ..fat
    }));
    assert_eq!(
        world.joined(fat).error,
        Some(ErrorCode::GroupMaxSizeReached)
    );

    let commit = |group: &str, partitions: u32, metadata: &str| {
        let offset = CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            metadata: metadata.into(),
        };
        GroupRequest::CommitOffsets(CommitOffsets {
            group: group.into(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            offsets: (0..partitions).map(|p| (tp(p), offset.clone())).collect(),
        })
    };
    let long = world.send(commit("h", 1, "12345"));
    assert_eq!(
        world.commit_error(long),
        Some(ErrorCode::OffsetMetadataTooLarge)
    );
    let fine = world.send(commit("h", 1, "1234"));
    assert_eq!(world.commit_error(fine), None);
    let many = world.send(commit("h", 3, ""));
    assert_eq!(
        world.commit_error(many),
        Some(ErrorCode::InvalidCommitOffsetSize)
    );
    let other = world.send(commit("i", 1, ""));
    assert_eq!(
        world.commit_error(other),
        Some(ErrorCode::CoordinatorNotAvailable)
    );
    let empty = world.send(GroupRequest::Join(Join {
        group: String::new(),
        ..join("", &["range"])
    }));
    assert_eq!(world.joined(empty).error, Some(ErrorCode::InvalidGroupId));
}

#[test]
fn listing_filters_by_state_and_type() {
    let mut world = World::new(0);
    world.alone();
    let count = |world: &mut World, states: &[&str], types: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        let token = world.send(GroupRequest::List {
            states: texts(states),
            types: texts(types),
        });
        match world.reply(token) {
            Some(GroupResponse::List(all)) => all.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count(&mut world, &[], &[]), 1);
    assert_eq!(count(&mut world, &["stable"], &["Classic"]), 1);
    assert_eq!(count(&mut world, &["Empty"], &[]), 0);
    assert_eq!(count(&mut world, &[], &["consumer"]), 0);
}

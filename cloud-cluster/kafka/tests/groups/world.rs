//! A coordinator, its clock and its log, and the requests of an ordinary client.

use bytes::Bytes;
use headwater_batch::{TopicName, TopicPartition};
use headwater_kafka::ErrorCode;
use headwater_kafka::group::*;

/// A coordinator with its clock; commits go through at once unless `held`.
pub struct World {
    pub machine: Coordinator,
    now: u64,
    next: RequestToken,
    pub held: bool,
    pub pending: Vec<(CommitToken, GroupEntry)>,
    pub log: Vec<GroupEntry>,
    replies: Vec<(RequestToken, GroupResponse)>,
}

impl World {
    pub fn new(delay: u32) -> World {
        let config = GroupConfig {
            initial_rebalance_delay_ms: delay,
            ..GroupConfig::default()
        };
        World::with(config)
    }

    pub fn with(config: GroupConfig) -> World {
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

    pub fn event(&mut self, event: GroupEvent) {
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

    pub fn commit_all(&mut self) {
        while !self.pending.is_empty() {
            let (token, entry) = self.pending.remove(0);
            self.log.push(entry);
            self.event(GroupEvent::Committed { token });
        }
    }

    pub fn send(&mut self, request: GroupRequest) -> RequestToken {
        self.next += 1;
        self.event(GroupEvent::Request {
            token: self.next,
            request,
        });
        self.next
    }

    pub fn reply(&self, token: RequestToken) -> Option<&GroupResponse> {
        self.replies
            .iter()
            .find(|(t, _)| *t == token)
            .map(|(_, r)| r)
    }

    pub fn joined(&self, token: RequestToken) -> &Joined {
        match self.reply(token) {
            Some(GroupResponse::Join(joined)) => joined,
            other => panic!("{other:?}"),
        }
    }

    pub fn synced(&self, token: RequestToken) -> &Synced {
        match self.reply(token) {
            Some(GroupResponse::Sync(synced)) => synced,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, waking the machine at each of its deadlines.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.event(GroupEvent::Timer);
        }
        self.now = end;
    }

    /// Joins as a client of v4 and later does: twice, the second time with the id.
    pub fn join(&mut self, protocols: &[&str]) -> (String, RequestToken) {
        let first = self.send(GroupRequest::Join(join("", protocols)));
        let id = self.joined(first).member_id.clone();
        assert_eq!(self.joined(first).error, Some(ErrorCode::MemberIdRequired));
        let token = self.send(GroupRequest::Join(join(&id, protocols)));
        (id, token)
    }

    pub fn sync(&mut self, id: &str, generation: i32, all: &[&str]) -> RequestToken {
        let assignments = all
            .iter()
            .map(|m| (m.to_string(), Bytes::from(format!("for {m}"))))
            .collect();
        self.send(GroupRequest::Sync(sync(id, generation, assignments)))
    }

    pub fn beat(&mut self, id: &str, generation: i32) -> Option<ErrorCode> {
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

    pub fn leave(&mut self, id: &str, instance: Option<&str>) -> Option<ErrorCode> {
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

    pub fn commit(&mut self, id: &str, generation: i32, offset: i64) -> RequestToken {
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

    pub fn commit_error(&self, token: RequestToken) -> Option<ErrorCode> {
        match self.reply(token) {
            Some(GroupResponse::CommitOffsets(all)) => all[0].1,
            other => panic!("{other:?}"),
        }
    }

    pub fn offset(&mut self) -> Option<i64> {
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

    pub fn state(&mut self) -> &'static str {
        let token = self.send(GroupRequest::Describe {
            groups: vec!["g".into()],
        });
        match self.reply(token) {
            Some(GroupResponse::Describe(all)) => all[0].state,
            other => panic!("{other:?}"),
        }
    }

    pub fn delete(&mut self) -> RequestToken {
        self.send(GroupRequest::Delete {
            groups: vec!["g".into()],
        })
    }

    pub fn deleted(&self, token: RequestToken) -> Option<ErrorCode> {
        match self.reply(token) {
            Some(GroupResponse::Delete(all)) => all[0].1,
            other => panic!("{other:?}"),
        }
    }

    /// A group of one in generation 1, stable.
    pub fn alone(&mut self) -> String {
        let (id, token) = self.join(&["range"]);
        let generation = self.joined(token).generation;
        self.sync(&id, generation, &[&id]);
        assert_eq!(self.state(), STATE_STABLE);
        id
    }
}

pub fn tp(partition: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("readings").unwrap(), partition)
}

pub fn join(id: &str, protocols: &[&str]) -> Join {
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

pub fn static_join(id: &str, instance: &str) -> Join {
    Join {
        instance_id: Some(instance.into()),
        ..join(id, &["range"])
    }
}

pub fn sync(id: &str, generation: i32, assignments: Vec<(String, Bytes)>) -> Sync {
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

//! The group coordinator under random events: every request gets exactly one reply in the end,
//! no generation has two leaders, what was acknowledged is what is read, nothing is left behind.
#![allow(clippy::unwrap_used)] // A test may.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::{TopicName, TopicPartition};
use headwater_kafka::ErrorCode;
use headwater_kafka::group::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// A client without an id joins; static if a number is given.
    Arrive {
        instance: Option<u8>,
        protocols: u8,
        requires_id: bool,
    },
    /// A known id joins again.
    Rejoin {
        who: usize,
        protocols: u8,
    },
    Sync {
        who: usize,
        stale: bool,
    },
    Beat {
        who: usize,
        stale: bool,
    },
    Leave {
        who: usize,
    },
    Commit {
        who: usize,
        outside: bool,
    },
    Pass {
        ms: u64,
    },
    /// The oldest commit under way goes through, or fails.
    Land {
        fails: bool,
    },
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0usize..8;
    prop_oneof![
        3 => (prop::option::of(0u8..3), 0u8..3, any::<bool>())
            .prop_map(|(instance, protocols, requires_id)| Step::Arrive { instance, protocols, requires_id }),
        6 => (who.clone(), 0u8..3).prop_map(|(who, protocols)| Step::Rejoin { who, protocols }),
        6 => (who.clone(), prop::bool::weighted(0.1)).prop_map(|(who, stale)| Step::Sync { who, stale }),
        3 => (who.clone(), prop::bool::weighted(0.1)).prop_map(|(who, stale)| Step::Beat { who, stale }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        3 => (who, any::<bool>()).prop_map(|(who, outside)| Step::Commit { who, outside }),
        4 => (0u64..20_000).prop_map(|ms| Step::Pass { ms }),
        6 => prop::bool::weighted(0.1).prop_map(|fails| Step::Land { fails }),
        1 => Just(Step::Delete),
    ]
}

#[derive(Debug, Clone)]
struct Client {
    id: String,
    instance: Option<String>,
    generation: i32,
    leads: bool,
    others: Vec<String>,
}

struct Run {
    machine: Coordinator,
    now: u64,
    next: RequestToken,
    /// Requests without a reply, and the instance that sent them.
    open: BTreeMap<RequestToken, Option<String>>,
    commits: Vec<(CommitToken, GroupEntry)>,
    clients: Vec<Client>,
    /// Leaders by generation.
    leaders: BTreeMap<i32, Vec<String>>,
    /// What the committed entries amount to.
    model: Option<i64>,
    counter: i64,
}

fn tp() -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), 0)
}

fn protocols(which: u8) -> Vec<(String, Bytes)> {
    let names: &[&str] =
        [&["range", "sticky"][..], &["sticky", "range"], &["range"]][which as usize];
    names
        .iter()
        .map(|name| (name.to_string(), Bytes::from_static(b"meta")))
        .collect()
}

impl Run {
    fn event(&mut self, event: GroupEvent) {
        let mut effects = Vec::new();
        self.machine.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                GroupEffect::Commit { token, entry } => self.commits.push((token, entry)),
                GroupEffect::Reply { token, response } => {
                    let instance = self.open.remove(&token).expect("one reply per request");
                    if let GroupResponse::Join(joined) = response {
                        self.joined(joined, instance);
                    }
                }
            }
        }
        if let Some(at) = self.machine.deadline() {
            assert!(
                at > self.now || self.now == 0,
                "a deadline in the past: {at} at {}",
                self.now
            );
        }
    }

    fn joined(&mut self, joined: Joined, instance: Option<String>) {
        match joined.error {
            None => {
                assert!(joined.generation > 0);
                assert!(joined.protocol.is_some());
                let leads = joined.leader == joined.member_id;
                if leads && !joined.skip_assignment {
                    assert!(!joined.members.is_empty());
                    let leaders = self.leaders.entry(joined.generation).or_default();
                    if !leaders.contains(&joined.member_id) {
                        leaders.push(joined.member_id.clone());
                    }
                    assert_eq!(
                        leaders.len(),
                        1,
                        "generation {} has two leaders",
                        joined.generation
                    );
                }
                let client = Client {
                    id: joined.member_id,
                    instance,
                    generation: joined.generation,
                    leads,
                    others: joined.members.into_iter().map(|m| m.0).collect(),
                };
                self.remember(client);
            }
            Some(ErrorCode::MemberIdRequired) => {
                let client = Client {
                    id: joined.member_id,
                    instance,
                    generation: -1,
                    leads: false,
                    others: Vec::new(),
                };
                self.remember(client);
            }
            Some(_) => {}
        }
    }

    fn remember(&mut self, client: Client) {
        match self.clients.iter_mut().find(|c| c.id == client.id) {
            Some(known) => *known = client,
            None => self.clients.push(client),
        }
    }

    fn send(&mut self, instance: Option<String>, request: GroupRequest) -> RequestToken {
        self.next += 1;
        self.open.insert(self.next, instance);
        self.event(GroupEvent::Request {
            token: self.next,
            request,
        });
        self.next
    }

    fn join(&mut self, id: String, instance: Option<String>, which: u8, requires_id: bool) {
        let request = GroupRequest::Join(Join {
            group: "g".into(),
            member_id: id,
            instance_id: instance.clone(),
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 9_000,
            protocol_type: "consumer".into(),
            protocols: protocols(which),
            requires_known_member_id: requires_id,
            supports_skip_assignment: requires_id,
        });
        self.send(instance, request);
    }

    fn land(&mut self, fails: bool) {
        if self.commits.is_empty() {
            return;
        }
        let (token, entry) = self.commits.remove(0);
        if fails {
            let error = ErrorCode::CoordinatorNotAvailable;
            self.event(GroupEvent::CommitFailed { token, error });
            return;
        }
        match entry {
            GroupEntry::Offsets { offsets, .. } => self.model = Some(offsets[0].1.offset),
            GroupEntry::DeleteGroup { .. } => {
                // Generations start anew.
                self.model = None;
                self.leaders.clear();
            }
            GroupEntry::Generation { .. } => {}
        }
        self.event(GroupEvent::Committed { token });
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = at;
            self.event(GroupEvent::Timer);
        }
        self.now = end;
    }

    fn step(&mut self, step: Step) {
        let pick = |clients: &[Client], who: usize| {
            (!clients.is_empty()).then(|| clients[clients.len() - 1 - who % clients.len()].clone())
        };
        match step {
            Step::Arrive {
                instance,
                protocols,
                requires_id,
            } => {
                let instance = instance.map(|i| format!("static-{i}"));
                self.join(String::new(), instance, protocols, requires_id);
            }
            Step::Rejoin { who, protocols } => {
                if let Some(client) = pick(&self.clients, who) {
                    self.join(client.id, client.instance, protocols, true);
                }
            }
            Step::Sync { who, stale } => {
                if let Some(client) = pick(&self.clients, who) {
                    let assignments = if client.leads {
                        client.others.clone()
                    } else {
                        Vec::new()
                    };
                    let request = GroupRequest::Sync(Sync {
                        group: "g".into(),
                        generation: client.generation - i32::from(stale),
                        member_id: client.id,
                        instance_id: client.instance,
                        protocol_type: None,
                        protocol: None,
                        assignments: assignments
                            .into_iter()
                            .map(|m| (m, Bytes::from_static(b"a")))
                            .collect(),
                    });
                    self.send(None, request);
                }
            }
            Step::Beat { who, stale } => {
                if let Some(client) = pick(&self.clients, who) {
                    let request = GroupRequest::Heartbeat(Heartbeat {
                        group: "g".into(),
                        generation: client.generation - i32::from(stale),
                        member_id: client.id,
                        instance_id: client.instance,
                    });
                    let token = self.send(None, request);
                    assert!(
                        !self.open.contains_key(&token),
                        "a heartbeat is answered at once"
                    );
                }
            }
            Step::Leave { who } => {
                if let Some(client) = pick(&self.clients, who) {
                    let members = vec![(client.id, client.instance)];
                    self.send(
                        None,
                        GroupRequest::Leave(Leave {
                            group: "g".into(),
                            members,
                        }),
                    );
                }
            }
            Step::Commit { who, outside } => {
                let client = pick(&self.clients, who).filter(|_| !outside);
                self.counter += 1;
                let offset = CommittedOffset {
                    offset: self.counter,
                    leader_epoch: -1,
                    metadata: String::new(),
                };
                let request = GroupRequest::CommitOffsets(CommitOffsets {
                    group: "g".into(),
                    generation: client.as_ref().map_or(-1, |c| c.generation),
                    member_id: client.as_ref().map(|c| c.id.clone()).unwrap_or_default(),
                    instance_id: client.and_then(|c| c.instance),
                    offsets: vec![(tp(), offset)],
                });
                self.send(None, request);
            }
            Step::Pass { ms } => self.pass(ms),
            Step::Land { fails } => self.land(fails),
            Step::Delete => {
                self.send(
                    None,
                    GroupRequest::Delete {
                        groups: vec!["g".into()],
                    },
                );
            }
        }
        self.check_offset();
    }

    fn check_offset(&mut self) {
        let mut effects = Vec::new();
        let ask = FetchOffsets {
            group: "g".into(),
            partitions: None,
        };
        let request = GroupRequest::FetchOffsets(vec![ask]);
        self.machine.handle(
            self.now,
            GroupEvent::Request { token: 0, request },
            &mut effects,
        );
        let [
            GroupEffect::Reply {
                response: GroupResponse::FetchOffsets(all),
                ..
            },
        ] = &effects[..]
        else {
            panic!("{effects:?}")
        };
        let read = all[0]
            .offsets
            .get(&tp())
            .and_then(|o| o.as_ref())
            .map(|o| o.offset);
        assert_eq!(read, self.model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn random_events(delay in prop_oneof![Just(0u32), Just(3_000)], steps in prop::collection::vec(step(), 1..120)) {
        let config = GroupConfig {
            initial_rebalance_delay_ms: delay,
            members_max: 6,
            ..GroupConfig::default()
        };
        let mut run = Run {
            machine: Coordinator::new(config, 7),
            now: 1,
            next: 0,
            open: BTreeMap::new(),
            commits: Vec::new(),
            clients: Vec::new(),
            leaders: BTreeMap::new(),
            model: None,
            counter: 0,
        };
        for step in steps {
            run.step(step);
        }
        // Everybody falls silent: all commits land, all sessions end, nobody waits any more.
        for _ in 0..20 {
            while !run.commits.is_empty() {
                run.land(false);
            }
            run.pass(30_000);
        }
        prop_assert!(run.open.is_empty(), "requests without a reply: {:?}", run.open);
        prop_assert_eq!(run.machine.deadline(), None);
        let mut effects = Vec::new();
        let request = GroupRequest::Describe { groups: vec!["g".into()] };
        run.machine.handle(run.now, GroupEvent::Request { token: 0, request }, &mut effects);
        let [GroupEffect::Reply { response: GroupResponse::Describe(all), .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        prop_assert!(all[0].members.is_empty());
        prop_assert!([STATE_EMPTY, STATE_DEAD].contains(&all[0].state));
    }
}

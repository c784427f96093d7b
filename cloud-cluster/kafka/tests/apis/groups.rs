//! The group APIs' messages; what the coordinator does with them is another test's subject.

use std::collections::BTreeMap;

use headwater_kafka::group::{
    CommittedOffset, FetchedOffsets, GroupDescription, GroupListing, GroupRequest, GroupResponse,
    Joined, MemberDescription, STATE_STABLE, Synced,
};
use headwater_kafka::{ErrorCode, Outcome};
use kafka_protocol::messages::*;

use crate::common::requests::samples;
use crate::common::{FakeNode, decode, reply, serve, versions};
use crate::{raw, text};

fn member() -> MemberDescription {
    MemberDescription {
        member_id: "m".into(),
        instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/1.2.3.4".into(),
        metadata: "meta".into(),
        assignment: "all".into(),
    }
}

/// A full response for each group request.
fn answer(request: &GroupRequest) -> GroupResponse {
    match request {
        GroupRequest::Join(_) => GroupResponse::Join(Joined {
            error: None,
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            leader: "m".into(),
            skip_assignment: true,
            member_id: "m".into(),
            members: vec![("m".into(), Some("i".into()), "meta".into())],
        }),
        GroupRequest::Sync(_) => GroupResponse::Sync(Synced {
            error: None,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignment: "all".into(),
        }),
        GroupRequest::Heartbeat(_) => {
            GroupResponse::Heartbeat(Some(ErrorCode::RebalanceInProgress))
        }
        GroupRequest::Leave(leave) => GroupResponse::Leave {
            error: None,
            members: leave
                .members
                .iter()
                .map(|(id, i)| (id.clone(), i.clone(), None))
                .collect(),
        },
        GroupRequest::CommitOffsets(commit) => GroupResponse::CommitOffsets(
            commit
                .offsets
                .iter()
                .map(|(tp, _)| (tp.clone(), None))
                .collect(),
        ),
        GroupRequest::FetchOffsets(asks) => GroupResponse::FetchOffsets(
            asks.iter()
                .map(|ask| FetchedOffsets {
                    group: ask.group.clone(),
                    error: None,
                    offsets: ask
                        .partitions
                        .iter()
                        .flatten()
                        .map(|tp| {
                            let offset = CommittedOffset {
                                offset: 42,
                                leader_epoch: 7,
                                metadata: "m".into(),
                            };
                            (tp.clone(), (tp.partition != 1).then_some(offset))
                        })
                        .collect::<BTreeMap<_, _>>(),
                })
                .collect(),
        ),
        GroupRequest::Describe { groups } => GroupResponse::Describe(
            groups
                .iter()
                .map(|group| GroupDescription {
                    group: group.clone(),
                    error: None,
                    state: STATE_STABLE,
                    protocol_type: "consumer".into(),
                    protocol: "range".into(),
                    members: vec![member()],
                })
                .chain([GroupDescription::dead("gone")])
                .collect(),
        ),
        GroupRequest::List { .. } => GroupResponse::List(vec![GroupListing {
            group: "g".into(),
            protocol_type: "consumer".into(),
            state: STATE_STABLE,
        }]),
        GroupRequest::Delete { groups } => {
            GroupResponse::Delete(groups.iter().map(|g| (g.clone(), None)).collect())
        }
    }
}

#[test]
fn group_apis_at_every_version() {
    for sample in samples(2) {
        let (api, v) = (sample.api, sample.version);
        let Outcome::Group(plan) = raw(api, v, &sample.body) else {
            continue;
        };
        let reply = plan.pending.respond(answer(&plan.request));
        let at = format!("{api:?} v{v}");
        match api {
            ApiKey::JoinGroup => {
                let GroupRequest::Join(join) = &plan.request else {
                    panic!()
                };
                assert_eq!(
                    join.rebalance_timeout_ms,
                    if v == 0 { 10_000 } else { 30_000 }
                );
                assert_eq!(join.requires_known_member_id, v >= 4);
                let response: JoinGroupResponse = decode(api, v, &reply);
                assert_eq!(
                    (response.generation_id, response.members.len()),
                    (3, 1),
                    "{at}"
                );
                assert_eq!(response.protocol_name.as_deref(), Some("range"));
                assert_eq!(response.skip_assignment, v >= 9);
            }
            ApiKey::SyncGroup => {
                let response: SyncGroupResponse = decode(api, v, &reply);
                assert_eq!(&response.assignment[..], b"all");
            }
            ApiKey::Heartbeat => {
                let response: HeartbeatResponse = decode(api, v, &reply);
                assert_eq!(response.error_code, 27);
            }
            ApiKey::LeaveGroup => {
                let response: LeaveGroupResponse = decode(api, v, &reply);
                assert_eq!(response.members.len(), if v >= 3 { 2 } else { 0 }, "{at}");
            }
            ApiKey::OffsetCommit => {
                let response: OffsetCommitResponse = decode(api, v, &reply);
                let all: Vec<_> = response.topics.iter().flat_map(|t| &t.partitions).collect();
                assert_eq!(all.len(), 4, "{at}");
                assert!(all.iter().all(|p| p.error_code == 0));
            }
            ApiKey::OffsetFetch => {
                let response: OffsetFetchResponse = decode(api, v, &reply);
                let offsets: Vec<i64> = if v >= 8 {
                    response.groups[0].topics[0]
                        .partitions
                        .iter()
                        .map(|p| p.committed_offset)
                        .collect()
                } else {
                    response.topics[0]
                        .partitions
                        .iter()
                        .map(|p| p.committed_offset)
                        .collect()
                };
                assert_eq!(offsets, [42, -1], "{at}");
            }
            ApiKey::DescribeGroups => {
                let response: DescribeGroupsResponse = decode(api, v, &reply);
                assert_eq!(&*response.groups[0].members[0].client_host, "/1.2.3.4");
                let dead = response.groups.last().unwrap();
                assert_eq!(
                    (&*dead.group_state, dead.error_code),
                    ("Dead", if v >= 6 { 69 } else { 0 })
                );
            }
            ApiKey::ListGroups => {
                let response: ListGroupsResponse = decode(api, v, &reply);
                assert_eq!(&*response.groups[0].group_id.0, "g");
            }
            ApiKey::DeleteGroups => {
                let response: DeleteGroupsResponse = decode(api, v, &reply);
                assert_eq!(response.results.len(), 2);
            }
            other => panic!("{other:?} went to the coordinator"),
        }
    }
}

#[test]
fn groups_of_others_are_refused() {
    for (group, error) in [("theirs", 16), ("loading", 14)] {
        for version in versions(ApiKey::Heartbeat) {
            let request = HeartbeatRequest::default().with_group_id(GroupId(text(group)));
            let reply = reply(serve(
                &FakeNode::default(),
                ApiKey::Heartbeat,
                version,
                &request,
            ));
            let response: HeartbeatResponse = decode(ApiKey::Heartbeat, version, &reply);
            assert_eq!(response.error_code, error);
        }
        for version in versions(ApiKey::DescribeGroups) {
            let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
            let Outcome::Group(plan) = serve(
                &FakeNode::default(),
                ApiKey::DescribeGroups,
                version,
                &request,
            ) else {
                panic!()
            };
            assert_eq!(plan.request, GroupRequest::Describe { groups: Vec::new() });
            let reply = plan.pending.respond(GroupResponse::Describe(Vec::new()));
            let response: DescribeGroupsResponse = decode(ApiKey::DescribeGroups, version, &reply);
            assert_eq!(response.groups[0].error_code, error);
        }
    }
}

//! OffsetCommit and OffsetFetch.

use std::collections::BTreeSet;

use headwater_batch::TopicPartition;

use super::state::{Group, State};
use super::{
    CommitOffsets, CommittedOffset, Coordinator, FetchOffsets, FetchedOffsets, GroupEffect,
    GroupEntry, GroupResponse, PendingCommit, RequestToken,
};
use crate::ErrorCode;

/// A commit whose client waits.
#[derive(Debug)]
pub(super) struct PendingOffsets {
    token: RequestToken,
    group: String,
    offsets: Vec<(TopicPartition, CommittedOffset)>,
    /// In the order of the request; None for those that are being committed.
    results: Vec<(TopicPartition, Option<ErrorCode>)>,
}

impl PendingOffsets {
    pub(super) fn group(&self) -> &str {
        &self.group
    }
}

impl Group {
    /// Whether this member may commit in this generation now.
    fn check_commit(&mut self, now: u64, commit: &CommitOffsets) -> Result<(), ErrorCode> {
        let outside = commit.generation < 0 && commit.member_id.is_empty();
        if outside && commit.instance_id.is_none() {
            // Flink, MirrorMaker and admin tools commit from outside while nobody is in.
            let empty = matches!(self.state, State::Empty);
            return if empty {
                Ok(())
            } else {
                Err(ErrorCode::UnknownMemberId)
            };
        }
        self.validate(
            &commit.member_id,
            commit.instance_id.as_deref(),
            commit.generation,
        )?;
        let member = self
            .members
            .get_mut(&commit.member_id)
            .expect("validated above");
        member.alive(now);
        match self.state {
            State::Completing { .. } => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }
}

impl Coordinator {
    pub(super) fn commit_offsets(
        &mut self,
        now: u64,
        token: RequestToken,
        commit: CommitOffsets,
        effects: &mut Vec<GroupEffect>,
    ) {
        if let Err(error) = self.check_commit(now, &commit, effects) {
            let all = commit.offsets.into_iter().map(|(tp, _)| (tp, Some(error)));
            let response = GroupResponse::CommitOffsets(all.collect());
            effects.push(GroupEffect::Reply { token, response });
            return;
        }
        let most = self.config.offset_metadata_bytes_max;
        let mut offsets = Vec::with_capacity(commit.offsets.len());
        let mut results = Vec::with_capacity(commit.offsets.len());
        for (tp, offset) in commit.offsets {
            let long = offset.metadata.len() > most;
            results.push((
                tp.clone(),
                long.then_some(ErrorCode::OffsetMetadataTooLarge),
            ));
            if !long {
                offsets.push((tp, offset));
            }
        }
        if offsets.is_empty() {
            let response = GroupResponse::CommitOffsets(results);
            effects.push(GroupEffect::Reply { token, response });
            return;
        }
        let entry = GroupEntry::Offsets {
            group: commit.group.clone(),
            generation: commit.generation.max(-1),
            offsets: offsets.clone(),
        };
        let pending = PendingOffsets {
            token,
            group: commit.group,
            offsets,
            results,
        };
        self.commits
            .start(entry, PendingCommit::Offsets(pending), effects);
    }

    fn check_commit(
        &mut self,
        now: u64,
        commit: &CommitOffsets,
        effects: &mut Vec<GroupEffect>,
    ) -> Result<(), ErrorCode> {
        if !self.groups.contains_key(&commit.group) {
            if commit.generation >= 0 {
                return Err(ErrorCode::IllegalGeneration);
            }
            if !commit.member_id.is_empty() {
                return Err(ErrorCode::UnknownMemberId);
            }
            // Made when the commit is through.
            return if self.room(effects) {
                Ok(())
            } else {
                Err(ErrorCode::CoordinatorNotAvailable)
            };
        }
        let mut checked = Ok(());
        let most = self.config.offsets_max;
        self.within(now, &commit.group, effects, |group, cx| {
            checked = group.check_commit(cx.now, commit);
            let known = |tp: &TopicPartition| group.offsets.contains_key(tp);
            let new: BTreeSet<_> = commit
                .offsets
                .iter()
                .map(|(tp, _)| tp)
                .filter(|tp| !known(tp))
                .collect();
            if checked.is_ok() && group.offsets.len() + new.len() > most {
                checked = Err(ErrorCode::InvalidCommitOffsetSize);
            }
        });
        checked
    }

    pub(super) fn offsets_committed(
        &mut self,
        _now: u64,
        pending: PendingOffsets,
        error: Option<ErrorCode>,
        effects: &mut Vec<GroupEffect>,
    ) {
        let mut results = pending.results;
        match error {
            None => {
                let group = self.groups.entry(pending.group).or_default();
                group.offsets.extend(pending.offsets);
            }
            Some(error) => {
                results
                    .iter_mut()
                    .for_each(|(_, result)| *result = result.or(Some(error)));
            }
        }
        let response = GroupResponse::CommitOffsets(results);
        effects.push(GroupEffect::Reply {
            token: pending.token,
            response,
        });
    }

    pub(super) fn fetch_offsets(
        &mut self,
        token: RequestToken,
        asks: Vec<FetchOffsets>,
        effects: &mut Vec<GroupEffect>,
    ) {
        let fetched = asks.into_iter().map(|ask| {
            let group = self.groups.get(&ask.group);
            let find = |tp: &TopicPartition| group.and_then(|g| g.offsets.get(tp)).cloned();
            let offsets = match ask.partitions {
                Some(list) => list.into_iter().map(|tp| (tp.clone(), find(&tp))).collect(),
                None => group
                    .into_iter()
                    .flat_map(|group| &group.offsets)
                    .map(|(tp, offset)| (tp.clone(), Some(offset.clone())))
                    .collect(),
            };
            FetchedOffsets {
                group: ask.group,
                error: None,
                offsets,
            }
        });
        let response = GroupResponse::FetchOffsets(fetched.collect());
        effects.push(GroupEffect::Reply { token, response });
    }
}

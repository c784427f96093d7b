//! DescribeGroups, ListGroups and DeleteGroups.

use super::{
    Coordinator, GROUP_ID_BYTES_MAX, GroupDescription, GroupEffect, GroupEntry, GroupResponse,
    PendingCommit, RequestToken,
};
use crate::ErrorCode;

/// The only type of group there is (KIP-848 has others).
const TYPE_CLASSIC: &str = "classic";

/// A DeleteGroups that waits for its commits.
#[derive(Debug)]
pub(super) struct Deletion {
    token: RequestToken,
    results: Vec<(String, Option<ErrorCode>)>,
    waiting: usize,
}

impl Coordinator {
    pub(super) fn describe(
        &self,
        token: RequestToken,
        groups: Vec<String>,
        effects: &mut Vec<GroupEffect>,
    ) {
        let described = groups.iter().map(|name| match self.groups.get(name) {
            Some(group) => group.describe(name),
            None => GroupDescription::dead(name),
        });
        let response = GroupResponse::Describe(described.collect());
        effects.push(GroupEffect::Reply { token, response });
    }

    pub(super) fn list(
        &self,
        token: RequestToken,
        states: &[String],
        types: &[String],
        effects: &mut Vec<GroupEffect>,
    ) {
        let named = |list: &[String], name: &str| {
            list.is_empty() || list.iter().any(|item| item.eq_ignore_ascii_case(name))
        };
        let all = self.groups.iter().map(|(name, group)| group.listing(name));
        let listed = all
            .filter(|group| named(states, group.state) && named(types, TYPE_CLASSIC))
            .collect();
        effects.push(GroupEffect::Reply {
            token,
            response: GroupResponse::List(listed),
        });
    }

    pub(super) fn delete(
        &mut self,
        token: RequestToken,
        groups: Vec<String>,
        effects: &mut Vec<GroupEffect>,
    ) {
        // A commit token is as good a name for the deletion as any: it is not given twice.
        let id = self.commits.next;
        let mut deletion = Deletion {
            token,
            results: Vec::new(),
            waiting: 0,
        };
        for name in groups {
            let error = match self.groups.get(&name) {
                _ if name.is_empty() || name.len() > GROUP_ID_BYTES_MAX => {
                    Some(ErrorCode::InvalidGroupId)
                }
                None => Some(ErrorCode::GroupIdNotFound),
                Some(group) if !group.is_empty() => Some(ErrorCode::NonEmptyGroup),
                Some(_) => {
                    let entry = GroupEntry::DeleteGroup {
                        group: name.clone(),
                    };
                    let pending = PendingCommit::Delete {
                        group: name.clone(),
                        deletion: Some(id),
                    };
                    self.commits.start(entry, pending, effects);
                    deletion.waiting += 1;
                    None
                }
            };
            deletion.results.push((name, error));
        }
        if deletion.waiting == 0 {
            let response = GroupResponse::Delete(deletion.results);
            effects.push(GroupEffect::Reply { token, response });
        } else {
            self.deletions.insert(id, deletion);
        }
    }

    pub(super) fn deleted(
        &mut self,
        name: &str,
        deletion: Option<u64>,
        error: Option<ErrorCode>,
        effects: &mut Vec<GroupEffect>,
    ) {
        if error.is_none() {
            // Members that came while the entry was on its way stay; what was committed is gone.
            if let Some(group) = self.groups.get_mut(name) {
                group.offsets.clear();
            }
            if self.groups.get(name).is_some_and(|group| group.is_empty()) {
                self.remove(name);
            }
        }
        let Some(id) = deletion else { return };
        let Some(waiting) = self.deletions.get_mut(&id) else {
            return;
        };
        waiting.waiting -= 1;
        if error.is_some() {
            let result = waiting
                .results
                .iter_mut()
                .find(|(n, e)| n == name && e.is_none());
            if let Some((_, result)) = result {
                *result = error;
            }
        }
        if waiting.waiting == 0 {
            let done = self.deletions.remove(&id).expect("it was just there");
            let response = GroupResponse::Delete(done.results);
            effects.push(GroupEffect::Reply {
                token: done.token,
                response,
            });
        }
    }
}

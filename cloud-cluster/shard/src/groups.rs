//! Offsets of consumer groups, fenced by generation at apply (rule C3).

use headwater_batch::{Offset, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::bounds::{GROUPS, OFFSET_METADATA_BYTES};
use crate::entry::GroupOffset;
use crate::key::Key;
use crate::outcome::{Outcome, Refusal};
use crate::state::Shard;

/// What a shard knows of a group itself: the newest generation that was ever seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub generation: i32,
    /// `consumer`, `connect` and the like; empty while only offsets were committed.
    pub protocol_type: String,
    pub at_ms: i64,
}

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
    pub at_ms: i64,
}

impl Shard {
    /// Remembers that a group reached `generation`; commits of earlier ones are refused from here on.
    pub(crate) fn group_generation(
        &mut self,
        group: &str,
        generation: i32,
        protocol_type: &str,
        at_ms: i64,
    ) -> Outcome {
        if let Err(refusal) = self.fence(group, generation, at_ms) {
            return Outcome::Refused(refusal);
        }
        let known = self.groups.get_mut(group).expect("fence made it");
        protocol_type.clone_into(&mut known.protocol_type);
        Outcome::Done
    }

    /// All offsets of the entry are stored, or none. A generation of -1 comes from a consumer that
    /// assigns its partitions itself; whether the group is empty then is the coordinator's to check.
    pub(crate) fn commit_offsets(
        &mut self,
        group: &str,
        generation: i32,
        offsets: &[(TopicPartition, GroupOffset)],
        at_ms: i64,
    ) -> Outcome {
        if offsets
            .iter()
            .any(|(_, o)| o.metadata.len() > OFFSET_METADATA_BYTES)
        {
            return Outcome::Refused(Refusal::MetadataTooLarge);
        }
        if let Err(refusal) = self.fence(group, generation, at_ms) {
            return Outcome::Refused(refusal);
        }
        for (tp, wanted) in offsets {
            let committed = Committed {
                offset: wanted.offset,
                leader_epoch: wanted.leader_epoch,
                metadata: wanted.metadata.clone(),
                at_ms,
            };
            let of_group = self.group_offsets.entry(group.to_owned()).or_default();
            of_group.insert(tp.clone(), committed);
            self.touch(Key::GroupOffset(group.to_owned(), tp.clone()));
        }
        Outcome::Done
    }

    /// Forgets all offsets in a topic that was deleted.
    pub(crate) fn forget_topic_offsets(&mut self, topic: &TopicName) -> Outcome {
        let mut forgotten = Vec::new();
        for (group, of_group) in &mut self.group_offsets {
            let gone: Vec<_> = of_group
                .keys()
                .filter(|tp| tp.topic == *topic)
                .cloned()
                .collect();
            for tp in gone {
                of_group.remove(&tp);
                forgotten.push(Key::GroupOffset(group.clone(), tp));
            }
        }
        self.group_offsets
            .retain(|_, of_group| !of_group.is_empty());
        forgotten.into_iter().for_each(|key| self.touch(key));
        Outcome::Done
    }

    /// Forgets a group and all its offsets.
    pub(crate) fn delete_group(&mut self, group: &str) -> Outcome {
        for tp in self
            .group_offsets
            .remove(group)
            .unwrap_or_default()
            .into_keys()
        {
            self.touch(Key::GroupOffset(group.to_owned(), tp));
        }
        if self.groups.remove(group).is_some() {
            self.touch(Key::Group(group.to_owned()));
        }
        Outcome::Done
    }

    fn fence(&mut self, group: &str, generation: i32, at_ms: i64) -> Result<(), Refusal> {
        let is_full = self.groups.len() >= GROUPS;
        match self.groups.get_mut(group) {
            Some(known) if generation >= 0 && generation < known.generation => {
                return Err(Refusal::StaleGeneration {
                    current: known.generation,
                    got: generation,
                });
            }
            Some(known) => {
                known.generation = known.generation.max(generation);
                known.at_ms = at_ms;
            }
            None if is_full => return Err(Refusal::TooManyGroups),
            None => {
                self.groups.insert(
                    group.to_owned(),
                    Group {
                        generation,
                        protocol_type: String::new(),
                        at_ms,
                    },
                );
            }
        }
        self.touch(Key::Group(group.to_owned()));
        Ok(())
    }
}

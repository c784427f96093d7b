//! What the members of a shared subscription were sent together, and whether it holds.
//!
//! - It is what was published, at the lesser of the two QoS.
//! - Each message that was acknowledged, first sent after all members had subscribed, reaches one of
//!   them, as long as all their sessions outlive their connections. One of them may end its session:
//!   then, at QoS 1, what waited for it goes to the others.
//! - At QoS 2 no message reaches two of them, nor one twice.
//!
//! At QoS 1 a message may reach another member too: whoever lost its connection may have had it.

use std::collections::{BTreeMap, BTreeSet};

use crate::mqtt::subscriber::{Manner, Taken};
use crate::mqtt::wire::Version;
use crate::oracle::{Attempt, Oracle};
use crate::payload::Id;
use crate::served::{Here, identify};

#[derive(Debug, Default)]
pub struct Shared {
    /// How many there are, and which have subscribed since the last time that its state was older.
    members: usize,
    subscribed: BTreeSet<usize>,
    /// What was sent after this is owed.
    since: Option<u64>,
    /// A member's session ends with its connection, or a full queue let go of some.
    loses: bool,
    /// Every member is told which deletion one is: all speak version 5.
    names: bool,
    taken: BTreeMap<Id, u32>,
}

impl Shared {
    /// Of members like these.
    pub fn of<'a>(members: impl Iterator<Item = &'a Manner>) -> Shared {
        let mut shared = Shared {
            names: true,
            ..Shared::default()
        };
        for manner in members {
            shared.members += 1;
            shared.loses |= manner.clean;
            shared.names &= manner.version == Version::V5;
        }
        shared
    }

    /// The broker's state is older than what it had told.
    pub fn begin_anew(&mut self) {
        self.subscribed.clear();
        self.since = None;
        self.taken.clear();
    }

    pub fn lose(&mut self) {
        self.loses = true;
    }

    /// SUBACK came to a member, when so many had been sent by all.
    pub fn subscribed(&mut self, member: usize, sent: u64) {
        self.subscribed.insert(member);
        if self.subscribed.len() == self.members {
            self.since.get_or_insert(sent);
        }
    }

    /// A member took a message. Which it is, and whether it was taken before; or what is wrong with it.
    /// `None`: nothing names it.
    pub fn took(
        &mut self,
        manner: &Manner,
        taken: &Taken,
        oracle: &Oracle,
    ) -> Result<Option<(Id, bool)>, String> {
        let who = &manner.client_id;
        if taken.retain {
            return Err(format!("RETAINED AND SHARED: {taken:?} to {who}"));
        }
        let Some((id, attempt)) = identify(manner, taken, oracle)? else {
            return Ok(None);
        };
        if self.since.is_none() {
            return Ok(Some((id, false)));
        }
        let count = self.taken.entry(id).or_default();
        *count += 1;
        if *count > 1 && taken.qos == 2 && !attempt.may_repeat {
            return Err(format!(
                "SHARED TWICE: {id:?}, now to {who} (packet {}, DUP {}): {attempt:?}",
                taken.id, taken.dup
            ));
        }
        Ok(Some((id, *count > 1)))
    }

    /// What the broker owes the group and sent to none of it.
    pub fn missing<'a>(
        &'a self,
        root: &'a str,
        here: Here,
        oracle: &'a Oracle,
    ) -> impl Iterator<Item = (&'a Id, &'a Attempt)> {
        let since = self.since.filter(|_| !self.loses);
        oracle.attempts.iter().filter(move |(id, attempt)| {
            since.is_some_and(|since| attempt.is_owed(since, here, root))
                && (self.names || !attempt.deletes)
                && !self.taken.contains_key(id)
        })
    }
}

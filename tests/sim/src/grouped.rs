//! What a consumer group with members was told, and whether it holds.
//!
//! - In one generation a partition has one owner.
//! - A committed offset never goes back, over rebalances and restarts; it is one that was asked for.
//! - A member of an older generation commits nothing once a newer one has begun (rule C3).

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, Default)]
struct Offset {
    /// What the coordinator confirmed, and the most that it was ever asked to store.
    acked: i64,
    asked: i64,
}

#[derive(Default)]
pub struct Grouped {
    offsets: BTreeMap<i32, Offset>,
    owners: BTreeMap<(i32, i32), String>,
    /// The newest generation of which a member has an assignment.
    newest: i32,
}

impl Grouped {
    pub fn newest(&self) -> i32 {
        self.newest
    }

    pub fn acked(&self, partition: i32) -> i64 {
        self.offsets.get(&partition).map_or(0, |o| o.acked)
    }

    /// A member has its assignment.
    pub fn synced(&mut self, member: &str, generation: i32, owns: &[i32]) -> Result<(), String> {
        self.newest = self.newest.max(generation);
        for partition in owns {
            let owner = self.owners.entry((generation, *partition));
            let owner = owner.or_insert_with(|| member.to_owned());
            if *owner != member {
                return Err(format!(
                    "OWNED TWICE: partition {partition} in generation {generation} by {owner} and \
                     {member}"
                ));
            }
        }
        Ok(())
    }

    /// What is stored, by an answer to a question asked when `acked` was known to be.
    pub fn stored(&self, partition: i32, acked: i64, found: i64) -> Result<(), String> {
        let asked = self.offsets.get(&partition).map_or(0, |o| o.asked);
        if found < acked || found > asked {
            return Err(format!(
                "COMMITTED OFFSET MOVED: partition {partition}: {found}, committed {acked}, asked \
                 at most {asked}"
            ));
        }
        Ok(())
    }

    pub fn asked(&mut self, partition: i32, at: i64) {
        let offset = self.offsets.entry(partition).or_default();
        offset.asked = offset.asked.max(at);
    }

    /// A commit was confirmed, that was sent when `newest` was the newest generation.
    pub fn committed(
        &mut self,
        partition: i32,
        at: i64,
        generation: i32,
        newest: i32,
    ) -> Result<(), String> {
        if generation < newest {
            return Err(format!(
                "STALE COMMIT TAKEN: partition {partition} at {at} in generation {generation}, when \
                 {newest} had begun"
            ));
        }
        let offset = self.offsets.entry(partition).or_default();
        offset.acked = offset.acked.max(at);
        Ok(())
    }
}

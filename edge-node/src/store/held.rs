//! Order while the log is full. A 3.1.1 client cannot be refused: the broker holds what the log had no
//! room for, and offers it again. What the client sent after it may be on its way to the log by
//! then, and may be smaller: it must not find room first (promise 3, order).

use std::collections::{BTreeMap, VecDeque};

use headwater_mqtt::ConnId;

/// Refusals that the broker did not know of when it made the newest append.
///
/// Invariant: bounded by what the broker has in flight, since it hears of every refusal.
#[derive(Default)]
pub(super) struct Held {
    /// Refusals told so far, of all kinds.
    told: u64,
    unseen: VecDeque<(u64, ConnId)>,
    last: BTreeMap<ConnId, u64>,
}

impl Held {
    /// A frame is refused; `held_for` as in its append.
    pub(super) fn refused(&mut self, held_for: Option<ConnId>) {
        self.told += 1;
        if let Some(conn) = held_for {
            self.unseen.push_back((self.told, conn));
            self.last.insert(conn, self.told);
        }
    }

    /// The appends that come now were made when the broker knew of so many refusals.
    pub(super) fn seen(&mut self, refusals: u64) {
        while let Some((at, conn)) = self
            .unseen
            .front()
            .copied()
            .filter(|(at, _)| *at <= refusals)
        {
            self.unseen.pop_front();
            if self.last.get(&conn) == Some(&at) {
                self.last.remove(&conn);
            }
        }
    }

    /// Whether an earlier publish of the connection was refused since.
    pub(super) fn holds(&self, conn: ConnId) -> bool {
        self.last.contains_key(&conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_held_until_the_broker_knows_of_its_last_refusal() {
        let (a, b) = (ConnId(1), ConnId(2));
        let mut held = Held::default();
        held.refused(Some(a));
        held.refused(None);
        held.refused(Some(a));
        assert!(held.holds(a) && !held.holds(b));
        held.seen(2);
        assert!(held.holds(a));
        held.seen(3);
        assert!(!held.holds(a) && held.unseen.is_empty() && held.last.is_empty());
    }
}

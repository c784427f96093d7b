//! Test-only switches: take one rule out and see that the simulation finds it.
//!
//! In a normal build every rule is on, as a constant. With the feature `rule-switches`, or in this
//! crate's own tests, [`without`] takes one out on the current thread.

/// A rule of DESIGN.md, or the part of it that can lose or repeat data by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// U1: HELLO's boots are compared with the cloud's.
    Lineage,
    /// U1: and with those of the edge partition's other incarnations.
    LineageAcross,
    /// U1: the record before `next` is compared.
    DigestCheck,
    /// U1: a record that this log saw rejected cannot be the one that was stored.
    RejectedCompared,
    /// U1: sending waits until the fork is durable.
    ForkDurable,
    /// U2: dedup state is keyed by incarnation.
    PerIncarnation,
    /// U2: at most 16 incarnations.
    IncarnationBound,
    /// U2: a retired incarnation never comes back.
    RetiredStays,
    /// U2: what a retired incarnation stored still counts as stored.
    RetiredCompared,
    /// U2: a stream refused for want of a place asks again.
    RefusedAsksAgain,
    /// U3: a later session fences the earlier.
    Fencing,
    /// U3: discard until RESUME.
    DiscardUntilResume,
    /// U3: RESYNC after 10 s without ACK. Takes `Silent` out, too, which would hide it.
    Resync,
    /// U3: an edge that hears nothing for 30 s closes.
    Silent,
    /// U4: a GAP is clipped to `next`.
    GapClip,
    /// U4: a GAP above `next` is out of order.
    GapOrder,
    /// U4: below the acked cursor there is an alarm, not a GAP.
    NoGapBelowAcked,
    /// U5: a batch refused for good becomes a GAP.
    DeadLetter,
    /// U1, U5: a fork or a dead letter that could not be made durable is tried again.
    PersistAgain,
    /// U6: the first pin stays.
    Pinned,
    /// U6: equal partition counts above one keep the number.
    EqualCounts,
    /// The dedup table: a batch below `next` is a duplicate.
    Dedup,
    /// ACK after commit, not before.
    AckAfterCommit,
}

#[cfg(any(test, feature = "rule-switches"))]
mod switch {
    use super::Rule;
    use std::cell::Cell;

    thread_local! { static OFF: Cell<Option<Rule>> = const { Cell::new(None) }; }

    pub(crate) fn on(rule: Rule) -> bool {
        OFF.with(|off| off.get() != Some(rule))
    }

    /// Runs `body` with `rule` switched off on this thread.
    pub fn without<T>(rule: Option<Rule>, body: impl FnOnce() -> T) -> T {
        struct Restore(Option<Rule>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OFF.with(|off| off.set(self.0));
            }
        }
        let _restore = Restore(OFF.with(|off| off.replace(rule)));
        body()
    }
}

#[cfg(any(test, feature = "rule-switches"))]
pub(crate) use switch::on;
#[cfg(any(test, feature = "rule-switches"))]
pub use switch::without;

#[cfg(not(any(test, feature = "rule-switches")))]
pub(crate) const fn on(_: Rule) -> bool {
    true
}

//! Test-only switches: take one rule out and see that the simulation finds it.
//!
//! In a normal build every rule is on, as a constant. With the feature `rule-switches`, or in this
//! crate's own tests, [`without`] takes one out on the current thread.

/// A rule that keeps the broker from losing or repeating something by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// PUBACK waits until the message is durable.
    PubAckDurable,
    /// So does PUBREC.
    PubRecDurable,
    /// PUBCOMP waits until it is durable that the id is free.
    PubCompDurable,
    /// A publish that is known by its QoS 2 id is not taken again.
    IdKnown,
    /// The QoS 2 ids of publishes survive a restart.
    IdsKept,
    /// SUBACK of a session that outlives its connection waits for the subscription.
    SubAckDurable,
    /// PUBREL to a subscriber waits until its PUBREC is durable.
    PubRelDurable,
    /// What waits for a session that outlives its connection is in the publish's frame.
    QueuedCarried,
    /// What may have been sent before goes out with DUP.
    DupMarked,
    /// A retained message is in the publish's frame.
    RetainedCarried,
    /// It is in the next checkpoint.
    RetainedStored,
    /// That a publish deletes the retained message is in its frame.
    DeleteCarried,
    /// A deleted one is taken out of the checkpoint.
    DeleteStored,
    /// A retained message that goes to a session's queue is journaled first.
    EnqueueRecorded,
    /// The end of a session is journaled.
    EndRecorded,
    /// A will is kept with its session.
    WillKept,
    /// That a will is published is in the frame that publishes it.
    WillGoneInFrame,
    /// That DISCONNECT takes a will back is journaled.
    WillGoneRecorded,
    /// A CONNECT within its delay takes a will back.
    WillTakenBack,
    /// What a member's end gives to others is in the frame that ends it.
    ForwardInFrame,
    /// What was sent to a member at QoS 2 goes to no other.
    SentStays,
    /// Whom a message was dealt to is in the publish's frame.
    DealCarried,
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

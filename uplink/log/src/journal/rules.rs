//! Off-switches for the rules, for tests that show each rule is needed.
//!
//! Without `cfg(test)` or the feature `rule-switches` the type is empty and every question is
//! answered `true` at compile time.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Which rules hold. The default, and in a product build the only choice, is all.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Rules {
            $(
                $(#[$doc])*
                #[cfg(any(test, feature = "rule-switches"))]
                pub $name: bool,
            )*
        }

        impl Default for Rules {
            fn default() -> Self {
                Rules { $( #[cfg(any(test, feature = "rule-switches"))] $name: true, )* }
            }
        }

        impl Rules {
            $(
                $(#[$doc])*
                #[inline(always)]
                pub fn $name(&self) -> bool {
                    #[cfg(any(test, feature = "rule-switches"))]
                    return self.$name;
                    #[cfg(not(any(test, feature = "rule-switches")))]
                    true
                }
            )*
        }
    };
}

rules! {
    /// One unsynced group at a time; groups say how far is synced; rot is not a torn tail.
    j1,
    /// Frames carry explicit base offsets; next = max(journal, segment end, header).
    j2,
    /// A journal file starts with a header of the owner, written when the file is opened.
    j3,
    /// Recovery copies the tail into a new file and syncs it before anything is used.
    j4,
    /// Checkpoint and header durable before files go; two generations; digests are checked.
    j5,
    /// A failed fsync stops the journal.
    j6,
    /// Nothing stays unsynced for more than 5 s.
    j7,
    /// Stragglers are copied forward.
    j8,
    /// Ages use a persisted monotonic clock.
    j9,
    /// The packer takes synced frames only (J4).
    pack_synced,
    /// Segments and their directories are synced before a checkpoint counts (J5).
    segments_synced,
    /// A full budget refuses before anything is written (J6).
    refuse_full,
    /// An idle partition's record is sealed at `linger_ms`, and everything at a checkpoint (J8).
    seal_idle,
    /// Retention never touches unsent records (J9).
    keep_unsent,
}

//! The broker machine.

use crate::{Access, ClientView, Config, Effect, Event, RestoreReport, Stats};

/// All connections and sessions of one edge node. One task owns it.
pub struct Broker {
    config: Config,
}

impl Broker {
    /// A broker without any history, allowing everything.
    pub fn new(config: Config, now_ms: u64) -> Broker {
        Broker::restore(config, now_ms, [], []).0
    }

    /// The broker as it was: `checkpoint` is every key and value kept from
    /// [`Broker::checkpoint_changes`], `ops` every non-empty [`crate::Append::op`] in journal
    /// order. Ops that the checkpoint already holds may be given again; they are skipped.
    /// What cannot be read is left out and named in the report; a damaged entry is never a reason
    /// not to start. Call [`Broker::handle`] with [`Event::Timer`] next.
    pub fn restore<'a>(
        config: Config,
        now_ms: u64,
        checkpoint: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        ops: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Broker, RestoreReport) {
        let _ = (now_ms, checkpoint.into_iter(), ops.into_iter());
        (Broker { config }, RestoreReport::default())
    }

    /// Takes the access rules; later calls replace them (sessions no longer allowed to read keep
    /// their subscriptions but get nothing: the rule is asked again on delivery).
    pub fn set_access(&mut self, access: Box<dyn Access>) {
        let _ = access;
    }

    /// One step. Effects are pushed to `effects` in the order in which they are to be done.
    pub fn handle(&mut self, now_ms: u64, event: Event, effects: &mut Vec<Effect>) {
        let _ = (now_ms, event, effects, &self.config);
    }

    /// What changed since the last call: put (`Some`) or remove (`None`). Together with all earlier
    /// answers it is the state after exactly the frames reported durable so far.
    /// Invariant for the caller: report `Durable` for everything before the checkpoint's position
    /// first; frames after it must be kept in the journal.
    pub fn checkpoint_changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        Vec::new()
    }

    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Sessions in order of client id.
    pub fn clients(&self) -> Vec<ClientView> {
        Vec::new()
    }
}

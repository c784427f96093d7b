//! Whether the node's threads still turn.
//!
//! A probe goes the way of every publish, to the store thread and on to the broker thread, which
//! answers it. So an answer is proof that both loops have turned since it was asked; a thread that hangs,
//! or has so much before the probe that it takes longer than it may, gives none.
//!
//! Bound: one probe is under way at a time, however many wait for its answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::watch;

use crate::store::{StoreHandle, ToStore};

/// Asks for signs of life. Clones share the probe under way.
#[derive(Clone)]
pub struct Pulse {
    store: StoreHandle,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_asked: AtomicBool,
    passed_store: AtomicBool,
    /// Answers so far.
    answers: watch::Sender<u64>,
}

/// A question on its way through the threads.
pub struct Probe(Arc<State>);

/// The thread that has not turned in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// It owns the log.
    Store,
    /// It owns the connections.
    Broker,
}

impl Pulse {
    /// Probes enter by `store`.
    pub fn new(store: StoreHandle) -> Pulse {
        Pulse {
            store,
            state: Arc::default(),
        }
    }

    /// Ready once both threads have turned, or with the one that has not within `patience`.
    pub async fn beat(&self, patience: Duration) -> Result<(), Silent> {
        let mut answers = self.state.answers.subscribe();
        if !self.state.is_asked.swap(true, SeqCst) {
            self.state.passed_store.store(false, SeqCst);
            self.store.send(ToStore::Probe(Probe(self.state.clone())));
        }
        match tokio::time::timeout(patience, answers.changed()).await {
            Ok(Ok(())) => Ok(()),
            // The sender is ours: only the time can be up.
            _ if self.state.passed_store.load(SeqCst) => Err(Silent::Broker),
            _ => Err(Silent::Store),
        }
    }
}

impl Probe {
    /// To be called by the store thread.
    pub fn passed_store(&self) {
        self.0.passed_store.store(true, SeqCst);
    }

    /// To be called by the broker thread.
    pub fn answer(self) {
        self.0.is_asked.store(false, SeqCst);
        self.0.answers.send_modify(|count| *count += 1);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Silent::Store => "the store thread does not turn",
            Silent::Broker => "the MQTT thread does not turn",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;

    const SOON: Duration = Duration::from_millis(20);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    fn probe(to_store: &Receiver<ToStore>) -> Option<Probe> {
        match to_store.try_recv().ok()? {
            ToStore::Probe(probe) => Some(probe),
            _ => panic!("only probes are sent"),
        }
    }

    #[test]
    fn a_thread_that_hangs_gives_no_beat_and_is_named() {
        let (store, to_store) = StoreHandle::channel();
        let pulse = Pulse::new(store);
        runtime().block_on(async {
            assert_eq!(pulse.beat(SOON).await, Err(Silent::Store));
            let stuck = probe(&to_store).unwrap();
            stuck.passed_store();
            assert_eq!(pulse.beat(SOON).await, Err(Silent::Broker));
            assert!(probe(&to_store).is_none(), "one probe at a time");
            // The thread goes on, and so does the pulse.
            stuck.answer();
            let beat = tokio::spawn({
                let pulse = pulse.clone();
                async move { pulse.beat(Duration::from_secs(60)).await }
            });
            tokio::task::yield_now().await;
            let next = probe(&to_store).unwrap();
            next.passed_store();
            next.answer();
            assert_eq!(beat.await.unwrap(), Ok(()));
        });
    }
}

//! The tasks that a node's parts start: they end together.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::task::JoinSet;

/// Clones share the set. It ends with the last of them, and at [`Tasks::abort`], which is needed
/// when a task holds a clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.set.lock().expect("no holder panics")
    }

    /// Starts a task on the current runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.lock();
        // Those that ended by themselves; else they would gather.
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }

    /// Ends all of them where they stand: nothing of them runs any more, but what is dropped.
    pub fn abort(&self) {
        self.lock().abort_all();
    }
}

//! Who runs commits: in production the sync thread, so that the store thread never waits for the
//! medium.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use headwater_log::store::CommitJob;

use super::{Counters, StoreHandle, ToStore};

/// Stack of this thread; it calls write and fdatasync.
const STACK_BYTES: usize = 128 << 10;

/// Runs the one commit that is in flight, and sends what became of it as [`ToStore::Committed`].
pub trait CommitRunner {
    /// Takes the job. The answer comes later, once; none comes if the machine stops meanwhile.
    fn run(&mut self, job: CommitJob);
}

pub(super) struct SyncThread {
    jobs: Option<mpsc::Sender<CommitJob>>,
    thread: Option<JoinHandle<()>>,
}

impl SyncThread {
    pub(super) fn start(
        store: StoreHandle,
        counters: Arc<Counters>,
    ) -> std::io::Result<SyncThread> {
        let (jobs, queue) = mpsc::channel::<CommitJob>();
        let thread = std::thread::Builder::new()
            .name("edge-sync".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    let started = Instant::now();
                    counters.commit_begins();
                    let done = job.run();
                    counters.committed(started.elapsed());
                    store.send(ToStore::Committed(done));
                }
            })?;
        Ok(SyncThread {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }
}

impl CommitRunner for SyncThread {
    fn run(&mut self, job: CommitJob) {
        let jobs = self.jobs.as_ref().expect("jobs are only taken by drop");
        let _ = jobs.send(job);
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

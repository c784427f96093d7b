//! Connections that have said nothing yet.
//!
//! Opening a connection and falling silent costs a peer next to nothing. So only so many of them are
//! kept: when one more comes, the oldest is ended. An honest client speaks as soon as it is
//! connected, and is by then no newcomer any more, however many others come and say nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Whether a connection has shown that somebody is there. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<AtomicBool>);

impl Heard {
    /// From now on the connection makes room for nobody.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module's docs.
#[derive(Debug)]
pub struct Newcomers {
    max: usize,
    oldest_first: VecDeque<Newcomer>,
}

#[derive(Debug)]
struct Newcomer {
    remote: SocketAddr,
    heard: Heard,
    task: AbortHandle,
}

impl Newcomers {
    /// Keeps `max` of them, one at least.
    pub fn new(max: usize) -> Newcomers {
        Newcomers {
            max: max.max(1),
            oldest_first: VecDeque::new(),
        }
    }

    /// Takes a connection in, whose task ends it when aborted. Gives the address of the one that had
    /// to go for it.
    pub fn admit(
        &mut self,
        remote: SocketAddr,
        heard: Heard,
        task: AbortHandle,
    ) -> Option<SocketAddr> {
        let mut gone = None;
        if self.oldest_first.len() >= self.max {
            self.oldest_first
                .retain(|n| !n.heard.is_set() && !n.task.is_finished());
        }
        if self.oldest_first.len() >= self.max {
            let oldest = self.oldest_first.pop_front().expect("max is 1 at least");
            oldest.task.abort();
            gone = Some(oldest.remote);
        }
        self.oldest_first.push_back(Newcomer {
            remote,
            heard,
            task,
        });
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn the_oldest_silent_one_goes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut newcomers = Newcomers::new(2);
            let spawn = || tokio::spawn(std::future::pending::<()>());
            let tasks = [spawn(), spawn(), spawn(), spawn()];
            let heard = Heard::default();
            heard.set();
            let mut admit = |n: u16, heard: Heard| {
                newcomers.admit(remote(n), heard, tasks[usize::from(n)].abort_handle())
            };
            assert_eq!(admit(0, heard), None);
            assert_eq!(admit(1, Heard::default()), None);
            assert_eq!(admit(2, Heard::default()), None);
            assert_eq!(admit(3, Heard::default()), Some(remote(1)));
            tokio::task::yield_now().await;
            let ended: Vec<bool> = tasks.iter().map(|t| t.is_finished()).collect();
            assert_eq!(ended, [false, true, false, false]);
        });
    }
}

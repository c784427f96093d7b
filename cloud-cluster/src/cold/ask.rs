//! Asking the object store, which now and then does not answer: a 503, a timeout, a cut connection.
//!
//! Every request is repeated a few times. What still fails is said once per object, until that object
//! answers again; whoever asked decides what it means. That an object is not there is an answer.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use super::{ColdError, ColdStore};

/// How often a request is made before a reader is told to come again, and the first pause.
const READ_TRIES: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(25);
/// The same for what a start cannot do without: some two minutes, with pauses of 5 s at most.
const START_TRIES: u32 = 30;
const START_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Objects whose failing is remembered. More fail silently: the first of them tell enough.
const FAILING_MAX: usize = 256;

/// How long to go on asking.
#[derive(Debug, Clone)]
pub struct Patience {
    tries: u32,
    pause: Duration,
}

impl Patience {
    /// For a client that waits, and that comes again by itself.
    pub fn of_reader() -> Patience {
        Patience {
            tries: READ_TRIES,
            pause: READ_PAUSE,
        }
    }

    /// For a start that has nothing else to go by.
    pub fn of_start() -> Patience {
        Patience {
            tries: START_TRIES,
            pause: START_PAUSE,
        }
    }

    /// Waits, each time twice as long. False: that was the last try.
    pub async fn pause(&mut self) -> bool {
        self.tries = self.tries.saturating_sub(1);
        if self.tries == 0 {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

/// The objects that do not answer now.
#[derive(Debug, Default)]
pub(super) struct Failing {
    objects: Mutex<BTreeSet<String>>,
}

impl Failing {
    /// Whether this is news.
    fn begins(&self, object: &str) -> bool {
        let mut objects = self.objects.lock().expect("no holder panics");
        objects.len() < FAILING_MAX && objects.insert(object.to_owned())
    }

    fn ends(&self, object: &str) -> bool {
        let mut objects = self.objects.lock().expect("no holder panics");
        !objects.is_empty() && objects.remove(object)
    }
}

impl ColdStore {
    /// Makes a request about `object` until it is answered or `patience` ends.
    pub(super) async fn ask<T, F>(
        &self,
        object: &str,
        mut patience: Patience,
        mut request: impl FnMut() -> F,
    ) -> Result<T, ColdError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        loop {
            let source = match request().await {
                Ok(answer) => {
                    self.answers(object);
                    return Ok(answer);
                }
                Err(source) => source,
            };
            let object = object.to_owned();
            let error = ColdError::Store { object, source };
            if !error.is_transient() {
                return Err(error);
            }
            let ColdError::Store { object, .. } = &error else {
                return Err(error);
            };
            if self.failing.begins(object) {
                tracing::warn!(object, %error, "the object store does not answer; asked again");
            }
            if !patience.pause().await {
                return Err(error);
            }
        }
    }

    fn answers(&self, object: &str) {
        if self.failing.ends(object) {
            tracing::info!(object, "the object store answers again");
        }
    }
}

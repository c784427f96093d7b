//! When to try the connection again: jittered, growing, at most 2 s while the network is up.

use crate::Ms;
use crate::bounds::{BACKOFF_MS_MAX, BACKOFF_MS_MIN};
use crate::rng::Rng;

/// The reconnect clock of one edge. It outlives its sessions.
#[derive(Debug)]
pub struct Backoff {
    rng: Rng,
    pause: Ms,
    retry_at: Option<Ms>,
}

impl Backoff {
    /// `seed` is the shell's randomness: edges that lose one cloud together must not return together.
    pub fn new(seed: u128) -> Backoff {
        Backoff {
            rng: Rng::new(seed),
            pause: BACKOFF_MS_MIN,
            retry_at: Some(0),
        }
    }

    /// A try failed, or a connection ended: gives the time of the next try.
    pub fn failed(&mut self, now: Ms) -> Ms {
        let at = now + self.rng.jitter(self.pause);
        self.pause = (self.pause * 2).min(BACKOFF_MS_MAX);
        self.retry_at = Some(at);
        at
    }

    /// The cloud answered (its SERVER frame came): the next failure starts small again.
    pub fn connected(&mut self) {
        self.pause = BACKOFF_MS_MIN;
        self.retry_at = None;
    }

    /// An interface came up or an address changed: try now.
    pub fn network_up(&mut self, now: Ms) {
        self.pause = BACKOFF_MS_MIN;
        if let Some(at) = &mut self.retry_at {
            *at = (*at).min(now);
        }
    }

    /// When to try next; `None` while connected.
    pub fn deadline(&self) -> Option<Ms> {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_two_seconds_and_no_further() {
        let mut backoff = Backoff::new(7);
        let mut last = 0;
        for _ in 0..40 {
            let at = backoff.failed(1_000);
            last = at - 1_000;
            assert!(last <= BACKOFF_MS_MAX);
        }
        assert!(last >= BACKOFF_MS_MAX / 2);
        backoff.connected();
        assert_eq!(backoff.deadline(), None);
        assert!(backoff.failed(5_000) <= 5_000 + BACKOFF_MS_MIN);
    }

    #[test]
    fn a_network_that_comes_up_is_tried_at_once() {
        let mut backoff = Backoff::new(7);
        for _ in 0..9 {
            backoff.failed(1_000);
        }
        backoff.network_up(1_500);
        assert_eq!(backoff.deadline(), Some(1_500));
    }

    #[test]
    fn edges_do_not_return_together() {
        let times: std::collections::BTreeSet<Ms> = (0..100)
            .map(|seed| {
                let mut backoff = Backoff::new(seed);
                (0..8).map(|_| backoff.failed(0)).last().unwrap()
            })
            .collect();
        assert!(times.len() > 50, "{times:?}");
    }
}

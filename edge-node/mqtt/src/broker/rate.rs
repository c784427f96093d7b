//! Publishes a second of one client.
//!
//! A bucket that holds one second's worth. A client that empties it is not read until there is a
//! publish's worth in it again: its next ones wait in its own socket, so nothing is lost and nothing
//! kept here. (DISCONNECT 0x96, which MQTT 5 has for this, would make it connect and send them again.)

use super::Broker;
use super::timers::Timer;
use crate::ConnId;

/// Thousandths of a publish.
const ONE: u64 = 1_000;

/// How fast one client publishes.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// What was used up, in thousandths: each publish adds 1,000, each millisecond takes the rate away.
    used: u64,
    at_ms: u64,
    exceeded: bool,
}

impl Rate {
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    fn refill(&mut self, per_second: u32, now_ms: u64) {
        let since = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms;
        let back = since.saturating_mul(u64::from(per_second));
        self.used = self.used.saturating_sub(back);
    }

    /// How long until another one fits, in ms; 0: now.
    fn wait_ms(&self, per_second: u32) -> u64 {
        let (rate, full) = (u64::from(per_second), u64::from(per_second) * ONE);
        (self.used + ONE).saturating_sub(full).div_ceil(rate)
    }
}

impl Broker {
    /// Counts a publish of a client, before anything is made of it.
    pub(super) fn count_publish(&mut self, id: ConnId) {
        let now = self.now_ms;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let per_second = conn.info.limits.messages_per_second;
        if per_second == 0 {
            return;
        }
        conn.rate.refill(per_second, now);
        conn.rate.used += ONE;
        let wait_ms = conn.rate.wait_ms(per_second);
        if wait_ms > 0 {
            conn.rate.exceeded = true;
            self.set_timer(now + wait_ms, Timer::Rate(id));
        }
    }

    pub(super) fn rate_due(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.rate.exceeded = false;
            self.touch(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_at_once_and_then_the_rate() {
        let mut rate = Rate::default();
        rate.refill(10, 1_000_000);
        for _ in 0..9 {
            rate.used += ONE;
            assert_eq!(rate.wait_ms(10), 0);
        }
        rate.used += ONE;
        assert_eq!(rate.wait_ms(10), 100);
        rate.refill(10, 1_000_100);
        assert_eq!(rate.wait_ms(10), 0);
        rate.refill(10, 1_060_000);
        assert_eq!(rate.used, 0);
    }
}

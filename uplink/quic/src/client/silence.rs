//! Notices a dead link before QUIC does.
//!
//! QUIC's probes back off by doubling, so after a cut of half a minute the next one may be half a
//! minute away, and a cloud that was killed says nothing until the idle time-out. New dials come
//! every two seconds. So a connection on which something was asked and nothing at all was heard
//! for [`SILENT`] is given up; its session is fenced by the next one (rule U3).

use std::time::{Duration, Instant};

use quinn::ConnectionStats;

/// Silence after something that the peer must answer. Above any sane round trip, and below the
/// patience of somebody who watches.
const SILENT: Duration = Duration::from_secs(4);
/// On links with a long round trip: so many of them.
const SILENT_ROUND_TRIPS: u32 = 8;

/// What was sent and heard when last looked at.
#[derive(Debug, Default)]
pub(super) struct Silence {
    heard: u64,
    asked: u64,
    unanswered_since: Option<Instant>,
}

impl Silence {
    /// Looks again; true when the link is to be given up.
    pub(super) fn is_dead(&mut self, stats: &ConnectionStats, now: Instant) -> bool {
        let limit = SILENT.max(stats.path.rtt * SILENT_ROUND_TRIPS);
        self.look(stats.udp_rx.datagrams, asked(stats), limit, now)
    }

    fn look(&mut self, heard: u64, asked: u64, limit: Duration, now: Instant) -> bool {
        if heard != self.heard {
            // Asked before or after what was heard: not known, so the wait starts anew.
            (self.heard, self.asked, self.unanswered_since) = (heard, asked, None);
            return false;
        }
        if asked == self.asked {
            return self
                .unanswered_since
                .is_some_and(|since| now - since > limit);
        }
        self.asked = asked;
        let since = *self.unanswered_since.get_or_insert(now);
        now - since > limit
    }
}

/// Frames that a peer acknowledges. Probes for a larger MTU are made to be lost.
fn asked(stats: &ConnectionStats) -> u64 {
    let frames = &stats.frame_tx;
    (frames.stream + frames.ping + frames.crypto).saturating_sub(stats.path.sent_plpmtud_probes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unanswered_questions_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        let mut look = |heard, asked, second| silence.look(heard, asked, SILENT, at(second));
        // Idle for long: nothing was asked.
        assert!(!look(1, 1, 0));
        assert!(!look(1, 1, 100));
        // Asked at 101, answered at 104.
        assert!(!look(1, 2, 101));
        assert!(!look(2, 2, 104));
        assert!(!look(2, 2, 200));
        // Asked again and again, never answered: counts from the first.
        assert!(!look(2, 3, 201));
        assert!(!look(2, 4, 204));
        assert!(look(2, 5, 206));
        // Also if nothing more is asked.
        assert!(look(2, 5, 207));
    }
}

//! How long a group commit waits for company.
//!
//! A commit costs whole pages of the medium and one fdatasync, however few entries it holds. So one
//! that is not full waits for others, where others come although nobody was answered:
//! ```text
//! due at   the first entry                 nobody else is expected
//!          the entry that fills it         GROUP_BYTES
//!          the first entry + gather_ms     others keep coming: the longest that anybody waits
//!          the last entry + quiet          they stopped coming; quiet is 12 mean distances
//!          the entry that completes it     as many wait as the last commit answered, and nobody
//!                                          came while it ran: they all wait for us
//! ```
//! Distances count only between entries with no answer in between: a client that waits for each
//! answer says by its silence nothing about others. So clients with a closed loop are held for no
//! longer than it takes all of them to come back, and an entry that stands alone is not held at all.
//!
//! A fast medium answers each before the next one comes, and then sensors look like one client that
//! waits. So a commit that would be due is held now and then, to see: a probe. Where somebody comes
//! all the same, every commit is one from then on; where nobody does, the next probe is twice as far
//! away.
//!
//! No clock of its own, and nothing to wake for while nobody waits.

use super::Ms;

/// A group of this many bytes is worth a commit of its own, before compression.
pub const GROUP_BYTES: usize = 16 << 10;

/// So many mean distances without an entry are a silence.
const QUIET_DISTANCES: u64 = 12;
/// The clock counts whole milliseconds, and threads take turns.
const QUIET_MS_MIN: Ms = 2;
/// So many mean distances is a probe held; of sensors one in 50 stays silent as long.
const PROBE_DISTANCES: u64 = 4;
/// Commits from one probe to the next, at most: two milliseconds for each do not matter.
const PROBE_EVERY_MAX: u32 = 1_024;
/// The weight of a new distance is one in so many.
const WEIGHT: u64 = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Gather {
    gather_ms: Ms,
    waiting: Option<Waiting>,
    /// Entries of the commit that runs, and those that came meanwhile.
    running: Option<(u64, u64)>,
    /// The same of the last one that ended.
    last: (u64, u64),
    /// When the last entry came, if nobody was answered since.
    came_at: Option<Ms>,
    /// When the last entry came.
    busy_at: Ms,
    /// Mean distance between entries, microseconds; `None` while there is nothing to expect.
    distance_us: Option<u64>,
    /// The same whoever was answered in between.
    any_distance_us: Option<u64>,
    /// Commits from one probe to the next; 0: each is one.
    probe_every: u32,
    /// Commits until the next one.
    probe_in: u32,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    first: Ms,
    last: Ms,
    entries: u64,
    bytes: usize,
    probe: bool,
    /// Somebody came while it was held as a probe.
    found: bool,
}

impl Gather {
    /// With 0 every entry is due at once.
    pub fn new(gather_ms: Ms) -> Gather {
        Gather {
            gather_ms,
            waiting: None,
            running: None,
            last: (0, 0),
            came_at: None,
            busy_at: 0,
            distance_us: None,
            any_distance_us: None,
            probe_every: 1,
            probe_in: 1,
        }
    }

    /// An entry came whose publisher waits for the medium.
    pub fn came(&mut self, bytes: usize, now: Ms) {
        let since = now.saturating_sub(self.busy_at);
        self.busy_at = now;
        if since > self.gather_ms {
            self.distance_us = None;
            self.any_distance_us = None;
            self.came_at = None;
        } else {
            mean(&mut self.any_distance_us, since);
        }
        if let Some(before) = self.came_at.replace(now) {
            mean(&mut self.distance_us, now.saturating_sub(before));
        }
        if let Some((_, meanwhile)) = &mut self.running {
            *meanwhile += 1;
        }
        // What comes in the same millisecond may be of one burst.
        let found = self
            .waiting
            .is_some_and(|w| w.probe && self.is_ripe(&w) && now > w.last);
        let probe = self.probe_in == 0;
        let waiting = self.waiting.get_or_insert(Waiting {
            first: now,
            last: now,
            entries: 0,
            bytes: 0,
            probe,
            found: false,
        });
        waiting.last = now;
        waiting.entries += 1;
        waiting.bytes += bytes;
        waiting.found |= found;
    }

    /// When the commit is due; `None` while nobody waits.
    pub fn due(&self) -> Option<Ms> {
        let waiting = self.waiting.as_ref()?;
        if waiting.bytes >= GROUP_BYTES {
            return Some(waiting.last);
        }
        let hold = match self.is_ripe(waiting) {
            true => self.probe_ms(waiting).unwrap_or(0),
            false => distances_ms(self.distance_us?, QUIET_DISTANCES),
        };
        Some((waiting.last + hold).min(waiting.first + self.gather_ms))
    }

    /// Nobody is expected: none of the busy time, or all that wait for us are here.
    fn is_ripe(&self, waiting: &Waiting) -> bool {
        let (answered, meanwhile) = self.last;
        self.distance_us.is_none() || (meanwhile == 0 && waiting.entries >= answered)
    }

    /// How long a commit that is ripe is held as a probe.
    fn probe_ms(&self, waiting: &Waiting) -> Option<Ms> {
        let distance_us = self.distance_us.or(self.any_distance_us)?;
        let hold = distances_ms(distance_us, PROBE_DISTANCES);
        waiting.probe.then_some(hold)
    }

    /// Those who wait go into a commit.
    pub fn began(&mut self) {
        let waiting = self.waiting.take();
        self.running = Some((waiting.map_or(0, |waiting| waiting.entries), 0));
        let Some(waiting) = waiting else {
            return;
        };
        self.probe_in = self.probe_in.saturating_sub(1);
        let was_held = self.is_ripe(&waiting) && self.probe_ms(&waiting).is_some();
        if waiting.found {
            (self.probe_every, self.probe_in) = (0, 0);
        } else if was_held && waiting.bytes < GROUP_BYTES {
            self.probe_every = (self.probe_every * 2).clamp(1, PROBE_EVERY_MAX);
            self.probe_in = self.probe_every;
        }
    }

    /// They were answered.
    pub fn ended(&mut self) {
        if let Some(done) = self.running.take() {
            self.last = done;
            self.came_at = None;
        }
    }
}

fn mean(distance_us: &mut Option<u64>, ms: Ms) {
    let us = ms * 1_000;
    let before = distance_us.unwrap_or(us);
    *distance_us = Some((before * (WEIGHT - 1) + us) / WEIGHT);
}

fn distances_ms(distance_us: u64, n: u64) -> Ms {
    (n * distance_us / 1_000).max(QUIET_MS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER_MS: Ms = 50;
    const ENTRY_BYTES: usize = 150;

    /// Runs arrivals through a medium that takes `sync_ms`. `arrive(now, answered)` says how many
    /// entries come in this millisecond, given how many were answered in the one before.
    struct Run {
        gather: Gather,
        waiting: Vec<Ms>,
        running: Option<(Ms, Vec<Ms>)>,
        waits: Vec<Ms>,
        groups: Vec<usize>,
    }

    fn run(ms: Ms, sync_ms: Ms, mut arrive: impl FnMut(Ms, usize) -> usize) -> Run {
        let mut run = Run {
            gather: Gather::new(GATHER_MS),
            waiting: Vec::new(),
            running: None,
            waits: Vec::new(),
            groups: Vec::new(),
        };
        for now in 0..ms {
            let mut answered = 0;
            if let Some((_, done)) = run.running.take_if(|(until, _)| *until <= now) {
                run.gather.ended();
                answered = done.len();
                run.waits.extend(done.iter().map(|came| now - came));
            }
            for _ in 0..arrive(now, answered) {
                run.gather.came(ENTRY_BYTES, now);
                run.waiting.push(now);
            }
            if run.running.is_none() && run.gather.due().is_some_and(|due| due <= now) {
                run.gather.began();
                run.groups.push(run.waiting.len());
                run.running = Some((now + sync_ms, std::mem::take(&mut run.waiting)));
            }
        }
        run
    }

    impl Run {
        fn wait_max(&self) -> Ms {
            self.waits.iter().copied().max().unwrap()
        }

        fn mean_group(&self) -> f64 {
            let half = &self.groups[self.groups.len() / 2..];
            half.iter().sum::<usize>() as f64 / half.len() as f64
        }
    }

    /// Poisson arrivals at `per_s`, as of independent sensors.
    fn sensors(per_s: f64) -> impl FnMut(Ms, usize) -> usize {
        let mut rng = headwater_batch::SplitMix64(7);
        let mut next = 0.0;
        move |now, _| {
            let mut came = 0;
            while next <= now as f64 {
                let uniform = (rng.draw() >> 11) as f64 / (1u64 << 53) as f64;
                next += -(1.0 - uniform).ln() * 1_000.0 / per_s;
                came += 1;
            }
            came
        }
    }

    #[test]
    fn sensors_share_commits_and_nobody_waits_longer_than_set() {
        // 0: answered before the next one comes.
        for (sync_ms, group) in [(0, 25.0), (1, 25.0), (4, 45.0)] {
            let many = run(20_000, sync_ms, sensors(1_000.0));
            assert!(many.mean_group() > group, "{} a commit", many.mean_group());
            // The clock of this model ends a commit a millisecond later at the earliest.
            assert!(many.wait_max() <= GATHER_MS + 2 * sync_ms.max(1));
            let few = run(20_000, sync_ms, sensors(100.0));
            assert!(few.wait_max() <= GATHER_MS + 2 * sync_ms.max(1));
        }
    }

    #[test]
    fn sensors_that_a_fast_medium_answers_at_once_are_no_client_that_waits() {
        for every in [1, 2, 4, 8] {
            let paced = run(60_000, 0, |now, _| usize::from(now % every == 0));
            let most = (GATHER_MS / every) as f64;
            assert!(paced.mean_group() > 0.9 * most, "{}", paced.mean_group());
            assert!(paced.wait_max() <= GATHER_MS + 1);
        }
        for per_s in [200.0, 500.0] {
            let many = run(60_000, 0, sensors(per_s));
            let most = per_s * GATHER_MS as f64 / 1_000.0;
            assert!(many.mean_group() > 0.9 * most, "{}", many.mean_group());
        }
        // Nor where more come all at once.
        let more = run(60_000, 0, |now, _| {
            usize::from(now > 20_000 || now % 8 == 0)
        });
        assert!(more.mean_group() > 40.0, "{}", more.mean_group());
    }

    #[test]
    fn who_waits_for_each_answer_is_seldom_held_to_see_whether_others_come() {
        for think_ms in [1, 5, 12] {
            let mut next = 0;
            let one = run(200_000, 0, |now, answered| {
                if answered > 0 {
                    next = now + think_ms - 1;
                }
                usize::from(now == next)
            });
            let held = one.waits.iter().filter(|wait| **wait > 1).count();
            assert!(
                held < 20 + one.waits.len() / 500,
                "{held} of {}",
                one.waits.len()
            );
            assert_eq!(one.mean_group(), 1.0);
        }
    }

    #[test]
    fn bursts_of_one_client_that_waits_are_seldom_held() {
        let mut size = 0;
        let bursts = run(100_000, 0, |now, answered| {
            let begins = now == 0 || answered > 0;
            size = if begins { size % 7 + 1 } else { size };
            if begins { size } else { 0 }
        });
        let held = bursts.waits.iter().filter(|wait| **wait > 1).count();
        // A burst of one behind a burst of seven waits for six more: that is one entry in 28.
        let all = bursts.waits.len();
        assert!(held * 27 < all, "{held} of {all}");
    }

    #[test]
    fn an_entry_that_stands_alone_is_not_held() {
        let alone = run(100_000, 3, |now, _| usize::from(now % 1_000 == 0));
        assert_eq!(alone.wait_max(), 3);
        // Nor is one behind a busy time.
        let mut busy = sensors(1_000.0);
        let after = run(30_000, 3, |now, answered| match now {
            0..5_000 => busy(now, answered),
            _ => usize::from(now % 1_000 == 0),
        });
        let last = &after.waits[after.waits.len() - 20..];
        assert_eq!(last, [3; 20]);
    }

    #[test]
    fn closed_loops_are_held_for_no_longer_than_all_need_to_come_back() {
        for clients in [1, 2, 10] {
            for sync_ms in [1, 3] {
                let mut begun = false;
                let run = run(20_000, sync_ms, |_, answered| match begun {
                    true => answered,
                    false => {
                        begun = true;
                        clients
                    }
                });
                let cycles = 20_000 / sync_ms as usize;
                let served = run.waits.len() / clients;
                assert!(served * 10 >= cycles * 9, "{served} of {cycles} cycles");
                assert_eq!(run.mean_group(), clients as f64);
            }
        }
    }

    #[test]
    fn a_full_group_does_not_wait() {
        let per_ms = GROUP_BYTES / ENTRY_BYTES / 4;
        let full = run(5_000, 2, |_, _| per_ms);
        assert!(full.wait_max() <= 6, "{}", full.wait_max());
        assert!(full.mean_group() >= 4.0 * per_ms as f64);
    }

    #[test]
    fn nobody_waits_when_it_is_switched_off() {
        let mut gather = Gather::new(0);
        for now in 0..100 {
            gather.came(ENTRY_BYTES, now);
            assert_eq!(gather.due(), Some(now));
            gather.began();
            gather.ended();
        }
        assert_eq!(gather.due(), None);
    }
}

//! What queues of subscribers had to drop, as far as the edge said so before it ended.
//!
//! The counters go with the process, and `/clients` is up to [`STALE`] old. So a queue that a life left
//! nearly full, or that had dropped something in it, may have dropped more since the last look: as many
//! as were published in that time.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::scrape::Queue;
use super::stage::QUEUE_BYTES_MAX;

/// The list of clients is at most 3 s old, and looked at every second.
const STALE: Duration = Duration::from_millis(4_500);

#[derive(Debug, Default)]
pub struct Queues {
    life: u32,
    last: BTreeMap<String, Queue>,
    /// Messages published so far, by time, over the last [`STALE`].
    published: VecDeque<(Instant, u64)>,
    now: u64,
    /// Named drops of lives that are over, and what may have come on top.
    over: BTreeMap<String, (u64, u64)>,
}

impl Queues {
    /// Messages that publishers have begun, all together.
    pub fn published(&mut self, total: u64) {
        let now = Instant::now();
        self.now = total;
        self.published.push_back((now, total));
        while let Some((at, _)) = self.published.front() {
            if self.published.len() == 1 || now.duration_since(*at) < STALE {
                return;
            }
            self.published.pop_front();
        }
    }

    pub fn sample(&mut self, life: u32, queues: BTreeMap<String, Queue>) {
        self.life = life;
        for (client, queue) in queues {
            let last = self.last.entry(client).or_default();
            // A client's own count starts anew with its connection, at QoS 0; never that of its queue.
            last.dropped = last.dropped.max(queue.dropped);
            last.bytes = queue.bytes;
        }
    }

    /// The process is about to end.
    pub fn ends(&mut self, life: u32) {
        let since = self.published.front().map_or(0, |(_, total)| *total);
        let unseen = self.now - since;
        for (client, queue) in std::mem::take(&mut self.last) {
            let over = self.over.entry(client).or_default();
            over.0 += queue.dropped;
            if queue.dropped > 0 || queue.bytes > QUEUE_BYTES_MAX / 4 {
                over.1 += unseen;
            }
        }
        self.life = life;
    }

    /// What the edge has said it dropped for a client, and how many more it may have dropped.
    pub fn dropped(&self, client: &str) -> (u64, u64) {
        let (named, unseen) = self.over.get(client).copied().unwrap_or_default();
        let now = self.last.get(client).map_or(0, |queue| queue.dropped);
        (named + now, unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(bytes: u64, dropped: u64) -> BTreeMap<String, Queue> {
        BTreeMap::from([("c".to_owned(), Queue { bytes, dropped })])
    }

    #[test]
    fn drops_add_up_over_lives_and_a_short_queue_has_dropped_nothing_unseen() {
        let mut all = Queues::default();
        all.published(100);
        all.sample(1, queues(10, 0));
        all.published(160);
        all.ends(1);
        assert_eq!(all.dropped("c"), (0, 0));
        all.sample(2, queues(QUEUE_BYTES_MAX, 7));
        assert_eq!(all.dropped("c"), (7, 0));
        all.ends(2);
        assert_eq!(all.dropped("c"), (7, 60));
        all.sample(3, queues(0, 2));
        assert_eq!((all.dropped("c"), all.dropped("d")), ((9, 60), (0, 0)));
    }
}

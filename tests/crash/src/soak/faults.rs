//! What is done to the nodes, dealt from a shuffled deck: each deck holds every kind, so that a short
//! run meets all of them, and a long one each many times.

use std::time::{Duration, Instant};

use headwater_batch::SplitMix64;

use super::stage::Stage;

/// One thing that is done. Those that last overlap with what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Card {
    /// SIGKILL of the edge, and a start at once.
    KillEdge,
    TermEdge,
    KillCloud,
    TermCloud,
    /// The link is cut for seconds.
    Cut,
    /// It is cut until the edge's log is full, and a while longer.
    Outage,
    /// Something else takes all that is left of the edge's disk, for seconds.
    FillDisk,
    /// All is healed, quiet, and compared.
    Census,
}

const DECK: [Card; 14] = [
    Card::KillEdge,
    Card::KillEdge,
    Card::KillEdge,
    Card::TermEdge,
    Card::KillCloud,
    Card::KillCloud,
    Card::TermCloud,
    Card::Cut,
    Card::Cut,
    Card::Outage,
    Card::FillDisk,
    Card::Census,
    Card::Census,
    Card::Census,
];

/// An outage that does not fill the log ends after this.
const OUTAGE_MAX: Duration = Duration::from_secs(150);

pub struct Deck {
    rng: SplitMix64,
    cards: Vec<Card>,
    /// Whole decks that were dealt.
    pub decks: u64,
}

impl Deck {
    pub fn new(seed: u64) -> Deck {
        Deck {
            rng: SplitMix64(seed),
            cards: Vec::new(),
            decks: 0,
        }
    }

    /// The next card, and the pause before it.
    pub fn deal(&mut self, pause_max_ms: u64) -> (Card, Duration) {
        if self.cards.is_empty() {
            self.cards = DECK.to_vec();
            for at in (1..self.cards.len()).rev() {
                let other = self.rng.below(at as u64 + 1) as usize;
                self.cards.swap(at, other);
            }
        }
        let card = self.cards.pop().expect("it was filled");
        self.decks += u64::from(self.cards.is_empty());
        let ms = 200 + self.rng.below(pause_max_ms);
        (card, Duration::from_millis(ms))
    }
}

/// What lasts.
#[derive(Default)]
pub struct Lasting {
    cut_until: Option<Instant>,
    /// When an outage began, and when it ends if the log is full.
    outage: Option<(Instant, Option<Instant>)>,
    filled_until: Option<Instant>,
    cloud_back: Option<Instant>,
}

impl Lasting {
    /// Does it. A census is the caller's.
    pub fn begin(&mut self, card: Card, stage: &mut Stage, rng: &mut SplitMix64) {
        let mut soon = |from: u64, to: u64| {
            Some(Instant::now() + Duration::from_millis(from + rng.below(to - from)))
        };
        match card {
            Card::KillEdge => stage.end_edge(true),
            Card::TermEdge => stage.end_edge(false),
            Card::KillCloud | Card::TermCloud => {
                stage.end_cloud(card == Card::KillCloud);
                self.cloud_back = soon(0, 6_000);
            }
            Card::Cut => {
                stage.cut();
                stage.done.cuts += 1;
                self.cut_until = soon(500, 6_000);
            }
            Card::Outage => {
                stage.cut();
                stage.done.outages += 1;
                self.outage = Some((Instant::now(), None));
            }
            Card::FillDisk => {
                stage.room.take_all();
                stage.done.disk_fills += 1;
                self.filled_until = soon(2_000, 8_000);
            }
            Card::Census => {}
        }
    }

    /// Ends what is over. Call it often.
    pub fn tick(&mut self, stage: &mut Stage) {
        let is_over = |at: &Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if let Some((began, ends)) = &mut self.outage {
            if ends.is_none() && stage.log_is_full() {
                stage.done.filled += 1;
                *ends = Some(Instant::now() + Duration::from_secs(3));
            }
            if is_over(ends) || began.elapsed() > OUTAGE_MAX {
                self.outage = None;
            }
        }
        if is_over(&self.cut_until) {
            self.cut_until = None;
        }
        if stage.is_cut && self.cut_until.is_none() && self.outage.is_none() {
            stage.heal();
        }
        if is_over(&self.filled_until) {
            self.filled_until = None;
            stage.room.empty();
        } else if self.filled_until.is_some() {
            stage.room.take_all();
        }
        if is_over(&self.cloud_back) {
            self.cloud_back = None;
            stage.start_cloud();
        }
    }

    /// Whether an outage waits for the log to be full, which a census would end early.
    pub fn is_filling(&self) -> bool {
        self.outage.is_some()
    }

    /// Ends all of it.
    pub fn heal(&mut self, stage: &mut Stage) {
        *self = Lasting::default();
        stage.room.empty();
        stage.start_cloud();
        stage.heal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deck_holds_every_card_and_a_seed_deals_the_same() {
        for seed in 0..100 {
            let (mut one, mut two) = (Deck::new(seed), Deck::new(seed));
            for nth in 1..4 {
                let dealt: Vec<_> = DECK.iter().map(|_| one.deal(4_000)).collect();
                assert_eq!(dealt, DECK.map(|_| two.deal(4_000)));
                let mut cards: Vec<Card> = dealt.into_iter().map(|(card, _)| card).collect();
                let mut whole = DECK.to_vec();
                cards.sort();
                whole.sort();
                assert_eq!((cards, one.decks), (whole, nth));
            }
        }
    }
}

//! What is wrong with the sink, as the sessions of edges meet it: it answers late, loses an answer,
//! refuses an entry for now, or never takes some records.
//!
//! What it never takes is told by the records themselves, so that it is refused each time it comes.
//! Answers keep their order within a stream, however late they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use headwater_batch::{BatchView, Decoder, Limits, TopicPartition};
use headwater_proto::StreamEntry;

use crate::now::Ms;
use crate::payload::{Id, id_of_record};
use crate::rng::Rng;

/// The node goes on with these, from life to life. Clones share it.
#[derive(Clone)]
pub struct Trouble(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    /// One record in so many is never taken.
    poison_one_in: Option<u64>,
    salt: u64,
    spell: Spell,
    decoder: Decoder,
    fired: BTreeMap<&'static str, u64>,
}

/// Answers that are late, lost or a refusal, for a while and for some streams.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spell {
    pub until: Ms,
    /// Answers due in it come at its end.
    pub holds: bool,
    /// One answer in so many never comes.
    pub loses_one_in: Option<u64>,
    /// One entry in so many is refused for now.
    pub refuses_one_in: Option<u64>,
    /// Only those with records are.
    pub only_data: bool,
    /// Only edge partitions whose names fall on this side.
    pub side: Option<bool>,
}

/// How long a refusal for now is under way, at most.
const REFUSAL_MS: Ms = 2_000;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Taken,
    RefusedForNow,
    RefusedForGood,
}

impl Trouble {
    pub fn new(rng: Rng, poison_one_in: Option<u64>) -> Trouble {
        let mut rng = rng;
        Trouble(Arc::new(Mutex::new(State {
            salt: rng.u64(),
            rng,
            poison_one_in,
            spell: Spell::default(),
            decoder: Decoder::default(),
            fired: BTreeMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it is held")
    }

    pub fn begin(&self, spell: Spell) {
        self.state().spell = spell;
    }

    /// The spell is over. What is never taken stays so.
    pub fn end(&self) {
        self.state().spell = Spell::default();
    }

    /// How often each of it happened since it was last asked.
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.state().fired)
    }

    /// Whether this record is never taken.
    pub fn is_poison(&self, id: Id) -> bool {
        self.state().is_poison(id)
    }

    pub(super) fn entry(&self, now: Ms, tp: &TopicPartition, entry: &StreamEntry) -> Fate {
        let mut state = self.state();
        if let Some(batch) = entry.batch().filter(|_| state.poison_one_in.is_some()) {
            if state.holds_poison(batch) {
                state.fire("sink: refused for good");
                return Fate::RefusedForGood;
            }
        }
        let spell = state.spell;
        let spared = spell.only_data && entry.batch().is_none();
        let refuses = spell
            .refuses_one_in
            .filter(|_| spell.meets(now, tp) && !spared);
        match refuses.is_some_and(|one_in| state.rng.one_in(one_in)) {
            true => {
                state.fire("sink: refused for now");
                Fate::RefusedForNow
            }
            false => Fate::Taken,
        }
    }

    /// When an answer that is due comes; `None` is never. A refusal takes its time: what follows in the
    /// stream is proposed meanwhile.
    pub(super) fn answer(&self, now: Ms, tp: &TopicPartition, is_refusal: bool) -> Option<Ms> {
        let mut state = self.state();
        let spell = state.spell;
        if !spell.meets(now, tp) {
            return Some(now);
        }
        if is_refusal {
            return Some(now + state.rng.below(REFUSAL_MS));
        }
        if spell
            .loses_one_in
            .is_some_and(|one_in| state.rng.one_in(one_in))
        {
            state.fire("sink: answer lost");
            return None;
        }
        if spell.holds {
            state.fire("sink: answer late");
            return Some(spell.until);
        }
        Some(now)
    }
}

impl Spell {
    fn meets(&self, now: Ms, tp: &TopicPartition) -> bool {
        let side = (tp.topic.len() + tp.partition as usize) % 2 == 0;
        now < self.until && self.side.is_none_or(|of| of == side)
    }
}

impl State {
    fn fire(&mut self, what: &'static str) {
        *self.fired.entry(what).or_default() += 1;
    }

    fn is_poison(&self, id: Id) -> bool {
        let draw = Rng::new(self.salt ^ id.0).u64();
        self.poison_one_in.is_some_and(|one_in| draw % one_in == 0)
    }

    fn holds_poison(&mut self, batch: &[u8]) -> bool {
        let limits = Limits::UPLINK;
        let mut decoder = std::mem::take(&mut self.decoder);
        let found = BatchView::parse(batch, &limits).is_ok_and(|batch| {
            batch.records(&mut decoder, &limits).is_ok_and(|mut all| {
                all.any(|record| {
                    let id = record.ok().as_ref().and_then(id_of_record);
                    id.is_some_and(|id| self.is_poison(id))
                })
            })
        });
        self.decoder = decoder;
        found
    }
}

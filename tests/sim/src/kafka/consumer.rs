//! A consumer that reads everything, again and again, and shows all of it to the oracle.
//!
//! One request at a time: metadata, committed offsets (compared after each connection), fetches by
//! topic id, now and then a commit, the latest offset, or a look back at what it has read before.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use headwater_batch::{Limits, batches};

use super::requests::{self, FETCH_BY_ID, Place, Wanted};
use crate::now::Ms;
use crate::oracle::{Ends, Oracle};
use crate::rng::Rng;

/// Names a connection of a Kafka client. The world never uses one twice.
pub type KafkaConn = u64;

const METADATA_EVERY_MS: Ms = 2_000;
/// Longer than a fetch waits.
const PATIENCE_MS: Ms = 30_000;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

#[derive(Debug)]
pub enum Act {
    Dial,
    Send(KafkaConn, Bytes),
    Close(KafkaConn),
    Note(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down { retry_at: Ms },
    Dialling,
    Up(KafkaConn),
}

#[derive(Debug)]
enum Asked {
    Metadata,
    Offsets,
    Commit(Vec<(Place, i64)>),
    Latest(Place),
    Fetch {
        wanted: Vec<Wanted>,
        look_back: bool,
    },
}

pub struct Consumer {
    group: String,
    rng: Rng,
    phase: Phase,
    correlation: i32,
    asked: Option<(Asked, Ms)>,
    /// What anybody knew when it was asked.
    known: BTreeMap<Place, Ends>,
    next_at: Ms,
    metadata_at: Ms,
    /// Metadata was read since it was last woken.
    knows: bool,
    compared: bool,
    positions: BTreeMap<Place, i64>,
    high: BTreeMap<Place, i64>,
    /// What the coordinator confirmed, and the most that it was ever asked to store.
    committed: BTreeMap<Place, (i64, i64)>,
    /// The same, when the cloud was copied.
    remembered: BTreeMap<Place, (i64, i64)>,
    pub acts: VecDeque<Act>,
}

impl Consumer {
    pub fn new(group: String, rng: Rng) -> Consumer {
        Consumer {
            group,
            rng,
            phase: Phase::Down { retry_at: 0 },
            correlation: 0,
            asked: None,
            known: BTreeMap::new(),
            next_at: 0,
            metadata_at: 0,
            knows: false,
            compared: false,
            positions: BTreeMap::new(),
            high: BTreeMap::new(),
            committed: BTreeMap::new(),
            remembered: BTreeMap::new(),
            acts: VecDeque::new(),
        }
    }

    /// Reads nothing for a while.
    pub fn pause(&mut self, until: Ms) {
        self.next_at = self.next_at.max(until);
    }

    pub fn wake(&mut self, now: Ms) {
        self.knows = false;
        self.next_at = now;
        self.metadata_at = now;
    }

    /// Reads everything again from the start.
    pub fn rewind(&mut self, now: Ms) {
        self.positions.values_mut().for_each(|at| *at = 0);
        self.high.clear();
        self.wake(now);
    }

    /// The cloud is copied: what is committed now will have been committed then.
    pub fn remember(&mut self) {
        self.remembered = self.committed.clone();
    }

    /// The cloud is as it was when it was copied.
    pub fn restored(&mut self, now: Ms) {
        self.committed = std::mem::take(&mut self.remembered);
        self.positions.clear();
        self.high.clear();
        self.known.clear();
        self.wake(now);
        if let Phase::Up(conn) = self.phase {
            self.acts.push_back(Act::Close(conn));
            self.down(now);
        }
    }

    /// Has read to the end of every partition it knows, and knows that it is the end.
    pub fn is_at_end(&self) -> bool {
        let at_end = |(place, at): (&Place, &i64)| self.high.get(place).is_some_and(|h| h <= at);
        self.knows && self.positions.iter().all(at_end)
    }

    pub fn deadline(&self) -> Option<Ms> {
        match (self.phase, &self.asked) {
            (Phase::Down { retry_at }, _) => Some(retry_at),
            (Phase::Dialling, _) => None,
            (Phase::Up(_), Some((_, since))) => Some(since + PATIENCE_MS),
            (Phase::Up(_), None) => Some(self.next_at),
        }
    }

    pub fn timer(&mut self, now: Ms, oracle: &Oracle) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            Phase::Down { .. } => {
                self.phase = Phase::Dialling;
                self.acts.push_back(Act::Dial);
            }
            Phase::Dialling => {}
            Phase::Up(conn) if self.asked.is_some() => {
                self.acts.push_back(Act::Note("consumer gives up"));
                self.acts.push_back(Act::Close(conn));
                self.down(now);
            }
            Phase::Up(conn) => self.ask(now, conn, oracle),
        }
    }

    pub fn connected(&mut self, now: Ms, conn: KafkaConn) {
        self.phase = Phase::Up(conn);
        self.asked = None;
        self.compared = false;
        self.metadata_at = now;
        self.next_at = self.next_at.max(now);
    }

    pub fn refused(&mut self, now: Ms) {
        self.down(now);
    }

    pub fn closed(&mut self, now: Ms, conn: KafkaConn) {
        if self.phase == Phase::Up(conn) {
            self.down(now);
        }
    }

    fn down(&mut self, now: Ms) {
        self.asked = None;
        let retry_at = now + 100 + self.rng.below(900);
        self.phase = Phase::Down { retry_at };
    }

    fn ask(&mut self, now: Ms, conn: KafkaConn, oracle: &Oracle) {
        let asked = self.choose(now);
        let places = self.positions.keys();
        self.known = places.map(|p| (p.clone(), oracle.ends(p))).collect();
        self.correlation += 1;
        let c = self.correlation;
        let bytes = match &asked {
            Asked::Metadata => requests::metadata(c),
            Asked::Offsets => requests::offsets(c, &self.group),
            Asked::Commit(offsets) => requests::commit(c, &self.group, offsets),
            Asked::Latest(place) => requests::latest(c, place),
            Asked::Fetch { wanted, look_back } => {
                let wait = if *look_back { 0 } else { 500 };
                let bytes = 1 + self.rng.below(32 << 10) as i32;
                requests::fetch(FETCH_BY_ID, c, wanted, wait, bytes)
            }
        };
        self.asked = Some((asked, now));
        self.acts.push_back(Act::Send(conn, bytes));
    }

    fn choose(&mut self, now: Ms) -> Asked {
        if self.metadata_at <= now || self.positions.is_empty() {
            return Asked::Metadata;
        }
        if !self.compared {
            return Asked::Offsets;
        }
        let places: Vec<&Place> = self.positions.keys().collect();
        let one = places[self.rng.index(places.len())].clone();
        match self.rng.below(12) {
            0 => {
                let news = self.positions.iter();
                let news = news
                    .filter(|(p, at)| **at > self.committed.get(*p).map_or(0, |(acked, _)| *acked));
                let news: Vec<(Place, i64)> = news.map(|(p, at)| (p.clone(), *at)).collect();
                if !news.is_empty() {
                    for (place, at) in &news {
                        let entry = self.committed.entry(place.clone()).or_insert((0, 0));
                        entry.1 = entry.1.max(*at);
                    }
                    return Asked::Commit(news);
                }
            }
            1 => return Asked::Latest(one),
            2 => {
                let offset = self.rng.below(self.positions[&one].max(1) as u64) as i64;
                if self.positions[&one] > 0 {
                    let wanted = vec![Wanted { place: one, offset }];
                    return Asked::Fetch {
                        wanted,
                        look_back: true,
                    };
                }
            }
            _ => {}
        }
        let wanted = self.positions.iter().map(|(place, offset)| Wanted {
            place: place.clone(),
            offset: *offset,
        });
        Asked::Fetch {
            wanted: wanted.collect(),
            look_back: false,
        }
    }

    pub fn received(&mut self, now: Ms, conn: KafkaConn, frame: &Bytes, oracle: &mut Oracle) {
        if self.phase != Phase::Up(conn) {
            return;
        }
        let Some((asked, _)) = self.asked.take() else {
            return oracle.fail("a Kafka answer that nobody asked for".into());
        };
        self.next_at = self.next_at.max(now + 1);
        let taken = match asked {
            Asked::Metadata => self.took_metadata(now, frame, oracle),
            Asked::Offsets => self.took_offsets(now, frame, oracle),
            Asked::Commit(offsets) => self.took_commit(now, &offsets, frame),
            Asked::Latest(place) => self.took_latest(&place, frame, oracle),
            Asked::Fetch { wanted, look_back } => {
                self.took_fetch(now, &wanted, look_back, frame, oracle)
            }
        };
        if let Err(what) = taken {
            oracle.fail(format!("{}: {what}", self.group));
        }
    }

    fn took_metadata(&mut self, now: Ms, frame: &Bytes, oracle: &mut Oracle) -> Result<(), String> {
        let places = requests::places(self.correlation, frame)?;
        self.metadata_at = now + METADATA_EVERY_MS;
        self.knows = true;
        let gone = |place: &Place| !places.iter().any(|p| p.id == place.id);
        let lost: Vec<Place> = self.positions.keys().filter(|p| gone(p)).cloned().collect();
        for place in lost {
            oracle.topic_gone(&place);
            self.positions.remove(&place);
            self.high.remove(&place);
            self.committed.remove(&place);
        }
        for place in places {
            self.positions.entry(place).or_insert(0);
        }
        if self.positions.is_empty() {
            self.next_at = now + 500;
            self.metadata_at = self.next_at;
        }
        Ok(())
    }

    fn took_offsets(&mut self, now: Ms, frame: &Bytes, oracle: &mut Oracle) -> Result<(), String> {
        let Ok(stored) = requests::offsets_are(self.correlation, frame)? else {
            self.acts.push_back(Act::Note("coordinator not ready"));
            self.next_at = now + 200;
            return Ok(());
        };
        self.compared = true;
        for (place, (acked, asked)) in &self.committed {
            let of_place =
                |(t, p, _): &&(String, i32, i64)| *t == place.topic && *p == place.partition;
            let found = stored.iter().find(of_place).map_or(-1, |(_, _, o)| *o);
            if (*acked > 0 && found < *acked) || found > *asked {
                oracle.offset_moved(&self.group, place, found, *acked, *asked);
            }
        }
        if !self.committed.is_empty() {
            self.acts.push_back(Act::Note("offsets compared"));
        }
        Ok(())
    }

    fn took_commit(
        &mut self,
        now: Ms,
        offsets: &[(Place, i64)],
        frame: &Bytes,
    ) -> Result<(), String> {
        let codes = requests::committed(self.correlation, offsets, frame)?;
        for ((place, at), code) in offsets.iter().zip(codes) {
            match (code, self.committed.get_mut(place)) {
                (0, Some((acked, _))) => {
                    *acked = (*acked).max(*at);
                    self.acts.push_back(Act::Note("offset committed"));
                }
                (0, None) => {}
                _ => self.next_at = now + 200,
            }
        }
        Ok(())
    }

    fn took_latest(
        &mut self,
        place: &Place,
        frame: &Bytes,
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        if let Ok(latest) = requests::latest_is(self.correlation, frame)? {
            let known = self.known.get(place).copied().unwrap_or_default();
            oracle.latest(place, known, latest);
        }
        Ok(())
    }

    fn took_fetch(
        &mut self,
        now: Ms,
        wanted: &[Wanted],
        look_back: bool,
        frame: &Bytes,
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        let Ok(all) = requests::fetched(FETCH_BY_ID, self.correlation, wanted, frame)? else {
            self.metadata_at = now;
            self.next_at = now + 100;
            return Ok(());
        };
        if look_back {
            self.acts.push_back(Act::Note("look back"));
        }
        for (Wanted { place, offset }, fetched) in wanted.iter().zip(all) {
            match fetched.error {
                0 => {}
                OFFSET_OUT_OF_RANGE => {
                    oracle.out_of_range(place, *offset, fetched.log_start, fetched.high_watermark);
                    if !look_back {
                        self.positions
                            .insert(place.clone(), fetched.log_start.max(0));
                    }
                    continue;
                }
                error => {
                    if matches!(error, UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID) {
                        self.metadata_at = now;
                    }
                    self.acts.push_back(Act::Note("fetch error"));
                    self.next_at = now + 100;
                    continue;
                }
            }
            let known = self.known.get(place).copied().unwrap_or_default();
            oracle.marks(place, known, fetched.log_start, fetched.high_watermark);
            self.high.insert(place.clone(), fetched.high_watermark);
            let mut at = *offset;
            for batch in batches(&fetched.records, &Limits::default()) {
                // Kafka may cut the last batch off.
                let Ok(batch) = batch else { break };
                oracle.read(place, &batch);
                at = at.max(batch.next_offset().0);
            }
            if at > fetched.high_watermark {
                return Err(format!("{place:?}: read beyond the high watermark"));
            }
            if !look_back {
                self.positions.insert(place.clone(), at);
            }
        }
        Ok(())
    }
}

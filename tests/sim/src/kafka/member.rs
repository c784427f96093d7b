//! A member of a consumer group: joins, takes its part, commits as it goes on, beats, stalls, leaves.
//!
//! One request at a time. It commits positions of its own making: what is judged is the group, see
//! [`Grouped`]; reading is the consumers' part.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::consumer::KafkaConn;
use super::groups::{self, Membership};
use super::requests;
use crate::grouped::Grouped;
use crate::now::Ms;
use crate::rng::Rng;

/// Longer than a rebalance takes.
const PATIENCE_MS: Ms = 30_000;
const BEAT_MS: Ms = 1_500;
/// Longer than the session timeout: the others go on without it, and it does not know.
const STALL_MS: Ms = 15_000;

const UNKNOWN_MEMBER: i16 = 25;
const MEMBER_ID_REQUIRED: i16 = 79;
/// Illegal generation, unknown member, rebalance in progress, fenced.
const REJOIN: [i16; 4] = [22, UNKNOWN_MEMBER, 27, 82];

#[derive(Debug)]
pub enum Act {
    Dial,
    Send(KafkaConn, Bytes),
    Close(KafkaConn),
    Note(&'static str),
    Wrong(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down { retry_at: Ms },
    Dialling,
    Up(KafkaConn),
}

#[derive(Debug)]
enum Asked {
    Join,
    Sync,
    /// With what was confirmed of each of its partitions then.
    Offsets(Vec<(i32, i64)>),
    Beat,
    Commit {
        partition: i32,
        at: i64,
        newest: i32,
    },
    Leave,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Outside,
    Joined(Vec<String>),
    Assigned,
    /// It knows where to go on.
    Working,
}

pub struct Member {
    me: Membership,
    topic: String,
    partitions: i32,
    rng: Rng,
    phase: Phase,
    stage: Stage,
    correlation: i32,
    asked: Option<(Asked, Ms)>,
    next_at: Ms,
    leaves: bool,
    positions: BTreeMap<i32, i64>,
    pub acts: VecDeque<Act>,
}

impl Member {
    pub fn new(group: String, topic: String, partitions: i32, rng: Rng) -> Member {
        Member {
            me: Membership {
                group,
                ..Membership::default()
            },
            topic,
            partitions,
            rng,
            phase: Phase::Down { retry_at: 0 },
            stage: Stage::Outside,
            correlation: 0,
            asked: None,
            next_at: 0,
            leaves: false,
            positions: BTreeMap::new(),
            acts: VecDeque::new(),
        }
    }

    /// Does nothing for a while, and goes on as if nothing had been.
    pub fn stall(&mut self, now: Ms) {
        self.next_at = now + self.rng.below(STALL_MS);
    }

    /// Leaves in good order, to join again.
    pub fn leave(&mut self) {
        self.leaves = true;
    }

    pub fn deadline(&self) -> Option<Ms> {
        match (self.phase, &self.asked) {
            (Phase::Down { retry_at }, _) => Some(retry_at),
            (Phase::Dialling, _) => None,
            (Phase::Up(_), Some((_, since))) => Some(since + PATIENCE_MS),
            (Phase::Up(_), None) => Some(self.next_at),
        }
    }

    pub fn timer(&mut self, now: Ms, grouped: &mut Grouped) {
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
                self.acts.push_back(Act::Close(conn));
                self.down(now);
            }
            Phase::Up(conn) => self.ask(now, conn, grouped),
        }
    }

    /// The membership goes on over a connection: the coordinator tells it when it does not.
    pub fn connected(&mut self, now: Ms, conn: KafkaConn) {
        self.phase = Phase::Up(conn);
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

    fn ask(&mut self, now: Ms, conn: KafkaConn, grouped: &mut Grouped) {
        self.correlation += 1;
        let c = self.correlation;
        let (asked, bytes) = match &self.stage {
            Stage::Outside => (Asked::Join, groups::join(c, &self.me)),
            Stage::Joined(members) => {
                let parts = self.assign(members);
                (Asked::Sync, groups::sync(c, &self.me, &parts))
            }
            Stage::Assigned => {
                let known = self.positions.keys().map(|p| (*p, grouped.acked(*p)));
                let asked = Asked::Offsets(known.collect());
                (asked, requests::offsets(c, &self.me.group))
            }
            Stage::Working if std::mem::take(&mut self.leaves) => {
                (Asked::Leave, groups::leave(c, &self.me))
            }
            Stage::Working => self.work(c, grouped),
        };
        self.asked = Some((asked, now));
        self.acts.push_back(Act::Send(conn, bytes));
    }

    fn work(&mut self, c: i32, grouped: &mut Grouped) -> (Asked, Bytes) {
        let owned: Vec<i32> = self.positions.keys().copied().collect();
        if owned.is_empty() || self.rng.one_in(2) {
            return (Asked::Beat, groups::heartbeat(c, &self.me));
        }
        let partition = owned[self.rng.index(owned.len())];
        let at = self.positions[&partition] + self.rng.below(4) as i64;
        grouped.asked(partition, at);
        let newest = grouped.newest();
        let asked = Asked::Commit {
            partition,
            at,
            newest,
        };
        (
            asked,
            groups::commit(c, &self.me, &self.topic, partition, at),
        )
    }

    /// The leader's: partitions in turn.
    fn assign(&self, members: &[String]) -> Vec<(String, Vec<i32>)> {
        let of = |nth: usize| {
            let mine = (0..self.partitions).filter(move |p| *p as usize % members.len() == nth);
            mine.collect()
        };
        let members = members.iter().enumerate();
        members.map(|(nth, m)| (m.clone(), of(nth))).collect()
    }

    pub fn received(&mut self, now: Ms, conn: KafkaConn, frame: &Bytes, grouped: &mut Grouped) {
        if self.phase != Phase::Up(conn) {
            return;
        }
        let Some((asked, _)) = self.asked.take() else {
            let what = "a Kafka answer that no member asked for";
            return self.acts.push_back(Act::Wrong(what.into()));
        };
        self.next_at = self.next_at.max(now + 1);
        match self.took(asked, frame, grouped) {
            Err(what) => self.acts.push_back(Act::Wrong(what)),
            Ok(0) => {
                if self.stage == Stage::Working {
                    self.next_at = self.next_at.max(now + self.rng.below(BEAT_MS));
                }
            }
            Ok(MEMBER_ID_REQUIRED) => {}
            Ok(code) if REJOIN.contains(&code) => {
                if code == UNKNOWN_MEMBER {
                    self.me.member.clear();
                }
                self.stage = Stage::Outside;
                self.positions.clear();
                self.acts.push_back(Act::Note("joins again"));
            }
            Ok(_) => self.next_at = self.next_at.max(now + 200),
        }
    }

    /// The answer's error code.
    fn took(&mut self, asked: Asked, frame: &Bytes, grouped: &mut Grouped) -> Result<i16, String> {
        let c = self.correlation;
        match asked {
            Asked::Join => {
                let joined = groups::joined(c, frame)?;
                if matches!(joined.error, 0 | MEMBER_ID_REQUIRED) {
                    self.me.member = joined.member;
                }
                if joined.error == 0 {
                    self.me.generation = joined.generation;
                    self.stage = Stage::Joined(joined.members);
                }
                Ok(joined.error)
            }
            Asked::Sync => match groups::synced(c, frame)? {
                Ok(owns) => {
                    grouped.synced(&self.me.member, self.me.generation, &owns)?;
                    self.positions = owns.into_iter().map(|p| (p, 0)).collect();
                    self.stage = Stage::Assigned;
                    self.acts.push_back(Act::Note("assigned"));
                    Ok(0)
                }
                Err(code) => Ok(code),
            },
            Asked::Offsets(known) => {
                let stored = match requests::offsets_are(c, frame)? {
                    Ok(stored) => stored,
                    Err(code) => return Ok(code),
                };
                for (partition, acked) in known {
                    let here =
                        |(t, p, _): &&(String, i32, i64)| *t == self.topic && *p == partition;
                    let found = stored.iter().find(here).map_or(0, |(_, _, at)| *at);
                    grouped.stored(partition, acked, found)?;
                    self.positions.insert(partition, found);
                }
                self.stage = Stage::Working;
                Ok(0)
            }
            Asked::Beat => groups::beaten(c, frame),
            Asked::Commit {
                partition,
                at,
                newest,
            } => {
                let code = groups::committed(c, frame)?;
                if code == 0 {
                    grouped.committed(partition, at, self.me.generation, newest)?;
                    self.positions.insert(partition, at);
                    self.acts.push_back(Act::Note("committed"));
                } else if REJOIN.contains(&code) {
                    self.acts.push_back(Act::Note("commit refused"));
                }
                Ok(code)
            }
            Asked::Leave => {
                groups::left(c, frame)?;
                self.me.member.clear();
                self.stage = Stage::Outside;
                self.positions.clear();
                self.acts.push_back(Act::Note("left"));
                Ok(0)
            }
        }
    }
}

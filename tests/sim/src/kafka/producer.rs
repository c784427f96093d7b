//! An idempotent producer: a batch without an answer is sent again, byte for byte, until it has one.
//!
//! It makes its topic, takes a producer id once for its whole life, and has one batch under way.

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_batch::layout::{BASE_SEQUENCE, CRC, CRC_FROM, PRODUCER_EPOCH, PRODUCER_ID};
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset};

use super::consumer::KafkaConn;
use super::produce;
use super::requests;
use crate::now::Ms;
use crate::payload::{self, Id, Ids};
use crate::rng::Rng;

/// Longer than any answer takes on a node that is up.
const PATIENCE_MS: Ms = 30_000;
const RECORDS_MAX: u64 = 5;
const TOPIC_EXISTS: i16 = 36;
/// The node already has it, and no longer knows where: KIP-98.
const DUPLICATE_SEQUENCE: i16 = 46;
/// What a producer may not hear that lost nothing and skipped nothing: out of order, fenced, unknown.
const BROKEN: [i16; 3] = [45, 47, 59];

#[derive(Debug)]
pub enum Act {
    Dial,
    Send(KafkaConn, Bytes),
    Close(KafkaConn),
    Sent {
        partition: i32,
        ids: Vec<Id>,
    },
    /// The first stands at `base`; `None`: the node did not say.
    Acked {
        ids: Vec<Id>,
        base: Option<i64>,
    },
    Note(&'static str),
    Wrong(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down { retry_at: Ms },
    Dialling,
    Up(KafkaConn),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Topic,
    ProducerId,
    Produce,
}

struct Batch {
    partition: i32,
    bytes: Bytes,
    ids: Vec<Id>,
    tries: u32,
}

pub struct Producer {
    topic: String,
    partitions: i32,
    rng: Rng,
    phase: Phase,
    correlation: i32,
    asked: Option<(Asked, Ms)>,
    next_at: Ms,
    has_topic: bool,
    id: Option<(i64, i16)>,
    sequences: Vec<i32>,
    /// Records that wait to be produced.
    wanted: u64,
    batch: Option<Batch>,
    pub acts: VecDeque<Act>,
}

impl Producer {
    pub fn new(topic: String, partitions: i32, rng: Rng) -> Producer {
        Producer {
            topic,
            partitions,
            rng,
            phase: Phase::Down { retry_at: 0 },
            correlation: 0,
            asked: None,
            next_at: 0,
            has_topic: false,
            id: None,
            sequences: vec![0; partitions as usize],
            wanted: 0,
            batch: None,
            acts: VecDeque::new(),
        }
    }

    pub fn produce(&mut self, records: u64) {
        self.wanted += records;
    }

    pub fn is_done(&self) -> bool {
        self.wanted == 0 && self.batch.is_none()
    }

    pub fn deadline(&self) -> Option<Ms> {
        match (self.phase, &self.asked) {
            (Phase::Down { retry_at }, _) => Some(retry_at),
            (Phase::Dialling, _) => None,
            (Phase::Up(_), Some((_, since))) => Some(since + PATIENCE_MS),
            (Phase::Up(_), None) => (!self.is_done()).then_some(self.next_at),
        }
    }

    pub fn timer(&mut self, now: Ms, ids: &mut Ids) {
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
            Phase::Up(conn) => self.ask(now, conn, ids),
        }
    }

    pub fn connected(&mut self, now: Ms, conn: KafkaConn) {
        self.phase = Phase::Up(conn);
        self.next_at = now;
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

    fn ask(&mut self, now: Ms, conn: KafkaConn, ids: &mut Ids) {
        self.correlation += 1;
        let c = self.correlation;
        let (asked, bytes) = match self.id {
            _ if !self.has_topic => {
                let bytes = requests::create_topic(c, &self.topic, self.partitions);
                (Asked::Topic, bytes)
            }
            None => (Asked::ProducerId, produce::init(c)),
            Some(id) => {
                let batch = match self.batch.take() {
                    Some(batch) => batch,
                    None => self.next_batch(id, ids),
                };
                if batch.tries > 0 {
                    self.acts.push_back(Act::Note("batch again"));
                }
                let bytes = produce::produce(c, &self.topic, batch.partition, &batch.bytes);
                let tries = batch.tries + 1;
                self.batch = Some(Batch { tries, ..batch });
                (Asked::Produce, bytes)
            }
        };
        self.asked = Some((asked, now));
        self.acts.push_back(Act::Send(conn, bytes));
    }

    fn next_batch(&mut self, (id, epoch): (i64, i16), ids: &mut Ids) -> Batch {
        let count = (1 + self.rng.below(RECORDS_MAX)).min(self.wanted);
        self.wanted -= count;
        let partition = self.rng.index(self.partitions as usize);
        let level = [Level::None, Level::Zstd(1)][self.rng.index(2)];
        let mut builder = BatchBuilder::new(Offset::ZERO, level);
        let mut sent = Vec::new();
        for _ in 0..count {
            let id = ids.draw();
            let value = payload::of(id, self.rng.below(300) as usize);
            let record = NewRecord::new(1_790_000_000_000, "made", value);
            builder.push(&record).expect("five small records fit");
            sent.push(id);
        }
        let sequence = &mut self.sequences[partition];
        let bytes = stamped(builder.finish(), id, epoch, *sequence);
        *sequence += count as i32;
        let partition = partition as i32;
        self.acts.push_back(Act::Sent {
            partition,
            ids: sent.clone(),
        });
        Batch {
            partition,
            bytes,
            ids: sent,
            tries: 0,
        }
    }

    pub fn received(&mut self, now: Ms, conn: KafkaConn, frame: &Bytes) {
        if self.phase != Phase::Up(conn) {
            return;
        }
        let Some((asked, _)) = self.asked.take() else {
            let what = "a Kafka answer that no producer asked for";
            return self.acts.push_back(Act::Wrong(what.into()));
        };
        self.next_at = now + 1 + self.rng.below(20);
        if let Err(what) = self.took(now, asked, frame) {
            self.acts.push_back(Act::Wrong(what));
        }
    }

    fn took(&mut self, now: Ms, asked: Asked, frame: &Bytes) -> Result<(), String> {
        let c = self.correlation;
        let code = match asked {
            Asked::Topic => {
                let code = requests::created(c, frame)?;
                self.has_topic = matches!(code, 0 | TOPIC_EXISTS);
                code
            }
            Asked::ProducerId => {
                let id = produce::initiated(c, frame)?;
                self.id = id.ok();
                id.err().unwrap_or(0)
            }
            Asked::Produce => {
                let Some(batch) = self.batch.take() else {
                    return Err("an answer to no batch".into());
                };
                let (code, base) = produce::produced(c, frame)?;
                match code {
                    0 | DUPLICATE_SEQUENCE => {
                        let base = (code == 0).then_some(base);
                        let ids = batch.ids;
                        self.acts.push_back(Act::Acked { ids, base });
                    }
                    code if BROKEN.contains(&code) => {
                        let (partition, tries) = (batch.partition, batch.tries);
                        return Err(format!(
                            "PRODUCER BROKEN: error {code}, partition {partition}, try {tries}"
                        ));
                    }
                    _ => self.batch = Some(batch),
                }
                code
            }
        };
        if !matches!(code, 0 | TOPIC_EXISTS | DUPLICATE_SEQUENCE) {
            self.acts.push_back(Act::Note("asks again"));
            self.next_at = now + 200;
        }
        Ok(())
    }
}

/// KIP-98: the fields that make a batch one of an idempotent producer's.
fn stamped(mut batch: Vec<u8>, id: i64, epoch: i16, sequence: i32) -> Bytes {
    batch[PRODUCER_ID].copy_from_slice(&id.to_be_bytes());
    batch[PRODUCER_EPOCH].copy_from_slice(&epoch.to_be_bytes());
    batch[BASE_SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

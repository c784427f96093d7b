//! What the store must hold, kept in memory.

use std::collections::BTreeMap;

use headwater_batch::{
    BatchView, Decoder, Limits, NewHeader, NewRecord, Offset, TopicPartition, digest,
};
use headwater_log::store::{
    CLOCK_FLOOR_MS, CLOCK_HEADER, CLOCK_UNSET, Chunk, GapReason, Ms, ReadError, Recovered, Store,
};

/// One entry that was staged.
#[derive(Clone, Debug)]
pub struct Staged {
    pub id: u64,
    pub nonce: u64,
    pub token: u64,
    pub at: Ms,
    pub records: Vec<(TopicPartition, i64, NewRecord)>,
}

#[derive(Default)]
pub struct Model {
    /// Durable records: offset to content. Nothing is ever taken out.
    pub durable: BTreeMap<TopicPartition, BTreeMap<i64, NewRecord>>,
    /// Staged and not known to be durable; after a crash they may have survived.
    pub maybe: Vec<Staged>,
    /// Nonces by id, of all that may be there.
    pub nonces: BTreeMap<u64, u64>,
    pub durable_id: u64,
    pub next_id: u64,
    /// Cursors as told to the store.
    pub acked: BTreeMap<TopicPartition, i64>,
    /// Incarnations that are durable, and those that may be.
    pub incarnation: BTreeMap<TopicPartition, u128>,
    pub maybe_forks: BTreeMap<TopicPartition, Vec<u128>>,
    pub rotten: bool,
    /// The last start cut a tail. When the last group that was acked rots, nothing tells it from
    /// a torn one (J1): its offsets are given again, by a boot that starts below them (U1).
    pub cut: bool,
    /// A start died since the last that did not: what it cut it could tell nobody.
    pub start_died: bool,
    pub drop_oldest: bool,
    pub survivors: u64,
    /// Acked records that a cut took.
    pub cuts: u64,
    /// Records of entries that were never acked and whose frame is gone. Rot may have taken the
    /// frame after the records had reached a segment.
    pub ghosts: Vec<(TopicPartition, i64, NewRecord)>,
}

pub fn op(id: u64, nonce: u64) -> Vec<u8> {
    [id.to_be_bytes(), nonce.to_be_bytes()].concat()
}

fn parse(op: &[u8]) -> (u64, u64) {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    (number(&op[..8]), number(&op[8..]))
}

/// The record as it is read back (J9: an unset clock says so).
fn stored(record: &NewRecord) -> NewRecord {
    let mut record = record.clone();
    if record.timestamp < CLOCK_FLOOR_MS {
        record.headers.push(NewHeader {
            key: CLOCK_HEADER.to_owned(),
            value: Some(CLOCK_UNSET.into()),
        });
    }
    record
}

impl Model {
    pub fn staged(&mut self, staged: Staged) {
        self.nonces.insert(staged.id, staged.nonce);
        self.next_id = staged.id + 1;
        self.maybe.push(staged);
    }

    /// Entries up to the token are acked.
    pub fn acked_to(&mut self, token: u64) {
        let count = self
            .maybe
            .iter()
            .take_while(|entry| entry.token <= token)
            .count();
        for entry in self.maybe.drain(..count).collect::<Vec<_>>() {
            self.settle(&entry);
        }
    }

    fn settle(&mut self, entry: &Staged) {
        self.durable_id = self.durable_id.max(entry.id);
        for (tp, offset, record) in &entry.records {
            let had = self
                .durable
                .entry(tp.clone())
                .or_default()
                .insert(*offset, stored(record));
            assert!(had.is_none(), "the test gives each offset once");
        }
    }

    /// What the owner gets back must be a prefix of what it staged, at least all that was acked.
    pub fn recovered(&mut self, recovered: &Recovered) -> Result<(), String> {
        let said = recovered.notes.iter().any(|n| n.contains("cut: Some("));
        let unheard = std::mem::take(&mut self.start_died);
        self.cut = self.rotten && (said || unheard);
        let kv = recovered.kv.iter().find(|(key, _)| key == b"id");
        let base = kv.map_or(0, |(_, value)| parse(value).0);
        let mut last = base;
        for (id, nonce) in recovered.ops.iter().map(|op| parse(op)) {
            let follows = id == last + 1 || (self.rotten && id > last);
            if !follows {
                return Err(format!("op {id} follows op {last}"));
            }
            if self.nonces.get(&id) != Some(&nonce) {
                return Err(format!("op {id} is not the one that was staged"));
            }
            last = id;
        }
        if last < self.durable_id && !self.rotten {
            return Err(format!("ops end at {last}, {} was acked", self.durable_id));
        }
        let maybe = std::mem::take(&mut self.maybe);
        for entry in maybe {
            // With rot an entry that was never acked may be lost from the middle.
            let there = recovered.ops.iter().any(|op| parse(op).0 == entry.id) || entry.id <= base;
            if there {
                self.survivors += 1;
                self.settle(&entry);
            } else {
                self.nonces.remove(&entry.id);
                let stored = |(tp, offset, record)| (tp, offset, stored(&record));
                self.ghosts.extend(entry.records.into_iter().map(stored));
            }
        }
        self.durable_id = self.durable_id.max(last);
        self.next_id = self.durable_id + 1;
        Ok(())
    }

    /// Everything acked is there once, or a GAP says why not.
    pub fn compare(&mut self, store: &mut Store, now: Ms) -> Result<Vec<GapReason>, String> {
        let mut reasons = Vec::new();
        let known: Vec<TopicPartition> = self.durable.keys().cloned().collect();
        for tp in known {
            let next = store.next(&tp);
            if let (None, true) = (next, self.cut) {
                let gone = self.durable.remove(&tp).map_or(0, |gone| gone.len());
                self.cuts += gone as u64;
                self.incarnation.remove(&tp);
                continue;
            }
            let Some(next) = next else {
                return Err(format!("{tp} is gone"));
            };
            let last = self.durable[&tp].keys().next_back().copied().unwrap_or(-1);
            if next.0 <= last && self.cut {
                let boots = store.lineage(&tp).ok_or("no lineage")?.boots;
                if boots.last().is_none_or(|boot| boot.1 > next) {
                    return Err(format!(
                        "{tp}: cut at {next} and no boot says so: {boots:?}"
                    ));
                }
                let gone = self.durable.get_mut(&tp).map(|d| d.split_off(&next.0));
                self.cuts += gone.map_or(0, |gone| gone.len()) as u64;
            } else if next.0 <= last {
                return Err(format!("{tp}: next is {next}, offset {last} was durable"));
            }
            let (seen, gaps) = self.read(store, &tp, now)?;
            self.admit_ghosts(&tp, &seen);
            self.compare_partition(store, &tp, &seen, &gaps)?;
            reasons.extend(gaps.iter().map(|(_, _, reason)| *reason));
            self.compare_lineage(store, &tp, &seen)?;
        }
        // Of this start: what is written from now on stays.
        self.cut = false;
        Ok(reasons)
    }

    #[allow(clippy::type_complexity)]
    fn read(
        &self,
        store: &mut Store,
        tp: &TopicPartition,
        now: Ms,
    ) -> Result<(BTreeMap<i64, NewRecord>, Vec<(i64, i64, GapReason)>), String> {
        let mut seen = BTreeMap::new();
        let mut gaps: Vec<_> = store
            .gaps(tp)
            .iter()
            .map(|gap| (gap.from.0, gap.to.0, gap.reason))
            .collect();
        let mut reader = store.reader(tp).expect("it has a next offset");
        let mut at = reader.start();
        let mut decoder = Decoder::new();
        loop {
            match reader.read(at, 3_000) {
                Ok(Chunk::Batches(batches)) => {
                    for bytes in batches {
                        let view = BatchView::parse(&bytes, &Limits::UPLINK).map_err(display)?;
                        view.verify_crc().map_err(display)?;
                        for record in view
                            .records(&mut decoder, &Limits::UPLINK)
                            .map_err(display)?
                        {
                            let record = record.map_err(display)?;
                            let new = record.to_new().expect("test headers are text");
                            if seen.insert(record.offset.0, new).is_some() {
                                return Err(format!("{tp}: {} is there twice", record.offset));
                            }
                        }
                        at = view.next_offset();
                    }
                }
                Ok(Chunk::Gap(gap)) => {
                    gaps.push((gap.from.0, gap.to.0, gap.reason));
                    at = gap.to;
                }
                Ok(Chunk::End) => break,
                Err(ReadError::Corrupt { from, to, what }) => {
                    if !self.rotten {
                        return Err(format!("{tp}: {from}..{to} corrupt without rot: {what}"));
                    }
                    let gap = headwater_log::store::Gap {
                        from,
                        to,
                        reason: GapReason::Corrupt,
                    };
                    store.add_gap(tp, gap, now).map_err(display)?;
                    store.commit(now).map_err(display)?;
                    gaps.push((from.0, to.0, GapReason::Corrupt));
                    at = to;
                }
                Err(error) => return Err(format!("{tp} at {at}: {error}")),
            }
        }
        let next = store.next(tp).unwrap_or_default();
        if at != next {
            return Err(format!("{tp}: reading ends at {at}, next is {next}"));
        }
        Ok((seen, gaps))
    }

    /// What is there now must stay.
    fn admit_ghosts(&mut self, tp: &TopicPartition, seen: &BTreeMap<i64, NewRecord>) {
        let durable = self.durable.entry(tp.clone()).or_default();
        for (_, offset, record) in self
            .ghosts
            .iter()
            .filter(|ghost| self.rotten && ghost.0 == *tp)
        {
            if seen.get(offset) == Some(record) {
                durable.entry(*offset).or_insert_with(|| record.clone());
            }
        }
    }

    fn compare_partition(
        &self,
        store: &Store,
        tp: &TopicPartition,
        seen: &BTreeMap<i64, NewRecord>,
        gaps: &[(i64, i64, GapReason)],
    ) -> Result<(), String> {
        let start = store.start(tp).unwrap_or_default().0;
        let acked = self.acked.get(tp).copied().unwrap_or(0);
        for (offset, record) in &self.durable[tp] {
            let gap = gaps
                .iter()
                .find(|(from, to, _)| (*from..*to).contains(offset));
            match (seen.get(offset), gap) {
                (Some(found), _) if found == record => {}
                (Some(found), _) => {
                    return Err(format!("{tp}: {offset} reads {found:?}, was {record:?}"));
                }
                (None, Some((_, _, GapReason::Dropped))) if self.drop_oldest => {}
                (None, Some((_, _, GapReason::Corrupt))) if self.rotten => {}
                (None, Some(gap)) => return Err(format!("{tp}: {offset} lies in {gap:?}")),
                (None, None) if *offset < start && *offset < acked => {}
                (None, None) => return Err(format!("{tp}: {offset} is lost, start {start}")),
            }
        }
        match seen
            .keys()
            .find(|offset| !self.durable[tp].contains_key(offset))
        {
            Some(extra) => Err(format!(
                "{tp}: {extra} was never staged, or did not survive"
            )),
            None => Ok(()),
        }
    }

    fn compare_lineage(
        &mut self,
        store: &Store,
        tp: &TopicPartition,
        seen: &BTreeMap<i64, NewRecord>,
    ) -> Result<(), String> {
        let lineage = store.lineage(tp).ok_or("no lineage")?;
        let forks = self.maybe_forks.remove(tp).unwrap_or_default();
        let known = self
            .incarnation
            .entry(tp.clone())
            .or_insert(lineage.incarnation);
        // No rot takes all that tells of it.
        if *known != lineage.incarnation && !forks.contains(&lineage.incarnation) {
            return Err(format!(
                "{tp}: incarnation {:x} from nowhere",
                lineage.incarnation
            ));
        }
        *known = lineage.incarnation;
        if !lineage.boots.is_sorted_by_key(|boot| boot.1) {
            return Err(format!("{tp}: boots out of order: {:?}", lineage.boots));
        }
        let acked = store.acked(tp).unwrap_or_default().0;
        let most = self.acked.get(tp).copied().unwrap_or(0);
        if acked > most && forks.is_empty() {
            return Err(format!("{tp}: acked {acked}, told {most}"));
        }
        if let Some((offset, record)) = seen.iter().next_back() {
            let offset = Offset(*offset);
            let found = store.digest_before(tp, offset.next()).map_err(display)?;
            if found != Some(digest(&record.at(offset))) {
                return Err(format!("{tp}: digest of {offset} is {found:?}"));
            }
        }
        Ok(())
    }
}

fn display(error: impl std::fmt::Display) -> String {
    error.to_string()
}

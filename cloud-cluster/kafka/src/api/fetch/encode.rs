//! The Fetch response, versions 4 to 17, written by hand: records go out as the chunks they came
//! in, where a generic encoder would copy them twice.

use bytes::{BufMut, Bytes, BytesMut};

use super::{FetchPlan, Fetched, Slot, TOPIC_IDS_FROM, TopicSlots};
use crate::ErrorCode;
use crate::api::code;
use crate::node::Broker;
use crate::wire::{Call, Reply};

const FLEXIBLE_FROM: i16 = 12;
const ENDPOINTS_FROM: i16 = 16;
/// Tag of `current_leader` in a partition, and its size: two i32 and no tags of its own.
const CURRENT_LEADER_TAG: u32 = 1;
const CURRENT_LEADER_BYTES: u32 = 9;

pub(super) fn response(plan: FetchPlan, fetched: Vec<Fetched>) -> Reply {
    let mut fetched: Vec<_> = fetched.into_iter().map(Some).collect();
    let mut out = Out::new(&plan.call);
    out.bytes.put_i32(0); // throttle time
    if plan.call.version >= 7 {
        out.bytes.put_i16(code(plan.error));
        out.bytes.put_i32(0); // session id
    }
    out.count(plan.topics.len());
    for topic in &plan.topics {
        out.topic(topic, &mut fetched, plan.read_committed);
    }
    let endpoints = plan.call.version >= ENDPOINTS_FROM && !plan.endpoints.is_empty();
    if endpoints {
        out.endpoints(&plan.endpoints);
    } else {
        out.no_tags();
    }
    out.finish()
}

/// Bytes so far, and the finished chunks before them.
struct Out {
    /// The first chunk, which gets the frame's length at the end.
    first: Option<BytesMut>,
    chunks: Vec<Bytes>,
    bytes: BytesMut,
    version: i16,
}

impl Out {
    fn new(call: &Call) -> Out {
        let bytes = call.response_start(512);
        Out {
            first: None,
            chunks: Vec::new(),
            bytes,
            version: call.version,
        }
    }

    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    /// The length of an array or of bytes.
    fn count(&mut self, n: usize) {
        let n = u32::try_from(n).expect("a response is bounded by fetch_bytes_max");
        if self.flexible() {
            self.varint(n + 1)
        } else {
            self.bytes.put_u32(n)
        }
    }

    fn no_tags(&mut self) {
        if self.flexible() {
            self.bytes.put_u8(0);
        }
    }

    fn topic(&mut self, topic: &TopicSlots, fetched: &mut [Option<Fetched>], committed: bool) {
        if self.version >= TOPIC_IDS_FROM {
            self.bytes.put_slice(topic.id.as_bytes());
        } else {
            // As it came in, so it fits the i16.
            let name = topic.name.as_bytes();
            if self.flexible() {
                self.count(name.len());
            } else {
                self.bytes.put_u16(name.len() as u16);
            }
            self.bytes.put_slice(name);
        }
        self.count(topic.slots.len());
        for slot in &topic.slots {
            let result = match slot.planned {
                Ok(i) => fetched.get_mut(i).and_then(Option::take),
                Err(error) => Some(Fetched::failed(error)),
            };
            let missing = || Fetched::failed(ErrorCode::OffsetNotAvailable);
            self.partition(slot, result.unwrap_or_else(missing), committed);
        }
        self.no_tags();
    }

    fn partition(&mut self, slot: &Slot, fetched: Fetched, committed: bool) {
        self.bytes.put_i32(slot.partition);
        self.bytes.put_i16(code(fetched.error));
        self.bytes.put_i64(fetched.high_watermark);
        // The last stable offset: without transactions, the high watermark.
        self.bytes.put_i64(fetched.high_watermark);
        if self.version >= 5 {
            self.bytes.put_i64(fetched.log_start);
        }
        match (committed, self.flexible()) {
            (true, _) => self.count(0),
            (false, true) => self.varint(0),
            (false, false) => self.bytes.put_i32(-1),
        }
        if self.version >= 11 {
            self.bytes.put_i32(-1); // preferred read replica
        }
        self.count(fetched.byte_len());
        self.splice(fetched.records);
        match slot.leader {
            Some((id, epoch)) if self.flexible() => {
                self.varint(1);
                self.varint(CURRENT_LEADER_TAG);
                self.varint(CURRENT_LEADER_BYTES);
                self.bytes.put_i32(id);
                self.bytes.put_i32(epoch);
                self.bytes.put_u8(0);
            }
            _ => self.no_tags(),
        }
    }

    fn splice(&mut self, records: Vec<Bytes>) {
        if records.iter().all(Bytes::is_empty) {
            return;
        }
        let before = self.bytes.split();
        match self.first {
            None => self.first = Some(before),
            Some(_) => self.chunks.push(before.freeze()),
        }
        self.chunks
            .extend(records.into_iter().filter(|chunk| !chunk.is_empty()));
    }

    fn endpoints(&mut self, brokers: &[Broker]) {
        let mut tag = Out {
            first: None,
            chunks: Vec::new(),
            bytes: BytesMut::new(),
            version: self.version,
        };
        tag.count(brokers.len());
        for broker in brokers {
            tag.bytes.put_i32(broker.id);
            tag.count(broker.host.len());
            tag.bytes.put_slice(broker.host.as_bytes());
            tag.bytes.put_i32(i32::from(broker.port));
            match &broker.rack {
                None => tag.varint(0),
                Some(rack) => {
                    tag.count(rack.len());
                    tag.bytes.put_slice(rack.as_bytes());
                }
            }
            tag.no_tags();
        }
        self.varint(1); // one tagged field
        self.varint(0); // its tag
        self.varint(u32::try_from(tag.bytes.len()).expect("a list of brokers is short"));
        self.bytes.put_slice(&tag.bytes);
    }

    fn finish(mut self) -> Reply {
        match self.first {
            None => Reply::from_chunks(self.bytes, Vec::new()),
            Some(first) => {
                if !self.bytes.is_empty() {
                    self.chunks.push(self.bytes.freeze());
                }
                Reply::from_chunks(first, self.chunks)
            }
        }
    }
}

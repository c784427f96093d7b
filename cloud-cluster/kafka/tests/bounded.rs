//! No request makes the server reserve more memory than its own bytes justify: every request at
//! every served version, whole, cut, and damaged in its length fields, under an allocator that
//! notes the largest reservation and refuses what no test needs.
#![allow(clippy::unwrap_used)] // A test may.
#![allow(unsafe_code)] // An allocator cannot be written without; it only counts and passes on.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use common::{FakeNode, frame, requests::samples};
use headwater_kafka::{Outcome, Peer, wire};
use kafka_protocol::messages::ApiKey;
use proptest::prelude::*;

/// More than any test reserves at once. A request for more gets null, which aborts the process:
/// the test does not lean on overcommitted memory.
const REFUSED_BYTES: usize = 256 << 20;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watching;

// SAFETY: every call is passed on to the system's allocator unchanged, or refused with null.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        if layout.size() > REFUSED_BYTES {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// What one reservation may take for a frame: a struct of a few hundred bytes for an element that
/// took one byte, and what reading records needs at the least.
fn allowed(frame: &[u8]) -> usize {
    (3 << 20) + 512 * frame.len()
}

/// Serves `frame`, and what its plan answers when nothing was done for it.
fn run(node: &FakeNode, frame: Bytes) {
    let most = allowed(&frame);
    LARGEST.set(0);
    let outcome = headwater_kafka::serve(node, &Peer::default(), frame.clone());
    match outcome {
        Outcome::Reply(reply) => assert!(!reply.is_empty()),
        Outcome::Close(_) => {}
        Outcome::Produce(plan) => drop(plan.respond(Vec::new())),
        Outcome::Fetch(plan) => assert!(!plan.respond(Vec::new()).is_empty()),
        Outcome::ListOffsets(plan) => assert!(!plan.respond(Vec::new()).is_empty()),
        Outcome::Epochs(plan) => assert!(!plan.respond(Vec::new()).is_empty()),
        Outcome::ProducerId(plan) => {
            drop(plan.respond(Err(
                headwater_kafka::ErrorCode::CoordinatorLoadInProgress.into(),
            )));
        }
        Outcome::Admin(plan) => assert!(!plan.respond(Vec::new()).is_empty()),
        Outcome::AutoCreate(plan) => {
            assert!(!plan.respond(node, &Peer::default()).is_empty());
        }
        Outcome::Group(plan) => {
            let response = plan
                .request
                .refused(headwater_kafka::ErrorCode::NotCoordinator);
            assert!(!plan.pending.respond(response).is_empty());
        }
    }
    let largest = LARGEST.get();
    assert!(
        largest <= most,
        "{largest} bytes at once for a frame of {}: {frame:?}",
        frame.len()
    );
}

#[test]
fn the_request_for_154_gigabytes_is_refused() {
    let node = FakeNode::default();
    for version in 0..=8 {
        let frame = frame(ApiKey::Metadata, version, &[0x7f, 0xff, 0xff, 0xff]);
        let outcome = headwater_kafka::serve(&node, &Peer::default(), frame.clone());
        assert!(matches!(outcome, Outcome::Close(_)), "v{version}");
        run(&node, frame);
    }
    // The same with a compact length.
    let frame = frame(ApiKey::Metadata, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(matches!(
        headwater_kafka::serve(&node, &Peer::default(), frame),
        Outcome::Close(_)
    ));
}

#[test]
fn the_walk_ends_where_every_request_ends() {
    for n in 0..4 {
        for sample in samples(n) {
            let walked = wire::walk(sample.api, sample.version, &sample.body);
            let at = format!("{:?} v{} n={n}", sample.api, sample.version);
            assert_eq!(walked, Ok(sample.body.len()), "{at}");
        }
    }
}

#[test]
fn every_whole_request_is_understood() {
    let node = FakeNode::default();
    for n in 0..4 {
        for sample in samples(n) {
            let frame = frame(sample.api, sample.version, &sample.body);
            let outcome = headwater_kafka::serve(&node, &Peer::default(), frame.clone());
            let at = format!("{:?} v{} n={n}", sample.api, sample.version);
            assert!(!matches!(outcome, Outcome::Close(_)), "{at}: {outcome:?}");
            run(&node, frame);
        }
    }
}

#[test]
fn every_cut_request_is_refused_or_shorter() {
    let node = FakeNode::default();
    for sample in samples(2) {
        let frame = frame(sample.api, sample.version, &sample.body);
        for end in 0..frame.len() {
            run(&node, frame.slice(..end));
        }
    }
}

#[test]
fn a_length_of_all_ones_anywhere_is_bounded() {
    let node = FakeNode::default();
    let lengths: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x7f, 0xff],
        &[0xff, 0xff, 0xff, 0x7f],
    ];
    for sample in samples(1) {
        let frame = frame(sample.api, sample.version, &sample.body);
        for at in 8..frame.len() {
            for length in lengths {
                let mut damaged = BytesMut::from(&frame[..]);
                let end = (at + length.len()).min(damaged.len());
                damaged[at..end].copy_from_slice(&length[..end - at]);
                run(&node, damaged.freeze());
            }
        }
    }
}

#[test]
fn more_elements_than_the_bound_are_refused() {
    let node = FakeNode::default();
    // 200,000 null names in Metadata v0, which is all of two bytes each.
    let mut body = 200_000i32.to_be_bytes().to_vec();
    body.resize(4 + 400_000, 0xff);
    let outcome =
        headwater_kafka::serve(&node, &Peer::default(), frame(ApiKey::Metadata, 1, &body));
    assert!(matches!(outcome, Outcome::Close(_)));
}

#[test]
fn a_tagged_field_cannot_lie_about_its_size() {
    // Fetch v12: cluster_id (tag 0) says one byte but holds a text that hides an array length.
    let sample = samples(1)
        .into_iter()
        .find(|s| s.api == ApiKey::Fetch && s.version == 12)
        .unwrap();
    let tag = sample.body.windows(2).rposition(|w| w == [0, 15]).unwrap();
    let mut body = sample.body.to_vec();
    body[tag + 1] = 1;
    assert!(wire::walk(ApiKey::Fetch, 12, &body).is_err());
    assert_eq!(
        wire::walk(ApiKey::Fetch, 12, &sample.body),
        Ok(sample.body.len())
    );
}

#[test]
fn a_snappy_block_cannot_lie_about_its_size() {
    use headwater_batch::layout::{ATTRIBUTES, BATCH_LENGTH, CRC, CRC_FROM, HEADER_BYTES};
    // One block that says it holds 2 GiB, after the header of a sound batch.
    let mut batch = BytesMut::from(&common::batch_of(1)[..HEADER_BYTES]);
    batch.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x08, 0, 0, 0]);
    let length = (batch.len() - 12) as i32;
    batch[BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
    batch[ATTRIBUTES].copy_from_slice(&2u16.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC].copy_from_slice(&crc.to_be_bytes());

    let mut samples = samples(1).into_iter();
    let sample = samples
        .find(|s| s.api == ApiKey::Produce && s.version == 3)
        .unwrap();
    let whole = common::batch_of(2);
    let at = sample
        .body
        .windows(whole.len())
        .position(|w| w == &whole[..])
        .unwrap();
    let mut body = BytesMut::from(&sample.body[..at - 4]);
    body.extend_from_slice(&(batch.len() as i32).to_be_bytes());
    body.extend_from_slice(&batch);
    let node = FakeNode::default();
    let frame = frame(ApiKey::Produce, 3, &body);
    let served = headwater_kafka::serve(&node, &Peer::default(), frame.clone());
    assert!(matches!(served, Outcome::Produce(plan) if plan.appends.is_empty()));
    run(&node, frame);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn damaged_requests_stay_within_bounds(
        n in 0usize..4,
        pick in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let node = FakeNode::default();
        let all = samples(n);
        let sample = &all[pick.index(all.len())];
        let mut bytes = BytesMut::from(&frame(sample.api, sample.version, &sample.body)[..]);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        run(&node, bytes.freeze());
    }

    #[test]
    fn random_bodies_stay_within_bounds(
        pick in any::<prop::sample::Index>(),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let rows = wire::SERVED;
        let row = rows[pick.index(rows.len())];
        let node = FakeNode::default();
        for version in row.min..=row.max {
            run(&node, frame(row.api, version, &body));
        }
    }
}

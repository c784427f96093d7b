//! Frames in pieces, and bytes that are no frames.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Decoder, Encoder, Frame, FrameError, ToCloud};
use crate::{Attempt, StreamId};

fn frames(tails: &[Vec<u8>]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for (n, tail) in tails.iter().enumerate() {
        let body = ToCloud::Resume {
            stream: StreamId(n as u32),
            attempt: Attempt(1),
        };
        bytes.extend_from_slice(&encoder.head(&body, tail.len()));
        bytes.extend_from_slice(tail);
    }
    bytes
}

fn decode(decoder: &mut Decoder) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn cut_anywhere_they_come_out_whole(
        tails in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        cuts in prop::collection::vec(1usize..200, 1..60),
    ) {
        let mut bytes = Bytes::from(frames(&tails));
        let mut decoder = Decoder::default();
        let mut got = Vec::new();
        for cut in cuts.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            decoder.push(bytes.split_to((*cut).min(bytes.len())));
            got.extend(decode(&mut decoder).unwrap());
        }
        let got: Vec<Vec<u8>> = got.into_iter().map(|f| f.tail.to_vec()).collect();
        prop_assert_eq!(got, tails);
        prop_assert_eq!(decoder.capacity(), 0);
    }

    #[test]
    fn pushed_without_draining_they_come_out_whole(
        tails in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        cut in 1usize..400,
    ) {
        let mut bytes = Bytes::from(frames(&tails));
        let mut decoder = Decoder::default();
        while !bytes.is_empty() {
            decoder.push(bytes.split_to(cut.min(bytes.len())));
        }
        let got: Vec<_> = decode(&mut decoder).unwrap().into_iter().map(|f| f.tail.to_vec()).collect();
        prop_assert_eq!(got, tails);
    }

    #[test]
    fn a_flipped_bit_in_head_or_body_never_passes(at in 0usize..20, bit in 0u8..8) {
        let mut bytes = frames(&[Vec::new()]);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let mut decoder = Decoder::default();
        decoder.push(bytes.into());
        // Longer than what came: it waits. Anything else is an error.
        prop_assert!(decode(&mut decoder).map_or(true, |frames| frames.is_empty()));
    }

    #[test]
    fn noise_never_panics_nor_reserves(noise in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut decoder = Decoder::default();
        decoder.push(noise.clone().into());
        let _ = decode(&mut decoder);
        prop_assert!(decoder.capacity() <= 2 * noise.len() + 64);
        let _ = Frame { body: noise.into(), tail: Bytes::new() }.decode::<ToCloud>();
    }
}

#[test]
fn a_promised_megabyte_is_not_reserved() {
    let body = ToCloud::Resync {
        stream: StreamId(1),
    };
    let head = Encoder::default().head(&body, 1 << 20);
    let mut decoder = Decoder::default();
    decoder.push(head.clone());
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.capacity() < 1_000);
}

#[test]
fn a_frame_in_one_chunk_is_not_copied() {
    let bytes = Bytes::from(frames(&[vec![7; 100]]));
    let mut decoder = Decoder::default();
    decoder.push(bytes.clone());
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(frame.tail.as_ptr(), bytes[bytes.len() - 100..].as_ptr());
}

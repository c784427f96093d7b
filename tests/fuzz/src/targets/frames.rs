//! Uplink frames: bytes in pieces through the decoder of a channel, and bodies of both directions.
//!
//! A body that decodes is written again and read again, and must be the same.
//!
//! Memory: a list's stated length may make serde reserve up to 1 MiB before its elements are read.

use bytes::Bytes;
use headwater_proto::Decoder;
use headwater_proto::bounds::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_VERSION};
use headwater_proto::frame::{Encoder, Frame, ToCloud, ToEdge};

use super::named;
use crate::Target;
use crate::input::{Input, Script};

pub const TARGET: Target = Target {
    name: "frames",
    run,
    seeds,
    input_bytes_max: 32 << 10,
    memory_bytes_max: 8 << 20,
};

/// A whole frame around any body, as an honest sender numbers and checks it.
pub(super) fn framed(sequence: u32, body: &[u8], tail: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(FRAME_BODY_BYTES_MAX)];
    let mut out = vec![FRAME_VERSION];
    out.extend((body.len() as u32).to_le_bytes());
    out.extend((tail.len() as u32).to_le_bytes());
    out.extend(sequence.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out);
    crc.update(body);
    out.extend(crc.finalize().to_le_bytes());
    out.extend(body);
    out.extend(tail);
    out
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() & 1 == 0 {
        bodies(&mut input);
    } else {
        pieces(&mut input);
    }
}

fn bodies(input: &mut Input<'_>) {
    let (mut decoder, mut sequence) = (Decoder::default(), 0);
    while !input.is_empty() {
        let (body, tail) = (input.bytes(), input.bytes());
        decoder.push(Bytes::from(framed(sequence, body, tail)));
        sequence += 1;
        match decoder.next_frame() {
            Ok(Some(frame)) => same_again(&frame),
            Ok(None) => panic!("a whole frame is not given out"),
            Err(_) => return assert!(body.is_empty(), "an honest frame is refused"),
        }
    }
}

fn pieces(input: &mut Input<'_>) {
    let mut decoder = Decoder::default();
    while !input.is_empty() {
        decoder.push(Bytes::copy_from_slice(input.bytes()));
        while let Ok(Some(frame)) = decoder.next_frame() {
            same_again(&frame);
        }
    }
}

fn same_again(frame: &Frame) {
    let again = |bytes: Bytes| Frame {
        body: bytes.slice(FRAME_HEADER_BYTES..),
        tail: Bytes::new(),
    };
    if let Ok(body) = frame.decode::<ToCloud>() {
        let bytes = Encoder::default().head(&body, 0);
        assert_eq!(again(bytes).decode::<ToCloud>().as_ref(), Ok(&body));
    }
    if let Ok(body) = frame.decode::<ToEdge>() {
        let bytes = Encoder::default().head(&body, 0);
        assert_eq!(again(bytes).decode::<ToEdge>().as_ref(), Ok(&body));
    }
}

/// Every frame of both directions, from the protocol's fixtures: body and tail.
pub(super) fn fixtures() -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = include_str!("../../../../uplink/proto/fixtures/frames-v1.hex");
    let frame = |line: &str| {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hex of the fixtures");
        let bytes: Vec<u8> = (0..line.len() / 2).map(|n| byte(2 * n)).collect();
        let body = u32::from_le_bytes(bytes[1..5].try_into().expect("four bytes")) as usize;
        let (body, tail) = bytes[FRAME_HEADER_BYTES..].split_at(body);
        (body.to_vec(), tail.to_vec())
    };
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(frame)
        .collect()
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let (mut bodies, mut pieces) = (Script(vec![0]), Script(vec![1]));
    for (n, (body, tail)) in fixtures().iter().enumerate() {
        bodies.bytes(body).bytes(tail);
        let frame = framed(n as u32, body, tail);
        let (a, b) = frame.split_at(frame.len() / 2);
        pieces.bytes(a).bytes(b);
    }
    vec![named("bodies", bodies.0), named("pieces", pieces.0)]
}

//! Small changes of an input, from a seed: what libFuzzer does without its sense of coverage.

/// splitmix64: the same seed, the same changes.
pub struct Rng(pub u64);

impl Rng {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }
}

/// Values that break length fields, as they lie in bytes.
const EDGES: [&[u8]; 8] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0, 0, 0],
    &[0, 0, 0, 0],
    &[0xff, 0xff],
    &[0x7f; 8],
    &[0xff; 8],
];

/// `input` with one to four changes; `other` gives pieces to splice in.
pub fn changed(input: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=rng.below(4) {
        change(&mut out, other, rng);
    }
    out
}

fn change(out: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.below(out.len());
    match rng.below(7) {
        0 if !out.is_empty() => out[at] ^= 1 << rng.below(8),
        1 if !out.is_empty() => out[at] = rng.number() as u8,
        2 => overwrite(out, at, EDGES[rng.below(EDGES.len())]),
        3 => out.truncate(at),
        4 => {
            let end = (at + 1 + rng.below(16)).min(out.len());
            out.drain(at.min(end)..end);
        }
        5 => {
            let end = (at + rng.below(64)).min(out.len());
            let piece = out[at.min(end)..end].to_vec();
            out.splice(at..at, piece);
        }
        _ => {
            let from = rng.below(other.len());
            let piece = &other[from..(from + rng.below(64)).min(other.len())];
            overwrite(out, at, piece);
        }
    }
}

fn overwrite(out: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if out.len() < at + piece.len() {
        out.resize(at + piece.len(), 0);
    }
    out[at..at + piece.len()].copy_from_slice(piece);
}

//! What a publish attempt carries: its id and, to a chosen length, a filler that follows from the id,
//! so that a record with another attempt's bytes is seen.
//!
//! ```text
//! q1-3#4711.0|k3v0t1...      publisher q1-3, its message 4711, first attempt
//! ```

use headwater_batch::SplitMix64;

/// Names one publish attempt: `publisher#message.attempt`.
pub fn attempt(publisher: &str, message: u32, attempt: u32) -> String {
    format!("{publisher}#{message}.{attempt}")
}

/// The payload of an attempt, of `bytes` or as long as the id.
pub fn of(attempt: &str, bytes: usize) -> String {
    let mut payload = format!("{attempt}|");
    let seed = attempt.bytes().fold(0, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(byte.into())
    });
    let mut rng = SplitMix64(seed);
    while payload.len() < bytes {
        payload.push(char::from(b'a' + rng.below(26) as u8));
    }
    payload
}

/// The attempt whose payload this is.
pub fn read(payload: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(payload);
    let Some((attempt, _)) = text.split_once('|') else {
        return Err(format!("{text:?} is no payload of ours"));
    };
    if of(attempt, payload.len()).as_bytes() != payload {
        return Err(format!("{text:?} is not what {attempt} carries"));
    }
    Ok(attempt.to_owned())
}

/// Publisher, message and attempt of an id.
pub fn parts(attempt: &str) -> Option<(&str, u32, u32)> {
    let (publisher, rest) = attempt.split_once('#')?;
    let (message, nth) = rest.split_once('.')?;
    Some((publisher, message.parse().ok()?, nth.parse().ok()?))
}

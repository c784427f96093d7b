//! Which publish a payload belongs to, small enough that an hour's worth of them fits in memory.

use std::fmt;

use e2e::payload;

/// One attempt to publish one message: publisher, its message, and how often it was tried before.
/// Ordered by these three.
///
/// ```text
/// 63      48 47            16 15     0
/// publisher | message        | nth
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u64);

impl Attempt {
    pub fn new(publisher: u16, message: u32, nth: u16) -> Attempt {
        Attempt(u64::from(publisher) << 48 | u64::from(message) << 16 | u64::from(nth))
    }

    pub fn publisher(self) -> u16 {
        (self.0 >> 48) as u16
    }

    pub fn message(self) -> u32 {
        (self.0 >> 16) as u32
    }

    pub fn nth(self) -> u16 {
        self.0 as u16
    }

    /// The next one of the same message.
    pub fn again(self) -> Attempt {
        assert!(self.nth() < u16::MAX, "{self} was tried too often");
        Attempt(self.0 + 1)
    }

    /// What it carries, see [`payload`].
    pub fn payload(self, bytes: usize) -> String {
        payload::of(&self.to_string(), bytes)
    }

    /// From a payload, which must be what the attempt carries to the last byte.
    pub fn read(payload: &[u8]) -> Result<Attempt, String> {
        let text = payload::read(payload)?;
        let parts = payload::parts(&text).and_then(|(publisher, message, nth)| {
            let publisher = publisher.strip_prefix('p')?.parse().ok()?;
            Some(Attempt::new(publisher, message, u16::try_from(nth).ok()?))
        });
        parts.ok_or_else(|| format!("{text:?} is no id of ours"))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("p{}", self.publisher());
        let (message, nth) = (self.message(), u32::from(self.nth()));
        f.write_str(&payload::attempt(&name, message, nth))
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_attempt_and_another_byte_is_seen() {
        for attempt in [
            Attempt::new(0, 0, 0),
            Attempt::new(4095, u32::MAX, u16::MAX),
        ] {
            let payload = attempt.payload(64);
            assert_eq!(Attempt::read(payload.as_bytes()), Ok(attempt));
            let mut bytes = payload.into_bytes();
            *bytes.last_mut().unwrap() ^= 1;
            assert!(Attempt::read(&bytes).is_err());
        }
        assert!(Attempt::new(1, 9, 9) < Attempt::new(2, 0, 0));
        assert_eq!(Attempt::new(1, 2, 3).again(), Attempt::new(1, 2, 4));
    }
}

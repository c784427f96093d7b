//! What a message holds: its attempt's id, and filling that follows from it, so that a reader knows
//! whether it got what was sent.

use crate::mqtt::wire::ID;

/// Names one publish attempt (or, at QoS 2, one message) in the whole world. Rises as they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

#[derive(Debug, Default)]
pub struct Ids {
    last: u64,
}

impl Ids {
    pub fn draw(&mut self) -> Id {
        self.last += 1;
        Id(self.last)
    }
}

/// `<id>:` and filling up to `bytes`.
pub fn of(id: Id, bytes: usize) -> Vec<u8> {
    let mut payload = format!("{}:", id.0).into_bytes();
    let mut state = id.0;
    while payload.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        payload.push(b'a' + (state >> 60) as u8);
    }
    payload
}

/// The id of a payload that is as it was sent.
pub fn id_of(payload: &[u8]) -> Option<Id> {
    let colon = payload.iter().position(|b| *b == b':')?;
    let id = Id(std::str::from_utf8(&payload[..colon]).ok()?.parse().ok()?);
    (of(id, payload.len()) == payload).then_some(id)
}

/// The id of a record: one without a payload, which deletes what is retained, has it in a header.
pub fn id_of_record(record: &headwater_batch::Record<'_>) -> Option<Id> {
    let value = record.value.unwrap_or_default();
    if !value.is_empty() {
        return id_of(value);
    }
    let mut headers = record.headers.iter();
    let named = headers.find(|header| header.key == ID.as_bytes())?;
    Some(Id(std::str::from_utf8(named.value?).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_payload_has_no_id() {
        let mut payload = of(Id(1234), 40);
        assert_eq!(id_of(&payload), Some(Id(1234)));
        assert_eq!(id_of(&of(Id(7), 0)), Some(Id(7)));
        payload[30] ^= 1;
        assert_eq!(id_of(&payload), None);
    }
}

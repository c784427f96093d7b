//! Checks the property list of a v5 packet (section 2.2.2): which may stand where, how often, and
//! with which values. The crate checks none of this, and lets a list run past its own length.

use super::CodecError;
use super::cursor::Cursor;

/// Where a property list stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Connect,
    Will,
    Publish,
    Ack,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

impl Place {
    /// The identifiers that a client may put there (table 2-4).
    fn allows(self, id: u8) -> bool {
        match self {
            Place::Connect => matches!(id, 17 | 21 | 22 | 23 | 25 | 33 | 34 | 38 | 39),
            Place::Will => matches!(id, 1 | 2 | 3 | 8 | 9 | 24 | 38),
            // 11, the subscription identifier, comes only from a server [MQTT-3.3.4-6].
            Place::Publish => matches!(id, 1 | 2 | 3 | 8 | 9 | 35 | 38),
            Place::Ack => matches!(id, 31 | 38),
            Place::Subscribe => matches!(id, 11 | 38),
            Place::Unsubscribe => id == 38,
            // 28, the server reference, comes only from a server.
            Place::Disconnect => matches!(id, 17 | 31 | 38),
            Place::Auth => matches!(id, 21 | 22 | 31 | 38),
        }
    }
}

/// The few values that the adapter needs itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Values {
    pub session_expiry_s: Option<u32>,
    pub subscription_id: Option<u32>,
    pub any: bool,
}

/// Walks the list at the cursor and leaves the cursor behind it.
pub(super) fn check(cursor: &mut Cursor<'_>, place: Place) -> Result<Values, CodecError> {
    let len = cursor.varint()? as usize;
    let list = cursor.take(len)?;
    let mut values = Values::default();
    let mut seen = 0u64;
    let mut c = Cursor::new(list, 0);
    while c.left() > 0 {
        let id = c.u8()?;
        if !place.allows(id) {
            return Err(CodecError::Malformed(
                "a property that this packet cannot have",
            ));
        }
        if id != 38 && seen & (1 << id) != 0 {
            return Err(CodecError::Protocol("a property stands twice"));
        }
        seen |= 1 << id;
        values.any = true;
        one(&mut c, id, &mut values)?;
    }
    if seen & (1 << 22) != 0 && seen & (1 << 21) == 0 {
        return Err(CodecError::Protocol("authentication data without a method"));
    }
    Ok(values)
}

fn one(c: &mut Cursor<'_>, id: u8, values: &mut Values) -> Result<(), CodecError> {
    match id {
        1 | 23 | 25 if c.u8()? > 1 => {
            return Err(CodecError::Protocol("a property is neither 0 nor 1"));
        }
        1 | 23 | 25 => {}
        17 => values.session_expiry_s = Some(c.u32()?),
        2 | 24 => drop(c.u32()?),
        39 if c.u32()? == 0 => return Err(CodecError::Protocol("maximum packet size 0")),
        39 => {}
        33 if c.u16()? == 0 => return Err(CodecError::Protocol("receive maximum 0")),
        33 => {}
        34 | 35 => drop(c.u16()?),
        11 => match c.varint()? {
            0 => return Err(CodecError::Protocol("subscription identifier 0")),
            n => values.subscription_id = Some(n),
        },
        8 => {
            let topic = c.string()?;
            if topic.is_empty() || topic.contains(['+', '#']) {
                return Err(CodecError::Protocol("a response topic with wildcards"));
            }
        }
        3 | 21 | 31 => drop(c.string()?),
        9 | 22 => drop(c.binary()?),
        38 => {
            c.string()?;
            c.string()?;
        }
        _ => return Err(CodecError::Malformed("an unknown property")),
    }
    Ok(())
}

//! Zigzag varints as Kafka's records use them, and a cursor that cannot run off its bytes.

/// The longest encoding of 32 and of 64 bits.
pub(crate) const VARINT_BYTES_MAX: usize = 5;
pub(crate) const VARLONG_BYTES_MAX: usize = 10;

/// What a cursor found wrong. The caller knows where.
pub(crate) type Problem = &'static str;

pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The bytes of `value` as a varint. 32 and 64 bit values encode alike.
pub(crate) const fn size(value: i64) -> usize {
    // 7 bits a byte, and at least one byte.
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A reader over borrowed bytes. Every read is checked; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Problem> {
        let byte = *self.bytes.get(self.at).ok_or("cut short")?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let end = self.at.checked_add(length).ok_or("length out of range")?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or("length runs past the end")?;
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn varint(&mut self) -> Result<i32, Problem> {
        let value = self.unsigned(VARINT_BYTES_MAX)?;
        let value = u32::try_from(value).map_err(|_| "varint over 32 bits")?;
        Ok((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    pub(crate) fn varlong(&mut self) -> Result<i64, Problem> {
        let value = self.unsigned(VARLONG_BYTES_MAX)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A length that is never null.
    pub(crate) fn length(&mut self) -> Result<usize, Problem> {
        usize::try_from(self.varint()?).map_err(|_| "negative length")
    }

    /// Bytes behind their length; -1 is null.
    pub(crate) fn nullable(&mut self) -> Result<Option<&'a [u8]>, Problem> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| "negative length")?;
                self.take(length).map(Some)
            }
        }
    }

    fn unsigned(&mut self, bytes_max: usize) -> Result<u64, Problem> {
        let mut value = 0u64;
        for index in 0..bytes_max {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // Only the tenth byte can carry bits beyond the 64th.
            if index == 9 && bits > 1 {
                return Err("varint over 64 bits");
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("varint too long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_every_length_round_trip() {
        let edges = (0..64).flat_map(|bit| {
            let power = 1i64.wrapping_shl(bit);
            [
                power,
                power.wrapping_sub(1),
                power.wrapping_neg(),
                power.wrapping_add(1),
            ]
        });
        for value in edges.chain([0, i64::MIN, i64::MAX]) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(bytes.len(), size(value), "{value}");
            assert_eq!(Cursor::new(&bytes).varlong(), Ok(value));
            assert_eq!(
                Cursor::new(&bytes).varint().ok(),
                i32::try_from(value).ok(),
                "{value}"
            );
        }
    }

    #[test]
    fn too_long_or_too_wide_is_refused() {
        let wide = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert!(Cursor::new(&wide).varint().is_err());
        assert!(Cursor::new(&[0x80; 6]).varint().is_err());
        assert!(Cursor::new(&[0x80; 11]).varlong().is_err());
        let wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert!(Cursor::new(&wide).varlong().is_err());
        assert!(Cursor::new(&[0x80]).varint().is_err());
        // Longer than it need be is allowed: Java reads it too.
        assert_eq!(Cursor::new(&[0x80, 0x80, 0x00]).varint(), Ok(0));
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        let mut bytes = Vec::new();
        put(&mut bytes, i32::MAX.into());
        assert!(Cursor::new(&bytes).nullable().is_err());
        bytes.clear();
        put(&mut bytes, -2);
        assert!(Cursor::new(&bytes).nullable().is_err());
        assert!(Cursor::new(&[0x01]).length().is_err());
        assert_eq!(Cursor::new(&[0x01]).nullable(), Ok(None));
    }
}

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

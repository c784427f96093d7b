//! Reads the wire's data types (section 1.5 of MQTT 5.0) from a slice, checking each.

use super::CodecError;

/// A position in one packet's body. Nothing here allocates.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor {
            bytes,
            at: at.min(bytes.len()),
        }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        if n > self.left() {
            return Err(CodecError::Malformed("the packet ends inside a field"));
        }
        let part = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(part)
    }

    pub fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, CodecError> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    pub fn u32(&mut self) -> Result<u32, CodecError> {
        let b = self.take(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A variable byte integer, in as few bytes as possible [MQTT-1.5.5-1].
    pub fn varint(&mut self) -> Result<u32, CodecError> {
        let mut value = 0u32;
        for i in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if byte == 0 && i > 0 {
                    return Err(CodecError::Malformed("a variable byte integer is too long"));
                }
                return Ok(value);
            }
        }
        Err(CodecError::Malformed("a variable byte integer is too long"))
    }

    pub fn binary(&mut self) -> Result<&'a [u8], CodecError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 string: well-formed, no surrogates, no U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].
    pub fn string(&mut self) -> Result<&'a str, CodecError> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| CodecError::Malformed("a string is not UTF-8"))?;
        if bytes.contains(&0) {
            return Err(CodecError::Malformed("a string holds U+0000"));
        }
        Ok(text)
    }

    /// A packet identifier; 0 is a protocol error [MQTT-2.2.1-3].
    pub fn packet_id(&mut self) -> Result<u16, CodecError> {
        match self.u16()? {
            0 => Err(CodecError::Protocol("packet identifier 0")),
            id => Ok(id),
        }
    }

    pub fn end(&self) -> Result<(), CodecError> {
        match self.left() {
            0 => Ok(()),
            _ => Err(CodecError::Malformed(
                "bytes after the end of the packet's fields",
            )),
        }
    }
}

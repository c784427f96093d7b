//! Reads a fuzzer's bytes as a list of small decisions; past the end everything is zero.

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Two bytes of length, then as many bytes, or what is left.
    pub fn bytes(&mut self) -> &'a [u8] {
        let n = usize::from(self.short()).min(self.0.len());
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Writes what [`Input`] reads: for seeds.
#[derive(Default)]
pub struct Script(pub Vec<u8>);

impl Script {
    pub fn byte(&mut self, byte: u8) -> &mut Script {
        self.0.push(byte);
        self
    }

    pub fn short(&mut self, n: u16) -> &mut Script {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Script {
        self.short(u16::try_from(bytes.len()).expect("seeds are small"));
        self.0.extend(bytes);
        self
    }
}

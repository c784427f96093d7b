//! What happened, counted and, if asked for, told: and a hash of all of it.

use std::collections::BTreeMap;

use crate::now::Ms;

/// How often each thing happened, by name.
pub type Counts = BTreeMap<String, u64>;

pub struct Journal {
    pub counts: Counts,
    hash: u64,
    lines: Vec<String>,
    trace: Trace,
}

/// What becomes of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    Off,
    /// For the report.
    Kept,
    /// At once: a panic must not take it along.
    Printed,
}

impl Journal {
    pub fn new(trace: Trace) -> Journal {
        Journal {
            counts: Counts::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            lines: Vec::new(),
            trace,
        }
    }

    /// Something that is counted.
    pub fn note(&mut self, now: Ms, what: &str, detail: impl FnOnce() -> String) {
        match self.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
        self.mix(now, what.as_bytes());
        self.line(now, || format!("{what} {}", detail()));
    }

    /// Something that only the trace and the hash see.
    pub fn line(&mut self, now: Ms, line: impl FnOnce() -> String) {
        match self.trace {
            Trace::Off => {}
            Trace::Kept => self.lines.push(format!("{now:>8} {}", line())),
            Trace::Printed => println!("{now:>8} {}", line()),
        }
    }

    pub fn mix(&mut self, now: Ms, bytes: &[u8]) {
        for byte in now.to_le_bytes().iter().chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn add(&mut self, what: &str, count: u64) {
        if count > 0 {
            *self.counts.entry(what.to_owned()).or_default() += count;
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

//! The crate from outside, in one binary: fixtures of real clients, properties, bounds, FORMAT.md.
#![allow(clippy::unwrap_used, reason = "a test may; its helpers are part of it")]

mod bounds;
mod damage;
mod format;
mod golden;
mod properties;
mod support;

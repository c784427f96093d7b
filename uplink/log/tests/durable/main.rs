//! The durable layer against an in-memory model, on a simulated disk and on the real one.

// Helpers of tests are tests too, and they damage real files by hand.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod ends;
mod faults;
mod format;
mod model;
mod pages;
mod random;
mod real;
mod reuse;
mod rules;
mod sled;
mod trim;
mod void;

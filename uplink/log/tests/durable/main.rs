//! The durable layer against an in-memory model, on a simulated disk and on the real one.

mod faults;
mod model;
mod random;
mod real;
mod rules;
mod sled;

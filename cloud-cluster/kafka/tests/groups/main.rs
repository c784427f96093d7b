//! The group coordinator by scenario: what members see when they join, die, leave and come back.
#![allow(clippy::unwrap_used)] // A test may.

mod admin;
mod bounds;
mod departure;
mod offsets;
mod rebalance;
mod static_members;
mod world;

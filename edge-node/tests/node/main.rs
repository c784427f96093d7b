//! The real program over real sockets: killed, restarted, misused.
#![allow(clippy::unwrap_used)] // A test that panics is a test that fails.

mod access;
mod broker_flow;
mod certs;
mod client;
mod crash;
mod limits;
mod listeners;
mod peer;
mod process;
mod records;
mod reload;

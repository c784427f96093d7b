//! The real program over real sockets: killed, restarted, misused.
#![allow(clippy::unwrap_used)] // A test that panics is a test that fails.

mod broker_flow;
mod client;
mod commands;
mod crash;
mod page;
mod process;
mod records;
mod service;
mod stop;
mod threads;

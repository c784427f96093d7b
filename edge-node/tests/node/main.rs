//! The real program over real sockets: killed, restarted, misused.
#![allow(clippy::unwrap_used)] // A test that panics is a test that fails.

mod access;
mod broker_flow;
mod certs;
mod client;
mod commands;
mod crash;
mod limits;
mod listeners;
mod page;
mod peer;
mod process;
mod records;
mod reload;
mod service;
mod stop;
mod threads;

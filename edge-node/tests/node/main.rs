//! The real program over real sockets: killed, restarted, misused.

mod broker_flow;
mod client;
mod crash;
mod process;
mod records;

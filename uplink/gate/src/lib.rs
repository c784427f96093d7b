//! What stands between a listener and whoever connects to it: bounds on connections that cost the
//! other side nothing, and log lines that say who was sent away and why.
//!
//! | module | what it is |
//! |---|---|
//! | [`newcomers`] | connections that have said nothing yet: the oldest makes room for the newest |
//! | [`refusals`] | log lines about refused peers, a few each second and the rest counted |
//! | [`pages`] | HTTP for status and administration, with bounds on number and time |
//! | [`files`] | the process's limit of open files, raised to what it may be |
//!
//! What is absent: no protocol but HTTP's shell, and nothing about who is allowed to do what.

pub mod files;
pub mod newcomers;
pub mod pages;
pub mod refusals;

pub use newcomers::{Heard, Newcomers};
pub use refusals::Refusals;

//! Real processes that are killed and cut off while publishers write, and that run out of disk:
//! everything acknowledged stands once in the cloud, in order.
//!
//! [`plan`] draws from a seed what happens when; [`run`] makes it happen and judges; [`room`] makes a
//! file system that is small and really full.

pub mod plan;
pub mod room;
pub mod run;

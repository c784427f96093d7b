//! Real processes that are killed and cut off while publishers write: everything acknowledged stands
//! once in the cloud, in order.
//!
//! [`plan`] draws from a seed what happens when; [`run`] makes it happen and judges.

pub mod plan;
pub mod run;

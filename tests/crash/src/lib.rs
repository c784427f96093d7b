//! Real processes that are killed and cut off while publishers write, and that run out of disk:
//! everything acknowledged stands once in the cloud, in order.
//!
//! [`plan`] draws from a seed what happens when; [`run`] makes it happen and judges; [`room`] makes a
//! file system that is small and really full.
//!
//! # Rules taken out by hand, and what `--test killed` said
//! | what was broken | what it said |
//! |---|---|
//! | edge: PUBACK before the record is durable | `720 missing: q1-0#280.0 was acknowledged and is not there` |
//! | edge: a QoS 2 publish leaves no packet id in the journal | `20 double: q2-1#120.0 stands 2 times` |
//! | cloud: streams are forgotten at each start | `the cloud lost what it acknowledged: ... CloudWentBack { acked: 400, next: 0 }` |
//! | cloud: ACK before commit | the same with `acked: 3736, next: 3240`, in 2 runs of 6 |
//!
//! The last one needs a kill between ACK and commit, and mends itself: the edge still has the records
//! and sends them again. So only its alarm shows it, and not in every run.

pub mod plan;
pub mod room;
pub mod run;
pub mod soak;

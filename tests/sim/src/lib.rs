//! Headwater in one process, from one seed: edges, uplink, cloud, MQTT and Kafka clients on
//! simulated clock, network and disks, hurt in every way the design names, then healed. What a
//! client was told stands, or the run fails.
//!
//! | module | what it is |
//! |---|---|
//! | [`rng`], [`now`] | the one source of chance, and what time it is for whom |
//! | [`edge`] | one device's process: the real edge, stepped |
//!
//! Real code runs from the codecs down to the `Disk` trait. What is absent: threads, real time,
//! real files, sockets, and any randomness that does not come from the seed.

pub mod edge;
pub mod now;
pub mod rng;

//! Headwater in one process, from one seed: edges, uplink, cloud, MQTT and Kafka clients on
//! simulated clock, network and disks, hurt in every way the design names, then healed. What a
//! client was told stands, or the run fails.
//!
//! | module | what it is |
//! |---|---|
//! | [`run`] | one seed, or many, and what they came to |
//! | [`plan`] | what a seed's world is like, and which faults it has |
//! | [`world`] | the clock, the network, devices, cards, chaos, healing |
//! | [`edge`] | one device's process: the real edge, stepped |
//! | [`cloud`] | the node: the real core on a simulated disk and object store |
//! | [`mqtt`], [`kafka`] | clients with real bytes |
//! | [`oracle`] | what was promised to publishers and consumers, and whether it holds |
//! | [`served`], [`shared`], [`kept`] | the same of subscribers, shared subscriptions, what is retained |
//! | [`produced`], [`grouped`] | the same of idempotent producers, consumer groups |
//! | [`rng`], [`now`], [`payload`], [`count`] | chance, time, what messages hold, what is counted |
//!
//! ```text
//! cargo test -p sim                                           500 seeds, old finds, rules
//! cargo run --release -p sim -- --seeds 10000                 some 55,000 power cuts; a summary
//! cargo run --release -p sim -- --seed 17 --trace             one again, with what happens in it
//! ```
//! A run names each fault and each branch with how often it happened, and fails when one of
//! [`run::MUST_FIRE`] never did.
//!
//! # What a world forgives
//! An acknowledged record may miss, or stand twice, where that was the operator's doing or cannot be
//! told by anybody. Each such exemption is counted (`exempt: ...`):
//! - The only card that held it was overwritten with an older image; its topic was deleted.
//! - Rot in the group that was synced last: it cannot be told from a torn tail (J1).
//! - QoS 2 in flight while a session went back in time (image, swapped card, lost checkpoints, rot):
//!   a broker with an old session may take a new message for one that it knows.
//! - What a broker with the durability `interval` had answered for less than 5 s before it died (J7).
//! - What the cloud set aside for an operator, as far as the device still holds it.
//! - QoS 0 against higher QoS of one publisher, once the log was full: MQTT orders by QoS.
//!
//! - What the cloud acknowledged after it was copied, once it is restored from that copy and the edge
//!   says that it went back.
//! - A stream that is set aside (quarantine) until an operator looks.
//!
//! - What a broker kept for its clients (sessions, QoS 2 ids, retained messages, wills), once a card that
//!   it works on is older than what was told, or a broker with the durability `interval` died.
//!
//! Losses are held against the ledger offset by offset: see `oracle::stored`.
//!
//! # What is not in it
//! Several cloud nodes, rot on the cloud's disk, transactions, subscription identifiers, message expiry; an operator
//! who retires incarnations, or as many cards as the cloud has places for (U2); one who gives up what a
//! cloud that went back has lost, which no node lets him do yet; Kafka producers and group members of
//! a cloud that goes back.
//!
//! Real code runs from the codecs down to the `Disk` trait. What is absent: threads, real time,
//! real files, sockets, and any randomness that does not come from the seed.

pub mod cloud;
pub mod count;
pub mod edge;
pub mod grouped;
pub mod kafka;
pub mod kept;
pub mod mqtt;
pub mod now;
pub mod oracle;
pub mod payload;
pub mod plan;
pub mod produced;
pub mod rng;
pub mod run;
pub mod served;
pub mod shared;
pub mod world;

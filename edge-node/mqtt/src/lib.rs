//! The edge's MQTT broker as a machine: 3.1.1 and 5.0, without sockets, clock, disk or tokio.
//!
//! [`Broker::handle`] takes the time and one [`Event`] and pushes [`Effect`]s. The shell owns
//! sockets and the log; it does what the effects say and reports back.
//!
//! # What the shell does
//! - After `accept`: [`Event::Opened`]. What it reads goes in as [`Event::Received`], in order, in
//!   pieces of any size; partial packets are kept by the machine (1 MiB at most per connection).
//! - [`Effect::Send`]: write the bytes, then report [`Event::Written`] with their number (several
//!   writes may be reported at once). Without it the machine stops sending to that connection.
//! - [`Effect::Append`]: stage one journal frame (record and op together), in the order given. When
//!   it is durable, [`Event::Durable`] with its token; this covers every earlier token that was not
//!   refused. If the log has no room, [`Event::Refused`] before any `Durable` that would cover it.
//! - [`Effect::PauseReading`] and [`Effect::ResumeReading`]: stop and start reading that socket.
//!   Bytes that were already on their way may still be handed in.
//! - [`Effect::Close`]: flush what was sent, then close. No `Closed` event needs to follow, and
//!   one that does is ignored. If the peer closes, or a read fails: [`Event::Closed`].
//! - [`Effect::ArmTimer`]: call with [`Event::Timer`] at that time or soon after; a later
//!   `ArmTimer` replaces the earlier. A call too early does no harm.
//!
//! # What is durable when
//! PUBACK, PUBREC and PUBCOMP, and CONNACK, SUBACK and UNSUBACK of sessions that outlive their
//! connection, are sent after `Durable`. The durable state is changed in one place,
//! `state::State::apply`, in journal order, once the frame is durable, live and at a restart alike:
//! so a restored machine equals the one that crashed. QoS 0 is delivered at once. QoS 1 and 2 reach
//! local subscribers after `Durable`.
//!
//! # Time
//! `now_ms` never goes back, and should go on across restarts (rule J9's persisted clock). Expiry
//! and keep-alive are counted in it. The wall clock is the shell's matter.

mod access;
pub mod broker;
pub mod codec;
mod config;
mod event;
pub mod limits;
mod message;
pub mod rules;
mod seeded;
mod state;
mod stats;
pub mod topic;

pub use access::{Access, AllowAll, Identity, Login};
pub use broker::Broker;
pub use config::Config;
pub use event::{Append, CloseReason, ConnId, ConnInfo, Effect, Event, Limits, Refusal, Token};
pub use message::{Properties, Publish, QoS};
pub use state::RestoreReport;
pub use stats::{ClientView, Stats};

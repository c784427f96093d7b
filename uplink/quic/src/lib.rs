//! The uplink's network shell: identities and certificates, and quinn around the two machines of
//! `headwater-proto`.
//!
//! | module | what it is |
//! |---|---|
//! | [`Ca`], [`Bundle`], [`Revoked`] | who may speak for an edge, and what an edge carries |
//! | [`server`] | the cloud's listener: [`server::Server`] calls a [`server::Sink`] |
//! | [`client`] | the edge's link: [`client::run`] reads from a [`client::Source`] |
//!
//! What is absent: no knowledge of logs, shards or Kafka; both ends are behind a trait. Nothing
//! here keeps state that must survive a restart, except the CA's two files.
//!
//! One connection has one bidirectional control stream, opened by the edge, and a unidirectional
//! stream per data lane of the edge's machine. Bounds: see [`Transport`] and
//! [`server::ServerConfig`].

mod bundle;
mod ca;
pub mod client;
mod clock;
mod name;
mod revoked;
pub mod server;
mod tls;
mod transport;

pub use bundle::{ADDRESSES_MAX, BUNDLE_BYTES_MAX, Bundle, BundleError, is_address};
pub use ca::{CLOUD_DNS_NAME, Ca, CaError, Identity, cloud_identity};
pub use headwater_proto::{EdgeName, EdgeNameError};
pub use name::{Subject, SubjectError};
pub use revoked::{Revoked, RevokedError};
pub use tls::{ALPN, TlsError};
pub use transport::Transport;

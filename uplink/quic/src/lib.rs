//! The uplink's network shell: identities and certificates, and quinn around the machines of
//! `headwater-proto`.
mod bundle;
mod ca;
mod name;
mod revoked;
mod tls;
mod transport;

pub use bundle::{ADDRESSES_MAX, BUNDLE_BYTES_MAX, Bundle, BundleError, is_address};
pub use ca::{CLOUD_DNS_NAME, Ca, CaError, Identity};
pub use name::{EDGE_NAME_BYTES_MAX, EdgeName, NameError, Subject, SubjectError};
pub use revoked::{Revoked, RevokedError};
pub use tls::{ALPN, TlsError};
pub use transport::Transport;

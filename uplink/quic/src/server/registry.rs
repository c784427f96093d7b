//! The connections that stand, and the revocation list in force.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use headwater_proto::EdgeName;
use quinn::Connection;

use crate::name::Subject;
use crate::revoked::{Revoked, RevokedError};

/// One connection, for status pages.
#[derive(Debug, Clone)]
pub struct ConnectionView {
    /// Who it is.
    pub edge: EdgeName,
    /// Where it is now; it may migrate.
    pub remote: SocketAddr,
    /// How long it stands.
    pub age: Duration,
    /// QUIC's estimate.
    pub round_trip: Duration,
    /// UDP payload received and sent.
    pub received_bytes: u64,
    /// See `received_bytes`.
    pub sent_bytes: u64,
}

#[derive(Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    connections: HashMap<usize, Standing>,
    revoked: InForce,
    /// A list was put in force.
    is_listed: bool,
}

/// Who is kept out.
enum InForce {
    List(Revoked),
    /// Everybody, and what the operator is to do.
    NoList(String),
}

impl Default for InForce {
    fn default() -> InForce {
        InForce::List(Revoked::default())
    }
}

/// Why an edge with a good certificate does not get in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    #[error("is revoked")]
    Revoked,
    #[error("is not looked up: {0}")]
    NoList(String),
}

struct Standing {
    connection: Connection,
    subject: Subject,
    since: Instant,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Takes a connection in unless its certificate is revoked. Checked and entered under one
    /// lock: a list that changes meanwhile sees either the entry or the refusal.
    pub(super) fn enter(&self, connection: &Connection, subject: &Subject) -> Result<(), Denied> {
        let mut inner = self.lock();
        match &inner.revoked {
            InForce::List(revoked) if revoked.holds(subject) => return Err(Denied::Revoked),
            InForce::List(_) => {}
            InForce::NoList(why) => return Err(Denied::NoList(why.clone())),
        }
        let (connection, subject) = (connection.clone(), subject.clone());
        let standing = Standing {
            since: Instant::now(),
            subject,
            connection,
        };
        inner
            .connections
            .insert(standing.connection.stable_id(), standing);
        Ok(())
    }

    pub(super) fn leave(&self, connection: &Connection) {
        self.lock().connections.remove(&connection.stable_id());
    }

    pub(super) fn count(&self) -> usize {
        self.lock().connections.len()
    }

    /// Puts a list in force, also for the connections that stand.
    pub(super) fn revoke(&self, revoked: Revoked) -> usize {
        let closed = {
            let mut inner = self.lock();
            inner.revoked = InForce::List(revoked.clone());
            inner.is_listed = true;
            drop(inner);
            self.close_where(|subject| revoked.holds(subject), "certificate revoked")
        };
        tracing::info!(entries = revoked.len(), closed, "revocation list in force");
        closed
    }

    /// A list that is in force stays. At a start there is none: then nobody gets in, since whom to
    /// keep out is not known.
    pub(super) fn no_list(&self, error: &RevokedError) {
        let mut inner = self.lock();
        match &inner.revoked {
            InForce::List(list) if inner.is_listed => {
                tracing::error!(%error, entries = list.len(), "the revocation list in force stays");
            }
            _ => {
                tracing::error!(%error, "no edge gets in");
                inner.revoked = InForce::NoList(error.to_string());
            }
        }
    }

    pub(super) fn close_where(&self, chosen: impl Fn(&Subject) -> bool, reason: &str) -> usize {
        let inner = self.lock();
        let chosen = inner
            .connections
            .values()
            .filter(|standing| chosen(&standing.subject));
        chosen
            .map(|standing| {
                let (edge, remote) = (&standing.subject.edge, standing.connection.remote_address());
                tracing::warn!(%edge, %remote, reason, "edge sent away");
                standing.connection.close(1u32.into(), reason.as_bytes());
            })
            .count()
    }

    pub(super) fn views(&self) -> Vec<ConnectionView> {
        let inner = self.lock();
        let view = |standing: &Standing| {
            let stats = standing.connection.stats();
            ConnectionView {
                edge: standing.subject.edge.clone(),
                remote: standing.connection.remote_address(),
                age: standing.since.elapsed(),
                round_trip: standing.connection.rtt(),
                received_bytes: stats.udp_rx.bytes,
                sent_bytes: stats.udp_tx.bytes,
            }
        };
        let mut views: Vec<_> = inner.connections.values().map(view).collect();
        views.sort_by(|a, b| a.edge.cmp(&b.edge));
        views
    }
}

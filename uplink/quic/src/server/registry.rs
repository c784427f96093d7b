//! The connections that stand, and the revocation list in force.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use headwater_proto::EdgeName;
use quinn::Connection;

use crate::name::Subject;
use crate::revoked::Revoked;

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
    revoked: Revoked,
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
    pub(super) fn enter(&self, connection: &Connection, subject: &Subject) -> bool {
        let mut inner = self.lock();
        if inner.revoked.holds(subject) {
            return false;
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
        true
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
            self.lock().revoked = revoked.clone();
            self.close_where(|subject| revoked.holds(subject), "certificate revoked")
        };
        tracing::info!(entries = revoked.len(), closed, "revocation list in force");
        closed
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

//! Who gets in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_gate::Refusals;
use quinn::{Connection, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;

use super::connection;
use super::registry::{Denied, Registry};
use super::{ServerConfig, Sink};
use crate::name::{Subject, SubjectError};
use crate::revoked::RevokedFile;

/// Why a peer was sent away. Logged with its address.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the handshake failed: {0}")]
    Handshake(#[from] quinn::ConnectionError),
    #[error("the handshake took longer than {0:?}")]
    Slow(Duration),
    #[error("no certificate came")]
    NoCertificate,
    #[error("{0}")]
    Subject(#[from] SubjectError),
    #[error("the certificate of edge {edge} (serial {serial}) {why}")]
    Denied {
        edge: String,
        serial: String,
        why: Denied,
    },
}

pub(super) async fn run(
    endpoint: Endpoint,
    config: ServerConfig,
    sink: Arc<dyn Sink>,
    registry: Arc<Registry>,
) {
    let half_open = Arc::new(Semaphore::new(config.half_open_max));
    let config = Arc::new(config);
    let refusals = Arc::new(Refusals::new("uplink"));
    while let Some(incoming) = endpoint.accept().await {
        let remote = incoming.remote_address();
        if registry.count() >= config.connections_max {
            refusals.say(remote, "too many connections");
            incoming.refuse();
            continue;
        }
        // A flood from forged addresses must not use up the handshakes of honest edges.
        let busy = half_open.available_permits() <= config.half_open_max / 2;
        if busy && incoming.may_retry() {
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = half_open.clone().try_acquire_owned() else {
            refusals.say(remote, "too many handshakes");
            incoming.refuse();
            continue;
        };
        let (config, sink, registry) = (config.clone(), sink.clone(), registry.clone());
        let refusals = refusals.clone();
        tokio::spawn(async move {
            let admitted = admit(incoming, &config, &registry).await;
            drop(permit);
            match admitted {
                Ok((connection, subject)) => {
                    connection::run(&connection, &subject, &config, sink).await;
                    registry.leave(&connection);
                }
                Err(reason) => refusals.say(remote, reason),
            }
        });
    }
}

async fn admit(
    incoming: Incoming,
    config: &ServerConfig,
    registry: &Registry,
) -> Result<(Connection, Subject), Refusal> {
    let handshake = tokio::time::timeout(config.handshake_timeout, async { incoming.await });
    let connection = handshake
        .await
        .map_err(|_| Refusal::Slow(config.handshake_timeout))??;
    let refuse = |refusal: Refusal| {
        connection.close(1u32.into(), refusal.to_string().as_bytes());
        refusal
    };
    let subject = subject_of(&connection).map_err(refuse)?;
    if let Err(why) = registry.enter(&connection, &subject) {
        let (edge, serial) = (subject.edge.to_string(), subject.serial);
        return Err(refuse(Refusal::Denied { edge, serial, why }));
    }
    Ok((connection, subject))
}

fn subject_of(connection: &Connection) -> Result<Subject, Refusal> {
    let identity = connection.peer_identity().ok_or(Refusal::NoCertificate)?;
    let chain = identity
        .downcast::<Vec<CertificateDer<'static>>>()
        .map_err(|_| Refusal::NoCertificate)?;
    Ok(Subject::of(chain.first().ok_or(Refusal::NoCertificate)?)?)
}

/// Looks at the revocation list now and then, and puts it in force when it changed.
pub(super) async fn watch_revoked(mut file: RevokedFile, every: Duration, registry: Arc<Registry>) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        match file.changed() {
            Some(Ok(revoked)) => {
                registry.revoke(revoked);
            }
            Some(Err(error)) => registry.no_list(&error),
            None => {}
        }
    }
}

/// For log lines.
pub(super) fn remote(connection: &Connection) -> SocketAddr {
    connection.remote_address()
}

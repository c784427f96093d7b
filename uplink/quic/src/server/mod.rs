//! The cloud's uplink listener.
//!
//! Every connection is mutually authenticated; the edge's name is what its certificate says. Who
//! is refused stands in the log with address and reason. Each connection runs one
//! [`CloudSession`](headwater_proto::CloudSession) whose commits go to a [`Sink`].
//!
//! # Bounds
//! Half-open handshakes, connections, streams and windows are limited by [`ServerConfig`]; bytes
//! handed to the sink and not answered by the machine (`pending_bytes_max`). At a limit a new
//! connection is refused; above half of `half_open_max` a peer must first prove its address.

mod accept;
mod connection;
mod registry;
mod reset;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::{AlarmKind, CloudConfig, EdgeName, StreamEntry, StreamKey};
use quinn::Endpoint;
use quinn::udp::UdpSocketState;
use tokio::task::JoinHandle;

use crate::ca::Identity;
use crate::revoked::{Revoked, RevokedFile};
use crate::tls::{self, TlsError};
use crate::transport::Transport;

pub use connection::Reply;
pub(crate) use connection::read_some;
pub use registry::ConnectionView;
use registry::Registry;

/// What receives the streams: `append(stream, batch) -> committed`. The built-in cluster is one.
///
/// Methods are called from the connections' tasks and must not block.
pub trait Sink: Send + Sync + 'static {
    /// Commits an entry, keeping the order of calls within a key, and answers through `reply` once
    /// it is applied. A reply that is dropped counts as [`Reply::retry`].
    fn commit(&self, key: StreamKey, entry: StreamEntry, reply: Reply);

    /// Something the operator must hear of. The shell has logged it already.
    fn alarm(&self, key: StreamKey, kind: AlarmKind) {
        let _ = (key, kind);
    }

    /// An edge connected.
    fn connected(&self, edge: &EdgeName, remote: SocketAddr) {
        let _ = (edge, remote);
    }

    /// A connection of this edge ended.
    fn disconnected(&self, edge: &EdgeName, reason: &str) {
        let _ = (edge, reason);
    }

    /// Uplink addresses of all nodes, told to edges for their next try.
    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What may wait in the kernel for the listener: twice the window of an edge.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Settings of a [`Server`].
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// UDP address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// QUIC's windows and times.
    pub transport: Transport,
    /// Connections at most.
    pub connections_max: usize,
    /// Handshakes under way at most.
    pub half_open_max: usize,
    /// A handshake, and then HELLO, must be done in this time.
    pub handshake_timeout: Duration,
    /// The revocation list, looked at again every `revoked_check`; `None`: no list.
    pub revoked: Option<PathBuf>,
    /// How soon a changed list is in force.
    pub revoked_check: Duration,
    /// Settings of the machine; its `addresses` are replaced by [`Sink::addresses`].
    pub session: CloudConfig,
}

impl ServerConfig {
    /// Defaults for this address.
    pub fn new(listen: SocketAddr) -> ServerConfig {
        ServerConfig {
            listen,
            transport: Transport::default(),
            connections_max: 20_000,
            half_open_max: 1_024,
            handshake_timeout: Duration::from_secs(10),
            revoked: None,
            revoked_check: Duration::from_secs(2),
            session: CloudConfig::default(),
        }
    }
}

/// Why the listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be bound, in most cases since it is taken.
    #[error("uplink address {address} (udp): {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates are no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running listener. Dropping it stops accepting; [`Server::shutdown`] also says good-bye.
pub struct Server {
    endpoint: Endpoint,
    registry: Arc<Registry>,
    transport: Transport,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Binds and starts accepting on the current tokio runtime.
    pub fn bind(
        config: ServerConfig,
        identity: &Identity,
        sink: Arc<dyn Sink>,
    ) -> Result<Server, ServerError> {
        let quic = quic_config(identity, &config.transport)?;
        let endpoint =
            endpoint(quic, identity, config.listen).map_err(|source| ServerError::Bind {
                address: config.listen,
                source,
            })?;
        let registry = Arc::new(Registry::default());
        let transport = config.transport.clone();
        let watch = config.revoked.clone().map(|path| {
            // Before the first connection: until it is read nobody knows whom to keep out.
            let (file, list) = RevokedFile::open(path);
            match list {
                Ok(list) => drop(registry.revoke(list)),
                Err(error) => registry.no_list(&error),
            }
            tokio::spawn(accept::watch_revoked(
                file,
                config.revoked_check,
                registry.clone(),
            ))
        });
        let accepting = accept::run(endpoint.clone(), config, sink, registry.clone());
        let tasks = [Some(tokio::spawn(accepting)), watch]
            .into_iter()
            .flatten()
            .collect();
        Ok(Server {
            endpoint,
            registry,
            transport,
            tasks,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Takes new certificates for connections from now on; those that stand are kept.
    pub fn reload(&self, identity: &Identity) -> Result<(), TlsError> {
        self.endpoint
            .set_server_config(Some(quic_config(identity, &self.transport)?));
        Ok(())
    }

    /// The edges that are connected now.
    pub fn connections(&self) -> Vec<ConnectionView> {
        self.registry.views()
    }

    /// Puts a revocation list in force at once: [`ServerConfig::revoked_check`] would leave an edge
    /// the time to come back. The number of connections that it closed.
    pub fn revoke(&self, revoked: Revoked) -> usize {
        self.registry.revoke(revoked)
    }

    /// Closes every connection of an edge; the number that were open.
    pub fn disconnect(&self, edge: &EdgeName, reason: &str) -> usize {
        self.registry
            .close_where(|subject| subject.edge == *edge, reason)
    }

    /// Tells every edge and waits until they know, for at most a second.
    pub async fn shutdown(mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        self.endpoint.close(0u32.into(), b"the node stops");
        let _ = tokio::time::timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn endpoint(
    quic: quinn::ServerConfig,
    identity: &Identity,
    listen: SocketAddr,
) -> io::Result<Endpoint> {
    let config = reset::endpoint_config(identity.reset_key.as_ref());
    let socket = std::net::UdpSocket::bind(listen)?;
    widen(&socket)?;
    let runtime = quinn::default_runtime()
        .ok_or_else(|| io::Error::other("a listener needs a tokio runtime"))?;
    Endpoint::new(config, Some(quic), socket, runtime)
}

/// All edges share one socket. While its task waits for a processor or the disk, what edges have
/// under way must find room: with the system's 208 KiB one edge at full rate lost one datagram in
/// fifty, and Cubic takes each loss for a full link.
fn widen(socket: &std::net::UdpSocket) -> io::Result<()> {
    let state = UdpSocketState::new(socket.into())?;
    // Less than asked for is no reason not to start: net.core.rmem_max is the operator's.
    let _ = state.set_recv_buffer_size(socket.into(), RECEIVE_BUFFER_BYTES);
    match state.recv_buffer_size(socket.into()) {
        Ok(bytes) if bytes < RECEIVE_BUFFER_BYTES => tracing::info!(
            bytes,
            wanted = RECEIVE_BUFFER_BYTES,
            "net.core.rmem_max bounds the uplink's receive buffer: edges at full rate lose datagrams"
        ),
        _ => {}
    }
    Ok(())
}

fn quic_config(
    identity: &Identity,
    transport: &Transport,
) -> Result<quinn::ServerConfig, TlsError> {
    let mut quic = quinn::ServerConfig::with_crypto(Arc::new(tls::server_config(identity)?));
    quic.transport_config(Arc::new(transport.server()))
        .migration(true);
    Ok(quic)
}

//! HTTP for status and administration.
//!
//! # Bounds
//! - [`CONNECTIONS_MAX`] connections: one more ends the oldest, so that nobody who opens many and
//!   says nothing locks an operator out.
//! - [`HEADERS_TIME_MAX`] for a request to come, [`CONNECTION_TIME_MAX`] for all of it: a client
//!   that does not read its answer holds it for no longer.
//! - One request a connection, and [`HEADER_BYTES_MAX`] of headers.
//!
//! An answer may last longer than that, and then ends for no other connection: its handler says so with
//! [`Peer::stays`], and bounds how many there are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{Heard, Newcomers, Refusals};

/// See the module's docs.
pub const CONNECTIONS_MAX: usize = 128;
/// See the module's docs.
pub const HEADERS_TIME_MAX: Duration = Duration::from_secs(10);
/// See the module's docs.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// See the module's docs.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Out of file descriptors or the like: wait for some connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who asks. Every request carries it as an extension.
#[derive(Debug, Clone)]
pub struct Peer {
    remote: SocketAddr,
    heard: Heard,
}

impl Peer {
    /// The other end of the connection.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The connection lasts as long as its client wants.
    pub fn stays(&self) {
        self.heard.set();
    }
}

/// Serves until the future is dropped, which ends every connection. `name` stands in log lines.
pub async fn serve(listener: TcpListener, routes: Router, name: &'static str) {
    let refusals = Arc::new(Refusals::new(name));
    let mut newcomers = Newcomers::new(CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    let heard = Heard::default();
                    let peer = Peer { remote, heard: heard.clone() };
                    let task = one(stream, peer, routes.clone(), refusals.clone());
                    let task = connections.spawn(task);
                    if let Some(oldest) = newcomers.admit(remote, heard, task) {
                        refusals.say(oldest, "the oldest of too many connections");
                    }
                }
                Err(error) => not_accepted(name, &error).await,
            },
        }
    }
}

async fn not_accepted(name: &'static str, error: &io::Error) {
    tracing::warn!(listener = name, %error, "a connection was not accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn one(stream: TcpStream, peer: Peer, routes: Router, refusals: Arc<Refusals>) {
    let Peer { remote, heard } = peer.clone();
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = match tokio::time::timeout(CONNECTION_TIME_MAX, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) if heard.is_set() => connection.await,
        Err(_) => return refusals.say(remote, "it took too long to ask or to read"),
    };
    match ended {
        Ok(()) => {}
        Err(error) if error.is_incomplete_message() => {}
        Err(error) => refusals.say(remote, error),
    }
}

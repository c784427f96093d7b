//! Accepting Kafka clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_gate::{Heard, Newcomers, Refusals};
use headwater_kafka::Peer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Service;
use super::connection::{self, Ended};

/// Connections that have not sent a whole request, also at most half of all; one more ends the
/// oldest of them.
const NEWCOMERS_MAX: usize = 1024;

/// Limits of the listener.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// One more is closed as it comes.
    pub connections_max: usize,
    /// The largest request; a client that announces a larger one is closed.
    pub request_bytes_max: usize,
    /// Requests of one connection that are worked on, in bytes.
    pub in_flight_bytes: usize,
    /// A connection on which nothing comes for so long is closed.
    pub idle: Duration,
}

/// Accepts clients until it is dropped; then all connections end.
#[derive(Debug)]
pub struct Listener {
    pub listener: TcpListener,
    pub service: Service,
    pub config: Arc<KafkaConfig>,
}

impl Listener {
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(self.config.connections_max));
        let newcomers_max = (self.config.connections_max / 2).min(NEWCOMERS_MAX);
        let mut newcomers = Newcomers::new(newcomers_max);
        let refusals = Arc::new(Refusals::new("kafka"));
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        let Ok(place) = places.clone().try_acquire_owned() else {
                            refusals.say(remote, "too many connections");
                            continue;
                        };
                        let heard = Heard::default();
                        let client = self.client(stream, remote, heard.clone(), refusals.clone());
                        let task = clients.spawn(async move {
                            client.await;
                            drop(place);
                        });
                        if let Some(oldest) = newcomers.admit(remote, heard, task) {
                            refusals.say(oldest, "the oldest of too many that sent no request");
                        }
                    }
                    Err(error) => {
                        // Out of file descriptors, mostly: the ones that are there go on.
                        tracing::warn!(%error, "a Kafka client was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    /// Serves one client to its end.
    fn client(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        heard: Heard,
        refusals: Arc<Refusals>,
    ) -> impl Future<Output = ()> + use<> {
        let peer = Peer {
            host: remote.ip().to_string(),
            listener: "PLAINTEXT".into(),
        };
        let (service, config) = (self.service.clone(), self.config.clone());
        async move {
            let _counted = Counted::new();
            match connection::run(stream, peer, service, config, heard).await {
                Ok(()) => {}
                // A client that went away is nobody's fault.
                Err(Ended::Io(error)) => tracing::debug!(%remote, %error, "Kafka client gone"),
                Err(reason) => refusals.say(remote, reason),
            }
        }
    }
}

/// Counts a connection for as long as it lives, also when its task is aborted.
struct Counted;

impl Counted {
    fn new() -> Counted {
        metrics::gauge!("headwater_kafka_connections").increment(1.0);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("headwater_kafka_connections").decrement(1.0);
    }
}

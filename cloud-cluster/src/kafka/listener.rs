//! Accepting Kafka clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_kafka::Peer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Service, connection};

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
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, remote)) => self.admit(stream, remote, &places, &mut clients),
                    Err(error) => {
                        // Out of file descriptors, mostly: the ones that are there go on.
                        tracing::warn!(%error, "a Kafka client was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    fn admit(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        places: &Arc<Semaphore>,
        clients: &mut JoinSet<()>,
    ) {
        let Ok(place) = places.clone().try_acquire_owned() else {
            let max = self.config.connections_max;
            tracing::warn!(%remote, max, "Kafka client refused: too many connections");
            return;
        };
        let peer = Peer {
            host: remote.ip().to_string(),
            listener: "PLAINTEXT".into(),
        };
        let (service, config) = (self.service.clone(), self.config.clone());
        clients.spawn(async move {
            metrics::gauge!("headwater_kafka_connections").increment(1.0);
            let ended = connection::run(stream, peer, service, config).await;
            metrics::gauge!("headwater_kafka_connections").decrement(1.0);
            if let Err(reason) = ended {
                tracing::debug!(%remote, %reason, "Kafka client closed");
            }
            drop(place);
        });
    }
}

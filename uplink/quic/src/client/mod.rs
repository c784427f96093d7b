//! The edge's link to the cloud: connects, mirrors, reconnects.
//!
//! [`run`] never ends by itself. While the network is up it tries again at the latest two seconds
//! after the last try, jittered; tries overlap, so that one address which swallows packets does
//! not hold up the others.

mod connection;
mod dial;
mod relay;
mod silence;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_proto::edge::LogGap;
use headwater_proto::{
    AlarmKind, Backoff, EdgeConfig, EdgeName, Incarnation, RejectCode, StreamInfo,
};
use tokio::sync::watch;

pub use relay::{Done, Relay, Step, Work};

use crate::ca::Identity;
use crate::clock::Clock;
use crate::tls::{self, TlsError};
use crate::transport::Transport;

/// The edge's log, as the link sees it.
///
/// [`read`](Source::read), [`persist_fork`](Source::persist_fork) and
/// [`dead_letter`](Source::dead_letter) may block: they are called on tokio's blocking threads, at
/// most one at a time for a partition. The others must not.
pub trait Source: Send + Sync + 'static {
    /// Ticks when any log's start or end moved, or a partition appeared.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Every partition with what can be read of it now.
    fn logs(&self) -> Vec<LogRange>;
    /// One partition's whole description; `None` if there is no such partition.
    fn stream(&self, tp: &TopicPartition) -> Option<StreamInfo>;
    /// Whole batches from `from` on; see [`headwater_proto::EdgeEffect::Read`].
    fn read(&self, tp: &TopicPartition, from: Offset, max_bytes: usize) -> ReadAnswer;
    /// Makes a fork durable, then gives the log's new description.
    fn persist_fork(&self, fork: Fork) -> Result<StreamInfo, String>;
    /// Copies records into the dead-letter file, durably.
    fn dead_letter(
        &self,
        tp: &TopicPartition,
        from: Offset,
        to: Offset,
        code: RejectCode,
    ) -> Result<(), String>;
    /// The cloud has everything below `offset`.
    fn acked(&self, tp: &TopicPartition, offset: Offset);
    /// The histories agree below `at`.
    fn verified(&self, tp: &TopicPartition, at: Offset) {
        let _ = (tp, at);
    }
    /// Something the operator must hear of. The shell has logged it already.
    fn alarm(&self, tp: &TopicPartition, kind: AlarmKind) {
        let _ = (tp, kind);
    }
    /// The link came up (with the cloud's wall clock in ms) or went down.
    fn link(&self, server_ms: Option<i64>) {
        let _ = server_ms;
    }
}

/// What can be read of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRange {
    /// The partition.
    pub tp: TopicPartition,
    /// The first offset.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
}

/// See [`headwater_proto::EdgeEffect::PersistFork`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The partition.
    pub tp: TopicPartition,
    /// The incarnation it had.
    pub parent: Incarnation,
    /// The one it gets.
    pub incarnation: Incarnation,
    /// Where the new one starts.
    pub at: Offset,
}

/// The answer of [`Source::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAnswer {
    /// Whole batches in order; none: nothing there yet.
    Batches(Vec<Bytes>),
    /// Records are gone for a reason that the log knows.
    Gap(LogGap),
    /// The log cannot be read just now.
    Failed(String),
}

/// Settings of [`run`].
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Who this is; must be the certificate's name.
    pub edge: EdgeName,
    /// Certificate, key and CA, from the bundle.
    pub identity: Identity,
    /// `host:port`, tried in turn; those the cloud tells come after them.
    pub addresses: Vec<String>,
    /// QUIC's windows and times.
    pub transport: Transport,
    /// Settings of the machine.
    pub session: EdgeConfig,
    /// Longest pause between two tries.
    pub backoff_max: Duration,
    /// Fresh randomness: jitter and new incarnations are drawn from it.
    pub seed: u128,
}

/// What the status page shows of the link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// The cloud has answered on this connection.
    pub connected: bool,
    /// The address in use.
    pub remote: Option<SocketAddr>,
    /// Connections that stood, since the start.
    pub connects: u64,
    /// Why there is none now, or why the last one ended.
    pub last_error: Option<String>,
    /// UDP payload sent on all connections.
    pub sent_bytes: u64,
    /// UDP payload received on all connections.
    pub received_bytes: u64,
    /// QUIC's estimate.
    pub round_trip: Duration,
    /// Batch bytes sent and not acknowledged.
    pub in_flight_bytes: usize,
}

/// Runs the link for as long as the future is polled; drop it to stop, which closes the
/// connection. Fails only if the identity is unusable.
pub async fn run(
    config: ClientConfig,
    source: Arc<dyn Source>,
    status: watch::Sender<LinkStatus>,
) -> Result<std::convert::Infallible, TlsError> {
    let mut quic = quinn::ClientConfig::new(Arc::new(tls::client_config(&config.identity)?));
    quic.transport_config(Arc::new(config.transport.client()));
    let clock = Clock::start();
    let mut backoff = Backoff::new(config.seed);
    let mut dialer = dial::Dialer::new(quic, config.addresses.clone());
    let mut sessions: u128 = 0;
    loop {
        let connection = dialer
            .connect(clock, &mut backoff, config.backoff_max, &status)
            .await;
        sessions += 1;
        let seed = config
            .seed
            .wrapping_add(sessions.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060));
        let mut link = connection::Link {
            clock,
            source: source.clone(),
            status: &status,
            backoff: &mut backoff,
            dialer: &mut dialer,
        };
        let reason = link.run(&connection, config.session.clone(), seed).await;
        connection.connection.close(0u32.into(), b"");
        source.link(None);
        tracing::info!(remote = %connection.connection.remote_address(), reason, "uplink ended");
        status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(reason);
        });
    }
}

//! Finding an address that answers.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use headwater_proto::Backoff;
use quinn::{Connection, Endpoint};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::LinkStatus;
use crate::ca::CLOUD_DNS_NAME;
use crate::clock::Clock;

/// A handshake may take this long: satellite links with loss need it.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries under way at once; one starts every two seconds or so, in place of the oldest.
const TRIES_MAX: usize = 6;
/// Addresses taken from the cloud's list.
const LEARNT_MAX: usize = 16;

/// A connection with the socket it lives on.
pub(super) struct Dialled {
    pub(super) connection: Connection,
    /// Kept: a dropped endpoint closes its connections once the last handle is gone.
    _endpoint: Endpoint,
}

pub(super) struct Dialer {
    quic: quinn::ClientConfig,
    configured: Vec<String>,
    learnt: Vec<String>,
    turn: usize,
    last_error: String,
}

impl Dialer {
    pub(super) fn new(quic: quinn::ClientConfig, configured: Vec<String>) -> Dialer {
        Dialer {
            quic,
            configured,
            learnt: Vec::new(),
            turn: 0,
            last_error: String::new(),
        }
    }

    /// The cloud's own list of its nodes, for the next try.
    pub(super) fn learn(&mut self, mut addresses: Vec<String>) {
        addresses.retain(|a| crate::is_address(a) && !self.configured.contains(a));
        addresses.truncate(LEARNT_MAX);
        self.learnt = addresses;
    }

    /// Tries address after address until one answers.
    pub(super) async fn connect(
        &mut self,
        clock: Clock,
        backoff: &mut Backoff,
        pause_max: Duration,
        status: &watch::Sender<LinkStatus>,
    ) -> Dialled {
        let mut tries: JoinSet<Result<Dialled, String>> = JoinSet::new();
        let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
        let pause_max = u64::try_from(pause_max.as_millis()).unwrap_or(u64::MAX);
        loop {
            let at = backoff.deadline().map(|at| at.min(clock.now() + pause_max));
            tokio::select! {
                Some(finished) = tries.join_next() => match finished {
                    Ok(Ok(dialled)) => return dialled,
                    Ok(Err(reason)) => self.failed(reason, status),
                    Err(_) => {} // given up below
                },
                () = clock.sleep_until(at.or(Some(0))) => {
                    // The next try is due after a pause whether or not this one ever answers.
                    backoff.failed(clock.now());
                    // The oldest try has the least hope: its packets are the furthest apart.
                    if oldest_first.len() == TRIES_MAX {
                        oldest_first.pop_front().expect("TRIES_MAX is not 0").abort();
                    }
                    let address = self.next_address();
                    oldest_first.push_back(tries.spawn(dial(self.quic.clone(), address)));
                }
            }
        }
    }

    fn next_address(&mut self) -> String {
        let all = self.configured.len() + self.learnt.len();
        let at = self.turn % all.max(1);
        self.turn += 1;
        let mut all = self.configured.iter().chain(&self.learnt);
        all.nth(at).cloned().unwrap_or_default()
    }

    /// Says each new reason once, not every two seconds for a week.
    fn failed(&mut self, reason: String, status: &watch::Sender<LinkStatus>) {
        if reason != self.last_error {
            tracing::warn!(reason, "uplink not reachable; trying on");
        }
        status.send_modify(|status| status.last_error = Some(reason.clone()));
        self.last_error = reason;
    }
}

async fn dial(quic: quinn::ClientConfig, address: String) -> Result<Dialled, String> {
    let named = |what: &str| format!("{address}: {what}");
    let mut resolved = tokio::net::lookup_host(&address)
        .await
        .map_err(|e| named(&e.to_string()))?;
    let remote = resolved
        .next()
        .ok_or_else(|| named("the name has no address"))?;
    let endpoint = endpoint_for(remote).map_err(|e| named(&e.to_string()))?;
    let connecting = endpoint
        .connect_with(quic, remote, CLOUD_DNS_NAME)
        .map_err(|e| named(&e.to_string()))?;
    match tokio::time::timeout(TRY_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(Dialled {
            connection,
            _endpoint: endpoint,
        }),
        Ok(Err(error)) => Err(named(&error.to_string())),
        Err(_) => Err(named("no answer")),
    }
}

/// A socket on the wildcard address: it follows the system's routes by itself.
fn endpoint_for(remote: SocketAddr) -> io::Result<Endpoint> {
    Endpoint::client(match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    })
}

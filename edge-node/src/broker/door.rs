//! One listener: what holds for its connections, and how fast they come.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use headwater_gate::Refusals;
use headwater_mqtt::{ConnInfo, Limits};

use super::inbox::Inbox;
use super::wire::{Origins, Wire, WireError};
use crate::config::{CertificateUser, Listener};
use crate::tls::{self, Tls};

/// CONNACK for who came too fast (MQTT 5 section 3.2.2.2).
const CONNECTION_RATE_EXCEEDED: u8 = 0x9f;
/// CONNACK for who may not be here.
const NOT_AUTHORISED: u8 = 0x87;

/// What the broker thread is told of a listener.
#[derive(Debug)]
pub struct DoorSetup {
    /// Bound, not yet accepting.
    pub socket: std::net::TcpListener,
    /// Its settings.
    pub listener: Listener,
    /// Its loaded files, if it speaks TLS.
    pub tls: Option<Tls>,
}

pub(super) struct Door {
    pub(super) number: u16,
    pub(super) anonymous: bool,
    pub(super) refusals: Refusals,
    pub(super) tls: RefCell<Option<Tls>>,
    websocket: Option<Origins>,
    certificate_user: CertificateUser,
    limits: Limits,
    rates: Option<RefCell<Rates>>,
}

/// What becomes of a new connection.
pub(super) enum Arrival {
    Welcome,
    /// Its CONNECT is answered with this reason.
    Refused(u8),
    /// Closed unheard.
    Dropped,
}

impl Door {
    pub(super) fn new(
        number: u16,
        address: SocketAddr,
        setup: &Listener,
        tls: Option<Tls>,
    ) -> Door {
        let above_0 = |n: usize| if n == 0 { usize::MAX } else { n };
        let number_above_0 = |n: u16| if n == 0 { u16::MAX } else { n };
        let per_second = setup.connects_per_second;
        Door {
            number,
            anonymous: setup.lets_anybody_in(address),
            refusals: Refusals::new("mqtt"),
            tls: RefCell::new(tls),
            websocket: (setup.websocket).then(|| setup.websocket_origins.clone().into()),
            certificate_user: setup.certificate_user,
            limits: Limits {
                connections_max: above_0(setup.connections_max),
                packet_bytes_max: setup.packet_bytes_max,
                receive_maximum: number_above_0(setup.receive_maximum),
                inflight_max: number_above_0(setup.inflight_max),
                queue_bytes_max: above_0(setup.queue_bytes_max),
                messages_per_second: setup.messages_per_second,
            },
            rates: (per_second > 0).then(|| RefCell::new(Rates::new(per_second, Instant::now()))),
        }
    }

    /// Whether its connections begin with a handshake below MQTT.
    pub(super) fn is_layered(&self) -> bool {
        self.websocket.is_some() || self.tls.borrow().is_some()
    }

    /// Counts a new connection.
    pub(super) fn arrival(&self, now: Instant) -> Arrival {
        let Some(rates) = &self.rates else {
            return Arrival::Welcome;
        };
        let mut rates = rates.borrow_mut();
        if rates.admitted.take(now) {
            Arrival::Welcome
        } else if self.tls.borrow().is_none() && rates.answered.take(now) {
            Arrival::Refused(CONNECTION_RATE_EXCEEDED)
        } else {
            Arrival::Dropped
        }
    }

    /// For a new connection of a layered listener.
    pub(super) fn wire(&self) -> Result<Wire, WireError> {
        let config = self.tls.borrow().as_ref().map(|tls| tls.config.clone());
        Wire::new(config, self.websocket.clone())
    }

    /// What the machine is told of a connection whose handshakes are over.
    pub(super) fn info(
        &self,
        remote: SocketAddr,
        wire: Option<&Wire>,
        refuse: Option<u8>,
    ) -> ConnInfo {
        let leaf = wire.and_then(Wire::client_chain).and_then(<[_]>::first);
        let mut info = ConnInfo {
            listener: self.number,
            remote: remote.to_string(),
            limits: self.limits,
            refuse,
            ..ConnInfo::default()
        };
        if self.certificate_user != CertificateUser::None {
            if let Some(leaf) = leaf {
                match tls::user_of(leaf, self.certificate_user) {
                    Ok(user) => info.certificate_user = Some(user),
                    Err(reason) => {
                        self.refusals.say(remote, reason);
                        info.refuse = Some(NOT_AUTHORISED);
                    }
                }
            }
        }
        info
    }
}

/// New connections admitted, and those above that which are at least told why.
struct Rates {
    admitted: Bucket,
    answered: Bucket,
}

impl Rates {
    fn new(per_second: u32, now: Instant) -> Rates {
        Rates {
            admitted: Bucket::new(per_second, now),
            answered: Bucket::new(per_second, now),
        }
    }
}

/// Fills by `per_second`, holds one second's worth.
struct Bucket {
    per_second: f64,
    full: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_second: u32, now: Instant) -> Bucket {
        Bucket {
            per_second: f64::from(per_second),
            full: f64::from(per_second),
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.full = (self.full + since * self.per_second).min(self.per_second);
        let has_one = self.full >= 1.0;
        if has_one {
            self.full -= 1.0;
        }
        has_one
    }
}

/// A connection's place among those that are open, from accept to its end.
pub(super) struct Place {
    pub(super) door: Rc<Door>,
    pub(super) remote: SocketAddr,
    inbox: Rc<Inbox>,
}

impl Place {
    pub(super) fn new(inbox: &Rc<Inbox>, door: &Rc<Door>, remote: SocketAddr) -> Place {
        inbox.entered();
        Place {
            door: door.clone(),
            remote,
            inbox: inbox.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inbox.left();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_one_second_at_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        let taken = |bucket: &mut Bucket, at: Instant| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 10);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(510)), 5);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(60)), 10);
    }
}

//! An uplink peer: a QUIC client with any certificate, or none, that sends any bytes.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::EdgeName;
use headwater_proto::frame::{Encoder, ToCloud};
use headwater_quic::{ALPN, Bundle, CLOUD_DNS_NAME, Ca, Identity};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use tokio::time::timeout;

/// Longer than any refusal takes.
const LIMIT: Duration = Duration::from_secs(20);

/// The certificate, key and CA of a bundle.
pub fn identity(bundle: &Path) -> Identity {
    let bundle = Bundle::read(bundle).expect("a bundle that was just made");
    bundle.identity().expect("a bundle that was just made")
}

/// A certificate for `name` by a CA of our own, and the true cloud's CA to trust.
pub fn stranger(name: &str, dir: &Path, cloud: &Identity) -> Identity {
    let ca = Ca::open(dir).expect("a scratch CA");
    let name = EdgeName::new(name).expect("a valid name");
    let bundle = ca
        .issue_edge(&name, &["127.0.0.1:1".to_owned()])
        .expect("a certificate");
    let own = bundle.identity().expect("a certificate");
    Identity {
        ca: cloud.ca.clone(),
        ..own
    }
}

fn client_config(ca: &Identity, with_certificate: bool) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.ca.clone()).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut tls = if with_certificate {
        let key = ca.key.clone_key();
        builder
            .with_client_auth_cert(ca.chain.clone(), key)
            .expect("a certificate")
    } else {
        builder.with_no_client_auth()
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")))
}

/// A connection, with the socket it lives on.
pub struct Peer {
    pub connection: Connection,
    _endpoint: Endpoint,
}

/// A frame of an edge, numbered from 0.
pub fn hello(edge: &str) -> Vec<u8> {
    let edge = EdgeName::new(edge).expect("a valid name");
    let hello = ToCloud::Hello {
        edge,
        software: "test".into(),
    };
    Encoder::default().head(&hello, 0).to_vec()
}

impl Peer {
    /// Connects; `Err` says how the handshake ended. A server refuses a certificate only after the
    /// client has all it needs, so a connection may also end right after.
    pub async fn connect(
        cloud: SocketAddr,
        identity: &Identity,
        with_certificate: bool,
    ) -> Result<Peer, String> {
        let endpoint =
            Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).map_err(|e| e.to_string())?;
        let config = client_config(identity, with_certificate);
        let connecting = endpoint
            .connect_with(config, cloud, CLOUD_DNS_NAME)
            .map_err(|e| e.to_string())?;
        let connected = timeout(LIMIT, connecting)
            .await
            .map_err(|_| "no answer".to_owned())?;
        Ok(Peer {
            connection: connected.map_err(|e| e.to_string())?,
            _endpoint: endpoint,
        })
    }

    /// The port it comes from, as the log names it.
    pub fn address(&self) -> SocketAddr {
        self._endpoint.local_addr().expect("a bound socket")
    }

    /// Opens the control stream and sends these bytes on it.
    pub async fn control(
        &self,
        bytes: &[u8],
    ) -> Result<(quinn::SendStream, quinn::RecvStream), String> {
        let (mut send, receive) = self.connection.open_bi().await.map_err(|e| e.to_string())?;
        send.write_all(bytes).await.map_err(|e| e.to_string())?;
        Ok((send, receive))
    }

    /// Opens a data lane and sends these bytes on it.
    pub async fn lane(&self, bytes: &[u8]) -> Result<quinn::SendStream, String> {
        let mut send = self
            .connection
            .open_uni()
            .await
            .map_err(|e| e.to_string())?;
        send.write_all(bytes).await.map_err(|e| e.to_string())?;
        Ok(send)
    }

    /// Waits until the cloud ends the connection, and gives its words.
    pub async fn ended(&self) -> String {
        match timeout(LIMIT, self.connection.closed()).await {
            Ok(error) => error.to_string(),
            Err(_) => panic!("the cloud kept the connection"),
        }
    }
}

/// First packets of `count` connections that are never gone on with, each with ids of its own.
pub async fn initials(identity: &Identity, count: usize) -> Vec<Vec<u8>> {
    let trap = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    trap.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a socket's time-out");
    let to = trap.local_addr().expect("a bound socket");
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a loopback port");
    let config = client_config(identity, false);
    let mut packets = Vec::with_capacity(count);
    let mut buffer = [0; 2048];
    while packets.len() < count {
        let connecting = endpoint
            .connect_with(config.clone(), to, CLOUD_DNS_NAME)
            .expect("a connection begins");
        // Its first packet leaves when the endpoint's task runs.
        let first = loop {
            tokio::task::yield_now().await;
            trap.set_nonblocking(true).expect("a socket's mode");
            match trap.recv(&mut buffer) {
                // A long header of type Initial, padded to the least size (RFC 9000, 14.1).
                Ok(n) if n >= 1200 && buffer[0] & 0xf0 == 0xc0 => break buffer[..n].to_vec(),
                _ => {}
            }
        };
        drop(connecting);
        packets.push(first);
    }
    endpoint.close(0u32.into(), b"");
    packets
}

/// Sends the packets from `sockets` sockets, one after the other. The sockets are kept, or the
/// system would answer for them that nobody is there.
pub fn send_all(packets: &[Vec<u8>], to: SocketAddr, sockets: usize) -> Vec<UdpSocket> {
    let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let from: Vec<UdpSocket> = (0..sockets).map(bind).collect();
    for (n, packet) in packets.iter().enumerate() {
        from[n % sockets]
            .send_to(packet, to)
            .expect("loopback takes packets");
        if n % 50 == 49 {
            // A pace: the kernel's buffer would drop what comes all at once.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    from
}

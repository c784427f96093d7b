//! Both shells in one process over loopback: everything arrives once and in order over cuts and
//! restarts, and nobody gets in who should not.
#![allow(clippy::unwrap_used)] // A test that panics is a test that fails.

mod model;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::EdgeConfig;
use headwater_quic::client::{self, ClientConfig, LinkStatus};
use headwater_quic::server::{Server, ServerConfig, ServerError};
use headwater_quic::{Bundle, Ca, EdgeName, Transport};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use model::{ModelLog, ModelSink, partition};
use relay::Relay;

/// Far above what any step needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cloud {
    ca: Ca,
    dir: tempfile::TempDir,
    sink: Arc<ModelSink>,
}

impl Cloud {
    fn new() -> Cloud {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path()).unwrap();
        Cloud {
            ca,
            dir,
            sink: Arc::default(),
        }
    }

    fn server(&self, listen: SocketAddr) -> Server {
        self.try_server(listen).unwrap()
    }

    /// quinn closes a socket when its last task has ended, a moment after the shutdown.
    async fn server_again(&self, listen: SocketAddr) -> Server {
        loop {
            match self.try_server(listen) {
                Ok(server) => return server,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn try_server(&self, listen: SocketAddr) -> Result<Server, ServerError> {
        let mut config = ServerConfig::new(listen);
        config.revoked = Some(self.dir.path().join("revoked.txt"));
        config.revoked_check = Duration::from_millis(20);
        Server::bind(config, &self.ca.issue_cloud().unwrap(), self.sink.clone())
    }

    fn bundle(&self, name: &str, address: SocketAddr) -> Bundle {
        // The first address answers nobody: the next must be tried meanwhile.
        let addresses = ["127.0.0.1:9".to_owned(), address.to_string()];
        self.ca
            .issue_edge(&EdgeName::new(name).unwrap(), &addresses)
            .unwrap()
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

struct Edge {
    task: JoinHandle<()>,
    status: watch::Receiver<LinkStatus>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn edge(bundle: &Bundle, claims: &str, log: Arc<ModelLog>) -> Edge {
    let name = EdgeName::new(claims).unwrap();
    let config = ClientConfig {
        edge: name.clone(),
        identity: bundle.identity().unwrap(),
        addresses: bundle.addresses.clone(),
        transport: Transport {
            keep_alive: Duration::from_millis(200),
            ..Transport::default()
        },
        session: EdgeConfig::new(name),
        backoff_max: Duration::from_millis(300),
        seed: 42,
    };
    let (status_in, status) = watch::channel(LinkStatus::default());
    let task = tokio::spawn(async move {
        client::run(config, log, status_in)
            .await
            .map(|never| match never {})
            .unwrap();
    });
    Edge { task, status }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}");
}

async fn refused_with(status: &watch::Receiver<LinkStatus>, words: &str) {
    until(words, || {
        status
            .borrow()
            .last_error
            .as_ref()
            .is_some_and(|e| e.contains(words))
    })
    .await;
    assert!(!status.borrow().connected);
}

fn assert_whole(sink: &ModelSink, number: u32, records: usize) {
    let tp = partition(number);
    let expected: Vec<String> = (0..records).map(|n| format!("{tp}/{n}")).collect();
    assert_eq!(sink.stored(&tp), expected);
}

/// The cloud closes the connection again and again while records flow in three partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_lose_and_repeat_nothing() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let bundle = cloud.bundle("gw-1", server.local_addr().unwrap());
    let log = ModelLog::new(1);
    let edge = edge(&bundle, "gw-1", log.clone());
    let name = EdgeName::new("gw-1").unwrap();
    for round in 0..120 {
        for number in 0..3 {
            log.append(&partition(number), 10);
        }
        if round % 20 == 19 {
            let connects = edge.status.borrow().connects;
            until("a connection", || edge.status.borrow().connected).await;
            until("something to cut", || {
                server.disconnect(&name, "cut by the test") > 0
            })
            .await;
            until("the next connection", || {
                edge.status.borrow().connects > connects.max(1)
            })
            .await;
        }
        tokio::task::yield_now().await;
    }
    for number in 0..3 {
        until("everything acknowledged", || {
            log.acked(&partition(number)) == 1200
        })
        .await;
        assert_whole(&cloud.sink, number, 1200);
    }
    assert_eq!(cloud.sink.alarms(), []);
}

/// The cloud's node goes away and comes back on its port; the edge comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_cloud_is_found_again() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let address = server.local_addr().unwrap();
    let log = ModelLog::new(2);
    let edge = edge(&cloud.bundle("gw-1", address), "gw-1", log.clone());
    let tp = partition(0);
    log.append(&tp, 5);
    until("the first records", || log.acked(&tp) == 5).await;
    server.shutdown().await;
    until("the edge notices", || !edge.status.borrow().connected).await;
    log.append(&tp, 5);
    let server = cloud.server_again(address).await;
    until("the rest", || log.acked(&tp) == 10).await;
    assert_whole(&cloud.sink, 0, 10);
    assert_eq!(server.connections().len(), 1);
    assert_eq!(server.connections()[0].edge.as_str(), "gw-1");
}

/// The link swallows every packet for longer than QUIC's probes wait, then works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_back_is_used_within_two_seconds_or_so() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let relay = Relay::start(server.local_addr().unwrap()).await;
    let log = ModelLog::new(9);
    let edge = edge(&cloud.bundle("gw-1", relay.address), "gw-1", log.clone());
    let tp = partition(0);
    log.append(&tp, 5);
    until("the first records", || log.acked(&tp) == 5).await;
    relay.cut(true);
    log.append(&tp, 5);
    let cut = std::time::Instant::now();
    until("the edge gives up", || !edge.status.borrow().connected).await;
    assert!(
        cut.elapsed() < Duration::from_secs(12),
        "{:?}",
        cut.elapsed()
    );
    // Three times as many as may be under way at once: those of now were begun long after the cut.
    until("many tries in vain", || relay.tries_in_vain() >= 18).await;
    relay.cut(false);
    let back = std::time::Instant::now();
    until("the rest", || log.acked(&tp) == 10).await;
    assert!(
        back.elapsed() < Duration::from_secs(3),
        "{:?}",
        back.elapsed()
    );
    assert_whole(&cloud.sink, 0, 10);
}

/// A node that is killed says no good-bye. When it is back, it tells edges that it does not know
/// their connections, long before these would time out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_cloud_is_known_to_be_new() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let address = server.local_addr().unwrap();
    let relay = Relay::start(address).await;
    let log = ModelLog::new(10);
    let mut edge = edge(&cloud.bundle("gw-1", relay.address), "gw-1", log.clone());
    let tp = partition(0);
    log.append(&tp, 5);
    until("the first records", || log.acked(&tp) == 5).await;
    relay.cut(true);
    server.shutdown().await;
    let _server = cloud.server_again(address).await;
    relay.cut(false);
    let errors = async {
        while !edge
            .status
            .borrow_and_update()
            .last_error
            .as_ref()
            .is_some_and(|e| e.contains("reset"))
        {
            edge.status.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, errors)
        .await
        .expect("a stateless reset");
    log.append(&tp, 5);
    until("the rest", || log.acked(&tp) == 10).await;
    assert_whole(&cloud.sink, 0, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clouds_edge_is_refused() {
    let (cloud, other) = (Cloud::new(), Cloud::new());
    let server = cloud.server(any_port());
    // The right CA to trust, but a certificate that another CA signed.
    let mut bundle = other.bundle("gw-1", server.local_addr().unwrap());
    bundle.ca_pem = cloud.ca.certificate_pem().to_owned();
    let log = ModelLog::new(3);
    log.append(&partition(0), 1);
    let edge = edge(&bundle, "gw-1", log.clone());
    refused_with(&edge.status, "certificate").await;
    assert!(cloud.sink.stored(&partition(0)).is_empty());
    assert!(server.connections().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_cloud_is_not_trusted() {
    let (cloud, other) = (Cloud::new(), Cloud::new());
    let server = other.server(any_port());
    let bundle = cloud.bundle("gw-1", server.local_addr().unwrap());
    let edge = edge(&bundle, "gw-1", ModelLog::new(4));
    refused_with(&edge.status, "certificate").await;
}

/// An edge's certificate must not pass for the cloud's although the same CA signed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_cannot_pose_as_the_cloud() {
    let cloud = Cloud::new();
    let thief = cloud.bundle("thief", any_port()).identity().unwrap();
    let server = Server::bind(ServerConfig::new(any_port()), &thief, cloud.sink.clone()).unwrap();
    let bundle = cloud.bundle("gw-1", server.local_addr().unwrap());
    let edge = edge(&bundle, "gw-1", ModelLog::new(5));
    refused_with(&edge.status, "certificate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_edges_name_is_refused() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let bundle = cloud.bundle("gw-1", server.local_addr().unwrap());
    let log = ModelLog::new(6);
    log.append(&partition(0), 1);
    let _edge = edge(&bundle, "gw-2", log.clone());
    let named = |reason: &String| reason.contains("gw-1") && reason.contains("gw-2");
    until("the refusal", || {
        cloud.sink.disconnect_reasons().iter().any(named)
    })
    .await;
    assert!(cloud.sink.stored(&partition(0)).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate_is_refused() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cloud.ca.issue_cloud().unwrap().ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![headwater_quic::ALPN.to_vec()];
    let quic = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    let address = server.local_addr().unwrap();
    let config = quinn::ClientConfig::new(Arc::new(quic));
    let connecting = endpoint.connect_with(config, address, headwater_quic::CLOUD_DNS_NAME);
    // TLS 1.3: the client may think it is connected before the server has judged.
    let error = match connecting.unwrap().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(server.connections().is_empty());
}

/// A name put on the list ends the connection that stands, and the next ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_is_in_force_without_a_restart() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let address = server.local_addr().unwrap();
    let (log, other_log) = (ModelLog::new(7), ModelLog::new(8));
    let revoked = edge(&cloud.bundle("gw-1", address), "gw-1", log.clone());
    let other = edge(&cloud.bundle("gw-2", address), "gw-2", other_log.clone());
    log.append(&partition(0), 1);
    until("gw-1 works", || log.acked(&partition(0)) == 1).await;
    until("gw-2 works", || other.status.borrow().connected).await;
    std::fs::write(cloud.dir.path().join("revoked.txt"), "gw-1 # stolen\n").unwrap();
    refused_with(&revoked.status, "revoked").await;
    log.append(&partition(0), 1);
    other_log.append(&partition(1), 1);
    until("gw-2 still works", || other_log.acked(&partition(1)) == 1).await;
    assert_eq!(cloud.sink.stored(&partition(0)).len(), 1);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let cloud = Cloud::new();
    let server = cloud.server(any_port());
    let address = server.local_addr().unwrap();
    let identity = cloud.ca.issue_cloud().unwrap();
    let second = Server::bind(ServerConfig::new(address), &identity, cloud.sink.clone());
    let error = second.err().expect("the port is taken").to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}

//! SIGTERM under the worst that clients and link can be: the node ends within 2 s, says good-bye and
//! gives exit code 0.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use headwater_quic::{Ca, EdgeName};

use crate::client::Client;
use crate::process::{Process, free_port, until};

const CLIENTS: usize = 1_000;
/// What README.md and the unit promise.
const STOP_MAX: Duration = Duration::from_secs(2);
/// DISCONNECT's reason "server shutting down" (MQTT 5, 3.14.2.1).
const SHUTTING_DOWN: u8 = 0x8b;

/// A bundle for a cloud that never answers.
fn bundle(dir: &Path, cloud: SocketAddr) -> String {
    let ca = Ca::open(&dir.join("ca")).unwrap();
    let name = EdgeName::new("gw-1").unwrap();
    let bundle = ca.issue_edge(&name, &[cloud.to_string()]).unwrap();
    let path = dir.join("gw-1.bundle");
    bundle.write(&path).unwrap();
    path.display().to_string()
}

/// Subscribes and never reads again; what waits for it fills both sockets' buffers.
fn deaf(node: &Process, address: SocketAddr) -> Client {
    let mut deaf = Client::new(address, "deaf");
    deaf.connect().unwrap();
    deaf.subscribe("flood", 1).unwrap();
    let mut flood = Client::new(address, "flood");
    flood.connect().unwrap();
    for _ in 0..200 {
        flood.publish("flood", "x".repeat(100_000), 1).unwrap();
        flood.step().unwrap();
    }
    // More than its queue holds: the socket takes nothing more.
    until("the deaf client's queue is full", || {
        node.status()["mqtt"]["dropped"].as_u64().unwrap() > 0
    });
    deaf
}

/// Publishes as fast as it can until the node says good-bye; gives the reason.
fn busy(address: SocketAddr, started: &AtomicBool) -> io::Result<u8> {
    let mut client = Client::new(address, "busy");
    client.connect_v5()?;
    let mut id = 0u16;
    loop {
        let mut body = b"\0\x04busy".to_vec();
        id = id.checked_add(1).unwrap_or(1);
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend([b'x'; 1000]);
        // A broken pipe is no end: what the node said before is still to be read.
        let sent = client.send(0x32, &body);
        loop {
            let (kind, body) = client.packet()?;
            started.store(true, SeqCst);
            match kind {
                0xe0 => return Ok(body[0]),
                _ if sent.is_ok() => break,
                _ => {}
            }
        }
    }
}

#[test]
fn a_thousand_clients_a_dead_link_and_a_deaf_peer_end_within_two_seconds() {
    headwater_gate::files::raise_limit();
    let dir = tempfile::tempdir().unwrap();
    let (data, address) = (dir.path().join("data"), free_port());
    let void = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bundle = bundle(dir.path(), void.local_addr().unwrap());
    let node = Process::start_with(&data, address, &["--bundle", &bundle]);
    let _deaf = deaf(&node, address);
    let connect = |n: usize| {
        let mut client = Client::new(address, &format!("client-{n}"));
        match n % 2 {
            0 => client.connect().unwrap(),
            _ => client.connect_v5().unwrap(),
        }
        client
    };
    let mut clients: Vec<Client> = (0..CLIENTS).map(connect).collect();
    let started = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| busy(address, &started));
        until("the busy client", || started.load(SeqCst));
        let (ended, took) = node.stop();
        assert_eq!(ended.code(), Some(0));
        assert!(took < STOP_MAX, "the stop took {took:?}");
        println!("the stop took {took:?}");
        assert_eq!(busy.join().unwrap().unwrap(), SHUTTING_DOWN);
    });
    for (n, client) in clients.iter_mut().enumerate() {
        if n % 2 == 1 {
            let (kind, body) = client.packet().unwrap();
            assert_eq!((kind, body[0]), (0xe0, SHUTTING_DOWN), "client {n}");
        }
        let ended = client.packet().unwrap_err().kind();
        assert_eq!(ended, io::ErrorKind::UnexpectedEof, "client {n}");
    }
}

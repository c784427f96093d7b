//! A UDP link between an edge and the cloud that a test can cut and heal.
//!
//! The edge is given the link's address; each source port of the edge gets its own socket towards
//! the cloud, as a NAT would. While cut, datagrams of both directions are dropped.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A relay in the background; it ends when dropped.
pub struct Link {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    stop: AtomicBool,
    passed: AtomicU64,
    dropped: AtomicU64,
}

impl Link {
    /// Listens on a free loopback port and passes datagrams on to `cloud`.
    pub fn to(cloud: SocketAddr) -> Link {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = socket.local_addr().expect("the socket is bound");
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || forward(socket, cloud, shared));
        Link { address, state }
    }

    /// Where the edge connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }

    /// Datagrams dropped by cuts so far: a cut that dropped nothing has tested nothing.
    pub fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::SeqCst)
    }

    /// Bytes of payload passed in both directions.
    pub fn passed_bytes(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn lets_pass(&self, bytes: usize) -> bool {
        if self.cut.load(Ordering::SeqCst) {
            self.dropped.fetch_add(1, Ordering::SeqCst);
            return false;
        }
        self.passed.fetch_add(bytes as u64, Ordering::SeqCst);
        true
    }
}

fn forward(edge_side: UdpSocket, cloud: SocketAddr, state: Arc<State>) {
    let tick = Some(Duration::from_millis(50));
    edge_side
        .set_read_timeout(tick)
        .expect("a timeout can be set");
    let mut sockets: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut buffer = vec![0; 65536];
    while !state.stop.load(Ordering::SeqCst) {
        let Ok((length, edge)) = edge_side.recv_from(&mut buffer) else {
            continue;
        };
        if !state.lets_pass(length) {
            continue;
        }
        let socket = sockets.entry(edge).or_insert_with(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port is free");
            socket.connect(cloud).expect("loopback is reachable");
            socket.set_read_timeout(tick).expect("a timeout can be set");
            let back = socket.try_clone().expect("sockets can be cloned");
            let edge_side = edge_side.try_clone().expect("sockets can be cloned");
            let state = state.clone();
            std::thread::spawn(move || backward(back, edge_side, edge, state));
            socket
        });
        // The cloud may be down: its port then refuses, which for the edge is loss.
        let _ = socket.send(&buffer[..length]);
    }
}

fn backward(cloud_side: UdpSocket, edge_side: UdpSocket, edge: SocketAddr, state: Arc<State>) {
    let mut buffer = vec![0; 65536];
    while !state.stop.load(Ordering::SeqCst) {
        if let Ok(length) = cloud_side.recv(&mut buffer) {
            if state.lets_pass(length) {
                let _ = edge_side.send_to(&buffer[..length], edge);
            }
        }
    }
}

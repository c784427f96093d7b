//! A UDP relay between edges and the cloud that can swallow everything.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

pub struct Relay {
    pub address: SocketAddr,
    cut: Arc<AtomicBool>,
    in_vain: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn start(cloud: SocketAddr) -> Relay {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, cut) = (
            front.local_addr().unwrap(),
            Arc::new(AtomicBool::new(false)),
        );
        let in_vain = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(forward(front, cloud, cut.clone(), in_vain.clone()));
        Relay {
            address,
            cut,
            in_vain,
            task,
        }
    }

    /// New connections, each from a socket of its own, that were tried while the link was cut.
    pub fn tries_in_vain(&self) -> usize {
        self.in_vain.load(Relaxed)
    }

    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    front: Arc<UdpSocket>,
    cloud: SocketAddr,
    cut: Arc<AtomicBool>,
    in_vain: Arc<AtomicUsize>,
) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut swallowed = HashSet::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, edge) = front.recv_from(&mut buffer).await.unwrap();
        if cut.load(Relaxed) {
            if !backs.contains_key(&edge) && swallowed.insert(edge) {
                in_vain.fetch_add(1, Relaxed);
            }
            continue;
        }
        if let Entry::Vacant(entry) = backs.entry(edge) {
            let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            back.connect(cloud).await.unwrap();
            tokio::spawn(answers(back.clone(), front.clone(), edge, cut.clone()));
            entry.insert(back);
        }
        let _ = backs[&edge].send(&buffer[..length]).await;
    }
}

async fn answers(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    edge: SocketAddr,
    cut: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = back.recv(&mut buffer).await {
        if !cut.load(Relaxed) {
            let _ = front.send_to(&buffer[..length], edge).await;
        }
    }
}

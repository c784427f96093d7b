//! A man in the middle of MQTT over TCP, packet by packet.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    FromClient,
    FromBroker,
}

/// What he does.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Which way he changes packets.
    pub direction: Direction,
    /// What becomes of a packet: any number of packets.
    pub change: fn(Vec<u8>) -> Vec<Vec<u8>>,
    /// Whether the client is told when the broker closes.
    pub closes: bool,
}

/// A listener in front of a broker; it ends when dropped, and its connections with it.
pub struct Middle {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Middle {
    pub fn start(broker: SocketAddr, rule: Rule) -> Middle {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), Ok(broker)) = (client, TcpStream::connect(broker)) else {
                    continue;
                };
                for stream in [&client, &broker] {
                    stream.set_nodelay(true).expect("a socket option");
                }
                let twin = |stream: &TcpStream| stream.try_clone().expect("sockets can be cloned");
                let (to_client, to_broker) = (twin(&client), twin(&broker));
                std::thread::spawn(move || copy(client, to_broker, Direction::FromClient, rule));
                std::thread::spawn(move || copy(broker, to_client, Direction::FromBroker, rule));
            }
        });
        Middle { address, ended }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, direction: Direction, rule: Rule) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 16384];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        buffer.extend(&chunk[..length]);
        let out = if direction == rule.direction {
            let mut out = Vec::new();
            while let Some(length) = whole(&buffer) {
                let frame = buffer.drain(..length).collect();
                out.extend((rule.change)(frame).concat());
            }
            out
        } else {
            std::mem::take(&mut buffer)
        };
        if to.write_all(&out).is_err() {
            break;
        }
    }
    // A client that has ended its side is told by the broker.
    if direction == Direction::FromClient {
        let _ = to.shutdown(Shutdown::Write);
    } else if rule.closes {
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Length of the packet at the start, once it is all there. What has no length is passed on as it is.
fn whole(buffer: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for place in 0..4 {
        let byte = buffer.get(1 + place)?;
        remaining |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let length = 2 + place + remaining;
            return (buffer.len() >= length).then_some(length);
        }
    }
    Some(buffer.len())
}

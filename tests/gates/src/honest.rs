//! Clients that do as they should, and how long they wait meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::kafka::Consumer;
use e2e::mqtt::{Client, Packet};

/// Publishes at QoS 1 from a connection that stands, one message at a time, until it is asked for
/// its figures.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Duration>>>,
}

impl Publisher {
    pub fn start(broker: SocketAddr, id: &str) -> Publisher {
        let stop = Arc::new(AtomicBool::new(false));
        let (until, id) = (stop.clone(), id.to_owned());
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(broker, &id, true)?;
            let mut waits = Vec::new();
            let mut packet_id = 0;
            while !until.load(Ordering::Relaxed) {
                packet_id = packet_id % 60_000 + 1;
                let sent = Instant::now();
                client.publish(&format!("honest/{id}"), b"21.5", 1, packet_id, false);
                client.flush()?;
                while client.receive()? != Packet::PubAck(packet_id) {}
                waits.push(sent.elapsed());
                // A pace, not a synchronisation: an ordinary sensor, not a load.
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(waits)
        });
        Publisher { stop, thread }
    }

    /// Ends it. Every message was acknowledged; the longest wait, and how many there were.
    pub fn finish(self) -> (Duration, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let waits = self.thread.join().expect("the publisher does not panic");
        let waits = waits.expect("an honest publisher is not cut off");
        let most = waits.iter().max().copied().unwrap_or_default();
        (most, waits.len())
    }
}

/// A new connection, one acknowledged message, and a good-bye.
pub fn publish_once(broker: SocketAddr, topic: &str, payload: &str) -> io::Result<Duration> {
    let started = Instant::now();
    let mut client = Client::connect(broker, &format!("once-{topic}-{payload}"), true)?;
    client.publish(topic, payload.as_bytes(), 1, 1, false);
    client.flush()?;
    while client.receive()? != Packet::PubAck(1) {}
    client.disconnect()?;
    Ok(started.elapsed())
}

/// A new connection to a Kafka listener that asks for the topics.
pub fn ask_kafka(node: SocketAddr) -> Result<Duration, Box<dyn std::error::Error>> {
    let started = Instant::now();
    Consumer::connect(node)?.partitions("mqtt")?;
    Ok(started.elapsed())
}

/// `GET path` on a new connection.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(Duration, String)> {
    let started = Instant::now();
    let text = e2e::http::page(address, path)?;
    Ok((started.elapsed(), text))
}

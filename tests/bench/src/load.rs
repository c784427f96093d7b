//! The one load generator: QoS 1 publishers with a fixed number in flight, and one subscriber on
//! everything. The same for every broker.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::mqtt::{Client, Packet};

/// What is asked of a broker.
#[derive(Clone, Copy)]
pub struct Load {
    pub publishers: usize,
    pub in_flight: usize,
    pub payload_bytes: usize,
    pub time: Duration,
}

/// What came of it.
pub struct Outcome {
    /// Acknowledged publishes per second.
    pub acked_per_s: f64,
    /// Messages per second that reached the subscriber.
    pub delivered_per_s: f64,
    pub ack_p50: Duration,
    pub ack_p99: Duration,
}

/// Drives `broker` for the load's time. Fails when a connection does.
pub fn qos1(broker: SocketAddr, load: Load) -> io::Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let delivered = Arc::new(AtomicU64::new(0));
    let subscriber = subscribe(broker, stop.clone(), delivered.clone())?;
    let started = Instant::now();
    let publishers: Vec<_> = (0..load.publishers)
        .map(|n| thread::spawn(move || publish(broker, n, load)))
        .collect();
    let mut times = Vec::new();
    for publisher in publishers {
        times.extend(publisher.join().expect("a publisher does not panic")?);
    }
    let took = started.elapsed().as_secs_f64();
    let arrived = delivered.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    subscriber.join().expect("the subscriber does not panic")?;
    times.sort_unstable();
    let at = |share: usize| {
        times
            .get(times.len().saturating_sub(1) * share / 100)
            .copied()
            .unwrap_or_default()
    };
    Ok(Outcome {
        acked_per_s: times.len() as f64 / took,
        delivered_per_s: arrived as f64 / took,
        ack_p50: at(50),
        ack_p99: at(99),
    })
}

fn subscribe(
    broker: SocketAddr,
    stop: Arc<AtomicBool>,
    delivered: Arc<AtomicU64>,
) -> io::Result<thread::JoinHandle<io::Result<()>>> {
    let mut client = Client::connect(broker, "bench-subscriber", true)?;
    client.subscribe(1, "bench/#", 1);
    client.flush()?;
    match client.receive()? {
        Packet::SubAck { codes, .. } if codes == [1] => {}
        other => {
            return Err(io::Error::other(format!(
                "not a granting SUBACK: {other:?}"
            )));
        }
    }
    client.read_timeout(Duration::from_millis(200))?;
    Ok(thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            match client.receive() {
                Ok(Packet::Publish { id, .. }) => {
                    delivered.fetch_add(1, Ordering::Relaxed);
                    if let Some(id) = id {
                        client.puback(id);
                    }
                    if !client.has_buffered_input() || client.buffered() > 4096 {
                        client.flush()?;
                    }
                }
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }))
}

/// Times from PUBLISH to PUBACK of every message.
fn publish(broker: SocketAddr, number: usize, load: Load) -> io::Result<Vec<Duration>> {
    let mut client = Client::connect(broker, &format!("bench-{number}"), true)?;
    let topic = format!("bench/{number}");
    let payload: Vec<u8> = (0..load.payload_bytes)
        .map(|n| b' ' + (n % 90) as u8)
        .collect();
    let mut sent: HashMap<u16, Instant> = HashMap::new();
    let mut times = Vec::new();
    let mut id = 0u16;
    let until = Instant::now() + load.time;
    loop {
        let open = Instant::now() < until;
        while open && sent.len() < load.in_flight {
            id = if id == u16::MAX { 1 } else { id + 1 };
            client.publish(&topic, &payload, 1, id, false);
            sent.insert(id, Instant::now());
        }
        client.flush()?;
        if sent.is_empty() {
            client.disconnect()?;
            return Ok(times);
        }
        // One blocking read, then whatever came with it.
        loop {
            if let Packet::PubAck(acked) = client.receive()? {
                let at = sent
                    .remove(&acked)
                    .ok_or_else(|| io::Error::other(format!("PUBACK {acked} twice")))?;
                times.push(at.elapsed());
            }
            if !client.has_buffered_input() {
                break;
            }
        }
    }
}

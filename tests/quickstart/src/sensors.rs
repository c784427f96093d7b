//! Simulated sensors: each one real MQTT client that publishes readings at QoS 1.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::time::MissedTickBehavior;

/// Publishes that may wait for their PUBACK, per sensor. A full one skips readings, as a sensor
/// does, and they count as missed.
const IN_FLIGHT: u16 = 100;

/// What all sensors did.
#[derive(Default)]
pub struct Counts {
    pub published: AtomicU64,
    pub acked: AtomicU64,
    /// Readings not taken since too many waited for their PUBACK.
    pub missed: AtomicU64,
}

/// One sensor until `stop` is set: publishes at `rate` a second, then waits for its PUBACKs.
pub async fn run(
    broker: SocketAddr,
    number: usize,
    rate: f64,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
) {
    let name = format!("temp-{number:02}");
    let mut options = MqttOptions::new(
        format!("quickstart-{name}"),
        broker.ip().to_string(),
        broker.port(),
    );
    options
        .set_keep_alive(Duration::from_secs(30))
        .set_inflight(IN_FLIGHT);
    let (client, mut connection) = AsyncClient::new(options, usize::from(IN_FLIGHT));
    let mut reading = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    reading.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let topic = format!("sensors/{name}");
    let (mut sequence, mut acked) = (0u64, 0u64);
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if stopping && acked == sequence {
            return;
        }
        tokio::select! {
            event = connection.poll() => match event {
                Ok(Event::Incoming(Packet::PubAck(_))) => {
                    acked += 1;
                    counts.acked.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(error) => {
                    if stopping {
                        return;
                    }
                    tracing::warn!(sensor = name, %error, "connection lost, trying again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            },
            _ = reading.tick(), if !stopping => {
                let payload = payload(&name, sequence);
                if client.try_publish(&topic, QoS::AtLeastOnce, false, payload).is_ok() {
                    sequence += 1;
                    counts.published.fetch_add(1, Ordering::Relaxed);
                } else {
                    counts.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
            () = tokio::time::sleep(Duration::from_millis(100)), if stopping => {}
        }
    }
}

/// `{"ts":1763800000000,"sensor":"temp-07","value":21.43,"unit":"C","seq":123,"batt":3.7,"status":"ok"}`
fn payload(sensor: &str, sequence: u64) -> String {
    let ts = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let value =
        21.0 + (sequence as f64 / 40.0).sin() * 3.0 + (sequence * 7919 % 100) as f64 / 200.0;
    format!(
        r#"{{"ts":{ts},"sensor":"{sensor}","value":{value:.2},"unit":"C","seq":{sequence},"batt":3.7,"status":"ok"}}"#
    )
}

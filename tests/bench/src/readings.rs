//! DESIGN.md's reading, published at a steady rate, and polled from the cloud.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::kafka::{Consumer, Record};
use e2e::mqtt::{Client, Packet};
use e2e::wait_for;

use crate::rows::Result;

const SENSORS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(600);

/// Topic and payload of reading `number`, 114 B together but for the digits of `seq`.
pub fn reading(number: u64, ts_ms: u128) -> (String, String) {
    let sensor = number % SENSORS;
    let value = 21.0 + (number * 7919 % 500) as f64 / 100.0;
    let payload = format!(
        "{{\"ts\":{ts_ms},\"sensor\":\"temp-{sensor:02}\",\"value\":{value:.2},\"unit\":\"C\",\"seq\":{number},\"batt\":3.7,\"status\":\"ok\"}}"
    );
    (format!("sensors/temp-{sensor:02}"), payload)
}

/// What was published.
#[derive(Clone, Copy)]
pub struct Published {
    pub readings: u64,
    /// Of topics and payloads.
    pub bytes: u64,
}

/// Publishes at `rate` a second for `time`, whether or not the broker answers in between, as sensors
/// do; then waits until all are acknowledged.
pub fn publish(broker: SocketAddr, rate: u32, time: Duration) -> Result<Published> {
    let client = Client::connect(broker, "bench-readings", true)?;
    client.read_timeout(Duration::from_secs(20))?;
    let readings = (f64::from(rate) * time.as_secs_f64()) as u64;
    let (mut answers, mut client) = client.split()?;
    let acked = std::thread::spawn(move || -> std::io::Result<()> {
        let mut acked = 0;
        while acked < readings {
            if let Packet::PubAck(_) = answers.receive()? {
                acked += 1;
            }
        }
        Ok(())
    });
    let started = Instant::now();
    let (mut sent, mut bytes) = (0u64, 0u64);
    while sent < readings {
        let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1;
        while sent < due.min(readings) {
            let (topic, payload) = reading(sent, wall_clock().as_millis());
            bytes += (payload.len() + topic.len()) as u64;
            let id = (sent % 60000) as u16 + 1;
            client.publish(&topic, payload.as_bytes(), 1, id, false);
            sent += 1;
        }
        client.flush()?;
        // Pacing: the next reading is not due yet.
        std::thread::sleep(Duration::from_micros(500));
    }
    acked.join().expect("the reader does not panic")?;
    client.disconnect()?;
    Ok(Published { readings, bytes })
}

/// Publishes one record, which makes the topic, and waits for it in the cloud: its partition, and
/// the offset after it.
pub fn first(broker: SocketAddr, kafka: SocketAddr) -> Result<(i32, i64)> {
    let mut client = Client::connect(broker, "bench-first", true)?;
    client.publish("sensors/first", b"{}", 1, 1, false);
    client.flush()?;
    match client.receive()? {
        Packet::PubAck(1) => client.disconnect()?,
        other => return Err(format!("not the PUBACK of the first record: {other:?}").into()),
    }
    let mut consumer = Consumer::connect(kafka)?;
    let limit = Duration::from_secs(20);
    Ok(wait_for("the first record in the cloud", limit, || {
        let records = consumer.read_all("mqtt").ok()?;
        let first = records.first()?;
        Some((first.partition, first.offset + 1))
    }))
}

/// Polls `wanted` records from `next` on and hands each to `seen` with the time of its poll.
pub fn poll(
    kafka: SocketAddr,
    (partition, mut next): (i32, i64),
    wanted: u64,
    mut seen: impl FnMut(&Record, Duration),
) -> Result<()> {
    let mut consumer = Consumer::connect(kafka)?;
    let (mut polled, until) = (0, Instant::now() + PATIENCE);
    while polled < wanted {
        if Instant::now() > until {
            return Err(format!("{polled} of {wanted} readings came").into());
        }
        let records = consumer.fetch("mqtt", partition, next, Duration::from_millis(500))?;
        let now = wall_clock();
        for record in records {
            next = record.offset + 1;
            polled += 1;
            seen(&record, now);
        }
    }
    Ok(())
}

/// When the reading in `record` was published.
pub fn sent_at(record: &Record) -> Result<Duration> {
    let value = record.value.as_deref().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(value)?;
    let ms = value["ts"].as_u64().ok_or("a reading without its time")?;
    Ok(Duration::from_millis(ms))
}

pub fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_as_long_as_the_design_says() {
        let (topic, payload) = reading(123, 1_763_800_000_000);
        assert_eq!(topic.len() + payload.len(), 114);
    }
}

//! The MQTT clients, each publishing below a topic of its own. They run one after the other, each
//! with many in flight.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use crate::rows::{Published, hex};

/// Messages of each client.
pub const MESSAGES: usize = 300;

/// paho-mqtt, protocol `version` (`3.1.1` or `5`), QoS 1 and 2 in turn.
/// `more`: what the script takes behind its first four arguments.
pub fn paho(
    out: &Path,
    broker: SocketAddr,
    version: &str,
    more: &[&str],
) -> Result<Vec<Published>, String> {
    let output = Command::new(out.join("venv/bin/python"))
        .arg("tests/interop/clients/publish_paho.py")
        .args([
            version,
            &broker.ip().to_string(),
            &broker.port().to_string(),
            &MESSAGES.to_string(),
        ])
        .args(more)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("python: {error}"))?;
    if !output.status.success() {
        return Err(format!("paho {version}: {}", output.status));
    }
    crate::json_lines(&output.stdout)
}

/// mosquitto_pub, one message a line over one connection, `-V version`.
pub fn mosquitto(broker: SocketAddr, version: &str) -> Result<Vec<Published>, String> {
    let topic = format!("interop/mosquitto-{version}/é");
    let lines: Vec<String> = (0..MESSAGES)
        .map(|n| format!("{{\"seq\":{n},\"unit\":\"°C\"}}"))
        .collect();
    let mut command = Command::new("mosquitto_pub");
    command
        .args(["-V", version, "-q", "1", "-l", "-t", &topic])
        .args(address(broker));
    let mut headers = Vec::new();
    if version == "5" {
        command.args(["-D", "PUBLISH", "user-property", "site", "north"]);
        headers.push((hex("site"), Some(hex("north"))));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("mosquitto_pub: {error}"))?;
    std::io::Write::write_all(
        &mut child.stdin.take().expect("stdin is piped"),
        (lines.join("\n") + "\n").as_bytes(),
    )
    .map_err(|error| format!("mosquitto_pub: {error}"))?;
    let status = child
        .wait()
        .map_err(|error| format!("mosquitto_pub: {error}"))?;
    if !status.success() {
        return Err(format!("mosquitto_pub -V {version}: {status}"));
    }
    Ok(lines
        .iter()
        .map(|line| Published {
            topic: hex(&topic),
            value: hex(line),
            headers: headers.clone(),
        })
        .collect())
}

/// rumqttc, QoS 2.
pub fn rumqttc(broker: SocketAddr) -> Result<Vec<Published>, String> {
    let mut options = MqttOptions::new("rumqttc", broker.ip().to_string(), broker.port());
    options
        .set_keep_alive(Duration::from_secs(30))
        .set_inflight(50);
    let (client, mut connection) = Client::new(options, MESSAGES + 10);
    let payloads: Vec<Vec<u8>> = (0..MESSAGES).map(noise).collect();
    for payload in &payloads {
        client
            .publish("interop/rumqttc", QoS::ExactlyOnce, false, payload.clone())
            .map_err(|error| error.to_string())?;
    }
    let mut complete = 0;
    for event in connection.iter() {
        if let Event::Incoming(Packet::PubComp(_)) =
            event.map_err(|error| format!("rumqttc: {error}"))?
        {
            complete += 1;
            if complete == MESSAGES {
                break;
            }
        }
    }
    let bytes = |payload: &[u8]| payload.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(payloads
        .iter()
        .map(|payload| Published {
            topic: hex("interop/rumqttc"),
            value: bytes(payload),
            headers: Vec::new(),
        })
        .collect())
}

/// Up to 4 KB that do not compress, so that segments grow large enough for index entries.
fn noise(n: usize) -> Vec<u8> {
    let mut state = (n as u32).wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..n * 37 % 4096).map(|_| next()).collect()
}

/// mosquitto_sub gets what mosquitto_pub sent, through the edge alone.
pub fn mosquitto_sub_receives(broker: SocketAddr) -> Result<(), String> {
    let child = Command::new("mosquitto_sub")
        .args([
            "-V",
            "5",
            "-q",
            "2",
            "-t",
            "interop-sub/#",
            "-C",
            "3",
            "-W",
            "20",
            "-F",
            "%t %p",
        ])
        .args(address(broker))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("mosquitto_sub: {error}"))?;
    // mosquitto_sub does not say when it is subscribed: retained messages reach it either way.
    for n in 0..3 {
        let status = Command::new("mosquitto_pub")
            .args([
                "-V",
                "311",
                "-q",
                "2",
                "-r",
                "-t",
                &format!("interop-sub/{n}"),
                "-m",
                &format!("message {n}"),
            ])
            .args(address(broker))
            .status()
            .map_err(|error| format!("mosquitto_pub: {error}"))?;
        if !status.success() {
            return Err(format!("mosquitto_pub -q 2: {status}"));
        }
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("mosquitto_sub: {error}"))?;
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    if lines
        != [
            "interop-sub/0 message 0",
            "interop-sub/1 message 1",
            "interop-sub/2 message 2",
        ]
    {
        return Err(format!("mosquitto_sub got {lines:?}"));
    }
    Ok(())
}

fn address(broker: SocketAddr) -> [String; 4] {
    [
        "-h".to_owned(),
        broker.ip().to_string(),
        "-p".to_owned(),
        broker.port().to_string(),
    ]
}

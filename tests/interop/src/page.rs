//! An edge's status page as a browser shows it, with clients whose names want to be more than names.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::nodes::Edge;
use rumqttc::{Client, MqttOptions, QoS};
use serde_json::Value;

/// Far above what any step needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names that mosquitto's clients agree to have: markup, quotes, text that turns its direction.
const HOSTILE: [&str; 4] = [
    "<img src=x onerror=window.hacked=1>",
    "\"><script>window.hacked=1</script>",
    "'};window.hacked=1;//&lt;b&gt;",
    "gate\u{202e}drawkcab\u{200b}",
];
/// And one that they refuse: it would clear a terminal.
const CONTROL: &str = "\u{1b}[2J\u{7}bell\r\n<b onclick=hacked()>";
/// So long that a narrow screen must break it.
const LONG: &str =
    "a-name-without-any-place-to-break-it-0123456789-0123456789-0123456789-0123456789";
/// A session whose client is gone, with messages that wait.
const SLEEPER: &str = "sleeper";

/// A client that is ended with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn check(out: &Path) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let edge = Edge::new(scratch.path(), None);
    let process = edge.start();
    asleep(edge.mqtt)?;
    let mut running = Vec::new();
    for (n, id) in HOSTILE.iter().chain([&LONG]).enumerate() {
        let version = ["5", "311"][n % 2];
        running.push(subscribe(edge.mqtt, id, version)?);
    }
    let control = connected(edge.mqtt, CONTROL)?;
    for topic in ["plant/7/temp", "<b>topic</b>"] {
        publish(edge.mqtt, topic)?;
    }
    malformed(edge.mqtt)?;
    at_rest(edge.status)?;
    let looked = Command::new("python3")
        .arg("tests/interop/clients/page.py")
        .arg(edge.status.to_string())
        .arg(out)
        .args(HOSTILE)
        .args([CONTROL, LONG, SLEEPER])
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .status()
        .map_err(|error| format!("python3: {error}"))?;
    drop(control);
    process.stop();
    match looked.success() {
        true => Ok(()),
        false => Err(format!("page.py: {looked}")),
    }
}

fn mosquitto(program: &str, broker: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-h", &broker.ip().to_string()])
        .args(["-p", &broker.port().to_string()])
        .stdout(Stdio::null());
    command
}

/// A persistent session without its client.
fn asleep(broker: SocketAddr) -> Result<(), String> {
    let subscribed = mosquitto("mosquitto_sub", broker)
        .args(["-c", "-i", SLEEPER, "-q", "1", "-t", "#", "-E"])
        .status();
    match subscribed {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("mosquitto_sub: {other:?}")),
    }
}

fn subscribe(broker: SocketAddr, id: &str, version: &str) -> Result<Running, String> {
    let child = mosquitto("mosquitto_sub", broker)
        .args(["-V", version, "-i", id, "-q", "1", "-t", "plant/#"])
        .spawn();
    child
        .map(Running)
        .map_err(|error| format!("mosquitto_sub: {error}"))
}

fn publish(broker: SocketAddr, topic: &str) -> Result<(), String> {
    for n in 0..20 {
        let published = mosquitto("mosquitto_pub", broker)
            .args(["-q", "1", "-t", topic, "-m", &format!("{n}")])
            .status();
        match published {
            Ok(status) if status.success() => {}
            other => return Err(format!("mosquitto_pub: {other:?}")),
        }
    }
    Ok(())
}

/// rumqttc checks no name. It stays connected until the client is dropped.
fn connected(broker: SocketAddr, id: &str) -> Result<Client, String> {
    let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = Client::new(options, 10);
    client
        .subscribe("none", QoS::AtMostOnce)
        .map_err(|error| format!("rumqttc: {error}"))?;
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).for_each(drop));
    Ok(client)
}

/// Leaves a line in the node's log.
fn malformed(broker: SocketAddr) -> Result<(), String> {
    let mut stream = std::net::TcpStream::connect(broker).map_err(|error| error.to_string())?;
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").map_err(|e| e.to_string())?;
    let mut rest = Vec::new();
    // It is closed, or reset: both will do.
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    Ok(())
}

/// Everybody is there and everything has arrived, so that numbers stay as they are.
fn at_rest(status: SocketAddr) -> Result<(), String> {
    let names = HOSTILE.len() + 3;
    let page = |path: &str| -> Option<Value> {
        serde_json::from_str(&e2e::http::body(status, path).ok()?).ok()
    };
    let is_at_rest = || -> Option<bool> {
        let (report, clients) = (page("/status")?, page("/clients")?);
        let clients = clients["clients"].as_array()?;
        let is_quiet = |c: &&Value| c["connected"] == true || c["queued"] == 40;
        let quiet = clients.iter().filter(is_quiet).count();
        Some(
            clients.len() == names
                && quiet == names
                && clients.iter().all(|c| c["inflight"] == 0)
                && report["mqtt"]["connected"] == names - 1
                && report["mqtt"]["subscriptions"] == names
                && report["partitions"][0]["sealed_end"] == 40
                && report["recent"].as_array()?.len() == 1,
        )
    };
    let started = Instant::now();
    while is_at_rest() != Some(true) {
        if started.elapsed() > PATIENCE {
            let (report, clients) = (page("/status"), page("/clients"));
            return Err(format!("never at rest: {report:?} {clients:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

//! MQTT clients that use the edge as their users do: sessions, retained messages, wills, shared
//! subscriptions, request and response. Each program prints `ok WHAT` for each part that worked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rumqttc::v5;
use rumqttc::{Client, Event, MqttOptions, Packet, Publish, QoS};

use crate::Checks;

/// How long a client may take for one message.
const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(300);
const MESSAGES: usize = 40;

/// A way to the edge.
#[derive(Clone, Copy)]
pub struct Door<'a> {
    /// `mqtt`, `mqtts`, `ws` or `wss`.
    pub scheme: &'a str,
    pub address: std::net::SocketAddr,
    /// PEM file that a TLS client trusts.
    pub ca: Option<&'a Path>,
}

impl Door<'_> {
    fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }
}

/// paho-mqtt for Python.
pub fn paho(out: &Path, door: Door<'_>, checks: &mut Checks) -> Result<(), String> {
    for (version, parts) in [("3.1.1", 4), ("5", 5)] {
        let mut command = Command::new(out.join("venv/bin/python"));
        command.args(["tests/interop/clients/use_paho.py", version, &door.url()]);
        command.args(door.ca);
        program(
            &format!("paho-mqtt {version}"),
            door,
            command,
            parts,
            checks,
        )?;
    }
    Ok(())
}

/// mqtt.js.
pub fn mqtt_js(out: &Path, door: Door<'_>, checks: &mut Checks) -> Result<(), String> {
    for (version, parts) in [("4", 5), ("5", 6)] {
        let mut command = Command::new("node");
        command
            .arg(out.join("js/use.js"))
            .args([version, &door.url()]);
        command.args(door.ca);
        program(&format!("mqtt.js {version}"), door, command, parts, checks)?;
    }
    Ok(())
}

/// Eclipse Paho for Java.
pub fn java(out: &Path, door: Door<'_>, checks: &mut Checks) -> Result<(), String> {
    let scheme = match door.scheme {
        "mqtt" => "tcp",
        "mqtts" => "ssl",
        web => web,
    };
    for version in ["3", "5"] {
        let mut command = crate::java(out);
        if let Some(ca) = door.ca {
            let trust = trust_store(ca)?;
            command.arg(format!("-Djavax.net.ssl.trustStore={}", trust.display()));
            command.arg("-Djavax.net.ssl.trustStorePassword=changeit");
        }
        let url = format!("{scheme}://localhost:{}", door.address.port());
        command.args(["Use", version, &url]);
        // Its will over TLS is left out: see Use.java.
        let parts = 4 - usize::from(version == "5" && door.ca.is_some());
        program(
            &format!("Eclipse Paho Java {version}"),
            door,
            command,
            parts,
            checks,
        )?;
    }
    Ok(())
}

/// What Java trusts, made of a PEM file by its own tool.
fn trust_store(ca: &Path) -> Result<PathBuf, String> {
    let trust = ca.with_extension("p12");
    if !trust.exists() {
        let mut keytool = Command::new("keytool");
        keytool.args([
            "-importcert",
            "-noprompt",
            "-alias",
            "ca",
            "-storepass",
            "changeit",
        ]);
        keytool.arg("-file").arg(ca).arg("-keystore").arg(&trust);
        let status = keytool.stderr(Stdio::null()).status();
        match status.map_err(|error| format!("keytool: {error}"))? {
            status if status.success() => {}
            status => return Err(format!("keytool: {status}")),
        }
    }
    Ok(trust)
}

fn program(
    name: &str,
    door: Door<'_>,
    mut command: Command,
    parts: usize,
    checks: &mut Checks,
) -> Result<(), String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut done = 0;
    for what in text.lines().filter_map(|line| line.strip_prefix("ok ")) {
        done += 1;
        checks.that(&format!("{name} over {}: {what}", door.scheme), Ok(()))?;
    }
    match output.status.success() && done == parts {
        true => Ok(()),
        false => Err(format!(
            "{name} over {}: {}, {done} of {parts} parts",
            door.scheme, output.status
        )),
    }
}

/// mosquitto's own: a session that waits, and request and response by `mosquitto_rr`.
pub fn mosquitto(door: Door<'_>, checks: &mut Checks) -> Result<(), String> {
    let at = [
        "-h".into(),
        "localhost".into(),
        "-p".into(),
        door.address.port().to_string(),
    ];
    let tool = |name: &str, args: &[&str]| {
        let mut command = Command::new(name);
        command.args(&at).args(args);
        if let Some(ca) = door.ca {
            command.arg("--cafile").arg(ca);
        }
        command
    };
    let run = |mut command: Command| {
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("{command:?}: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{command:?}: {}", output.status)),
        }
    };
    for version in ["311", "5"] {
        let (id, filter) = (
            format!("sub-{version}"),
            format!("use/mosquitto-{version}/#"),
        );
        let session = ["-V", version, "-c", "-i", &id, "-q", "2", "-t", &filter];
        // -E: it leaves once it is subscribed.
        let expiry = ["-x", "300"];
        let more = if version == "5" { &expiry[..] } else { &[] };
        let with = |last: &[&'static str]| [&session[..], more, last].concat();
        run(tool("mosquitto_sub", &with(&["-E"])))?;
        let wanted: Vec<String> = (0..MESSAGES).map(|n| format!("message {n}")).collect();
        for text in &wanted {
            let topic = format!("use/mosquitto-{version}/a");
            run(tool(
                "mosquitto_pub",
                &["-V", version, "-q", "2", "-t", &topic, "-m", text],
            ))?;
        }
        let read = run(tool("mosquitto_sub", &with(&["-C", "40", "-W", "30"])))?;
        let read: Vec<&str> = read.lines().collect();
        let same = match read == wanted {
            true => Ok(()),
            false => Err(format!("{read:?}")),
        };
        let what = format!(
            "mosquitto_sub -c -V {version} over {}: {MESSAGES} waited for it",
            door.scheme
        );
        checks.that(&what, same)?;
    }
    // Its session waits for the question, whoever is first.
    let session = [
        "-V", "5", "-c", "-i", "answerer", "-x", "300", "-q", "1", "-t", "use/ask",
    ];
    let answerer = |last: &[&'static str]| tool("mosquitto_sub", &[&session[..], last].concat());
    run(answerer(&["-E"]))?;
    let ask = [
        "-V",
        "5",
        "-q",
        "1",
        "-t",
        "use/ask",
        "-e",
        "use/answer",
        "-m",
        "?",
        "-W",
        "30",
    ];
    let mut asker = tool("mosquitto_rr", &ask);
    let asker = asker.stdout(Stdio::piped()).spawn();
    let asker = asker.map_err(|error| format!("mosquitto_rr: {error}"))?;
    let mut answerer = answerer(&["-C", "1", "-W", "30", "-F", "%R"]);
    let answerer = answerer.stdout(Stdio::piped()).spawn();
    let answerer = answerer.map_err(|error| format!("mosquitto_sub: {error}"))?;
    let asked = answerer.wait_with_output().map_err(|e| e.to_string())?;
    let topic = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    run(tool(
        "mosquitto_pub",
        &["-V", "5", "-q", "1", "-t", &topic, "-m", "the answer"],
    ))?;
    let answer = asker.wait_with_output().map_err(|e| e.to_string())?;
    let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let same = match (topic.as_str(), answer.as_str()) {
        ("use/answer", "the answer") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    checks.that(
        &format!("mosquitto_rr over {}: request and response", door.scheme),
        same,
    )
}

/// rumqttc, both versions: what waited for a session comes once and in order.
pub fn rumqttc(door: Door<'_>, checks: &mut Checks) -> Result<(), String> {
    let topic = "use/rumqttc";
    let read = rumqttc_3(door, topic)?;
    checks.that("rumqttc 3.1.1: its session waits for it", whole(&read))?;
    let read = rumqttc_5(door, topic)?;
    checks.that("rumqttc 5: its session waits for it", whole(&read))
}

fn whole(read: &[String]) -> Result<(), String> {
    let wanted: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    match read == wanted {
        true => Ok(()),
        false => Err(format!("{read:?}")),
    }
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

fn rumqttc_3(door: Door<'_>, topic: &str) -> Result<Vec<String>, String> {
    let told = |error: rumqttc::ClientError| error.to_string();
    let connect = |id: &str, clean| {
        let mut options = MqttOptions::new(id, "localhost", door.address.port());
        options.set_clean_session(clean).set_keep_alive(PATIENCE);
        Client::new(options, MESSAGES + 10)
    };
    let (client, mut connection) = connect("rumqttc-sub", false);
    client.subscribe(topic, QoS::AtLeastOnce).map_err(told)?;
    until_3(&mut connection, |packet| {
        matches!(packet, Packet::SubAck(_))
    })?;
    client.disconnect().map_err(told)?;
    for _ in connection.iter().map_while(Result::ok) {}
    let (publisher, mut link) = connect("rumqttc-pub", true);
    for n in 0..MESSAGES {
        publisher
            .publish(topic, QoS::AtLeastOnce, false, n.to_string())
            .map_err(told)?;
    }
    let mut acked = 0;
    until_3(&mut link, |packet| {
        acked += usize::from(matches!(packet, Packet::PubAck(_)));
        acked == MESSAGES
    })?;
    let (_client, mut connection) = connect("rumqttc-sub", false);
    let mut read = Vec::new();
    until_3(&mut connection, |packet| {
        if let Packet::Publish(Publish { payload, .. }) = packet {
            read.push(text(payload));
        }
        read.len() == MESSAGES
    })?;
    while let Ok(Ok(event)) = connection.recv_timeout(QUIET) {
        if let Event::Incoming(Packet::Publish(more)) = event {
            read.push(text(&more.payload));
        }
    }
    Ok(read)
}

fn until_3(
    connection: &mut rumqttc::Connection,
    mut last: impl FnMut(&Packet) -> bool,
) -> Result<(), String> {
    loop {
        let event = connection.recv_timeout(PATIENCE);
        match event.map_err(|_| "rumqttc: nothing came".to_owned())? {
            Ok(Event::Incoming(packet)) if last(&packet) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("rumqttc: {error}")),
        }
    }
}

fn rumqttc_5(door: Door<'_>, topic: &str) -> Result<Vec<String>, String> {
    use v5::mqttbytes::QoS;
    use v5::mqttbytes::v5::Packet;
    let told = |error: v5::ClientError| error.to_string();
    let connect = |id: &str, clean: bool| {
        let mut options = v5::MqttOptions::new(id, "localhost", door.address.port());
        options.set_clean_start(clean).set_keep_alive(PATIENCE);
        let mut properties = v5::mqttbytes::v5::ConnectProperties::new();
        properties.session_expiry_interval = Some(if clean { 0 } else { 300 });
        options.set_connect_properties(properties);
        v5::Client::new(options, MESSAGES + 10)
    };
    let (client, mut connection) = connect("rumqttc-5-sub", false);
    client.subscribe(topic, QoS::ExactlyOnce).map_err(told)?;
    until_5(&mut connection, |packet| {
        matches!(packet, Packet::SubAck(_))
    })?;
    client.disconnect().map_err(told)?;
    for _ in connection.iter().map_while(Result::ok) {}
    let (publisher, mut link) = connect("rumqttc-5-pub", true);
    for n in 0..MESSAGES {
        publisher
            .publish(topic, QoS::ExactlyOnce, false, n.to_string())
            .map_err(told)?;
    }
    let mut complete = 0;
    until_5(&mut link, |packet| {
        complete += usize::from(matches!(packet, Packet::PubComp(_)));
        complete == MESSAGES
    })?;
    let (_client, mut connection) = connect("rumqttc-5-sub", false);
    let mut read = Vec::new();
    until_5(&mut connection, |packet| {
        if let Packet::Publish(publish) = packet {
            read.push(text(&publish.payload));
        }
        read.len() == MESSAGES
    })?;
    while let Ok(Ok(event)) = connection.recv_timeout(QUIET) {
        if let v5::Event::Incoming(Packet::Publish(more)) = event {
            read.push(text(&more.payload));
        }
    }
    Ok(read)
}

fn until_5(
    connection: &mut v5::Connection,
    mut last: impl FnMut(&v5::mqttbytes::v5::Packet) -> bool,
) -> Result<(), String> {
    loop {
        let event = connection.recv_timeout(PATIENCE);
        match event.map_err(|_| "rumqttc: nothing came".to_owned())? {
            Ok(v5::Event::Incoming(packet)) if last(&packet) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("rumqttc: {error}")),
        }
    }
}

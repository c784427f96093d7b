//! TLS, certificates, passwords, rules and WebSockets, with the clients that people use. On an edge of its own, without a cloud.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use e2e::process::{Process, binary, free_port, wait_listening};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};

use crate::uses::{self, Door};
use crate::{Checks, publish};

const ACL: &str = "topic read public/#
topic write interop/#
topic readwrite use/#
user anna
topic readwrite all/#
pattern write devices/%c/#
";

/// A listener each for TLS with passwords, client certificates, and the two kinds of WebSocket.
struct Place {
    dir: PathBuf,
    tls: SocketAddr,
    mutual: SocketAddr,
    /// TLS for everybody.
    open: SocketAddr,
    ws: SocketAddr,
    wss: SocketAddr,
}

pub fn run(out: &Path, dir: &Path, checks: &mut Checks) -> Result<(), String> {
    let place = Place::make(dir)?;
    let process = place.start()?;
    let ca = place.file("ca.pem");
    let password = ["-u", "anna", "-P", "red"];
    let wrong = ["-u", "anna", "-P", "blue"];
    let cert = |name: &str| -> Vec<String> {
        let file = |end: &str| place.file(&format!("{name}.{end}"));
        vec!["--cert".into(), file("pem"), "--key".into(), file("key")]
    };
    for version in ["311", "5"] {
        let said = |how: &str| format!("mosquitto_pub -V {version} {how}");
        let publish = |at, topic: &str, args: &[&str]| {
            mosquitto_pub(at, version, topic, &[&["--cafile", &ca], args].concat())
        };
        checks.that(&said("over TLS with a password"), {
            passes(&publish(place.tls, "all/x", &password)?)
        })?;
        checks.that(&said("with a wrong password is refused"), {
            fails(&publish(place.tls, "all/x", &wrong)?)
        })?;
        checks.that(&said("without a login is refused"), {
            fails(&publish(place.tls, "all/x", &[])?)
        })?;
        checks.that(&said("with another CA ends the handshake"), {
            let other = place.file("other.pem");
            fails(&mosquitto_pub(
                place.tls,
                version,
                "all/x",
                &["--cafile", &other],
            )?)
        })?;
        for (name, how, is_in) in [
            ("anna", "with a client certificate", true),
            (
                "stranger",
                "with a client certificate of another CA is refused",
                false,
            ),
            (
                "expired",
                "with an expired client certificate is refused",
                false,
            ),
        ] {
            let args = cert(name);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = publish(place.mutual, "all/x", &args)?;
            let judge = if is_in { passes } else { fails };
            checks.that(&said(how), judge(&output))?;
        }
        checks.that(&said("without a client certificate is refused"), {
            fails(&publish(place.mutual, "all/x", &password)?)
        })?;
    }
    checks.that("rules hold for mosquitto's clients", rules(&place))?;
    for version in ["3.1.1", "5"] {
        let paho = |at, more: &[&str]| publish::paho(out, at, version, more);
        checks.that(
            &format!("paho-mqtt {version} publishes in a WebSocket"),
            paho(place.ws, &["websockets"]),
        )?;
        checks.that(
            &format!("paho-mqtt {version} publishes in a WebSocket over TLS"),
            paho(place.wss, &["websockets", &ca]),
        )?;
    }
    let ca = PathBuf::from(ca);
    for (scheme, address) in [("mqtts", place.open), ("ws", place.ws), ("wss", place.wss)] {
        let ca = (scheme != "ws").then_some(ca.as_path());
        let door = Door {
            scheme,
            address,
            ca,
        };
        uses::paho(out, door, checks)?;
        uses::mqtt_js(out, door, checks)?;
        uses::java(out, door, checks)?;
    }
    process.stop();
    Ok(())
}

/// A subscriber to everything gets what it may read, a publisher in 5.0 hears of what it may not.
fn rules(place: &Place) -> Result<(), String> {
    let ca = place.file("ca.pem");
    let args = ["--cafile", &ca, "-u", "anna", "-P", "red", "-i", "d1"];
    let publish =
        |topic: &str| mosquitto_pub(place.tls, "5", topic, &[&args[..], &["-r"]].concat());
    passes(&publish("all/kept")?)?;
    passes(&publish("devices/d1/x")?)?;
    for topic in ["devices/d2/x", "public/x"] {
        let output = publish(topic)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !said.to_lowercase().contains("not authorized") {
            return Err(format!("{topic}: {said:?}"));
        }
    }
    let output = Command::new("mosquitto_sub")
        .args(["-V", "5", "-q", "1", "-t", "#", "-W", "3", "-F", "%t"])
        .args(["--cafile", &ca, "-u", "anna", "-P", "red"])
        .args(address(place.tls))
        .output()
        .map_err(|error| format!("mosquitto_sub: {error}"))?;
    let got = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = got.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    match lines[..] {
        ["all/kept", "all/x"] | ["all/kept"] => Ok(()),
        _ => Err(format!("mosquitto_sub got {lines:?}")),
    }
}

fn mosquitto_pub(
    at: SocketAddr,
    version: &str,
    topic: &str,
    args: &[&str],
) -> Result<Output, String> {
    Command::new("mosquitto_pub")
        .args(["-V", version, "-q", "1", "-t", topic, "-m", "x"])
        .args(args)
        .args(address(at))
        .output()
        .map_err(|error| format!("mosquitto_pub: {error}"))
}

/// The name in the server's certificate.
fn address(at: SocketAddr) -> [String; 4] {
    [
        "-h".into(),
        "localhost".into(),
        "-p".into(),
        at.port().to_string(),
    ]
}

fn passes(output: &Output) -> Result<(), String> {
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", output.status, said(output))),
    }
}

fn fails(output: &Output) -> Result<(), String> {
    match output.status.success() {
        true => Err("it was let in".into()),
        false => Ok(()),
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn authority(name: &str) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok((params.self_signed(&key)?, key))
}

impl Place {
    fn make(dir: &Path) -> Result<Place, String> {
        std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let place = Place {
            dir: dir.to_owned(),
            tls: free_port(),
            mutual: free_port(),
            open: free_port(),
            ws: free_port(),
            wss: free_port(),
        };
        place.certificates().map_err(|error| error.to_string())?;
        place.write("acl", ACL)?;
        let mut child = Command::new(binary("edge-node"))
            .arg("passwd")
            .arg(dir.join("passwords"))
            .arg("anna")
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("edge-node passwd: {error}"))?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        std::io::Write::write_all(&mut stdin, b"red\n").map_err(|error| error.to_string())?;
        drop(stdin);
        let status = child.wait().map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(place),
            false => Err(format!("edge-node passwd: {status}")),
        }
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        std::fs::write(self.dir.join(name), text).map_err(|error| error.to_string())
    }

    fn certificates(&self) -> Result<(), Box<dyn std::error::Error>> {
        let (ca, ca_key) = authority("ca")?;
        let (other, other_key) = authority("other")?;
        self.write("ca.pem", &ca.pem())?;
        self.write("other.pem", &other.pem())?;
        let late = |params: &mut CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        };
        let names = vec![
            SanType::DnsName("localhost".try_into()?),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        for (name, user, by, is_late) in [
            ("server", "server", (&ca, &ca_key), false),
            ("anna", "anna", (&ca, &ca_key), false),
            ("stranger", "anna", (&other, &other_key), false),
            ("expired", "anna", (&ca, &ca_key), true),
        ] {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, user);
            if name == "server" {
                params.subject_alt_names = names.clone();
            }
            if is_late {
                late(&mut params);
            }
            let key = KeyPair::generate()?;
            let made = params.signed_by(&key, by.0, by.1)?;
            self.write(&format!("{name}.pem"), &made.pem())?;
            self.write(&format!("{name}.key"), &key.serialize_pem())?;
        }
        Ok(())
    }

    fn start(&self) -> Result<Process, String> {
        let file = |name| self.file(name);
        let server = format!(
            "certificate = {:?}\nkey = {:?}\n",
            file("server.pem"),
            file("server.key")
        );
        let clients = format!(
            "client_certificates = \"required\"\nclient_ca = {:?}\ncertificate_user = \"cn\"\n",
            file("ca.pem")
        );
        let listener =
            |at: SocketAddr, more: &str| format!("[[listeners]]\naddress = \"{at}\"\n{more}\n");
        let toml = [
            listener(self.tls, &format!("{server}anonymous = \"never\"")),
            listener(
                self.mutual,
                &format!("{server}{clients}anonymous = \"never\""),
            ),
            listener(self.open, &server),
            listener(self.ws, "websocket = true"),
            listener(self.wss, &format!("{server}websocket = true")),
            format!(
                "[access]\npassword_file = {:?}\nacl_file = {:?}\n[status]\nlisten = \"\"\n",
                file("passwords"),
                file("acl")
            ),
        ];
        self.write("edge.toml", &toml.concat())?;
        let args = [
            "run",
            "--data-dir",
            &file("data"),
            "--config",
            &file("edge.toml"),
        ];
        let args = args.map(str::to_owned);
        let log = self.dir.join("log");
        let process = Process::spawn("edge-node", &binary("edge-node"), &args, &log);
        wait_listening("the edge", self.ws);
        Ok(process)
    }
}

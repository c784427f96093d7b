//! Every kind of listener, with real TLS and WebSocket clients.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::certs::{Ca, Pair};
use crate::peer::{Connect, Peer, Stream, tcp, tls, websocket};
use crate::process::{Process, log_path, until};

/// Longest wait of an honest client while others hang, on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(5);

/// On a port that the system chooses.
pub fn listener(more: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{more}\n")
}

pub fn server_files(pair: &Pair) -> String {
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    format!("certificate = \"{certificate}\"\nkey = \"{key}\"\n")
}

struct Place {
    scratch: tempfile::TempDir,
    ca: Ca,
    server: Pair,
}

impl Place {
    fn new() -> Place {
        let scratch = tempfile::tempdir().unwrap();
        let ca = Ca::new(scratch.path(), "ca");
        let server = ca.server("server");
        Place {
            scratch,
            ca,
            server,
        }
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("edge")
    }
}

fn connect<'a>(version: u8, id: &'a str) -> Connect<'a> {
    Connect {
        version,
        id,
        ..Connect::default()
    }
}

#[test]
fn both_versions_on_every_kind_of_listener() {
    let place = Place::new();
    let files = server_files(&place.server);
    let toml = [
        listener(""),
        listener(&files),
        listener("websocket = true"),
        listener(&format!("websocket = true\n{files}")),
    ];
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml.concat());
    let [bare, secure, ws, wss] = mqtt[..] else {
        panic!("{mqtt:?}")
    };
    let ca = place.ca.file();
    let open = |kind: usize, new: bool| -> Box<dyn Stream> {
        let version = if new { &TLS13 } else { &TLS12 };
        match kind {
            0 => Box::new(tcp(bare)),
            1 => Box::new(tls(secure, &ca, None, version)),
            2 => Box::new(websocket(tcp(ws), "mqtt").unwrap()),
            _ => Box::new(websocket(tls(wss, &ca, None, version), "mqtt").unwrap()),
        }
    };
    let large: Vec<u8> = (0..300_000u32).map(|n| (n >> 3) as u8).collect();
    for version in [4, 5] {
        let peer = |kind: usize| {
            let id = format!("{version}-{kind}");
            let mut peer = Peer::welcome(open(kind, version == 5), connect(version, &id));
            assert!(peer.subscribe("all/#").unwrap() < 0x80);
            peer
        };
        let mut peers: Vec<Peer> = (0..4).map(peer).collect();
        for from in 0..4 {
            let topic = format!("all/{from}");
            for payload in [&b"small"[..], &large] {
                // Its own subscription brings it the message too, before or behind PUBACK.
                peers[from].send_publish(&topic, payload, 5).unwrap();
                for (at, peer) in peers.iter_mut().enumerate() {
                    let mut acked = at != from;
                    let mut received = false;
                    while !(acked && received) {
                        let (kind, body) = peer.packet().unwrap();
                        match kind >> 4 {
                            4 => acked = true,
                            3 => {
                                assert!(body.ends_with(payload), "from {from} to {at}");
                                received = true;
                                peer.send(0x40, &body[2 + topic.len()..4 + topic.len()])
                                    .unwrap();
                            }
                            other => panic!("packet type {other}"),
                        }
                    }
                }
            }
        }
    }
}

/// More than sockets hold: what does not fit waits below MQTT in pieces, and all of it arrives.
#[test]
fn a_reader_that_takes_its_time_gets_everything() {
    const COUNT: u16 = 390;
    let place = Place::new();
    let files = server_files(&place.server);
    let toml = [
        listener(""),
        listener(&files),
        listener("websocket = true"),
        listener(&format!("websocket = true\n{files}")),
    ];
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml.concat());
    let ca = place.ca.file();
    let secure = |at| tls(at, &ca, None, &TLS13);
    let slow = |stream: Box<dyn Stream>, id| {
        let mut peer = Peer::welcome(stream, connect(5, id));
        assert_eq!(peer.subscribe("t").unwrap(), 1);
        peer
    };
    let mut readers = [
        slow(Box::new(tcp(mqtt[0])), "bare"),
        slow(Box::new(secure(mqtt[1])), "tls"),
        slow(Box::new(websocket(tcp(mqtt[2]), "mqtt").unwrap()), "ws"),
        slow(Box::new(websocket(secure(mqtt[3]), "mqtt").unwrap()), "wss"),
    ];
    let mut writer = Peer::welcome(tcp(mqtt[0]), connect(5, "writer"));
    let payload = |n: u16| n.to_be_bytes().repeat(10_000);
    for n in 0..COUNT {
        assert_eq!(writer.publish("t", &payload(n)).unwrap(), 0);
    }
    for reader in &mut readers {
        for n in 0..COUNT {
            assert!(reader.receive().unwrap().1 == payload(n), "message {n}");
        }
        assert!(reader.ping().unwrap());
    }
}

#[test]
fn client_certificates_decide_who_gets_in() {
    let place = Place::new();
    let other = Ca::new(place.scratch.path(), "other");
    let files = server_files(&place.server);
    let with = |which: &str| {
        let ca = place.ca.file();
        let ca = ca.display();
        let more = format!("{files}client_ca = \"{ca}\"\nclient_certificates = \"{which}\"");
        listener(&more)
    };
    let toml = with("required") + &with("optional");
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml);
    let (required, optional) = (mqtt[0], mqtt[1]);
    let ca = place.ca.file();
    let attempt = |address, client: Option<&Pair>, version| {
        Peer::connect(tls(address, &ca, client, version), connect(5, "c")).map(|(_, reason)| reason)
    };
    let good = place.ca.client("good");
    let stranger = other.client("good");
    let expired = place.ca.expired("late");
    for version in [&TLS12, &TLS13] {
        assert_eq!(attempt(required, Some(&good), version).unwrap(), 0);
        assert_eq!(attempt(optional, Some(&good), version).unwrap(), 0);
        assert_eq!(attempt(optional, None, version).unwrap(), 0);
        for (address, client, alert) in [
            (required, None, "CertificateRequired"),
            (required, Some(&stranger), "UnknownCA"),
            (required, Some(&expired), "CertificateExpired"),
            (optional, Some(&stranger), "UnknownCA"),
            (optional, Some(&expired), "CertificateExpired"),
        ] {
            let error = attempt(address, client, version).unwrap_err().to_string();
            // TLS 1.2 has no alert for a certificate that is missing.
            let told = error.contains(alert) || error.contains("HandshakeFailure");
            assert!(told, "{alert}: {error}");
        }
    }
    // And a client that trusts another CA ends the handshake itself.
    let foreign = tls(required, &other.file(), Some(&good), &TLS13);
    assert!(Peer::connect(foreign, connect(5, "c")).is_err());
    let log = std::fs::read_to_string(log_path(&place.dir())).unwrap();
    assert!(log.contains("refused") && log.contains("expired"), "{log}");
}

/// Fifty handshakes that stop half-way, then more of them than are kept: nobody else waits.
#[test]
fn handshakes_that_hang_hold_up_nobody() {
    let place = Place::new();
    let files = server_files(&place.server);
    let toml = listener("") + &listener(&format!("websocket = true\n{files}"));
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml);
    let wss = mqtt[1];
    let ca = place.ca.file();
    let publish = |id: &str| {
        let started = Instant::now();
        let stream = websocket(tls(wss, &ca, None, &TLS13), "mqtt").unwrap();
        let mut peer = Peer::welcome(stream, connect(5, id));
        assert_eq!(peer.publish("t", b"x").unwrap(), 0);
        started.elapsed()
    };
    // A record that promises more than it holds.
    let hang = || {
        let mut stream = tcp(wss);
        stream.write_all(&[22, 3, 1, 1, 0, 1, 0]).unwrap();
        stream
    };
    let mut hanging: Vec<_> = (0..50).map(|_| hang()).collect();
    let took = publish("beside-50");
    assert!(took < AT_ONCE, "an honest client waited {took:?}");
    hanging.extend((0..300).map(|_| hang()));
    let took = publish("beside-350");
    assert!(took < AT_ONCE, "an honest client waited {took:?}");
    // The oldest made room for the newest, long before its time was over.
    let started = Instant::now();
    assert_ne!(hanging[0].read(&mut [0; 100]).unwrap_or(0), 100);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    // The newest ends by its time.
    let newest = hanging.last_mut().unwrap();
    let ended = newest.read(&mut [0; 100]);
    assert!(ended.is_ok() || ended.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    let log = log_path(&place.dir());
    until("both are said in the log", || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.contains("oldest of too many unfinished handshakes") && log.contains("took too long")
    });
}

#[test]
fn a_websocket_needs_the_sub_protocol_and_binary_frames() {
    let place = Place::new();
    let toml = listener("websocket = true");
    let (_process, mqtt) = Process::start_config(&place.dir(), &toml);
    let ws = mqtt[0];
    let refused = websocket(tcp(ws), "mqttv3.1").err().unwrap();
    assert!(refused.contains("400"), "{refused}");
    let mut socket = websocket(tcp(ws), "mqtt").unwrap().socket;
    socket.send(tungstenite::Message::text("hello")).unwrap();
    let closed = socket.read().unwrap();
    let tungstenite::Message::Close(Some(frame)) = closed else {
        panic!("{closed:?}")
    };
    assert_eq!(u16::from(frame.code), 1003);
    // An end in good order, and one without.
    let mut peer = Peer::welcome(websocket(tcp(ws), "mqtt").unwrap(), connect(5, "w"));
    assert!(peer.ping().unwrap());
    peer.send(0xe0, &[]).unwrap();
    assert_eq!(peer.disconnected(), 0);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let place = Place::new();
    let other = place.ca.server("other");
    let bad = place.scratch.path().join("bad.pem");
    std::fs::write(&bad, "not PEM").unwrap();
    let garbled = place.scratch.path().join("garbled.pem");
    std::fs::write(
        &garbled,
        "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n",
    )
    .unwrap();
    let missing = place.scratch.path().join("missing.pem");
    let server = &place.server;
    let pair = |certificate: &Path, key: &Path| Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    };
    let ca = |file: &Path| {
        let file = file.display();
        let more = format!("client_ca = \"{file}\"\nclient_certificates = \"required\"");
        server_files(server) + &more
    };
    let crl = |file: &Path| {
        let file = file.display();
        format!("{}\nclient_crl = \"{file}\"", ca(&place.ca.file()))
    };
    let cases = [
        (
            server_files(&pair(&missing, &server.key)),
            "certificate",
            "missing.pem",
            "No such file",
        ),
        (
            server_files(&pair(&bad, &server.key)),
            "certificate",
            "bad.pem",
            "no certificate",
        ),
        (
            server_files(&pair(&server.certificate, &bad)),
            "key",
            "bad.pem",
            "PEM",
        ),
        (
            server_files(&pair(&server.certificate, &other.key)),
            "key",
            "other.key",
            "not the key",
        ),
        (ca(&missing), "client_ca", "missing.pem", "No such file"),
        (ca(&bad), "client_ca", "bad.pem", "no certificate"),
        (crl(&missing), "client_crl", "missing.pem", "No such file"),
        (crl(&bad), "client_crl", "bad.pem", "no revocation list"),
        (
            crl(&garbled),
            "client_crl",
            "garbled.pem",
            "version 2 with a number",
        ),
    ];
    for (more, key, file, why) in cases {
        let toml = listener(&more);
        let config = place.scratch.path().join("edge.toml");
        std::fs::write(&config, toml).unwrap();
        let checked = crate::process::program()
            .args(["check-config", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert!(!checked.status.success());
        let said = String::from_utf8(checked.stderr).unwrap();
        for word in [&format!("listeners[0].{key}"), file, why] {
            assert!(said.contains(word), "{said:?} without {word:?}");
        }
    }
}

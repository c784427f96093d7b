//! TLS and WebSocket against rustls' and tungstenite's own clients, in memory.

use std::io::Read;

use rustls::ClientConnection;
use rustls::pki_types::PrivateKeyDer;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket as Client};

use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: other, mqtt\r\n\r\n";

fn anybody() -> Option<Origins> {
    Some(Origins::from([]))
}

/// Both directions of a stream that lives in memory.
#[derive(Default)]
struct Pipe {
    to_client: VecDeque<u8>,
    to_server: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.to_client.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to_server.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(wire: &mut Wire) -> Vec<u8> {
    let mut out = Vec::new();
    wire.write_to(&mut out).unwrap();
    assert!(!wire.has_output());
    out
}

/// An open WebSocket and tungstenite's client of it.
fn open() -> (Wire, Client<Pipe>) {
    let mut wire = Wire::new(None, anybody()).unwrap();
    let mut plain = BytesMut::new();
    wire.received(REQUEST.as_bytes(), &mut plain).unwrap();
    assert!(wire.is_open() && plain.is_empty());
    written(&mut wire);
    let config = WebSocketConfig::default();
    (
        wire,
        Client::from_raw_socket(Pipe::default(), Role::Client, Some(config)),
    )
}

fn frames(client: &mut Client<Pipe>, messages: &[Message]) -> Vec<u8> {
    for message in messages {
        client.send(message.clone()).unwrap();
    }
    std::mem::take(&mut client.get_mut().to_server)
}

#[test]
fn the_request_is_answered_as_rfc_6455_shows_however_it_comes() {
    for size in [1, 7, REQUEST.len()] {
        let mut wire = Wire::new(None, anybody()).unwrap();
        let mut plain = BytesMut::new();
        for piece in REQUEST.as_bytes().chunks(size) {
            assert!(!wire.is_open());
            wire.received(piece, &mut plain).unwrap();
        }
        assert!(wire.is_open());
        let answer = String::from_utf8(written(&mut wire)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The key and its answer of RFC 6455 section 1.3.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert!(
            answer.contains("sec-websocket-protocol: mqtt\r\n"),
            "{answer}"
        );
    }
}

#[test]
fn a_web_page_of_another_origin_is_refused_and_a_program_is_not() {
    let here = "https://panel.example";
    let allowed = || Some(Origins::from([here.to_owned()]));
    let from = |origin: &str| REQUEST.replace("Host: a", &format!("Host: a\r\nOrigin: {origin}"));
    let cases = [
        (REQUEST.to_owned(), allowed(), "101 "),
        (from(here), allowed(), "101 "),
        (from("https://PANEL.example"), allowed(), "101 "),
        (from("https://other.example"), allowed(), "403 Forbidden"),
        (
            from("https://panel.example.other"),
            allowed(),
            "403 Forbidden",
        ),
        (from("null"), allowed(), "403 Forbidden"),
        (from("https://other.example"), anybody(), "101 "),
    ];
    for (request, origins, status) in cases {
        let mut wire = Wire::new(None, origins).unwrap();
        let opened = wire.received(request.as_bytes(), &mut BytesMut::new());
        assert_eq!(opened.is_ok(), status == "101 ", "{request}");
        let answer = String::from_utf8(written(&mut wire)).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[test]
fn requests_that_ask_for_something_else_are_answered_and_ended() {
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9_000));
    let cases = [
        (REQUEST.replace("mqtt\r\n", "mqttv3.1\r\n"), "sub-protocol"),
        (
            REQUEST.replace("Sec-WebSocket-Protocol", "X"),
            "sub-protocol",
        ),
        (
            REQUEST.replace("Version: 13", "Version: 8"),
            "ask for a WebSocket",
        ),
        (REQUEST.replace("GET", "POST"), "HTTP"),
        (
            "\x10\x0c\0\x04MQTT\x04\0\0\0\0\0\r\n\r\n".to_owned(),
            "HTTP",
        ),
        (long, "too long"),
    ];
    for (request, why) in cases {
        let mut wire = Wire::new(None, anybody()).unwrap();
        let error = wire
            .received(request.as_bytes(), &mut BytesMut::new())
            .unwrap_err();
        assert!(error.to_string().contains(why), "{request:?}: {error}");
        assert!(!wire.is_open());
        assert!(written(&mut wire).starts_with(b"HTTP/1.1 400 "));
    }
}

#[test]
fn packets_need_not_align_with_frames() {
    let (_, mut client) = open();
    let large = vec![7; 70_000];
    let messages = [
        Message::binary(&b"ab"[..]),
        Message::binary(&b""[..]),
        Message::Ping(Bytes::from_static(b"hello")),
        Message::binary(large.clone()),
        Message::binary(&b"c"[..]),
    ];
    let bytes = frames(&mut client, &messages);
    let wanted = [&b"ab"[..], &large, b"c"].concat();
    for size in [1, 2, 3, 13, 14, 15, 1_000, bytes.len()] {
        let (mut wire, mut client) = open();
        let mut plain = BytesMut::new();
        for piece in bytes.chunks(size) {
            wire.received(piece, &mut plain).unwrap();
        }
        assert!(plain == wanted, "in pieces of {size}");
        client.get_mut().to_client.extend(written(&mut wire));
        let pong = client.read().unwrap();
        assert_eq!(pong, Message::Pong(Bytes::from_static(b"hello")));
    }
}

#[test]
fn a_message_may_come_in_parts_with_a_ping_between() {
    let (mut wire, _) = open();
    let mut plain = BytesMut::new();
    // Masked with zeros: first part, ping, last part.
    let parts = [
        0x02, 0x81, 0, 0, 0, 0, b'a', 0x89, 0x80, 0, 0, 0, 0, 0x80, 0x81, 0, 0, 0, 0, b'b',
    ];
    wire.received(&parts, &mut plain).unwrap();
    assert_eq!(&plain[..], b"ab");
    assert_eq!(written(&mut wire), [0x8a, 0]);
}

#[test]
fn what_is_no_binary_frame_ends_the_connection_with_a_reason() {
    let text = [0x81, 0x81, 0, 0, 0, 0, b'a'];
    let unmasked = [0x82, 0x01, b'a'];
    let reserved_bit = [0xc2, 0x80, 0, 0, 0, 0];
    let reserved_kind = [0x83, 0x80, 0, 0, 0, 0];
    let stray_part = [0x80, 0x80, 0, 0, 0, 0];
    let long_ping = [0x89, 0xfe, 0, 126, 0, 0, 0, 0];
    let long = [0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let cases: [(&[u8], u16); 7] = [
        (&text, 1003),
        (&unmasked, 1002),
        (&reserved_bit, 1002),
        (&reserved_kind, 1002),
        (&stray_part, 1002),
        (&long_ping, 1002),
        (&long, 1002),
    ];
    for (bytes, code) in cases {
        let (mut wire, _) = open();
        let mut plain = BytesMut::new();
        wire.received(bytes, &mut plain).unwrap_err();
        assert!(plain.is_empty());
        let [high, low] = code.to_be_bytes();
        assert_eq!(written(&mut wire), [0x88, 2, high, low], "{bytes:?}");
    }
}

#[test]
fn a_close_is_answered_once_and_ends_the_stream() {
    let (mut wire, mut client) = open();
    client.close(None).unwrap();
    client.flush().unwrap();
    let bytes = std::mem::take(&mut client.get_mut().to_server);
    wire.received(&bytes, &mut BytesMut::new()).unwrap();
    assert!(wire.is_ended());
    wire.say_good_bye();
    assert_eq!(written(&mut wire), [0x88, 2, 3, 232]);
}

#[test]
fn a_flood_of_pings_is_not_answered_without_end() {
    let (mut wire, mut client) = open();
    let pings = vec![Message::Ping(vec![1; 100].into()); 1_000];
    let bytes = frames(&mut client, &pings);
    wire.received(&bytes, &mut BytesMut::new()).unwrap();
    assert!(written(&mut wire).len() < 8 << 10);
}

#[test]
fn packets_leave_in_frames_that_a_client_reads() {
    let (mut wire, mut client) = open();
    let packets: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; usize::from(n) * 40]).collect();
    let mut queue: VecDeque<Bytes> = packets.iter().cloned().map(Bytes::from).collect();
    let mut taken = 0;
    while !queue.is_empty() {
        taken += wire.take(&mut queue);
        assert!(wire.output.len() <= OUTPUT_BYTES_MAX);
        client.get_mut().to_client.extend(written(&mut wire));
    }
    let wanted = packets.concat();
    assert_eq!(taken, wanted.len());
    let mut read = Vec::new();
    while let Ok(message) = client.read() {
        assert!(message.is_binary());
        read.extend(message.into_data());
    }
    assert!(read == wanted);
    assert_eq!(
        wire.output.capacity(),
        0,
        "an idle connection holds no buffer"
    );
}

fn tls() -> (Wire, ClientConnection) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(made.key_pair.serialize_der().into());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(client.into(), name).unwrap();
    (Wire::new(Some(server.into()), None).unwrap(), client)
}

/// Carries bytes both ways until neither side has more; what the client read.
fn exchange(wire: &mut Wire, client: &mut ClientConnection, plain: &mut BytesMut) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        let mut up = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        for piece in up.chunks(100) {
            wire.received(piece, plain).unwrap();
        }
        let down = written(wire);
        if up.is_empty() && down.is_empty() {
            return read;
        }
        let mut down = &down[..];
        while !down.is_empty() {
            client.read_tls(&mut down).unwrap();
            client.process_new_packets().unwrap();
            let mut buffer = [0; 16 << 10];
            while let Ok(n @ 1..) = client.reader().read(&mut buffer) {
                read.extend_from_slice(&buffer[..n]);
            }
        }
    }
}

#[test]
fn bytes_pass_tls_both_ways_in_bounded_pieces() {
    let (mut wire, mut client) = tls();
    let mut plain = BytesMut::new();
    assert!(!wire.is_open());
    exchange(&mut wire, &mut client, &mut plain);
    assert!(wire.is_open() && !client.is_handshaking());
    let up: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    client.writer().write_all(&up).unwrap();
    exchange(&mut wire, &mut client, &mut plain);
    assert!(plain == up);
    let down = Bytes::from(up.repeat(10));
    let mut queue: VecDeque<Bytes> = [down.clone()].into();
    let mut read = Vec::new();
    while !queue.is_empty() {
        let taken = wire.take(&mut queue);
        assert!((1..=OUTPUT_BYTES_MAX).contains(&taken), "{taken}");
        assert_eq!(wire.take(&mut queue), 0, "more than its room");
        read.extend(exchange(&mut wire, &mut client, &mut plain));
    }
    assert!(read == down);
    client.send_close_notify();
    exchange(&mut wire, &mut client, &mut plain);
    assert!(wire.is_ended());
}

#[test]
fn what_is_not_tls_is_an_error_and_answered_with_an_alert() {
    let (mut wire, _) = tls();
    let connect = b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0";
    let error = wire.received(connect, &mut BytesMut::new()).unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
    assert_eq!(written(&mut wire)[0], 21, "an alert");
}

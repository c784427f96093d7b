//! An MQTT client on any stream: TCP, TLS, WebSocket. One step a call; blocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, StreamOwned, SupportedProtocolVersion};
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

use crate::certs::Pair;
use crate::client::put_text;

/// Far above what an answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// TLS to a server of this CA, perhaps with a client's certificate, at this version only. Its
/// handshake is part of the first write.
pub fn tls(
    address: SocketAddr,
    ca: &Path,
    client: Option<&Pair>,
    version: &'static SupportedProtocolVersion,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let certificate = CertificateDer::from_pem_file(&pair.certificate).unwrap();
            let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
            builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        }
    };
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(config.into(), name).unwrap();
    StreamOwned::new(connection, tcp(address))
}

/// MQTT bytes in a WebSocket, each write a frame of its own.
pub struct InFrames<S: Stream> {
    pub socket: WebSocket<S>,
    read: Vec<u8>,
}

pub fn websocket<S: Stream>(stream: S, sub_protocol: &str) -> Result<InFrames<S>, String> {
    let uri = "ws://localhost/mqtt".parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(sub_protocol);
    let (socket, _) = tungstenite::client(request, stream).map_err(|e| e.to_string())?;
    let read = Vec::new();
    Ok(InFrames { socket, read })
}

impl<S: Stream> Read for InFrames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read.is_empty() {
            match self.socket.read() {
                Ok(message @ Message::Binary(_)) => self.read = message.into_data().to_vec(),
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return Ok(0),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let len = buffer.len().min(self.read.len());
        buffer[..len].copy_from_slice(&self.read[..len]);
        self.read.drain(..len);
        Ok(len)
    }
}

impl<S: Stream> Write for InFrames<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket
            .send(Message::binary(bytes.to_vec()))
            .map_err(io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a CONNECT holds.
#[derive(Default, Clone, Copy)]
pub struct Connect<'a> {
    pub version: u8,
    pub id: &'a str,
    pub login: Option<(&'a str, &'a str)>,
    /// Topic of a will.
    pub will: Option<&'a str>,
}

pub struct Peer {
    stream: Box<dyn Stream>,
    version: u8,
    buffer: Vec<u8>,
    /// Of CONNACK, behind its reason.
    pub properties: Vec<u8>,
}

impl Peer {
    /// Connects; the CONNACK's reason with it.
    pub fn connect(stream: impl Stream + 'static, c: Connect<'_>) -> io::Result<(Peer, u8)> {
        let mut peer = Peer {
            stream: Box::new(stream),
            version: c.version,
            buffer: Vec::new(),
            properties: Vec::new(),
        };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', c.version];
        let login = if c.login.is_some() { 0xc0 } else { 0 };
        body.push(login | if c.will.is_some() { 0x04 } else { 0 } | 0x02);
        body.extend([0, 0]);
        body.extend((c.version == 5).then_some(0));
        put_text(&mut body, c.id);
        if let Some(topic) = c.will {
            body.extend((c.version == 5).then_some(0));
            put_text(&mut body, topic);
            put_text(&mut body, "will");
        }
        if let Some((user, password)) = c.login {
            put_text(&mut body, user);
            put_text(&mut body, password);
        }
        peer.send(0x10, &body)?;
        let (kind, answer) = peer.packet()?;
        assert_eq!(kind, 0x20, "CONNACK");
        peer.properties = answer[2..].to_vec();
        Ok((peer, answer[1]))
    }

    /// The same, let in.
    pub fn welcome(stream: impl Stream + 'static, connect: Connect<'_>) -> Peer {
        let (peer, reason) = Peer::connect(stream, connect).unwrap();
        assert_eq!(reason, 0);
        peer
    }

    pub fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![kind];
        let mut length = body.len();
        loop {
            let more = if length > 127 { 0x80 } else { 0 };
            packet.push((length % 128) as u8 | more);
            length /= 128;
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream.write_all(&packet)?;
        self.stream.flush()
    }

    pub fn send_publish(&mut self, topic: &str, payload: &[u8], id: u16) -> io::Result<()> {
        let mut body = Vec::new();
        put_text(&mut body, topic);
        body.extend(id.to_be_bytes());
        body.extend((self.version == 5).then_some(0));
        body.extend(payload);
        self.send(0x32, &body)
    }

    /// At QoS 1; PUBACK's reason.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> io::Result<u8> {
        self.send_publish(topic, payload, 7)?;
        self.acked()
    }

    pub fn acked(&mut self) -> io::Result<u8> {
        let (kind, answer) = self.packet()?;
        assert_eq!(kind, 0x40, "PUBACK, not {answer:?}");
        Ok(answer.get(2).copied().unwrap_or(0))
    }

    /// At QoS 1; the reason in SUBACK.
    pub fn subscribe(&mut self, filter: &str) -> io::Result<u8> {
        let mut body = vec![0, 9];
        body.extend((self.version == 5).then_some(0));
        put_text(&mut body, filter);
        body.push(1);
        self.send(0x82, &body)?;
        let (kind, answer) = self.packet()?;
        assert_eq!(kind, 0x90, "SUBACK, not {answer:?}");
        Ok(answer[answer.len() - 1])
    }

    /// The next message, acknowledged: topic and payload.
    pub fn receive(&mut self) -> io::Result<(String, Vec<u8>)> {
        let (kind, body) = self.packet()?;
        assert_eq!(kind >> 4, 3, "PUBLISH, not {kind:#x} {body:?}");
        let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..at].to_vec()).unwrap();
        let mut payload_at = at;
        if kind & 0x06 != 0 {
            self.send(0x40, &body[at..at + 2])?;
            payload_at += 2;
        }
        payload_at += usize::from(self.version == 5) * (1 + usize::from(body[payload_at]));
        Ok((topic, body[payload_at..].to_vec()))
    }

    /// Whether PINGRESP comes before anything else.
    pub fn ping(&mut self) -> io::Result<bool> {
        self.send(0xc0, &[])?;
        Ok(self.packet()?.0 == 0xd0)
    }

    /// The reason of the DISCONNECT that comes next (3.1.1 has none: 0), then the stream's end.
    pub fn disconnected(&mut self) -> u8 {
        match self.packet() {
            Ok((0xe0, body)) => {
                assert!(self.packet().is_err(), "the end behind DISCONNECT");
                body[0]
            }
            Ok(other) => panic!("{other:?} where the end was awaited"),
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "no end came");
                0
            }
        }
    }

    /// The next packet: its first byte and its body.
    pub fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((kind, start, end)) = crate::client::frame(&self.buffer) {
                let body = self.buffer[start..end].to_vec();
                self.buffer.drain(..end);
                return Ok((kind, body));
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

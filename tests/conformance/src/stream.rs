//! What MQTT's bytes travel in: TCP, or the binary frames of a WebSocket (section 6 of both
//! specifications).

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket};

/// The header of the server's answer that names the sub-protocol.
const PROTOCOL: &str = "Sec-WebSocket-Protocol";

/// A connection to the broker.
pub enum Stream {
    Tcp(TcpStream),
    WebSocket(Box<InFrames>),
}

/// Bytes in a WebSocket, each write a frame of its own.
pub struct InFrames {
    socket: WebSocket<TcpStream>,
    /// The sub-protocol that the server chose.
    pub protocol: Option<String>,
    read: Vec<u8>,
}

impl InFrames {
    /// The opening handshake, with these sub-protocols on offer.
    pub fn open(stream: TcpStream, offered: &[&str]) -> Result<InFrames, String> {
        let address = stream.peer_addr().map_err(|error| error.to_string())?;
        let uri = format!("ws://{address}/mqtt").parse();
        let uri = uri.map_err(|error| format!("{address}: {error}"))?;
        let request = ClientRequestBuilder::new(uri);
        let request = offered.iter().fold(request, |request, protocol| {
            request.with_sub_protocol(*protocol)
        });
        let opened = tungstenite::client(request, stream);
        let (socket, answer) = opened.map_err(|error| format!("WebSocket handshake: {error}"))?;
        let protocol = answer.headers().get(PROTOCOL);
        let protocol = protocol.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(InFrames {
            socket,
            protocol,
            read: Vec::new(),
        })
    }

    /// A frame that MQTT has no use for.
    pub fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.socket.send(Message::text(text)).map_err(plain)
    }
}

fn plain(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl Stream {
    /// A TCP connection that gives up after `wait`.
    pub fn tcp(address: SocketAddr, wait: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&address, wait)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(wait))?;
        stream.set_read_timeout(Some(wait))?;
        Ok(stream)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::WebSocket(frames) => frames.socket.get_ref(),
        }
    }

    pub fn set_read_timeout(&self, wait: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(Some(wait))
    }

    /// As a network that fails: a WebSocket is not closed by a frame first.
    pub fn end(&self) -> io::Result<()> {
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let frames = match self {
            Stream::Tcp(stream) => return stream.read(buffer),
            Stream::WebSocket(frames) => frames,
        };
        while frames.read.is_empty() {
            match frames.socket.read() {
                Ok(message @ Message::Binary(_)) => frames.read = message.into_data().to_vec(),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return Ok(0),
                Ok(Message::Text(_)) => {
                    return Err(io::Error::other("the broker sent a text frame"));
                }
                Ok(_) => {}
                Err(error) => return Err(plain(error)),
            }
        }
        let length = buffer.len().min(frames.read.len());
        buffer[..length].copy_from_slice(&frames.read[..length]);
        frames.read.drain(..length);
        Ok(length)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::WebSocket(frames) => {
                let sent = frames.socket.send(Message::binary(bytes.to_vec()));
                sent.map_err(plain).map(|()| bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! What may stand between the bytes of a TCP stream and those of MQTT: TLS, a WebSocket, or both.
//!
//! ```text
//! socket -> received() -> [TLS] -> [WebSocket] -> MQTT bytes
//! socket <- write_to() <- [TLS] <- [WebSocket] <- take() <- queue of MQTT packets
//! ```
//! A machine without a socket: it never waits and holds no more than it must. Libraries that wrap a
//! stream would want a buffer for each connection and a task for each write.
//!
//! # Bounds
//! - Output: [`OUTPUT_BYTES_MAX`] at TLS and as much before it; what does not fit stays in the queue.
//! - Input: TLS keeps a partial record (18 kB, 64 kB in a handshake), a WebSocket a partial header
//!   and 8 kB of its HTTP request. MQTT bytes are handed on as they come.

mod websocket;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};

pub(crate) use websocket::Origins;
use websocket::WebSocket;

/// See the module's docs.
pub(super) const OUTPUT_BYTES_MAX: usize = 32 << 10;

/// Why a connection cannot go on below MQTT.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("WebSocket: {0}")]
    WebSocket(&'static str),
}

/// See the [module](self).
pub(super) struct Wire {
    tls: Option<Box<ServerConnection>>,
    ws: Option<WebSocket>,
    /// Frames that wait for TLS or the socket.
    output: BytesMut,
    /// The peer said that nothing more follows.
    ended: bool,
}

impl Wire {
    /// `websocket`: who may open it, where there is one.
    pub(super) fn new(
        tls: Option<Arc<ServerConfig>>,
        websocket: Option<Origins>,
    ) -> Result<Wire, WireError> {
        let tls = tls.map(ServerConnection::new).transpose()?;
        let tls = tls.map(|mut tls| {
            tls.set_buffer_limit(Some(OUTPUT_BYTES_MAX));
            Box::new(tls)
        });
        Ok(Wire {
            tls,
            ws: websocket.map(WebSocket::new),
            output: BytesMut::new(),
            ended: false,
        })
    }

    /// Whether the handshakes are over.
    pub(super) fn is_open(&self) -> bool {
        !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
            && self.ws.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Whether the peer said that nothing more follows.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The chain that the client showed.
    pub(super) fn client_chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.as_ref()?.peer_certificates()
    }

    /// Takes bytes from the socket and appends what they are in MQTT to `plain`. After an error there
    /// may be something to write, which tells the peer.
    pub(super) fn received(&mut self, bytes: &[u8], plain: &mut BytesMut) -> Result<(), WireError> {
        let Some(tls) = &mut self.tls else {
            return self.unframe(bytes, plain);
        };
        let mut from = bytes;
        let mut clear = BytesMut::new();
        let out = if self.ws.is_some() {
            &mut clear
        } else {
            &mut *plain
        };
        while !from.is_empty() {
            let full = |_| rustls::Error::General("records do not fit".into());
            if tls.read_tls(&mut from).map_err(full)? == 0 {
                break;
            }
            let state = tls.process_new_packets()?;
            let at = out.len();
            out.resize(at + state.plaintext_bytes_to_read(), 0);
            io::Read::read_exact(&mut tls.reader(), &mut out[at..])
                .map_err(|e| rustls::Error::General(e.to_string()))?;
            self.ended |= state.peer_has_closed();
        }
        match self.ws {
            Some(_) => self.unframe(&clear, plain),
            None => Ok(()),
        }
    }

    fn unframe(&mut self, bytes: &[u8], plain: &mut BytesMut) -> Result<(), WireError> {
        let Some(ws) = &mut self.ws else {
            plain.extend_from_slice(bytes);
            return Ok(());
        };
        let outcome = ws.received(bytes, plain, &mut self.output);
        self.ended |= ws.is_ended();
        outcome.map_err(WireError::WebSocket)
    }

    /// Takes as many bytes of MQTT packets off the queue as there is room for; how many.
    pub(super) fn take(&mut self, queue: &mut VecDeque<Bytes>) -> usize {
        match (&mut self.ws, &mut self.tls) {
            (Some(ws), _) if self.output.is_empty() => ws.frame(queue, &mut self.output),
            (Some(_), _) => 0,
            (None, Some(tls)) => {
                let mut taken = 0;
                while let Some(front) = queue.front_mut() {
                    // It never fails: it takes what fits below the limit.
                    let fits = tls.writer().write(front).unwrap_or(0);
                    taken += fits;
                    front.advance(fits);
                    if !front.is_empty() {
                        break;
                    }
                    queue.pop_front();
                }
                taken
            }
            (None, None) => 0,
        }
    }

    /// Whether there is something to write.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes until nothing is left (`Ok`) or the socket takes no more (`WouldBlock`).
    pub(super) fn write_to(&mut self, socket: &mut dyn Write) -> io::Result<()> {
        loop {
            match &mut self.tls {
                Some(tls) => {
                    if !self.output.is_empty() {
                        let fits = tls.writer().write(&self.output)?;
                        self.output.advance(fits);
                        if fits == 0 && !tls.wants_write() {
                            return Err(io::ErrorKind::WriteZero.into());
                        }
                    }
                    if tls.wants_write() {
                        tls.write_tls(socket)?;
                        continue;
                    }
                }
                None if !self.output.is_empty() => match socket.write(&self.output)? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    written => self.output.advance(written),
                },
                None => {}
            }
            if self.output.is_empty() {
                // An idle connection holds no buffer.
                self.output = BytesMut::new();
                return Ok(());
            }
        }
    }

    /// Tells the peer that nothing more follows.
    pub(super) fn say_good_bye(&mut self) {
        if let Some(ws) = &mut self.ws {
            ws.say_good_bye(&mut self.output);
        }
        if let Some(tls) = &mut self.tls {
            // What does not fit is not worth waiting for: the stream ends anyway.
            let _ = tls.writer().write(&self.output);
            self.output.clear();
            tls.send_close_notify();
        }
    }
}

#[cfg(test)]
mod tests;

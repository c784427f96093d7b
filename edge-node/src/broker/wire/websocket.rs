//! MQTT in a WebSocket (RFC 6455; MQTT 5 section 6): the server's side, after the bytes of TCP or TLS.
//!
//! Packets need not align with frames [MQTT-6.0.0-2], so nothing is put together here: what a frame
//! carries is handed on as it comes, however long the frame says it is.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The HTTP request that asks for the WebSocket.
const UPGRADE_BYTES_MAX: usize = 8 << 10;
/// A frame of ours.
const FRAME_BYTES_MAX: usize = 16 << 10;
/// Answers to pings that may wait; further pings are not answered (RFC 6455 section 5.5.3).
const PONG_BYTES_MAX: usize = 4 << 10;
/// RFC 6455 section 5.5.
const CONTROL_BYTES_MAX: u64 = 125;
/// The longest header of a frame from a client.
const HEADER_BYTES_MAX: usize = 14;
/// The only sub-protocol, of both protocol versions [MQTT-6.0.0-3].
const SUB_PROTOCOL: &str = "mqtt";

const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const NOT_BINARY: u16 = 1003;

/// The web pages that may connect, by origin (RFC 6454 section 6.2); empty: all.
pub(crate) type Origins = Arc<[String]>;

const BAD_REQUEST: &str = "400 Bad Request";
const FORBIDDEN: &str = "403 Forbidden";

enum Stage {
    /// The HTTP request, as far as it has come.
    Upgrade(BytesMut),
    Frames,
    /// A Close was sent.
    Closed,
}

/// A frame whose header has come.
struct Frame {
    /// `None`: data.
    control: Option<Control>,
    mask: [u8; 4],
    at: usize,
    left: u64,
}

pub(super) struct WebSocket {
    origins: Origins,
    stage: Stage,
    /// Of a header that is not whole.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// The body of a control frame.
    control: Vec<u8>,
    /// A message's last frame has not come.
    in_message: bool,
    ended: bool,
}

impl WebSocket {
    pub(super) fn new(origins: Origins) -> WebSocket {
        WebSocket {
            origins,
            stage: Stage::Upgrade(BytesMut::new()),
            header: Vec::new(),
            frame: None,
            control: Vec::new(),
            in_message: false,
            ended: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Upgrade(_))
    }

    /// The peer sent a Close.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Appends the MQTT bytes in `bytes` to `plain`, and what is to be answered to `output`.
    pub(super) fn received(
        &mut self,
        bytes: &[u8],
        plain: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<(), &'static str> {
        let Stage::Upgrade(request) = &mut self.stage else {
            return self.frames(bytes, plain, output);
        };
        let before = request.len();
        let fits = bytes.len().min(UPGRADE_BYTES_MAX - before);
        request.extend_from_slice(&bytes[..fits]);
        // Looked at once it is whole: whoever sends it byte by byte costs no more for it.
        let end = b"\r\n\r\n";
        let from = before.saturating_sub(end.len() - 1);
        if !request[from..].windows(end.len()).any(|w| w == end)
            && request.len() < UPGRADE_BYTES_MAX
        {
            return Ok(());
        }
        match upgrade(request, &self.origins, output) {
            Ok(len) => {
                self.stage = Stage::Frames;
                self.frames(&bytes[len - before..], plain, output)
            }
            Err((status, reason)) => {
                let rest = "Connection: close\r\nContent-Length: 0\r\n\r\n";
                output.put_slice(format!("HTTP/1.1 {status}\r\n{rest}").as_bytes());
                Err(reason)
            }
        }
    }

    fn frames(
        &mut self,
        mut bytes: &[u8],
        plain: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<(), &'static str> {
        while !bytes.is_empty() && !matches!(self.stage, Stage::Closed) {
            match &mut self.frame {
                None => {
                    if let Err((code, reason)) = self.begin(&mut bytes) {
                        self.close(code, output);
                        return Err(reason);
                    }
                }
                Some(frame) => {
                    let len =
                        usize::try_from(frame.left).map_or(bytes.len(), |l| l.min(bytes.len()));
                    let (piece, rest) = bytes.split_at(len);
                    match frame.control {
                        None => {
                            let at = plain.len();
                            plain.extend_from_slice(piece);
                            frame.unmask(&mut plain[at..]);
                        }
                        Some(_) => {
                            let at = self.control.len();
                            self.control.extend_from_slice(piece);
                            frame.unmask(&mut self.control[at..]);
                        }
                    }
                    bytes = rest;
                }
            }
            if self.frame.as_ref().is_some_and(|frame| frame.left == 0) {
                self.end(output);
            }
        }
        Ok(())
    }

    /// Takes the header of a frame off the front, as far as it is there.
    fn begin(&mut self, bytes: &mut &[u8]) -> Result<(), (u16, &'static str)> {
        let kept = self.header.len();
        let more = bytes.len().min(HEADER_BYTES_MAX - kept);
        self.header.extend_from_slice(&bytes[..more]);
        let mut cursor = Cursor::new(&self.header);
        let parsed = FrameHeader::parse(&mut cursor);
        let used = cursor.position() as usize;
        let parsed = parsed.map_err(|_| (PROTOCOL_ERROR, "a reserved kind of frame"))?;
        let Some((header, left)) = parsed else {
            *bytes = &bytes[more..];
            return Ok(());
        };
        *bytes = &bytes[used - kept..];
        self.header.clear();
        self.frame = Some(self.check(&header, left)?);
        Ok(())
    }

    fn check(&mut self, header: &FrameHeader, left: u64) -> Result<Frame, (u16, &'static str)> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err((PROTOCOL_ERROR, "reserved bits of a frame"));
        }
        let mask = header
            .mask
            .ok_or((PROTOCOL_ERROR, "a client's frame is not masked"))?;
        let control = match header.opcode {
            OpCode::Data(Data::Text) => {
                return Err((NOT_BINARY, "MQTT is in binary frames, not in text"));
            }
            OpCode::Data(kind) => {
                if (kind == Data::Continue) != self.in_message {
                    return Err((PROTOCOL_ERROR, "a message's frames are out of order"));
                }
                if left >> 63 != 0 {
                    return Err((PROTOCOL_ERROR, "the frame's length has 64 bits"));
                }
                self.in_message = !header.is_final;
                None
            }
            OpCode::Control(control) => {
                if left > CONTROL_BYTES_MAX || !header.is_final {
                    return Err((PROTOCOL_ERROR, "a control frame is too long or in parts"));
                }
                Some(control)
            }
        };
        let at = 0;
        Ok(Frame {
            control,
            mask,
            at,
            left,
        })
    }

    /// A frame is whole.
    fn end(&mut self, output: &mut BytesMut) {
        let control = self.frame.take().and_then(|frame| frame.control);
        let body = std::mem::take(&mut self.control);
        match control {
            Some(Control::Ping) if output.len() < PONG_BYTES_MAX => {
                put_frame(OpCode::Control(Control::Pong), body.len(), output);
                output.put_slice(&body);
            }
            Some(Control::Close) => {
                self.ended = true;
                self.close(NORMAL, output);
            }
            _ => {}
        }
    }

    fn close(&mut self, code: u16, output: &mut BytesMut) {
        if matches!(self.stage, Stage::Frames) {
            self.stage = Stage::Closed;
            put_frame(OpCode::Control(Control::Close), 2, output);
            output.put_u16(code);
        }
    }

    /// Says that nothing more follows.
    pub(super) fn say_good_bye(&mut self, output: &mut BytesMut) {
        self.close(NORMAL, output);
    }

    /// Puts packets into one frame, up to its size; how many bytes.
    pub(super) fn frame(&mut self, queue: &mut VecDeque<Bytes>, output: &mut BytesMut) -> usize {
        if !matches!(self.stage, Stage::Frames) {
            return 0;
        }
        let mut len = 0;
        for piece in queue.iter() {
            len += piece.len();
            if len >= FRAME_BYTES_MAX {
                len = FRAME_BYTES_MAX;
                break;
            }
        }
        if len == 0 {
            queue.clear();
            return 0;
        }
        output.reserve(len + HEADER_BYTES_MAX);
        put_frame(OpCode::Data(Data::Binary), len, output);
        let mut left = len;
        while left > 0 {
            let Some(front) = queue.front_mut() else {
                break;
            };
            let piece = front.len().min(left);
            output.put_slice(&front[..piece]);
            front.advance(piece);
            left -= piece;
            if front.is_empty() {
                queue.pop_front();
            }
        }
        len
    }
}

impl Frame {
    fn unmask(&mut self, piece: &mut [u8]) {
        for (n, byte) in piece.iter_mut().enumerate() {
            *byte ^= self.mask[(self.at + n) & 3];
        }
        self.at = (self.at + piece.len()) & 3;
        self.left -= piece.len() as u64;
    }
}

fn put_frame(opcode: OpCode, len: usize, output: &mut BytesMut) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    header
        .format(len as u64, &mut output.writer())
        .expect("memory takes what is written");
}

/// Answers a whole request; its length.
fn upgrade(
    request: &[u8],
    origins: &[String],
    output: &mut BytesMut,
) -> Result<usize, (&'static str, &'static str)> {
    let bad = |reason| (BAD_REQUEST, reason);
    let parsed = Request::try_parse(request);
    let parsed = parsed.map_err(|_| bad("not an HTTP request for a WebSocket"))?;
    let (len, request) = parsed.ok_or(bad("the HTTP request is too long"))?;
    let response = create_response(&request);
    let mut response =
        response.map_err(|_| bad("the HTTP request does not ask for a WebSocket"))?;
    // Only browsers send it, and they do not let a page lie about it.
    if let Some(origin) = request
        .headers()
        .get(ORIGIN)
        .filter(|_| !origins.is_empty())
    {
        let is_it = |allowed: &String| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
        if !origins.iter().any(is_it) {
            return Err((FORBIDDEN, "a web page of another origin"));
        }
    }
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut offers = offers.iter().filter_map(|value| value.to_str().ok());
    if !offers.any(|list| list.split(',').any(|name| name.trim() == SUB_PROTOCOL)) {
        return Err(bad("the sub-protocol mqtt is not offered"));
    }
    let chosen = HeaderValue::from_static(SUB_PROTOCOL);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    let written = write_response(&mut output.writer(), &response);
    written.map_err(|_| bad("the answer cannot be written"))?;
    Ok(len)
}

//! What clients had been told, and when: MQTT packets in what the node sent and was sent.

use std::collections::HashMap;

use crate::trace::{Call, Moment};

/// First moments at which the kernel was handed an acknowledgement, by packet id.
#[derive(Default)]
pub struct Answers {
    /// Bytes of each connection, to and from its client, that make no whole packet yet.
    streams: HashMap<u64, [Vec<u8>; 2]>,
    pub pubacks: HashMap<u16, Moment>,
    pub pubrecs: HashMap<u16, Moment>,
    pub pubcomps: HashMap<u16, Moment>,
    pub subacks: HashMap<u16, Moment>,
    /// When the node may first have known that the client had its PUBREC.
    pub pubrels: HashMap<u16, Moment>,
}

impl Answers {
    /// Takes the next call.
    pub fn take(&mut self, call: &Call) -> Result<(), String> {
        match call.name.as_str() {
            "accept4" | "accept" => {
                let fd = u64::try_from(call.returned).map_err(|e| e.to_string())?;
                self.streams.insert(fd, Default::default());
            }
            "close" => {
                self.streams.remove(&call.number(0)?);
            }
            "sendto" | "sendmsg" | "write" | "writev" => self.bytes(call, 0)?,
            "recvfrom" => self.bytes(call, 1)?,
            _ => {}
        }
        Ok(())
    }

    /// `way`: 0 to the client, 1 from it.
    fn bytes(&mut self, call: &Call, way: usize) -> Result<(), String> {
        let fd = call.number(0)?;
        if call.exit == Moment::MAX {
            return Ok(());
        }
        let Some(streams) = self.streams.get_mut(&fd) else {
            return Ok(());
        };
        let mut stream = std::mem::take(&mut streams[way]);
        let mut moved = call.bytes(1)?;
        moved.truncate(usize::try_from(call.returned).map_err(|e| e.to_string())?);
        stream.extend(moved);
        let rest = self.packets(&stream, call.entry);
        let rest = stream.split_off(stream.len() - rest);
        if let Some(streams) = self.streams.get_mut(&fd) {
            streams[way] = rest;
        }
        Ok(())
    }

    /// Reads whole packets; returns how many bytes are left.
    fn packets(&mut self, mut bytes: &[u8], moment: Moment) -> usize {
        while let Some((first, body, rest)) = packet(bytes) {
            bytes = rest;
            let told = match first >> 4 {
                4 => &mut self.pubacks,
                5 => &mut self.pubrecs,
                6 => &mut self.pubrels,
                7 => &mut self.pubcomps,
                9 => &mut self.subacks,
                _ => continue,
            };
            if let Some(id) = body.first_chunk() {
                told.entry(u16::from_be_bytes(*id)).or_insert(moment);
            }
        }
        bytes.len()
    }
}

/// First byte, body, and what follows (MQTT 3.1.1 section 2.2).
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (body, rest) = rest.split_at_checked(length)?;
    Some((first, body, rest))
}

//! Changes to packets, which trust that clients and the broker send well-formed ones.

use std::cell::RefCell;

use conformance::wire::varint;

pub fn kind(frame: &[u8]) -> u8 {
    frame[0] >> 4
}

/// Where the variable header starts.
fn header(frame: &[u8]) -> usize {
    let length = frame[1..].iter().position(|byte| byte & 0x80 == 0);
    length.expect("a whole packet has a remaining length") + 2
}

/// With another body of any length.
pub fn rebuilt(frame: &[u8], edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = frame[header(frame)..].to_vec();
    edit(&mut body);
    [&[frame[0]], varint(body.len()).as_slice(), &body].concat()
}

/// With other bytes in its body, if it is of one of these types.
pub fn edited(frame: Vec<u8>, kinds: &[u8], edit: fn(&mut [u8])) -> Vec<Vec<u8>> {
    if !kinds.contains(&kind(&frame)) {
        return vec![frame];
    }
    vec![rebuilt(&frame, |body| edit(body))]
}

/// With another last byte, if it is of this type.
pub fn last(frame: Vec<u8>, wanted: u8, byte: fn(u8) -> u8) -> Vec<Vec<u8>> {
    let mut frame = frame;
    if kind(&frame) == wanted {
        if let Some(last) = frame.last_mut() {
            *last = byte(*last);
        }
    }
    vec![frame]
}

/// Without packets of this type.
pub fn without(frame: Vec<u8>, unwanted: u8) -> Vec<Vec<u8>> {
    if kind(&frame) == unwanted {
        vec![]
    } else {
        vec![frame]
    }
}

/// Packets of this type twice.
pub fn twice(frame: Vec<u8>, doubled: u8) -> Vec<Vec<u8>> {
    if kind(&frame) == doubled {
        vec![frame.clone(), frame]
    } else {
        vec![frame]
    }
}

/// PUBLISH with another first byte.
pub fn publish(mut frame: Vec<u8>, first: fn(u8) -> u8) -> Vec<Vec<u8>> {
    if kind(&frame) == 3 {
        frame[0] = first(frame[0]);
    }
    vec![frame]
}

/// CONNECT with other flags.
pub fn connect(frame: Vec<u8>, flags: fn(u8) -> u8) -> Vec<Vec<u8>> {
    let mut frame = frame;
    if kind(&frame) == 1 {
        let at = header(&frame) + 7;
        frame[at] = flags(frame[at]);
    }
    vec![frame]
}

/// PUBLISH of MQTT 5.0 with other properties, where those have fewer than 128 bytes.
pub fn properties(frame: Vec<u8>, change: fn(Vec<u8>) -> Vec<u8>) -> Vec<Vec<u8>> {
    if kind(&frame) != 3 {
        return vec![frame];
    }
    let id = if frame[0] & 6 == 0 { 0 } else { 2 };
    let changed = rebuilt(&frame, |body| {
        let at = 2 + usize::from(body[0]) * 256 + usize::from(body[1]) + id;
        let end = at + 1 + usize::from(body[at]);
        let new = change(body[at + 1..end].to_vec());
        body.splice(at..end, [varint(new.len()), new].concat());
    });
    vec![changed]
}

/// PUBLISH at QoS 0, whatever it was.
pub fn at_qos_zero(frame: Vec<u8>) -> Vec<Vec<u8>> {
    if kind(&frame) != 3 || frame[0] & 6 == 0 {
        return vec![frame];
    }
    let mut lower = rebuilt(&frame, |body| {
        let id = 2 + usize::from(body[0]) * 256 + usize::from(body[1]);
        body.drain(id..id + 2);
    });
    lower[0] &= !0x0e;
    vec![lower]
}

/// A packet of the broker's on MQTT 5.0 with these properties added, not PUBLISH.
pub fn telling(frame: Vec<u8>, kinds: &[u8], more: &[u8]) -> Vec<Vec<u8>> {
    if !kinds.contains(&kind(&frame)) {
        return vec![frame];
    }
    // Before the length of the properties stand flags or identifier and a code; SUBACK and UNSUBACK
    // have their codes behind them.
    let at = match kind(&frame) {
        4..=7 => 3,
        14 => 1,
        _ => 2,
    };
    let changed = rebuilt(&frame, |body| {
        while body.len() <= at {
            body.push(0);
        }
        let end = at + 1 + usize::from(body[at]);
        let new = [&body[at + 1..end], more].concat();
        body.splice(at..end, [varint(new.len()), new].concat());
    });
    vec![changed]
}

/// CONNACK of MQTT 5.0 without properties.
pub fn bare_connack(frame: Vec<u8>) -> Vec<Vec<u8>> {
    if kind(&frame) != 2 {
        return vec![frame];
    }
    let bare = rebuilt(&frame, |body| {
        body.truncate(2);
        body.push(0);
    });
    vec![bare]
}

/// Each second PUBLISH of a connection before the first.
pub fn swapped(frame: Vec<u8>) -> Vec<Vec<u8>> {
    thread_local!(static HELD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) });
    if kind(&frame) != 3 {
        return vec![frame];
    }
    match HELD.take() {
        Some(held) => vec![frame, held],
        None => {
            HELD.replace(Some(frame));
            vec![]
        }
    }
}

/// CONNECT of MQTT 5.0 with other values of the properties that have four bytes (`id`), or two.
pub fn connect_property(frame: Vec<u8>, id: u8, value: &[u8]) -> Vec<Vec<u8>> {
    if kind(&frame) != 1 {
        return vec![frame];
    }
    let changed = rebuilt(&frame, |body| {
        let end = 11 + usize::from(body[10]);
        let mut at = 11;
        while at < end {
            let length = match body[at] {
                0x11 | 0x27 => 4,
                0x21 | 0x22 => 2,
                _ => return,
            };
            if body[at] == id {
                body[at + 1..][..length].copy_from_slice(value);
            }
            at += 1 + length;
        }
    });
    vec![changed]
}

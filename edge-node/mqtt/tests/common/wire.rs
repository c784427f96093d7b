//! MQTT as a client writes and reads it, byte by byte, independent of the adapter.

pub fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

pub fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(varint(body.len()));
    out.extend_from_slice(body);
    out
}

fn with_len(properties: &[u8]) -> Vec<u8> {
    let mut out = varint(properties.len());
    out.extend_from_slice(properties);
    out
}

pub fn user(key: &str, value: &str) -> Vec<u8> {
    [vec![38], field(key), field(value)].concat()
}

/// Topic, payload, QoS, retain, properties.
pub type Will = (String, Vec<u8>, u8, bool, Vec<u8>);

#[derive(Clone)]
pub struct Connect {
    pub level: u8,
    pub id: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Vec<u8>,
    pub will: Option<Will>,
    pub login: Option<(String, Vec<u8>)>,
}

pub fn v3(id: &str, clean: bool) -> Connect {
    Connect {
        level: 4,
        id: id.into(),
        clean,
        keep_alive: 0,
        properties: Vec::new(),
        will: None,
        login: None,
    }
}

pub fn v5(id: &str, clean: bool, expiry_s: u32) -> Connect {
    let mut properties = Vec::new();
    if expiry_s > 0 {
        properties.push(17);
        properties.extend(expiry_s.to_be_bytes());
    }
    Connect {
        level: 5,
        properties,
        ..v3(id, clean)
    }
}

impl Connect {
    pub fn keep_alive(mut self, s: u16) -> Connect {
        self.keep_alive = s;
        self
    }

    pub fn property(mut self, bytes: &[u8]) -> Connect {
        self.properties.extend_from_slice(bytes);
        self
    }

    pub fn will(mut self, topic: &str, payload: &str, qos: u8, properties: &[u8]) -> Connect {
        let payload = payload.as_bytes().to_vec();
        self.will = Some((topic.into(), payload, qos, false, properties.to_vec()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some((_, _, qos, retain, _)) = &self.will {
            flags |= 4 | qos << 3 | u8::from(*retain) << 5;
        }
        if self.login.is_some() {
            flags |= 0xc0;
        }
        let mut body = field("MQTT");
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.level == 5 {
            body.extend(with_len(&self.properties));
        }
        body.extend(field(&self.id));
        if let Some((topic, payload, _, _, properties)) = &self.will {
            if self.level == 5 {
                body.extend(with_len(properties));
            }
            body.extend(field(topic));
            body.extend(field(payload));
        }
        if let Some((user, password)) = &self.login {
            body.extend(field(user));
            body.extend(field(password));
        }
        packet(0x10, &body)
    }
}

#[derive(Clone)]
pub struct Pub {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
    /// None: v3.1.1.
    pub properties: Option<Vec<u8>>,
}

pub fn publish(topic: &str, payload: &str, qos: u8, id: u16) -> Pub {
    let payload = payload.as_bytes().to_vec();
    Pub {
        topic: topic.into(),
        payload,
        qos,
        id,
        dup: false,
        retain: false,
        properties: None,
    }
}

impl Pub {
    pub fn v5(mut self, properties: &[u8]) -> Pub {
        self.properties = Some(properties.to_vec());
        self
    }

    pub fn dup(mut self) -> Pub {
        self.dup = true;
        self
    }

    pub fn retain(mut self) -> Pub {
        self.retain = true;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = field(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if let Some(properties) = &self.properties {
            body.extend(with_len(properties));
        }
        body.extend_from_slice(&self.payload);
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        packet(first, &body)
    }
}

/// SUBSCRIBE; `properties` None is v3.1.1.
pub fn subscribe(id: u16, filters: &[(&str, u8)], properties: Option<&[u8]>) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if let Some(properties) = properties {
        body.extend(with_len(properties));
    }
    for (filter, options) in filters {
        body.extend(field(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(id: u16, filters: &[&str], properties: Option<&[u8]>) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if let Some(properties) = properties {
        body.extend(with_len(properties));
    }
    filters.iter().for_each(|f| body.extend(field(f)));
    packet(0xa2, &body)
}

pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}
pub fn pubrec(id: u16) -> Vec<u8> {
    packet(0x50, &id.to_be_bytes())
}
pub fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &id.to_be_bytes())
}
pub fn pubcomp(id: u16) -> Vec<u8> {
    packet(0x70, &id.to_be_bytes())
}
pub const PING: [u8; 2] = [0xc0, 0];
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub body: Vec<u8>,
}

impl Frame {
    pub fn bytes(&self) -> Vec<u8> {
        packet(self.first, &self.body)
    }

    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// Reason code and reason string of a DISCONNECT.
    pub fn disconnect(&self) -> (u8, String) {
        assert_eq!(self.first, 0xe0, "{self:?}");
        (self.body[0], reason_string(&self.body[1..]))
    }

    /// Takes a PUBLISH apart.
    pub fn publish(&self, v5: bool) -> Pub {
        assert_eq!(self.kind(), 3, "{self:?}");
        let mut rest = &self.body[..];
        let mut take = |n: usize| {
            let (a, b) = rest.split_at(n);
            rest = b;
            a
        };
        let len = take(2);
        let topic = take(usize::from(u16::from_be_bytes([len[0], len[1]])));
        let topic = String::from_utf8(topic.to_vec()).unwrap();
        let qos = self.first >> 1 & 3;
        let id = if qos > 0 {
            let id = take(2);
            u16::from_be_bytes([id[0], id[1]])
        } else {
            0
        };
        let properties = v5.then(|| {
            let (mut len, mut shift) = (0, 0);
            loop {
                let byte = take(1)[0];
                len |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            take(len).to_vec()
        });
        let (dup, retain) = (self.first & 8 != 0, self.first & 1 != 0);
        Pub {
            topic,
            payload: rest.to_vec(),
            qos,
            id,
            dup,
            retain,
            properties,
        }
    }
}

/// Splits what the broker sent; anything left over is an error in its framing.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (mut len, mut at) = (0, 1);
        loop {
            len |= usize::from(bytes[at] & 0x7f) << (7 * (at - 1));
            at += 1;
            if bytes[at - 1] & 0x80 == 0 {
                break;
            }
        }
        out.push(Frame {
            first: bytes[0],
            body: bytes[at..at + len].to_vec(),
        });
        bytes = &bytes[at + len..];
    }
    out
}

/// Payloads of the PUBLISH frames among these.
pub fn payloads(frames: &[Frame], v5: bool) -> Vec<String> {
    let publishes = frames.iter().filter(|f| f.kind() == 3);
    publishes
        .map(|f| String::from_utf8(f.publish(v5).payload).unwrap())
        .collect()
}

/// The reason string of a property list that holds nothing else; empty: none.
pub fn reason_string(list: &[u8]) -> String {
    assert_eq!(usize::from(list[0]), list.len() - 1, "{list:?}");
    if list.len() == 1 {
        return String::new();
    }
    assert_eq!(list[1], 31);
    assert_eq!(usize::from(list[3]), list.len() - 4);
    String::from_utf8(list[4..].to_vec()).unwrap()
}

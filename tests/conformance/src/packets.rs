//! The packets that clients send, right unless a case asks for something else.

use crate::wire::{Frame, Properties, Version, kind};

/// A CONNECT.
#[derive(Debug, Clone)]
pub struct Connect {
    pub version: Version,
    pub protocol: Vec<u8>,
    pub level: u8,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub properties: Properties,
    pub id: Vec<u8>,
    pub will: Option<Will>,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    /// Bits that are turned over in the connect flags, whatever the fields say.
    pub flip: u8,
}

/// The reserved bit and the will's, the password's and the user name's of the connect flags.
pub mod flag {
    pub const RESERVED: u8 = 0x01;
    pub const WILL: u8 = 0x04;
    pub const WILL_QOS_1: u8 = 0x08;
    pub const WILL_QOS_3: u8 = 0x18;
    pub const WILL_RETAIN: u8 = 0x20;
    pub const PASSWORD: u8 = 0x40;
    pub const USER: u8 = 0x80;
}

impl Connect {
    pub fn new(version: Version, id: &str) -> Connect {
        Connect {
            version,
            protocol: b"MQTT".to_vec(),
            level: version.level(),
            clean: true,
            keep_alive_s: 60,
            properties: Properties::new(),
            id: id.as_bytes().to_vec(),
            will: None,
            user: None,
            password: None,
            flip: 0,
        }
    }

    pub fn will(mut self, will: Will) -> Connect {
        self.will = Some(will);
        self
    }

    pub fn properties(mut self, properties: Properties) -> Connect {
        self.properties = properties;
        self
    }

    /// Adds to the properties.
    pub fn also(mut self, more: &Properties) -> Connect {
        self.properties = self.properties.raw(&more.0);
        self
    }

    pub fn keep_alive(mut self, seconds: u16) -> Connect {
        self.keep_alive_s = seconds;
        self
    }

    pub fn clean(mut self, clean: bool) -> Connect {
        self.clean = clean;
        self
    }

    pub fn user(mut self, name: impl AsRef<[u8]>) -> Connect {
        self.user = Some(name.as_ref().to_vec());
        self
    }

    pub fn password(mut self, password: impl AsRef<[u8]>) -> Connect {
        self.password = Some(password.as_ref().to_vec());
        self
    }

    pub fn flip(mut self, bits: u8) -> Connect {
        self.flip = bits;
        self
    }

    /// Everything up to the payload.
    pub fn head(&self) -> Frame {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= flag::WILL | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.user.is_some()) << 7;
        Frame::new(kind::CONNECT)
            .field(&self.protocol)
            .u8(self.level)
            .u8(flags ^ self.flip)
            .u16(self.keep_alive_s)
            .properties(self.version, &self.properties)
    }

    pub fn frame(&self) -> Frame {
        let mut frame = self.head().field(&self.id);
        if let Some(will) = &self.will {
            frame = frame
                .properties(self.version, &will.properties)
                .field(&will.topic)
                .field(&will.payload);
        }
        for field in [&self.user, &self.password].into_iter().flatten() {
            frame = frame.field(field);
        }
        frame
    }
}

/// A will in a CONNECT.
#[derive(Debug, Clone)]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Properties,
}

impl Will {
    pub fn new(topic: impl AsRef<[u8]>, payload: &str) -> Will {
        Will {
            topic: topic.as_ref().to_vec(),
            payload: payload.as_bytes().to_vec(),
            qos: 0,
            retain: false,
            properties: Properties::new(),
        }
    }

    pub fn qos(mut self, qos: u8) -> Will {
        self.qos = qos;
        self
    }

    pub fn retain(mut self) -> Will {
        self.retain = true;
        self
    }

    pub fn properties(mut self, properties: Properties) -> Will {
        self.properties = properties;
        self
    }
}

/// A PUBLISH.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0: the client chooses one.
    pub id: u16,
    pub properties: Properties,
}

impl Message {
    pub fn new(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Message {
        Message {
            topic: topic.as_ref().to_vec(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            dup: false,
            id: 0,
            properties: Properties::new(),
        }
    }

    pub fn qos(mut self, qos: u8) -> Message {
        self.qos = qos;
        self
    }

    pub fn retain(mut self) -> Message {
        self.retain = true;
        self
    }

    pub fn dup(mut self) -> Message {
        self.dup = true;
        self
    }

    pub fn id(mut self, id: u16) -> Message {
        self.id = id;
        self
    }

    pub fn properties(mut self, properties: Properties) -> Message {
        self.properties = properties;
        self
    }

    pub fn frame(&self, version: Version) -> Frame {
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut frame = Frame::flagged(kind::PUBLISH, flags).field(&self.topic);
        if self.qos > 0 {
            frame = frame.u16(self.id);
        }
        frame
            .properties(version, &self.properties)
            .raw(&self.payload)
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in its short form, which both versions know.
pub fn ack(kind: u8, id: u16) -> Frame {
    Frame::new(kind).u16(id)
}

/// A SUBSCRIBE for these filters, each with its options byte.
pub fn subscribe(
    version: Version,
    id: u16,
    properties: &Properties,
    filters: &[(impl AsRef<[u8]>, u8)],
) -> Frame {
    let frame = Frame::new(kind::SUBSCRIBE)
        .u16(id)
        .properties(version, properties);
    filters.iter().fold(frame, |frame, (filter, options)| {
        frame.field(filter).u8(*options)
    })
}

/// An UNSUBSCRIBE for these filters.
pub fn unsubscribe(version: Version, id: u16, filters: &[impl AsRef<[u8]>]) -> Frame {
    let none = Properties::new();
    let frame = Frame::new(kind::UNSUBSCRIBE)
        .u16(id)
        .properties(version, &none);
    filters
        .iter()
        .fold(frame, |frame, filter| frame.field(filter))
}

/// Subscription options of MQTT 5.0 (section 3.8.3.1), to be added to the QoS.
pub mod option {
    pub const NO_LOCAL: u8 = 0x04;
    pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
    pub const RETAIN_IF_NEW: u8 = 0x10;
    pub const RETAIN_NEVER: u8 = 0x20;
}

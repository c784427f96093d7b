//! Links between edges and the cloud, as QUIC gives them: each channel in its order, one channel
//! against the other in any; a connection that ends loses what was under way, or lingers.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_proto::Channel;

use super::devices::DeviceId;
use super::{Event, World};
use crate::cloud::LinkConn;
use crate::now::Ms;

pub(super) struct Link {
    pub device: DeviceId,
    pub edge_up: bool,
    pub cloud_up: bool,
    /// Nothing sent from now on arrives.
    pub cut: bool,
    /// What is sent upwards, downwards, is swallowed.
    pub deaf: (bool, bool),
    delay_max: Ms,
    last_up: BTreeMap<Channel, Ms>,
    last_down: Ms,
}

impl World {
    pub(super) fn dialled(&mut self, device: DeviceId, life: u64) {
        if self.devices[device].life != life || self.devices[device].edge.is_none() {
            return;
        }
        let out = self.now < self.outage_until.max(self.devices[device].outage_until);
        let conn = self.conn();
        let name = self.devices[device].name.clone();
        if out || !self.cloud.link_opened(conn, &name) {
            return self.edge(device, |edge, now| edge.link_down(now));
        }
        self.note("link up", || format!("device {device} as {conn}"));
        let delay_max = 1 + self.rng.below(self.delay_max);
        self.links.insert(
            conn,
            Link {
                device,
                edge_up: true,
                cloud_up: true,
                cut: false,
                deaf: (false, false),
                delay_max,
                last_up: BTreeMap::new(),
                last_down: 0,
            },
        );
        self.devices[device].link = Some(conn);
        self.edge(device, |edge, now| edge.link_up(now));
    }

    pub(super) fn send_up(&mut self, device: DeviceId, channel: Channel, mut bytes: Bytes) {
        let Some(conn) = self.devices[device].link else {
            return;
        };
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        if link.cut || link.deaf.0 {
            return;
        }
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let cut = 1 + self.rng.index(bytes.len());
            let whole = self.rng.chance(3, 4);
            let piece = bytes.split_to(if whole { bytes.len() } else { cut });
            let last = link.last_up.entry(channel).or_default();
            *last = (self.now + self.rng.below(link.delay_max)).max(*last);
            pieces.push((*last, piece));
        }
        for (at, bytes) in pieces {
            self.at(
                at,
                Event::Up {
                    conn,
                    channel,
                    bytes,
                },
            );
        }
    }

    /// From the cloud's side.
    pub(super) fn send_down(&mut self, conn: LinkConn, bytes: Bytes) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        if link.cut || link.deaf.1 || !link.cloud_up {
            return;
        }
        link.last_down = (self.now + self.rng.below(link.delay_max)).max(link.last_down);
        let at = link.last_down;
        self.at(at, Event::Down { conn, bytes });
    }

    pub(super) fn up(&mut self, conn: LinkConn, channel: Channel, bytes: Bytes) {
        if self.links.get(&conn).is_some_and(|link| link.cloud_up) {
            self.mix("up", conn, &bytes);
            self.cloud.link_bytes(conn, channel, bytes);
        }
    }

    pub(super) fn down(&mut self, conn: LinkConn, bytes: Bytes) {
        let Some(link) = self.links.get(&conn) else {
            return;
        };
        let device = link.device;
        if link.edge_up && self.devices[device].link == Some(conn) {
            self.mix("down", conn, &bytes);
            self.edge(device, |edge, now| {
                edge.link_bytes(now, Channel::Control, bytes)
            });
        }
    }

    pub(super) fn edge_sees(&mut self, conn: LinkConn) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        link.edge_up = false;
        let device = link.device;
        if self.devices[device].link == Some(conn) {
            self.devices[device].link = None;
            self.edge(device, |edge, now| edge.link_down(now));
        }
        self.forget_link(conn);
    }

    pub(super) fn cloud_sees(&mut self, conn: LinkConn) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.cloud_up = false;
            self.cloud.link_closed(conn);
            self.forget_link(conn);
        }
    }

    fn forget_link(&mut self, conn: LinkConn) {
        if self
            .links
            .get(&conn)
            .is_some_and(|l| !l.edge_up && !l.cloud_up)
        {
            self.links.remove(&conn);
        }
    }

    /// Some of what is under way still arrives, the rest never.
    fn lose_in_flight(&mut self, conn: LinkConn) {
        let keep = self.now + self.rng.below(100);
        self.queue.retain(|(at, _), event| match event {
            Event::Up { conn: c, .. } | Event::Down { conn: c, .. } => *c != conn || *at < keep,
            _ => true,
        });
        if let Some(link) = self.links.get_mut(&conn) {
            link.cut = true;
        }
    }

    /// The network between the two is gone; each end learns of it in its own time.
    pub(super) fn cut_link(&mut self, device: DeviceId) {
        let Some(conn) = self.devices[device].link else {
            return;
        };
        self.lose_in_flight(conn);
        let (edge_in, cloud_in) = match self.rng.below(3) {
            0 => (0, 0),
            1 => (0, self.rng.below(5_000)),
            _ => (self.rng.below(5_000), 0),
        };
        self.note("link cut", || format!("device {device}, {conn}"));
        self.at(self.now + edge_in, Event::EdgeSees(conn));
        self.at(self.now + cloud_in, Event::CloudSees(conn));
    }

    /// The device comes back from another address while the cloud still holds the old connection,
    /// on which everything under way arrives.
    pub(super) fn change_address(&mut self, device: DeviceId) {
        let Some(conn) = self.devices[device].link else {
            return;
        };
        self.note("address change", || format!("device {device}, {conn}"));
        let lingers = self.rng.below(8_000);
        self.at(self.now + lingers, Event::CloudSees(conn));
        self.edge_sees(conn);
    }

    /// The edge ended the connection itself.
    pub(super) fn link_ended(&mut self, device: DeviceId) {
        let Some(conn) = self.devices[device].link.take() else {
            return;
        };
        if let Some(link) = self.links.get_mut(&conn) {
            link.edge_up = false;
        }
        let later = self.linger(conn);
        self.at(self.now + later, Event::CloudSees(conn));
    }

    /// The edge's process is gone.
    pub(super) fn link_lost(&mut self, device: DeviceId) {
        let Some(conn) = self.devices[device].link.take() else {
            return;
        };
        if let Some(link) = self.links.get_mut(&conn) {
            link.edge_up = false;
        }
        if self.rng.one_in(2) {
            self.lose_in_flight(conn);
        }
        let later = self.rng.below(5_000);
        self.at(self.now + later, Event::CloudSees(conn));
    }

    /// The cloud's process is gone.
    pub(super) fn links_lost(&mut self) {
        let conns: Vec<LinkConn> = self.links.keys().copied().collect();
        for conn in conns {
            self.lose_in_flight(conn);
            self.queue
                .retain(|_, e| !matches!(e, Event::Up { conn: c, .. } if *c == conn));
            let later = self.rng.below(3_000);
            self.at(self.now + later, Event::EdgeSees(conn));
            self.cloud_sees(conn);
        }
    }
}

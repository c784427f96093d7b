//! What a process was told since its start. Told again on a copy of the disk that it started on, the
//! same process comes of it: the image of a running machine, memory included.

use bytes::Bytes;
use headwater_log::SimDisk;
use headwater_proto::Channel;

use super::{MqttConn, Setup, SimEdge, StartError};
use crate::now::Now;

/// A call into the process.
#[derive(Debug, Clone)]
pub(super) enum Told {
    MqttOpen(MqttConn),
    MqttBytes(MqttConn, Bytes),
    MqttWritten(MqttConn, usize),
    MqttClosed(MqttConn),
    LinkUp,
    LinkBytes(Channel, Bytes),
    LinkDown,
    Work(u64),
    Timer,
}

/// The start of a process, and every call since.
#[derive(Default)]
pub(super) struct Tape {
    start: Option<(Setup, SimDisk, Now)>,
    told: Vec<(Now, Told)>,
    /// Outputs taken.
    pub(super) said: u64,
}

impl Tape {
    pub(super) fn put(&mut self, now: Now, told: impl FnOnce() -> Told) {
        if self.start.is_some() {
            self.told.push((now, told()));
        }
    }
}

impl SimEdge {
    /// Keeps what the process is told from now on. `disk` is a copy of what it was started on.
    pub fn keep_tape(&mut self, setup: Setup, disk: SimDisk, started: Now) {
        self.tape.start = Some((setup, disk, started));
    }

    /// The process as it is now, once more, and its disk, which is another. `None` without a tape.
    pub fn twin(&self, seed: u64) -> Option<(SimEdge, SimDisk)> {
        let (setup, disk, started) = self.tape.start.as_ref()?;
        let disk = disk.copy(seed);
        let mut twin = match SimEdge::start(setup.clone(), disk.clone(), *started) {
            Ok(twin) => twin,
            Err(StartError::Crashed | StartError::Refused(_)) => panic!("it started before"),
        };
        let drain = |twin: &mut SimEdge| while twin.output().is_some() {};
        drain(&mut twin);
        for (now, told) in &self.tape.told {
            twin.tell(*now, told.clone());
            drain(&mut twin);
        }
        assert_eq!(
            twin.tape.said, self.tape.said,
            "the same calls, other outputs"
        );
        Some((twin, disk))
    }

    fn tell(&mut self, now: Now, told: Told) {
        match told {
            Told::MqttOpen(conn) => self.mqtt_open(now, conn),
            Told::MqttBytes(conn, bytes) => self.mqtt_bytes(now, conn, bytes),
            Told::MqttWritten(conn, bytes) => self.mqtt_written(now, conn, bytes),
            Told::MqttClosed(conn) => self.mqtt_closed(now, conn),
            Told::LinkUp => self.link_up(now),
            Told::LinkBytes(channel, bytes) => self.link_bytes(now, channel, bytes),
            Told::LinkDown => self.link_down(now),
            Told::Work(id) => self.work(now, id),
            Told::Timer => self.timer(now),
        }
    }
}

//! What a service manager hears and does: ready, alive while the threads turn, stopping.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::process::{PATIENCE, Process, free_port};
use crate::threads::freeze;

/// So much silence would end the service; the node beats three times in it.
const WATCHDOG: Duration = Duration::from_secs(3);

struct Manager(UnixDatagram);

impl Manager {
    /// The next datagram, or `None` when none comes within `patience`.
    fn next(&self, patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        let read = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..read].to_vec()).unwrap())
    }

    /// The next datagram with such a line.
    fn wait(&self, line: &str) -> String {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let text = self.next(PATIENCE).unwrap_or_default();
            if text.lines().any(|l| l == line) {
                return text;
            }
        }
        panic!("never heard: {line}");
    }

    fn pings_within(&self, time: Duration) -> usize {
        let until = Instant::now() + time;
        let left = || until.saturating_duration_since(Instant::now());
        let mut pings = 0;
        while !left().is_zero() {
            let text = self.next(left().max(Duration::from_millis(1)));
            pings += usize::from(text.is_some_and(|text| text.contains("WATCHDOG=1")));
        }
        pings
    }
}

fn started(manager: &str, dir: &std::path::Path) -> Process {
    let us = WATCHDOG.as_micros().to_string();
    let environment = [("NOTIFY_SOCKET", manager), ("WATCHDOG_USEC", &us)];
    Process::start_in(&dir.join("data"), free_port(), &[], &environment)
}

#[test]
fn ready_alive_and_stopping_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let node = started(path.to_str().unwrap(), dir.path());
    let ready = manager.wait("READY=1");
    assert!(
        ready.contains("STATUS=0 clients, 0 records") && ready.contains("no uplink"),
        "{ready}"
    );
    manager.wait("WATCHDOG=1");
    manager.wait("WATCHDOG=1");
    let (ended, _) = node.stop();
    assert_eq!(ended.code(), Some(0));
    manager.wait("STOPPING=1");
    assert_eq!(
        manager.next(Duration::from_millis(1)),
        None,
        "the last word"
    );
}

/// The manager must learn of a node that runs and does nothing: one thread is stopped, and the
/// thread that would ping is not it.
#[test]
fn no_ping_while_the_store_or_the_broker_thread_hangs() {
    let dir = tempfile::tempdir().unwrap();
    // As systemd does in user sessions: a name in the abstract namespace.
    let name = format!("headwater-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager(UnixDatagram::bind_addr(&address).unwrap());
    let node = started(&format!("@{name}"), dir.path());
    manager.wait("READY=1");
    for thread in ["edge-store", "edge-mqtt"] {
        manager.wait("WATCHDOG=1");
        let frozen = freeze(node.pid(), thread);
        // One probe may have been answered just before.
        let pings = manager.pings_within(WATCHDOG * 2);
        assert!(pings <= 1, "{pings} pings while {thread} was stopped");
        drop(frozen);
        // What came late still counts.
        manager.wait("WATCHDOG=1");
    }
    assert_eq!(node.stop().0.code(), Some(0));
}

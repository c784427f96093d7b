//! What the service manager hears (sd_notify(3)): ready, alive, stopping, and a line of status.
//!
//! Without `NOTIFY_SOCKET` in the environment nobody listens and nothing is done. A datagram that
//! cannot be sent is left out: the manager then takes its own steps.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::node::Node;

/// How often the line of status is brought up to date without a watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// What a start that waits for something asks for, again and again.
const EXTEND: Duration = Duration::from_secs(30);

/// The manager's socket and its wishes.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// The manager ends the service when it was silent for this long.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn from_env() -> Notifier {
        let socket = std::env::var_os("NOTIFY_SOCKET");
        let number = |key: &str| std::env::var(key).ok()?.parse::<u64>().ok();
        let is_for_us =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|us| is_for_us && *us > 0);
        let socket = socket.and_then(|name| {
            let connected = connect(&name);
            let told = connected.as_ref().err();
            told.inspect(|error| tracing::warn!(?name, %error, "NOTIFY_SOCKET"));
            connected.ok()
        });
        Notifier {
            socket,
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// The start takes longer, for this reason.
    pub fn waiting(&self, why: &str) {
        let us = EXTEND.as_micros();
        self.send(&format!("EXTEND_TIMEOUT_USEC={us}\nSTATUS={why}"));
    }

    /// The node listens.
    pub fn ready(&self, node: &Node) {
        self.send(&format!("READY=1\nSTATUS={}", node.summary()));
    }

    /// The node ends, for this reason.
    pub fn stopping(&self, why: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={why}"));
    }

    /// Says that the node is alive while it is, for ever. Two beats fit into what the manager waits,
    /// so that one may be late.
    pub async fn keep_alive(&self, node: &Node) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let every = self.watchdog.map_or(STATUS_EVERY, |silence| silence / 3);
        loop {
            tokio::time::sleep(every).await;
            let patience = self.watchdog.unwrap_or(STATUS_EVERY);
            match node.pulse().beat(patience).await {
                Ok(()) => {
                    let ping = self.watchdog.map_or("", |_| "WATCHDOG=1\n");
                    self.send(&format!("{ping}STATUS={}", node.summary()));
                }
                Err(silent) => {
                    tracing::error!(%silent, "the node makes no progress");
                    self.send(&format!("STATUS={silent}"));
                }
            }
        }
    }

    fn send(&self, lines: &str) {
        if let Some(socket) = &self.socket {
            let sent = socket.send(lines.as_bytes());
            if let Err(error) = sent {
                tracing::debug!(%error, "telling the service manager");
            }
        }
    }
}

/// A path, or a name in the abstract namespace that begins with `@`.
fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not stop us.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

//! The broker thread: listeners, connections and the MQTT machine, on one thread.
//!
//! ```text
//! socket -> connection task -> inbox -> [machine] -> appends, one message a turn -> store thread
//!                 ^                         |
//!                 +---- out buffer <--------+   written once a turn, all packets in one call
//! ```
//! A turn takes everything that is there: what many clients sent while the last turn ran becomes
//! one group for the store, and the acknowledgements of one group become one write per connection.
//! Nothing is locked, since nothing here leaves the thread.
//!
//! # Bounds
//! - Bytes read and not yet handled: [`INBOX_BYTES_MAX`]; above it no socket is read.
//! - Bytes handed to the log and not durable: [`IN_FLIGHT_BYTES_MAX`]; above it the inbox waits.
//! - Per connection: the machine's own limits, kept by `PauseReading` and `Written`.
//! - Connections: the machine refuses politely above its limit; [`CONNECTIONS_SLACK`] above that
//!   they are dropped unheard.
//! - TLS and WebSocket: see the modules `wire` and `listen`.

mod conn;
mod door;
mod hub;
mod inbox;
mod listen;
mod sockets;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use headwater_mqtt::{Broker, ClientView, Stats};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

pub use door::DoorSetup;
pub use hub::{Hub, Outlet};

use crate::access::files::News;
use crate::access::logins::{Answer, Logins};
use crate::access::passwords::Passwords;
use crate::clock::Clock;
use crate::store::{FromStoreReceiver, StoreHandle};
use crate::taps::Taps;
use door::Door;

/// See the module's docs.
pub const INBOX_BYTES_MAX: usize = 2 << 20;
/// See the module's docs.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// See the module's docs.
pub const CONNECTIONS_SLACK: usize = 64;
/// One read of a socket at most; the buffer is shared by all connections.
pub const READ_BYTES: usize = 64 << 10;

/// What the broker shows to the status page.
#[derive(Default)]
pub struct BrokerView {
    /// The machine's counters.
    pub stats: Stats,
    /// Sessions, at most [`CLIENTS_SHOWN_MAX`].
    pub clients: Vec<ClientView>,
}

/// Sessions on the status page.
pub const CLIENTS_SHOWN_MAX: usize = 1_000;

/// What the thread works with.
pub struct Setup {
    /// Where clients come in.
    pub doors: Vec<DoorSetup>,
    /// What the files said at the start; those of listeners stand in `doors`.
    pub files: Vec<News>,
    /// What they say since.
    pub news: mpsc::UnboundedReceiver<News>,
    /// The restored machine.
    pub broker: Broker,
    /// Its limit, for the hard one.
    pub connections_max: usize,
    /// The node's clock.
    pub clock: Clock,
    /// The store thread.
    pub store: StoreHandle,
    /// What it reports.
    pub from_store: FromStoreReceiver,
    /// Ends the thread in good order.
    pub stop: oneshot::Receiver<()>,
    /// Brought up to date now and then.
    pub view: Arc<Mutex<BrokerView>>,
    /// Who watches messages.
    pub taps: Arc<Taps>,
}

/// Runs the thread to its end: asked to stop (`Ok`), or the log failed.
pub fn run(setup: Setup) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| format!("broker runtime: {e}"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let Setup {
            doors,
            files,
            news,
            broker,
            connections_max,
            clock,
            store,
            from_store,
            stop,
            view,
            taps,
        } = setup;
        let inbox = Rc::new(inbox::Inbox::new());
        let (mut accepting, mut opened) = (Vec::new(), Vec::new());
        for (number, setup) in doors.into_iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let address = setup.socket.local_addr();
            let address = address.map_err(|e| format!("listener {number}: {e}"))?;
            let door = Rc::new(Door::new(number, address, &setup.listener, setup.tls));
            let hard_limit = connections_max.saturating_add(CONNECTIONS_SLACK);
            let accept = listen::accept(setup.socket, door.clone(), hard_limit, inbox.clone());
            opened.push(door);
            accepting.push(tokio::task::spawn_local(accept));
        }
        let (to_hub, answers) = mpsc::unbounded_channel();
        let logins = files.iter().find_map(|news| match news {
            News::Passwords(passwords) => Some(start_logins(passwords, to_hub.clone())),
            _ => None,
        });
        let logins = logins.transpose()?;
        let passwords = logins.is_some();
        let sockets = sockets::Sockets::new(inbox.clone(), opened, logins);
        let mut driver = sockets::Driver {
            hub: Hub::new(broker, clock.clone(), store, sockets, view).watched_by(taps),
            clock,
            inbox,
            from_store,
            answers,
            news,
            passwords,
        };
        let rules = files
            .into_iter()
            .filter(|news| matches!(news, News::Acl(_)));
        rules.for_each(|news| driver.changed(news));
        let ended = driver.run(stop).await;
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
        ended
    })
}

fn start_logins(
    passwords: &Arc<Passwords>,
    answers: mpsc::UnboundedSender<Answer>,
) -> Result<Logins, String> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|e| format!("randomness: {e}"))?;
    let logins = Logins::start(passwords.clone(), &key, answers);
    logins.map_err(|e| format!("starting a thread: {e}"))
}

/// For log lines.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

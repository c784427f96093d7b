//! Accepting connections.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use headwater_gate::Refusals;
use headwater_mqtt::{ConnInfo, Event};

use super::conn::{self, Conn};
use super::inbox::Inbox;

/// Out of file descriptors or the like: wait for some connection to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn accept(
    listener: TcpListener,
    number: u16,
    hard_limit: usize,
    inbox: Rc<Inbox>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let refusals = Refusals::new("mqtt");
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting MQTT connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if inbox.connections() >= hard_limit {
            refusals.say(remote, "too many connections");
            continue;
        }
        // Acknowledgements are small and must not wait for more.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let conn = Rc::new(Conn::new(inbox.new_id(), remote, write));
        inbox.introduce(conn.clone());
        let info = ConnInfo {
            listener: number,
            remote: remote.to_string(),
            ..ConnInfo::default()
        };
        inbox.push(Event::Opened {
            conn: conn.id,
            info,
        });
        tokio::task::spawn_local(conn::serve(conn, read, inbox.clone()));
    }
}

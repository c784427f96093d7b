//! One connection of the edge: its channels around the [`Relay`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_proto::{Backoff, Channel, EdgeConfig};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};

use super::dial::{Dialer, Dialled};
use super::silence::Silence;
use super::{Done, LinkStatus, Relay, Source, Step};
use crate::clock::Clock;
use crate::server::read_some;

/// The status page is brought up to date this often while something happens.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// Reads of the control stream waiting for the machine.
const READS_QUEUED_MAX: usize = 8;

/// What outlives the connection.
pub(super) struct Link<'a> {
    pub(super) clock: Clock,
    pub(super) source: Arc<dyn Source>,
    pub(super) status: &'a watch::Sender<LinkStatus>,
    pub(super) backoff: &'a mut Backoff,
    pub(super) dialer: &'a mut Dialer,
}

/// The machine with the channels of one connection.
struct Session {
    relay: Relay,
    connection: Connection,
    control: mpsc::UnboundedSender<Bytes>,
    /// A writer per lane. Invariant: what lies in these queues is bounded by the machine's window.
    lanes: HashMap<u64, mpsc::UnboundedSender<Bytes>>,
    answers: mpsc::UnboundedSender<Done>,
}

impl Link<'_> {
    /// Runs the connection to its end; gives the reason.
    pub(super) async fn run(
        &mut self,
        dialled: &Dialled,
        config: EdgeConfig,
        seed: u128,
    ) -> String {
        let connection = &dialled.connection;
        let (control_out, control_in) = match connection.open_bi().await {
            Ok(streams) => streams,
            Err(error) => return error.to_string(),
        };
        let _ = control_out.set_priority(1);
        let (inbound_in, mut inbound) = mpsc::channel(READS_QUEUED_MAX);
        tokio::spawn(read_control(control_in, inbound_in));
        let (answers_in, mut answers) = mpsc::unbounded_channel();
        let mut session = Session {
            relay: Relay::new(config, seed, self.clock.now()),
            connection: connection.clone(),
            control: spawn_writer(control_out),
            lanes: HashMap::new(),
            answers: answers_in,
        };
        let mut changes = self.source.changes();
        let mut status_at = tokio::time::interval(STATUS_EVERY);
        let mut silence = Silence::default();
        let before = self.status.borrow().clone();
        loop {
            changes.mark_unchanged();
            session.relay.logs_changed(self.clock.now(), &*self.source);
            if let Err(reason) = self.effects(&mut session).await {
                self.show(&session, &before);
                return reason;
            }
            tokio::select! {
                Some(done) = answers.recv() => session.relay.done(self.clock.now(), done),
                Some(chunks) = inbound.recv() => {
                    let now = self.clock.now();
                    chunks.into_iter().for_each(|b| session.relay.bytes(now, b));
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return "the log closed".to_owned();
                    }
                }
                () = self.clock.sleep_until(session.relay.deadline()) => {
                    session.relay.timer(self.clock.now());
                }
                _ = status_at.tick() => {
                    self.show(&session, &before);
                    if silence.is_dead(&connection.stats(), Instant::now()) {
                        return "nothing comes back from the cloud".to_owned();
                    }
                }
                error = connection.closed() => {
                    self.show(&session, &before);
                    return error.to_string();
                }
            }
        }
    }

    async fn effects(&mut self, session: &mut Session) -> Result<(), String> {
        while let Some(step) = session.relay.step(self.clock.now(), &*self.source) {
            match step {
                Step::Send { channel, bytes } => session.send(channel, bytes).await?,
                Step::Work(work) => {
                    let (source, answers) = (self.source.clone(), session.answers.clone());
                    tokio::task::spawn_blocking(move || {
                        let _ = answers.send(work.run(&*source));
                    });
                }
                Step::Connected { addresses } => self.connected(session, addresses),
                Step::Close(reason) => return Err(reason.to_string()),
            }
        }
        Ok(())
    }

    fn connected(&mut self, session: &Session, addresses: Vec<String>) {
        let remote = session.connection.remote_address();
        tracing::info!(%remote, "uplink connected");
        self.backoff.connected();
        self.dialer.learn(addresses);
        self.status.send_modify(|status| {
            status.connected = true;
            status.connects += 1;
            status.remote = Some(remote);
            status.last_error = None;
        });
    }

    fn show(&self, session: &Session, before: &LinkStatus) {
        let stats = session.connection.stats();
        self.status.send_modify(|status| {
            status.sent_bytes = before.sent_bytes + stats.udp_tx.bytes;
            status.received_bytes = before.received_bytes + stats.udp_rx.bytes;
            status.round_trip = session.connection.rtt();
            status.in_flight_bytes = session.relay.in_flight_bytes();
        });
    }
}

impl Session {
    async fn send(&mut self, channel: Channel, bytes: Bytes) -> Result<(), String> {
        let writer = match channel {
            Channel::Control => &self.control,
            Channel::Data(lane) => {
                if !self.lanes.contains_key(&lane) {
                    let stream = self
                        .connection
                        .open_uni()
                        .await
                        .map_err(|e| e.to_string())?;
                    self.lanes.insert(lane, spawn_writer(stream));
                }
                &self.lanes[&lane]
            }
        };
        // A writer that is gone met the connection's end, which the loop sees next.
        let _ = writer.send(bytes);
        Ok(())
    }
}

/// Writes what is sent, in order, until the sender or the stream is gone.
fn spawn_writer(mut stream: SendStream) -> mpsc::UnboundedSender<Bytes> {
    const CHUNKS_PER_WRITE: usize = 64;
    let (sender, mut queue) = mpsc::unbounded_channel::<Bytes>();
    tokio::spawn(async move {
        let mut chunks = Vec::new();
        while queue.recv_many(&mut chunks, CHUNKS_PER_WRITE).await > 0 {
            if stream.write_all_chunks(&mut chunks).await.is_err() {
                return;
            }
            chunks.clear();
        }
        let _ = stream.finish();
    });
    sender
}

async fn read_control(mut stream: RecvStream, inbound: mpsc::Sender<Vec<Bytes>>) {
    while let Ok(Some(chunks)) = read_some(&mut stream).await {
        if inbound.send(chunks).await.is_err() {
            return;
        }
    }
}

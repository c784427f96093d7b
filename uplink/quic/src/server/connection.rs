//! One edge's connection: the machine, its channels and the sink's answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_proto::cloud::Ticket;
use headwater_proto::{Channel, CloudEffect, CloudSession, StreamOutcome};
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;

use super::accept::remote;
use super::{ServerConfig, Sink};
use crate::clock::{Clock, wall_ms};
use crate::name::Subject;

/// Reads waiting for the machine, per connection. With [`CHUNKS_PER_READ`] this bounds what lies
/// between QUIC's window and the machine.
const READS_QUEUED_MAX: usize = 8;
/// Pieces of one read; a piece is about a packet.
const CHUNKS_PER_READ: usize = 64;
/// An edge that does not read its acknowledgements for so long is cut off.
const CONTROL_WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer to one commit. Answer once, from any thread; dropped, it means
/// [`retry`](Reply::retry).
#[derive(Debug)]
pub struct Reply {
    ticket: Ticket,
    answers: mpsc::UnboundedSender<Answer>,
    answered: bool,
}

type Answer = (Ticket, Option<StreamOutcome>);

impl Reply {
    /// Answers `ticket` into `answers`; `None` there means retry. For those who run the machine
    /// without this crate's connections.
    pub fn new(
        ticket: Ticket,
        answers: mpsc::UnboundedSender<(Ticket, Option<StreamOutcome>)>,
    ) -> Reply {
        Reply {
            ticket,
            answers,
            answered: false,
        }
    }

    /// The entry is committed and applied, with this outcome.
    pub fn committed(mut self, outcome: StreamOutcome) {
        self.send(Some(outcome));
    }

    /// The entry is not known to be committed: no leader, no space, stopped.
    pub fn retry(mut self) {
        self.send(None);
    }

    fn send(&mut self, outcome: Option<StreamOutcome>) {
        self.answered = true;
        // A connection that is gone needs no answer: the edge asks again when it is back.
        let _ = self.answers.send((self.ticket, outcome));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.send(None);
        }
    }
}

/// What a channel's reader found.
enum Inbound {
    Bytes(Channel, Vec<Bytes>),
    /// A stream ended or broke: the connection's own end says why.
    Ended,
}

/// Runs the connection to its end.
pub(super) async fn run(
    connection: &Connection,
    subject: &Subject,
    config: &ServerConfig,
    sink: Arc<dyn Sink>,
) {
    let edge = &subject.edge;
    tracing::info!(%edge, remote = %remote(connection), "edge connected");
    sink.connected(edge, remote(connection));
    let reason = match serve(connection, subject, config, &sink).await {
        Ok(reason) | Err(reason) => reason,
    };
    connection.close(VarInt::from_u32(1), reason.as_bytes());
    tracing::info!(%edge, remote = %remote(connection), reason, "edge disconnected");
    sink.disconnected(edge, &reason);
}

async fn serve(
    connection: &Connection,
    subject: &Subject,
    config: &ServerConfig,
    sink: &Arc<dyn Sink>,
) -> Result<String, String> {
    let opened = tokio::time::timeout(config.handshake_timeout, connection.accept_bi()).await;
    let opened = opened.map_err(|_| "no control stream came".to_owned())?;
    let (control, control_in) = opened.map_err(|e| e.to_string())?;
    let _ = control.set_priority(1);

    let (inbound_in, inbound) = mpsc::channel(READS_QUEUED_MAX);
    tokio::spawn(read(control_in, Channel::Control, inbound_in.clone()));
    let lanes = tokio::spawn(accept_lanes(connection.clone(), inbound_in));

    let clock = Clock::start();
    let mut settings = config.session.clone();
    settings.addresses = sink.addresses();
    let machine = CloudSession::new(settings, subject.edge.clone(), clock.now(), wall_ms());
    let (answers_in, answers) = mpsc::unbounded_channel();
    let mut session = Session {
        machine,
        clock,
        control,
        inbound,
        answers,
        answers_in,
        sink: sink.clone(),
    };
    let ended = session.run(connection).await;
    lanes.abort();
    ended
}

struct Session {
    machine: CloudSession,
    clock: Clock,
    control: SendStream,
    inbound: mpsc::Receiver<Inbound>,
    answers: mpsc::UnboundedReceiver<Answer>,
    answers_in: mpsc::UnboundedSender<Answer>,
    sink: Arc<dyn Sink>,
}

impl Session {
    async fn run(&mut self, connection: &Connection) -> Result<String, String> {
        loop {
            self.effects().await?;
            tokio::select! {
                biased;
                Some(answer) = self.answers.recv() => self.answered(answer),
                inbound = self.inbound.recv() => match inbound {
                    Some(Inbound::Bytes(channel, chunks)) => self.received(channel, chunks),
                    Some(Inbound::Ended) | None => return Ok(ending(connection).await),
                },
                () = self.clock.sleep_until(self.machine.deadline()) => {
                    self.machine.timer(self.clock.now());
                }
                error = connection.closed() => return Ok(error.to_string()),
            }
        }
    }

    fn received(&mut self, channel: Channel, chunks: Vec<Bytes>) {
        let now = self.clock.now();
        for bytes in chunks {
            self.machine.bytes(now, channel, bytes);
        }
    }

    /// Hands on every answer that is there, so that acknowledgements share a packet.
    fn answered(&mut self, first: Answer) {
        let now = self.clock.now();
        let mut next = Some(first);
        while let Some((ticket, outcome)) = next {
            match outcome {
                Some(outcome) => self.machine.committed(now, ticket, outcome),
                None => self.machine.retry(now, ticket),
            }
            next = self.answers.try_recv().ok();
        }
    }

    async fn effects(&mut self) -> Result<(), String> {
        let mut out: Vec<Bytes> = Vec::new();
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                CloudEffect::Send { bytes, .. } => out.push(bytes),
                CloudEffect::Commit { ticket, key, entry } => {
                    let answers = self.answers_in.clone();
                    self.sink.commit(key, entry, Reply::new(ticket, answers));
                }
                CloudEffect::Alarm { key, kind } => {
                    tracing::warn!(stream = %key, ?kind, "uplink alarm");
                    self.sink.alarm(key, kind);
                }
                CloudEffect::Close { reason } => {
                    // What the machine said before it closed is worth sending.
                    let _ = self.write(&mut out).await;
                    return Err(reason.to_string());
                }
            }
        }
        self.write(&mut out).await
    }

    async fn write(&mut self, out: &mut [Bytes]) -> Result<(), String> {
        if out.is_empty() {
            return Ok(());
        }
        let written = self.control.write_all_chunks(out);
        match tokio::time::timeout(CONTROL_WRITE_TIMEOUT, written).await {
            Ok(written) => written.map_err(|e| e.to_string()),
            Err(_) => Err("the edge does not read its acknowledgements".to_owned()),
        }
    }
}

/// A stream ended: in most cases since the connection did, whose reason says more.
async fn ending(connection: &Connection) -> String {
    let closed = tokio::time::timeout(Duration::from_millis(200), connection.closed());
    closed
        .await
        .map_or_else(|_| "a stream ended".to_owned(), |error| error.to_string())
}

/// Every unidirectional stream is a data lane. QUIC limits their number.
async fn accept_lanes(connection: Connection, inbound: mpsc::Sender<Inbound>) {
    let mut number = 0;
    while let Ok(lane) = connection.accept_uni().await {
        tokio::spawn(read(lane, Channel::Data(number), inbound.clone()));
        number += 1;
    }
}

async fn read(mut stream: RecvStream, channel: Channel, inbound: mpsc::Sender<Inbound>) {
    loop {
        let chunks = match read_some(&mut stream).await {
            Ok(Some(chunks)) => chunks,
            // A data lane that ends in good order is done; a control stream is not meant to.
            Ok(None) if channel != Channel::Control => return,
            Ok(None) | Err(_) => break,
        };
        if inbound.send(Inbound::Bytes(channel, chunks)).await.is_err() {
            return;
        }
    }
    let _ = inbound.send(Inbound::Ended).await;
}

/// Several pieces at once: a batch is tens of packets, and each wake-up costs.
pub(crate) async fn read_some(stream: &mut RecvStream) -> Result<Option<Vec<Bytes>>, ReadError> {
    let mut pieces = [const { Bytes::new() }; CHUNKS_PER_READ];
    let count = stream.read_chunks(&mut pieces).await?;
    Ok(count.map(|count| pieces.into_iter().take(count).collect()))
}

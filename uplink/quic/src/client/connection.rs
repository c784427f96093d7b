//! One connection of the edge: the machine, its channels and the log's answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_proto::{Backoff, Channel, EdgeConfig, EdgeEffect, EdgeSession, StreamInfo};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};

use super::dial::{Dialer, Dialled};
use super::silence::Silence;
use super::{Fork, LinkStatus, LogRange, ReadAnswer, Source};
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

/// What the blocking side answered.
enum Answer {
    Read(TopicPartition, ReadAnswer),
    Forked(Result<StreamInfo, String>),
    DeadLettered(TopicPartition, Result<(), String>),
}

/// The machine with the channels of one connection.
struct Session {
    machine: EdgeSession,
    connection: Connection,
    control: mpsc::UnboundedSender<Bytes>,
    /// A writer per lane. Invariant: what lies in these queues is bounded by the machine's window.
    lanes: HashMap<u64, mpsc::UnboundedSender<Bytes>>,
    known: HashMap<TopicPartition, (Offset, Offset)>,
    answers: mpsc::UnboundedSender<Answer>,
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
            machine: EdgeSession::new(config, seed, self.clock.now()),
            connection: connection.clone(),
            control: spawn_writer(control_out),
            lanes: HashMap::new(),
            known: HashMap::new(),
            answers: answers_in,
        };
        let mut changes = self.source.changes();
        let mut status_at = tokio::time::interval(STATUS_EVERY);
        let mut silence = Silence::default();
        let before = self.status.borrow().clone();
        loop {
            changes.mark_unchanged();
            self.logs_changed(&mut session);
            if let Err(reason) = self.effects(&mut session).await {
                self.show(&session, &before);
                return reason;
            }
            tokio::select! {
                Some(answer) = answers.recv() => self.answered(&mut session, answer),
                Some(chunks) = inbound.recv() => {
                    let now = self.clock.now();
                    chunks.into_iter().for_each(|b| session.machine.bytes(now, Channel::Control, b));
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return "the log closed".to_owned();
                    }
                }
                () = self.clock.sleep_until(session.machine.deadline()) => {
                    session.machine.timer(self.clock.now());
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

    /// Tells the machine of new partitions and of ranges that moved.
    fn logs_changed(&self, session: &mut Session) {
        let now = self.clock.now();
        for LogRange { tp, start, end } in self.source.logs() {
            match session.known.get(&tp) {
                Some(known) if *known == (start, end) => {}
                Some(_) => {
                    session.machine.log_changed(now, &tp, start, end);
                    session.known.insert(tp, (start, end));
                }
                None => {
                    if let Some(info) = self.source.stream(&tp) {
                        session.known.insert(tp, (info.start, info.end));
                        session.machine.add_stream(now, info);
                    }
                }
            }
        }
    }

    fn answered(&self, session: &mut Session, answer: Answer) {
        let now = self.clock.now();
        match answer {
            Answer::Read(tp, ReadAnswer::Batches(batches)) => {
                session.machine.batches(now, &tp, batches);
            }
            Answer::Read(_, ReadAnswer::Gap(gap)) => session.machine.log_gap(now, gap),
            Answer::Read(tp, ReadAnswer::Failed(reason)) => {
                tracing::error!(partition = %tp, reason, "the log cannot be read");
                session.machine.read_failed(now, &tp);
            }
            Answer::Forked(Ok(info)) => session.machine.fork_durable(now, info),
            Answer::DeadLettered(tp, Ok(())) => session.machine.dead_lettered(now, &tp),
            // The stream waits: the next connection tries again.
            Answer::Forked(Err(reason)) => tracing::error!(reason, "fork not durable"),
            Answer::DeadLettered(tp, Err(reason)) => {
                tracing::error!(partition = %tp, reason, "dead-letter file not written");
            }
        }
    }

    async fn effects(&mut self, session: &mut Session) -> Result<(), String> {
        while let Some(effect) = session.machine.poll_effect() {
            match effect {
                EdgeEffect::Send { channel, bytes } => session.send(channel, bytes).await?,
                EdgeEffect::Read {
                    tp,
                    from,
                    max_bytes,
                } => {
                    self.blocking(session, move |source| {
                        let answer = source.read(&tp, from, max_bytes);
                        Answer::Read(tp, answer)
                    });
                }
                EdgeEffect::PersistFork {
                    tp,
                    parent,
                    incarnation,
                    at,
                } => {
                    let fork = Fork {
                        tp,
                        parent,
                        incarnation,
                        at,
                    };
                    self.blocking(session, move |source| {
                        Answer::Forked(source.persist_fork(fork))
                    });
                }
                EdgeEffect::DeadLetter { tp, from, to, code } => {
                    self.blocking(session, move |source| {
                        let done = source.dead_letter(&tp, from, to, code);
                        Answer::DeadLettered(tp, done)
                    });
                }
                EdgeEffect::Acked { tp, offset } => self.source.acked(&tp, offset),
                EdgeEffect::Verified { tp, at } => self.source.verified(&tp, at),
                EdgeEffect::Describe { tp } => {
                    if let Some(info) = self.source.stream(&tp) {
                        session.known.insert(tp, (info.start, info.end));
                        session.machine.described(self.clock.now(), info);
                    }
                }
                EdgeEffect::Alarm { tp, kind } => {
                    tracing::warn!(partition = %tp, ?kind, "uplink alarm");
                    self.source.alarm(&tp, kind);
                }
                EdgeEffect::Connected {
                    server_ms,
                    addresses,
                } => {
                    self.connected(session, server_ms, addresses);
                }
                EdgeEffect::Close { reason } => return Err(reason.to_string()),
            }
        }
        Ok(())
    }

    fn connected(&mut self, session: &Session, server_ms: i64, addresses: Vec<String>) {
        let remote = session.connection.remote_address();
        tracing::info!(%remote, "uplink connected");
        self.backoff.connected();
        self.dialer.learn(addresses);
        self.source.link(Some(server_ms));
        self.status.send_modify(|status| {
            status.connected = true;
            status.connects += 1;
            status.remote = Some(remote);
            status.last_error = None;
        });
    }

    fn blocking(
        &self,
        session: &Session,
        work: impl FnOnce(&dyn Source) -> Answer + Send + 'static,
    ) {
        let (source, answers) = (self.source.clone(), session.answers.clone());
        tokio::task::spawn_blocking(move || {
            let _ = answers.send(work(&*source));
        });
    }

    fn show(&self, session: &Session, before: &LinkStatus) {
        let stats = session.connection.stats();
        self.status.send_modify(|status| {
            status.sent_bytes = before.sent_bytes + stats.udp_tx.bytes;
            status.received_bytes = before.received_bytes + stats.udp_rx.bytes;
            status.round_trip = session.connection.rtt();
            status.in_flight_bytes = session.machine.in_flight_bytes();
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

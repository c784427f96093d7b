//! Many MQTT 3.1.1 connections in one process, each a task with a small buffer. The same for every
//! broker. Packet formats: MQTT 3.1.1, sections 2 and 3.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

/// Connects that are under way at a time.
const DIALLING_MAX: usize = 64;
/// Filters in one SUBSCRIBE.
const FILTERS_MAX: usize = 250;
const ANSWER: Duration = Duration::from_secs(60);
/// Nothing more comes by itself.
const QUIET: Duration = Duration::from_millis(300);
/// Longer than any row, since nobody pings in between, and not 0: rumqttd closes the connection of a
/// client that asks for no keep-alive.
const KEEP_ALIVE_S: u16 = 3_600;

/// A client that is connected and subscribed, and reads nothing by itself.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

/// What came of a load, over all subscribers.
#[derive(Default)]
pub struct Delivered {
    messages: AtomicU64,
    /// From publish to arrival.
    times: Mutex<Vec<Duration>>,
    /// For who waits for the next.
    arrived: Notify,
}

impl Delivered {
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Waits until so many have arrived in all.
    pub async fn reach(&self, messages: u64) -> io::Result<()> {
        let all = async {
            while self.messages() < messages {
                self.arrived.notified().await;
            }
        };
        tokio::time::timeout(ANSWER, all).await.map_err(|_| {
            let why = format!("{} of {messages} messages arrived", self.messages());
            io::Error::new(io::ErrorKind::TimedOut, why)
        })
    }

    /// Of the time on the way, in percent of messages; forgets what came before.
    pub fn take_percentile(&self, percent: usize) -> Duration {
        let mut times = std::mem::take(&mut *self.times.lock().expect("no reader panics"));
        times.sort_unstable();
        let at = times.len().saturating_sub(1) * percent / 100;
        times.get(at).copied().unwrap_or_default()
    }
}

/// What a publisher does.
#[derive(Clone, Copy)]
pub struct Load {
    /// 0 or 1.
    pub qos: u8,
    /// Messages per second.
    pub rate: u64,
    pub time: Duration,
}

impl Load {
    pub fn new(qos: u8, rate: u64, time: Duration) -> Load {
        Load { qos, rate, time }
    }
}

/// `n` clients with these filters each, connected and subscribed at QoS `qos`.
pub async fn gather(
    broker: SocketAddr,
    n: usize,
    qos: u8,
    filters: impl Fn(usize) -> Vec<String>,
) -> io::Result<Vec<Client>> {
    let doors = Arc::new(Semaphore::new(DIALLING_MAX));
    let tasks: Vec<_> = (0..n)
        .map(|number| {
            let (doors, filters) = (doors.clone(), filters(number));
            tokio::spawn(async move {
                let _door = doors.acquire().await.map_err(io::Error::other)?;
                let ready = ready(broker, number, qos, &filters);
                tokio::time::timeout(ANSWER, ready).await?
            })
        })
        .collect();
    let mut clients = Vec::with_capacity(n);
    for task in tasks {
        clients.push(task.await.map_err(io::Error::other)??);
    }
    Ok(clients)
}

async fn ready(
    broker: SocketAddr,
    number: usize,
    qos: u8,
    filters: &[String],
) -> io::Result<Client> {
    let mut client = Client::connect(broker, &format!("crowd-{number}")).await?;
    client.subscribe(filters, qos).await?;
    Ok(client)
}

impl Client {
    pub async fn connect(broker: SocketAddr, id: &str) -> io::Result<Client> {
        Client::dial(broker, id, true).await
    }

    /// One whose session stays when it is gone, with this subscription.
    pub async fn durable(
        broker: SocketAddr,
        id: &str,
        filter: &str,
        qos: u8,
    ) -> io::Result<Client> {
        let mut client = Client::dial(broker, id, false).await?;
        client.subscribe(&[filter.to_owned()], qos).await?;
        Ok(client)
    }

    async fn subscribe(&mut self, filters: &[String], qos: u8) -> io::Result<()> {
        for (n, filters) in filters.chunks(FILTERS_MAX).enumerate() {
            let mut body = (n as u16 + 1).to_be_bytes().to_vec();
            for filter in filters {
                string(&mut body, filter);
                body.push(qos);
            }
            self.send(&packet(0x82, &body)).await?;
            let (first, body) = self.receive().await?;
            if first != 0x90 || body[2..].iter().any(|code| *code > 2) {
                return Err(io::Error::other(format!("not a granting SUBACK: {body:?}")));
            }
        }
        Ok(())
    }

    async fn dial(broker: SocketAddr, id: &str, clean_session: bool) -> io::Result<Client> {
        let stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        let mut client = Client {
            stream,
            input: Vec::new(),
        };
        let mut body = b"\0\x04MQTT\x04".to_vec();
        body.push(u8::from(clean_session) << 1);
        body.extend(KEEP_ALIVE_S.to_be_bytes());
        string(&mut body, id);
        client.send(&packet(0x10, &body)).await?;
        match client.receive().await? {
            (0x20, body) if body == [0, 0] => Ok(client),
            other => Err(io::Error::other(format!(
                "not an accepting CONNACK: {other:?}"
            ))),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// A packet that the broker sent: its first byte and its body.
    async fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((body, end)) = frame(&self.input) {
                let packet = (self.input[0], self.input[body..end].to_vec());
                self.input.drain(..end);
                return Ok(packet);
            }
            let mut piece = [0; 2048];
            match self.stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// Whether the broker still answers.
    pub async fn is_alive(&mut self) -> bool {
        let ping = async {
            self.send(&[0xc0, 0]).await?;
            self.receive().await
        };
        matches!(tokio::time::timeout(ANSWER, ping).await, Ok(Ok((0xd0, _))))
    }

    /// Reads, without an answer, until nothing comes for a while. How many packets it was.
    pub async fn read_what_waits(mut self) -> u64 {
        let mut packets = 0;
        while let Ok(Ok(_)) = tokio::time::timeout(QUIET, self.receive()).await {
            packets += 1;
        }
        packets
    }

    /// Reads for good: counts messages and their time since `begun`, which stands in the payload.
    pub fn read_on(mut self, begun: Instant, delivered: Arc<Delivered>) {
        tokio::spawn(async move {
            while let Ok((first, body)) = self.receive().await {
                if first >> 4 != 3 {
                    continue;
                }
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let mut at = 2 + topic;
                if first & 6 != 0 {
                    let ack = [0x40, 2, body[at], body[at + 1]];
                    at += 2;
                    if self.send(&ack).await.is_err() {
                        return;
                    }
                }
                let sent: [u8; 8] = body[at..at + 8].try_into().expect("eight bytes");
                let sent = Duration::from_nanos(u64::from_be_bytes(sent));
                let took = begun.elapsed().saturating_sub(sent);
                delivered.times.lock().expect("no reader panics").push(took);
                delivered.messages.fetch_add(1, Ordering::Relaxed);
                delivered.arrived.notify_one();
            }
        });
    }

    /// Publishes in steps of a millisecond. Falls behind rather than send a burst later. How many
    /// messages it was.
    pub async fn publish(
        &mut self,
        begun: Instant,
        load: Load,
        mut topic: impl FnMut(u64) -> String,
    ) -> io::Result<u64> {
        let Load { qos, rate, time } = load;
        let started = Instant::now();
        let mut every = tokio::time::interval(Duration::from_millis(1));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut sent, mut owed) = (0, 0);
        while started.elapsed() < time {
            every.tick().await;
            owed += rate;
            let mut out = Vec::new();
            while owed >= 1000 {
                owed -= 1000;
                // The id of one that is long acknowledged comes again.
                let id = (qos > 0).then_some((sent % 0xffff) as u16 + 1);
                out.extend(message(&topic(sent), id, begun.elapsed()));
                sent += 1;
            }
            self.skip_answers()?;
            // A broker that falls far behind stops reading.
            let reads = tokio::time::timeout(time, self.send(&out)).await;
            reads.map_err(|_| {
                let why = format!("it has read nothing for {} s", time.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, why)
            })??;
        }
        Ok(sent)
    }

    /// Reads what is there, which for a publisher is PUBACKs.
    fn skip_answers(&self) -> io::Result<()> {
        let mut piece = [0; 2048];
        loop {
            match self.stream.try_read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Publishes one message at QoS 0 and waits until it has arrived.
    pub async fn publish_one(
        &mut self,
        begun: Instant,
        topic: &str,
        delivered: &Delivered,
    ) -> io::Result<()> {
        let before = delivered.messages();
        self.send(&message(topic, None, begun.elapsed())).await?;
        let arrives = async {
            while delivered.messages() == before {
                delivered.arrived.notified().await;
            }
        };
        Ok(tokio::time::timeout(ANSWER, arrives).await?)
    }
}

/// A publish at QoS 0, or 1 if it has an id, whose payload of 100 bytes begins with when it was sent.
fn message(topic: &str, id: Option<u16>, sent: Duration) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    string(&mut body, topic);
    if let Some(id) = id {
        body.extend(id.to_be_bytes());
    }
    body.extend((sent.as_nanos() as u64).to_be_bytes());
    body.resize(body.len() + 92, b'x');
    packet(0x30 | u8::from(id.is_some()) << 1, &body)
}

/// Where the body of the first whole packet begins and ends.
fn frame(input: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0usize;
    for n in 0..4 {
        let byte = *input.get(1 + n)?;
        length |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            let body = 2 + n;
            return (input.len() >= body + length).then_some((body, body + length));
        }
    }
    None
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

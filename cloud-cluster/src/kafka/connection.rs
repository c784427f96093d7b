//! One client: requests in, replies out in the same order.
//!
//! The reader takes a request, gives its appends their place, and queues the rest of the way to its
//! reply. The writer goes that way for one request after the other. So a client may send its next
//! Produce while the last is being synced, and everything else runs one at a time per connection,
//! as in Kafka.
//!
//! Bounds: [`PIPELINE`] requests and `in_flight_bytes` of them per connection; the reader stops
//! reading at either. A reply exists only while it is being written, and a client that does not take
//! it for [`STALL`] is cut off.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_gate::Heard;
use headwater_kafka::wire::{WireError, frame_bytes};
use headwater_kafka::{CloseReason, Peer, Reply, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Service;
use super::carry_out::Answer;
use super::census::Census;
use super::listener::KafkaConfig;

/// Requests of one connection that are being worked on.
const PIPELINE: usize = 64;
/// How long a client may leave a reply untaken.
const STALL: Duration = Duration::from_secs(60);
/// Requests up to this size are served on the reactor; larger ones may take a while to check.
const INLINE_BYTES: usize = 32 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Close(#[from] CloseReason),
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    #[error("a reply was not taken for {0:?}")]
    Stalled(Duration),
    #[error("a reply could not be encoded")]
    NoReply,
    #[error("a request could not be served: {0}")]
    Panicked(String),
}

/// A queued request, with its share of the connection's memory.
struct Queued {
    answer: Answer,
    _permit: OwnedSemaphorePermit,
}

/// Serves a client to its end. `Ok`: it hung up.
pub async fn run(
    stream: TcpStream,
    peer: Peer,
    service: Service,
    config: Arc<KafkaConfig>,
    heard: Heard,
) -> Result<(), Ended> {
    stream.set_nodelay(true)?;
    let (from, to) = stream.into_split();
    let (queue, queued) = mpsc::channel(PIPELINE);
    let reading = read(from, &peer, &service, &config, &heard, queue);
    let writing = write(to, queued);
    // When one ends, the other has nothing left to do.
    tokio::select! {
        ended = async { tokio::try_join!(reading, writing) } => ended.map(|_| ()),
    }
}

async fn read(
    mut from: OwnedReadHalf,
    peer: &Peer,
    service: &Service,
    config: &KafkaConfig,
    heard: &Heard,
    queue: mpsc::Sender<Queued>,
) -> Result<(), Ended> {
    let memory = Arc::new(Semaphore::new(config.in_flight_bytes));
    let mut census = Census::new();
    loop {
        let Some(length) = next_length(&mut from, config).await? else {
            return Ok(());
        };
        // A request larger than the whole share waits until it is alone.
        let share = length.min(config.in_flight_bytes) as u32;
        let permit = memory.clone().acquire_many_owned(share).await;
        let permit = permit.expect("the semaphore is never closed");
        let frame = frame(&mut from, length, config.idle).await?;
        heard.set();
        census.count(&frame);
        let outcome = checked(service, peer, frame).await?;
        let answer = service.begin(peer, outcome).await;
        if queue
            .send(Queued {
                answer,
                _permit: permit,
            })
            .await
            .is_err()
        {
            return Ok(());
        }
    }
}

/// The length of the next request; `None` when the client hung up between two.
async fn next_length(
    from: &mut OwnedReadHalf,
    config: &KafkaConfig,
) -> Result<Option<usize>, Ended> {
    let mut prefix = [0; 4];
    let read = tokio::time::timeout(config.idle, from.read_exact(&mut prefix)).await;
    match read.map_err(|_| Ended::Idle(config.idle))? {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = frame_bytes(prefix, config.request_bytes_max);
    length
        .map(Some)
        .map_err(|e: WireError| Ended::Close(e.into()))
}

/// Reads a request. Memory is taken as bytes come, not as a length says.
async fn frame(from: &mut OwnedReadHalf, length: usize, idle: Duration) -> Result<Bytes, Ended> {
    let mut bytes = BytesMut::with_capacity(length.min(64 << 10));
    while bytes.len() < length {
        let left = length - bytes.len();
        bytes.reserve(left.min(bytes.len().max(64 << 10)));
        let mut limited = (&mut *from).take(left as u64);
        let read = tokio::time::timeout(idle, limited.read_buf(&mut bytes)).await;
        if read.map_err(|_| Ended::Idle(idle))?? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(bytes.freeze())
}

async fn checked(
    service: &Service,
    peer: &Peer,
    frame: Bytes,
) -> Result<headwater_kafka::Outcome, Ended> {
    if frame.len() <= INLINE_BYTES {
        return Ok(serve(&*service.view, peer, frame));
    }
    let (view, peer) = (service.view.clone(), peer.clone());
    let served = tokio::task::spawn_blocking(move || serve(&*view, &peer, frame)).await;
    served.map_err(|e| Ended::Panicked(e.to_string()))
}

async fn write(mut to: OwnedWriteHalf, mut queued: mpsc::Receiver<Queued>) -> Result<(), Ended> {
    while let Some(Queued { answer, _permit }) = queued.recv().await {
        if let Some(reply) = answer.await? {
            if reply.is_empty() {
                // Left out, it would have the client take the next reply for this one.
                return Err(Ended::NoReply);
            }
            send(&mut to, &reply).await?;
        }
    }
    Ok(())
}

/// As few system calls as the socket allows: a Fetch reply has a chunk for every batch.
async fn send(to: &mut OwnedWriteHalf, reply: &Reply) -> Result<(), Ended> {
    let mut slices = reply.slices();
    let mut rest = &mut slices[..];
    // Nothing of an empty slice is ever written.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let written = tokio::time::timeout(STALL, to.write_vectored(rest)).await;
        let written = written.map_err(|_| Ended::Stalled(STALL))??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    metrics::counter!("headwater_kafka_sent_bytes_total").increment(reply.byte_len() as u64);
    Ok(())
}

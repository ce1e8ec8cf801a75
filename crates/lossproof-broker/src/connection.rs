//! One connection: requests are taken in order, and answered in order.
//!
//! # Invariants
//!
//! - CONN-1: what changes state is queued in the order of the requests; answers leave in that
//!   order too. No request waits for the answer to another, but for a large one behind one that
//!   waits for other clients (BUDGET-4): in Apache Kafka each waits for the one before it.
//! - CONN-2: bytes that make no sense end this connection with a log line, and nothing else.
//! - CONN-3: a drain answers every request that was read before it began.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use lossproof_env::{Clock, Connection, Planted, planted};
use lossproof_wire::{ApiKey, Pieces};
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, mpsc, watch};

use crate::broker::Broker;
use crate::budget::SMALL_ANSWER_BYTES;
use crate::call::{Answer, Call, CallError, Reply};
use crate::frame::{BYTES_PER_SECOND_MIN, FrameError, FrameLimits, FrameReader};
use crate::handlers;

/// Requests of one connection that were taken and not answered; librdkafka sends up to a million,
/// which then wait in the socket.
const PIPELINE_MAX: usize = 128;

/// Pieces of an answer that are written at a time; the system takes up to 1,024.
const PIECES_MAX: usize = 64;

type Stream = Box<dyn Connection>;

/// What is to be answered, and what is held until it can be where that is up to other clients.
type Queued = (Reply, Option<OwnedRwLockReadGuard<()>>);

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("the peer took no bytes for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("the peer did not take an answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("answers that nobody takes hold all memory, and {waiting} bytes more wait for it")]
    Crowded { waiting: usize },
    #[error("cannot write to the connection: {0}")]
    Write(#[source] std::io::Error),
}

/// Serves a connection until the peer closes it, it fails, or a drain has emptied it.
pub(crate) async fn serve(broker: Arc<Broker>, stream: Stream, peer: SocketAddr) {
    let outcome = run(&broker, stream, peer.ip()).await;
    match outcome {
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        Err(ConnectionError::Frame(FrameError::Io(error)) | ConnectionError::Write(error)) => {
            tracing::debug!(%peer, %error, "connection lost");
        }
        Err(error) => tracing::warn!(%peer, %error, "connection closed by the broker"), // CONN-2
    }
}

async fn run(broker: &Arc<Broker>, stream: Stream, peer: IpAddr) -> Result<(), ConnectionError> {
    let (read, mut write) = tokio::io::split(stream);
    let (queue, answers) = mpsc::channel(PIPELINE_MAX);
    let outcome = {
        let reader = take_requests(broker, read, peer, queue);
        let writer = send_answers(broker, &mut write, answers);
        tokio::pin!(reader, writer);
        tokio::select! {
            taken = &mut reader => match taken {
                // A drain: what was taken is still answered (CONN-3).
                Ok(Ended::Draining) => writer.await,
                // The peer has gone, and nobody is there to be answered.
                Ok(Ended::Closed) => Ok(()),
                Err(error) => Err(error),
            },
            sent = &mut writer => sent,
        }
    };
    let _ = write.shutdown().await; // The peer may be gone already.
    outcome
}

enum Ended {
    Closed,
    Draining,
}

async fn take_requests(
    broker: &Arc<Broker>,
    stream: ReadHalf<Stream>,
    peer: IpAddr,
    queue: mpsc::Sender<Queued>,
) -> Result<Ended, ConnectionError> {
    let limits = FrameLimits {
        bytes_max: broker.config.request_bytes_max,
        idle: broker.config.idle_connection,
        stalled: broker.config.stalled_connection,
    };
    let clock = Arc::clone(&broker.env.clock);
    let waiting = Arc::new(RwLock::new(()));
    let budget = broker.budget.clone();
    let mut frames = FrameReader::new(stream, limits, budget, Arc::clone(&waiting), clock);
    let mut draining = broker.draining.clone();
    loop {
        let frame = tokio::select! {
            biased;
            () = drained(&mut draining) => return Ok(Ended::Draining),
            frame = frames.next() => frame?,
        };
        let Some((bytes, share)) = frame else { return Ok(Ended::Closed) };
        let call = Call::parse(bytes, peer, share)?;
        broker.counters.request(call.key);
        let waits = match call.key {
            ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup => {
                Some(Arc::clone(&waiting).read_owned().await)
            }
            _ => None,
        };
        let mut reply = handlers::start(broker, call).await?;
        if let Reply::Ready(answer) = &mut reply
            && !answer.is_covered()
        {
            cover(broker, answer).await?; // BUDGET-1: many of them may wait to be sent.
        }
        if queue.send((reply, waits)).await.is_err() {
            return Ok(Ended::Closed);
        }
    }
}

/// Completes once a drain has begun; the sender being gone counts as that.
pub(crate) async fn drained(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

async fn send_answers(
    broker: &Arc<Broker>,
    stream: &mut WriteHalf<Stream>,
    mut answers: mpsc::Receiver<Queued>,
) -> Result<(), ConnectionError> {
    while let Some((reply, waits)) = answers.recv().await {
        let answer = match reply {
            Reply::Ready(answer) => Some(answer),
            Reply::Later(later) => later.await?,
        };
        drop(waits);
        if let Some(mut answer) = answer {
            charge(broker, &mut answer).await?;
            let clock = &*broker.env.clock;
            let stalled = broker.config.stalled_connection;
            send(clock, stalled, stream, mem::take(&mut answer.pieces)).await?;
        }
    }
    Ok(())
}

/// BUDGET-1, -4: a share of each answer, one at a time.
async fn charge(broker: &Broker, answer: &mut Answer) -> Result<(), ConnectionError> {
    let bytes = answer.pieces.len();
    answer.share.shrink(bytes);
    let is_small = bytes <= SMALL_ANSWER_BYTES && !planted(Planted::SmallAnswerWaits);
    if is_small {
        return Ok(()); // BUDGET-5
    }
    cover(broker, answer).await
}

async fn cover(broker: &Broker, answer: &mut Answer) -> Result<(), ConnectionError> {
    let bytes = answer.pieces.len();
    if broker.answers.try_grow(&mut answer.share, bytes) {
        return Ok(());
    }
    let place = broker.waiting.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
    let _place = place.map_err(|_| ConnectionError::Crowded { waiting: bytes })?;
    broker.answers.grow(&mut answer.share, bytes).await;
    Ok(())
}

/// Sends all of an answer. A peer that takes it more slowly than [`BYTES_PER_SECOND_MIN`]
/// holds memory that others wait for, and is dropped.
async fn send(
    clock: &dyn Clock,
    stalled: Duration,
    stream: &mut (impl AsyncWrite + Unpin),
    pieces: Pieces,
) -> Result<(), ConnectionError> {
    let slowest = Duration::from_secs(pieces.len() as u64 / BYTES_PER_SECOND_MIN);
    tokio::select! {
        biased; // Most answers go at once, and no timer is begun for them.
        sent = write_all(clock, stalled, stream, pieces.into_pieces()) => sent,
        () = clock.sleep(stalled + slowest) => Err(ConnectionError::Slow(stalled + slowest)),
    }
}

async fn write_all(
    clock: &dyn Clock,
    stalled: Duration,
    stream: &mut (impl AsyncWrite + Unpin),
    mut pieces: VecDeque<Bytes>,
) -> Result<(), ConnectionError> {
    while !pieces.is_empty() {
        let slices = pieces.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece));
        let slices: Vec<IoSlice<'_>> = slices.collect();
        let mut written = tokio::select! {
            biased;
            written = stream.write_vectored(&slices) => written.map_err(ConnectionError::Write)?,
            () = clock.sleep(stalled) => return Err(ConnectionError::Stalled(stalled)),
        };
        if written == 0 {
            return Err(ConnectionError::Write(std::io::ErrorKind::WriteZero.into()));
        }
        while let Some(piece) = pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                break;
            }
            written -= piece.len();
            pieces.pop_front();
        }
    }
    stream.flush().await.map_err(ConnectionError::Write)
}

#[cfg(test)]
mod tests {
    use core::pin::Pin;
    use core::task::{Context, Poll};
    use std::io;

    use lossproof_env::ManualClock;

    use super::*;

    /// Takes no more than `most` bytes at a time.
    struct Narrow {
        most: usize,
        taken: Vec<u8>,
        pieces_most: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.pieces_most = self.pieces_most.max(pieces.len());
            let bytes = pieces.iter().flat_map(|piece| piece.iter());
            let bytes: Vec<u8> = bytes.take(self.most).copied().collect();
            self.taken.extend_from_slice(&bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Ends of what is taken at a time lie inside of pieces, between them, and beyond all of them.
    #[tokio::test]
    async fn an_answer_of_many_pieces_is_written_whole_in_whatever_portions_it_is_taken() {
        let piece = |index: usize| Bytes::from(vec![index as u8; 1 + index % 7]);
        let pieces: VecDeque<Bytes> = (0..=3 * PIECES_MAX).map(piece).collect();
        let whole = Vec::from(pieces.clone()).concat();
        let clock = ManualClock::new(0);
        for most in (1..=30).chain([PIECES_MAX, whole.len(), usize::MAX]) {
            let mut stream = Narrow { most, taken: Vec::new(), pieces_most: 0 };
            let sent = write_all(&clock, Duration::from_secs(1), &mut stream, pieces.clone());
            sent.await.expect("it is taken");
            assert!(stream.taken == whole, "by {most} bytes");
            assert_eq!(stream.pieces_most, PIECES_MAX, "as many at a time as there may be");
        }
    }
}

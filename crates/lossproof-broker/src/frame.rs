//! Takes requests off a connection, each a length and as many bytes.
//!
//! # Invariants
//!
//! - FRAME-1: memory grows with the bytes that have come, never with the length they announce; a
//!   peer that is silent between two requests holds none.
//! - FRAME-2: a peer that stops in the middle of a request, or sends it byte by byte, is dropped
//!   after a bounded time: it holds memory that others wait for.

use core::future::poll_fn;
use core::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use lossproof_env::{Clock, Planted, planted};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{RwLock, Semaphore};

use crate::budget::{Budget, SMALL_BYTES, Share};

/// Least and usual size of a read.
const CHUNK_BYTES: usize = 8 << 10;
const LENGTH_BYTES: usize = 4;
/// Slower than any line that a client is put on.
pub(crate) const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// Why a connection ended that was not closed between two requests.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FrameError {
    #[error("the peer announced a request of {length} bytes; from 1 to {max} are possible{hint}")]
    Length { length: i32, max: usize, hint: &'static str },
    #[error("the peer closed in the middle of a request")]
    Truncated,
    #[error("the peer was silent for {} s", .silent.as_secs())]
    Silent { silent: Duration },
    #[error("the peer sent {bytes} bytes of a request in {} s: {min} are wanted", .time.as_secs())]
    Slow { bytes: usize, time: Duration, min: usize },
    #[error("cannot read from the connection: {0}")]
    Io(#[from] std::io::Error),
}

/// How long a peer may be silent, and how much it may say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    pub(crate) bytes_max: usize,
    pub(crate) idle: Duration,
    /// In each such time a request ends, or [`FrameLimits::bytes_min`] of it come.
    pub(crate) stalled: Duration,
}

impl FrameLimits {
    fn bytes_min(&self) -> usize {
        usize::try_from(self.stalled.as_secs() * BYTES_PER_SECOND_MIN).unwrap_or(usize::MAX)
    }
}

/// What has come of a request in the time that runs, and what is left of that.
#[derive(Debug)]
struct Pace {
    bytes: usize,
    left: Duration,
}

/// The reading half of a connection.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    limits: FrameLimits,
    budget: Budget,
    /// Bytes of small requests that need no budget.
    small: Arc<Semaphore>,
    /// Held by requests of this connection that wait for other clients.
    waiting: Arc<RwLock<()>>,
    clock: Arc<dyn Clock>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(
        stream: R,
        limits: FrameLimits,
        budget: Budget,
        waiting: Arc<RwLock<()>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let small = Arc::new(Semaphore::new(SMALL_BYTES));
        Self { stream, buffer: BytesMut::new(), limits, budget, small, waiting, clock }
    }

    /// The next request without its length, with the memory it takes; `None` when the peer has
    /// closed the connection between two requests.
    pub(crate) async fn next(&mut self) -> Result<Option<(Bytes, Share)>, FrameError> {
        if self.buffer.is_empty() && self.begin().await? == 0 {
            return Ok(None);
        }
        let mut pace = Pace { bytes: 0, left: self.limits.stalled };
        while self.buffer.len() < LENGTH_BYTES {
            self.buffer.reserve(CHUNK_BYTES);
            if self.fill(&mut pace).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        let length = self.length()?;
        self.buffer.advance(LENGTH_BYTES);
        let small = Share::small(&self.small, length);
        if small.is_none() {
            drop(self.waiting.write().await); // BUDGET-4
        }
        let mut share = small.unwrap_or_default();
        self.budget.grow(&mut share, length.min(self.buffer.len().max(1))).await;
        while self.buffer.len() < length {
            // At most doubled by what has come (FRAME-1).
            let step = self.buffer.len().max(CHUNK_BYTES).min(length - self.buffer.len());
            self.budget.grow(&mut share, self.buffer.len() + step).await;
            self.buffer.reserve(step);
            if self.fill(&mut pace).await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new(); // The request alone holds its memory now.
        }
        Ok(Some((frame, share)))
    }

    fn length(&self) -> Result<usize, FrameError> {
        let announced = self.buffer.first_chunk::<LENGTH_BYTES>().copied().unwrap_or_default();
        let length = i32::from_be_bytes(announced);
        match usize::try_from(length) {
            Ok(bytes) if (1..=self.limits.bytes_max).contains(&bytes) => Ok(bytes),
            _ => {
                let hint = hint(announced);
                Err(FrameError::Length { length, max: self.limits.bytes_max, hint })
            }
        }
    }

    /// Waits for the first bytes of a request, and holds no memory meanwhile (FRAME-1).
    async fn begin(&mut self) -> Result<usize, FrameError> {
        let Self { stream, buffer, limits, clock, .. } = self;
        let come = poll_fn(|context| {
            buffer.reserve(CHUNK_BYTES);
            let read = pin!(stream.read_buf(buffer)).poll(context);
            if read.is_pending() {
                *buffer = BytesMut::new();
            }
            read
        });
        tokio::select! {
            biased; // No timer is begun for what is there already.
            count = come => Ok(count?),
            () = clock.sleep(limits.idle) => Err(FrameError::Silent { silent: limits.idle }),
        }
    }

    /// FRAME-2. The time that the broker takes for other things is not the peer's.
    async fn fill(&mut self, pace: &mut Pace) -> Result<usize, FrameError> {
        let (bytes, min) = (pace.bytes, self.limits.bytes_min());
        let slow = FrameError::Slow { bytes, time: self.limits.stalled, min };
        if pace.left.is_zero() {
            return Err(slow);
        }
        let began = self.clock.monotonic();
        let count = tokio::select! {
            biased;
            count = self.stream.read_buf(&mut self.buffer) => count?,
            () = self.clock.sleep(pace.left) => return Err(slow),
        };
        pace.bytes += count;
        if !planted(Planted::SlowPeerKept) {
            pace.left = pace.left.saturating_sub(self.clock.monotonic().saturating_sub(began));
        }
        if pace.bytes >= min {
            *pace = Pace { bytes: 0, left: self.limits.stalled };
        }
        Ok(count)
    }
}

/// What else talks to this port, most often.
fn hint(announced: [u8; LENGTH_BYTES]) -> &'static str {
    match &announced {
        b"GET " | b"POST" | b"HEAD" | b"PUT " => "; it speaks HTTP",
        [0x16, 0x03, ..] => "; it speaks TLS, which this listener does not",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use lossproof_env::ManualClock;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn reader(bytes_max: usize) -> (tokio::io::DuplexStream, FrameReader<tokio::io::DuplexStream>) {
        let (peer, stream) = tokio::io::duplex(1 << 20);
        let limits = FrameLimits {
            bytes_max,
            idle: Duration::from_mins(10),
            stalled: Duration::from_mins(1),
        };
        let budget = Budget::new(8 << 20, 1 << 20);
        let clock = Arc::new(ManualClock::new(0));
        (peer, FrameReader::new(stream, limits, budget, Arc::default(), clock))
    }

    #[tokio::test]
    async fn frames_come_whole_and_in_order_however_they_are_cut() {
        let (mut peer, mut reader) = reader(1 << 20);
        let writer = tokio::spawn(async move {
            for byte in [0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 1, b'd'] {
                peer.write_all(&[byte]).await.expect("the reader is there");
                tokio::task::yield_now().await;
            }
        });
        let frames = [reader.next().await, reader.next().await, reader.next().await];
        writer.await.expect("the task does not panic");
        let frames = frames.map(|frame| frame.expect("no error").map(|(bytes, _)| bytes));
        assert_eq!(
            frames,
            [Some(Bytes::from_static(b"abc")), Some(Bytes::from_static(b"d")), None]
        );
    }

    /// FRAME-1.
    #[tokio::test]
    async fn an_announced_length_allocates_nothing() {
        let (mut peer, mut reader) = reader(100 << 20);
        peer.write_all(&(90_i32 << 20).to_be_bytes()).await.expect("the reader is there");
        peer.write_all(b"x").await.expect("the reader is there");
        drop(peer);
        assert!(matches!(reader.next().await, Err(FrameError::Truncated)));
        assert!(reader.buffer.capacity() <= 4 * CHUNK_BYTES, "{}", reader.buffer.capacity());
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_with_a_hint() {
        for (bytes, hint) in [
            ([0xff, 0xff, 0xff, 0xff], ""),
            ([0, 0, 0, 0], ""),
            (*b"GET ", "; it speaks HTTP"),
            ([0x16, 0x03, 0x01, 0x02], "; it speaks TLS, which this listener does not"),
        ] {
            let (mut peer, mut reader) = reader(1 << 20);
            peer.write_all(&bytes).await.expect("the reader is there");
            let error = reader.next().await.expect_err("no such length");
            assert!(matches!(error, FrameError::Length { hint: found, .. } if found == hint));
        }
    }

    /// FRAME-1.
    #[tokio::test]
    async fn a_peer_that_is_silent_holds_no_memory() {
        let (mut peer, mut reader) = reader(1 << 20);
        peer.write_all(&[0, 0, 0, 1, b'x']).await.expect("the reader is there");
        reader.next().await.expect("a request").expect("a request");
        {
            let mut next = pin!(reader.next());
            let waker = core::task::Waker::noop();
            assert!(next.as_mut().poll(&mut core::task::Context::from_waker(waker)).is_pending());
        }
        assert_eq!(reader.buffer.capacity(), 0);
    }

    async fn until_deadline(clock: &ManualClock, deadline: Duration) {
        while clock.next_deadline() != Some(deadline) {
            tokio::task::yield_now().await;
        }
    }

    /// `connections.max.idle.ms`.
    #[tokio::test]
    async fn a_peer_that_is_silent_between_requests_is_dropped_when_its_time_is_up() {
        let (peer, mut reader) = reader(1 << 20);
        let clock = ManualClock::new(0);
        reader.clock = Arc::new(clock.clone());
        let waiting = tokio::spawn(async move { reader.next().await.map(|_| ()) });
        until_deadline(&clock, Duration::from_mins(10)).await;
        clock.advance(Duration::from_mins(10));
        let outcome = waiting.await.expect("the task does not panic");
        assert!(matches!(outcome, Err(FrameError::Silent { .. })), "{outcome:?}");
        drop(peer);
    }

    /// FRAME-2.
    #[tokio::test]
    async fn a_peer_that_stops_in_the_middle_is_dropped() {
        let (mut peer, mut reader) = reader(1 << 20);
        let clock = ManualClock::new(0);
        reader.clock = Arc::new(clock.clone());
        peer.write_all(&[0, 0, 1, 0, b'x']).await.expect("the reader is there");
        let waiting = tokio::spawn(async move { reader.next().await.map(|_| ()) });
        until_deadline(&clock, Duration::from_mins(1)).await;
        clock.advance(Duration::from_mins(1));
        let outcome = waiting.await.expect("the task does not panic");
        assert!(matches!(outcome, Err(FrameError::Slow { .. })));
        drop(peer);
    }

    /// FRAME-2: the minute is that of the request, and does not begin anew with each byte.
    #[tokio::test]
    async fn a_peer_that_sends_byte_by_byte_is_dropped() {
        let (mut peer, mut reader) = reader(1 << 20);
        let clock = ManualClock::new(0);
        reader.clock = Arc::new(clock.clone());
        peer.write_all(&[0, 0, 1, 0]).await.expect("the reader is there");
        let waiting = tokio::spawn(async move { reader.next().await.map(|_| ()) });
        for _ in 0..60 {
            peer.write_all(b"x").await.expect("the reader is there");
            tokio::task::yield_now().await; // The reader takes it.
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        assert!(waiting.is_finished(), "the 256 bytes may not take four minutes");
        let outcome = waiting.await.expect("the task does not panic");
        assert!(matches!(outcome, Err(FrameError::Slow { .. })), "{outcome:?}");
    }

    /// FRAME-2: a slow line is no attack.
    #[tokio::test]
    async fn a_slow_peer_that_goes_on_is_waited_for() {
        let (mut peer, mut reader) = reader(4 << 20);
        let clock = ManualClock::new(0);
        reader.clock = Arc::new(clock.clone());
        let minute = BYTES_PER_SECOND_MIN as usize * 60;
        let length = 3 * minute;
        peer.write_all(&(length as i32).to_be_bytes()).await.expect("the reader is there");
        let waiting = tokio::spawn(async move { reader.next().await });
        for _ in 0..3 {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(59));
            peer.write_all(&vec![0; minute]).await.expect("the reader is there");
        }
        let frame = waiting.await.expect("the task does not panic").expect("a request");
        assert_eq!(frame.expect("a request").0.len(), length);
    }
}

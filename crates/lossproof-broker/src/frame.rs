//! Takes requests off a connection, each a length and as many bytes.
//!
//! # Invariants
//!
//! - FRAME-1: memory grows with the bytes that have come, never with the length they announce.
//! - FRAME-2: a peer that stops in the middle of a request is dropped after a bounded time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use lossproof_env::Clock;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Semaphore;

use crate::budget::{Budget, SMALL_BYTES, Share};

/// Least and usual size of a read.
const CHUNK_BYTES: usize = 8 << 10;
const LENGTH_BYTES: usize = 4;

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
    #[error("cannot read from the connection: {0}")]
    Io(#[from] std::io::Error),
}

/// How long a peer may be silent, and how much it may say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    pub(crate) bytes_max: usize,
    pub(crate) idle: Duration,
    pub(crate) stalled: Duration,
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
    clock: Arc<dyn Clock>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(
        stream: R,
        limits: FrameLimits,
        budget: Budget,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let small = Arc::new(Semaphore::new(SMALL_BYTES));
        Self { stream, buffer: BytesMut::new(), limits, budget, small, clock }
    }

    /// The next request without its length, with the memory it takes; `None` when the peer has
    /// closed the connection between two requests.
    pub(crate) async fn next(&mut self) -> Result<Option<(Bytes, Share)>, FrameError> {
        while self.buffer.len() < LENGTH_BYTES {
            let limit = if self.buffer.is_empty() { self.limits.idle } else { self.limits.stalled };
            self.buffer.reserve(CHUNK_BYTES);
            if self.fill(limit).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
        }
        let length = self.length()?;
        self.buffer.advance(LENGTH_BYTES);
        let mut share = Share::small(&self.small, length).unwrap_or_default();
        self.budget.grow(&mut share, length.min(self.buffer.len().max(1))).await;
        while self.buffer.len() < length {
            // At most doubled by what has come (FRAME-1).
            let step = self.buffer.len().max(CHUNK_BYTES).min(length - self.buffer.len());
            self.budget.grow(&mut share, self.buffer.len() + step).await;
            self.buffer.reserve(step);
            if self.fill(self.limits.stalled).await? == 0 {
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

    /// FRAME-2.
    async fn fill(&mut self, limit: Duration) -> Result<usize, FrameError> {
        tokio::select! {
            biased; // No timer is begun for what is there already.
            count = self.stream.read_buf(&mut self.buffer) => Ok(count?),
            () = self.clock.sleep(limit) => Err(FrameError::Silent { silent: limit }),
        }
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
        (peer, FrameReader::new(stream, limits, budget, Arc::new(ManualClock::new(0))))
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

    /// FRAME-2.
    #[tokio::test]
    async fn a_peer_that_stops_in_the_middle_is_dropped() {
        let (mut peer, mut reader) = reader(1 << 20);
        let clock = ManualClock::new(0);
        reader.clock = Arc::new(clock.clone());
        peer.write_all(&[0, 0, 1, 0, b'x']).await.expect("the reader is there");
        let waiting = tokio::spawn(async move { reader.next().await.map(|_| ()) });
        while clock.next_deadline() != Some(Duration::from_mins(1)) {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_mins(1));
        let outcome = waiting.await.expect("the task does not panic");
        assert!(matches!(outcome, Err(FrameError::Silent { .. })));
        drop(peer);
    }
}

//! A listener of ours as axum wants it.

use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Clock, Connection, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Each is a descriptor that files may need. One too many waits until another ends.
const CONNECTIONS_MAX: usize = 64;
/// After so long it is read no more, so that who is silent takes no place for good.
const CONNECTION_TIME: Duration = Duration::from_mins(5);

/// One that never fails, but waits and tries again.
#[derive(Debug)]
pub(crate) struct Front {
    listener: Box<dyn Listener>,
    clock: Arc<dyn Clock>,
    room: Arc<Semaphore>,
}

impl Front {
    pub(crate) fn new(listener: Box<dyn Listener>, clock: Arc<dyn Clock>) -> Self {
        Self { listener, clock, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl axum::serve::Listener for Front {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // Never closed.
        let place = Arc::clone(&self.room).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let end = Some(self.clock.sleep(CONNECTION_TIME));
                    return (Placed { stream, end, _place: place }, peer);
                }
                // Out of file descriptors or the like: it passes when a connection ends.
                Err(_) => self.clock.sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }
}

/// A connection with its place and its time.
pub(crate) struct Placed {
    stream: Box<dyn Connection>,
    /// `None` when it is over.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().is_none_or(|end| end.as_mut().poll(context).is_ready()) {
            self.end = None;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

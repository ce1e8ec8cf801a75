//! A listener of ours as axum wants it.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Clock, Connection, Listener};

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One that never fails, but waits and tries again.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl axum::serve::Listener for Front {
    type Io = Box<dyn Connection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                // Out of file descriptors or the like: it passes when a connection ends.
                Err(_) => self.clock.sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_address()
    }
}

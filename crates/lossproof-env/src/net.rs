use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Stream sockets.
pub trait Net: Debug + Send + Sync {
    fn listen(&self, address: SocketAddr) -> Pending<'_, Box<dyn Listener>>;
    fn connect(&self, address: SocketAddr) -> Pending<'_, Box<dyn Connection>>;
}

pub trait Listener: Debug + Send + Sync {
    fn local_address(&self) -> io::Result<SocketAddr>;
    /// The next connection and the address of its other end.
    fn accept(&self) -> Pending<'_, (Box<dyn Connection>, SocketAddr)>;
}

/// A byte stream in both directions.
pub trait Connection: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

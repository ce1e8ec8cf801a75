use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::{Connection, Listener, Net};

/// Bytes on their way in one direction before a writer waits.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections nobody has accepted yet; further ones wait, as with a kernel's backlog.
const BACKLOG_CONNECTIONS: usize = 128;
/// Ports given out for port 0 and to connecting ends: the dynamic range of RFC 6335.
const FIRST_DYNAMIC_PORT: u16 = 49_152;

/// A network inside the process: clones share it, nobody else does.
#[derive(Clone, Debug, Default)]
pub struct MemoryNet {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    listeners: BTreeMap<SocketAddr, mpsc::Sender<Arrival>>,
    /// Dynamic ports given out so far; wraps around within the range.
    ports_given: u16,
}

type Arrival = (DuplexStream, SocketAddr);

impl MemoryNet {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&self, mut address: SocketAddr) -> io::Result<MemoryListener> {
        let mut shared = self.lock();
        // A listener that was dropped leaves its closed channel behind: the address is free.
        shared.listeners.retain(|_, sender| !sender.is_closed());
        if address.port() == 0 {
            address.set_port(shared.dynamic_port(address)?);
        }
        if shared.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, receiver) = mpsc::channel(BACKLOG_CONNECTIONS);
        shared.listeners.insert(address, sender);
        Ok(MemoryListener { address, arrivals: tokio::sync::Mutex::new(receiver) })
    }
}

impl Shared {
    fn dynamic_port(&mut self, address: SocketAddr) -> io::Result<u16> {
        let range = u16::MAX - FIRST_DYNAMIC_PORT + 1;
        for _ in 0..range {
            let port = FIRST_DYNAMIC_PORT + self.ports_given % range;
            self.ports_given = (self.ports_given + 1) % range;
            if !self.listeners.contains_key(&SocketAddr::new(address.ip(), port)) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }
}

impl Net for MemoryNet {
    fn listen(
        &self,
        address: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Listener>>> + Send + '_>> {
        let bound = self.bind(address);
        Box::pin(async move { Ok(Box::new(bound?) as Box<dyn Listener>) })
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send + '_>> {
        let found = {
            let mut shared = self.lock();
            let sender = shared.listeners.get(&address).cloned();
            sender.map(|sender| shared.dynamic_port(address).map(|port| (sender, port)))
        };
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (sender, port) = found.ok_or_else(refused)??;
            let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
            let own_address = SocketAddr::new(address.ip(), port);
            sender.send((theirs, own_address)).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Connection>)
        })
    }
}

#[derive(Debug)]
struct MemoryListener {
    address: SocketAddr,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<Arrival>>,
}

impl Listener for MemoryListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn accept(
        &self,
    ) -> Pin<Box<dyn Future<Output = io::Result<(Box<dyn Connection>, SocketAddr)>> + Send + '_>>
    {
        Box::pin(async move {
            let arrival = self.arrivals.lock().await.recv().await;
            let (stream, peer) = arrival.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as Box<dyn Connection>, peer))
        })
    }
}

impl Connection for DuplexStream {}

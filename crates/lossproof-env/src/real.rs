//! The operating system behind the seams.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpStream};

use crate::{
    Clock, Connection, Disk, DiskFile, DiskLock, DiskSpace, FileStamp, Listener, Net, Rng,
};

/// Zeros are written in pieces of this size: large enough for full device speed, small enough to
/// cost no memory to speak of.
const PREALLOCATE_CHUNK_BYTES: usize = 1 << 20;

/// Written once at installation, by systemd and most containers' base images.
const MACHINE_ID_PATH: &str = "/etc/machine-id";

/// Docker, podman and systemd-nspawn leave one of these in a container: its machine id is that of
/// its image, or new with each container, and says nothing of the machine.
const CONTAINER_PATHS: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile { file: File::open(path)? }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        held(file, path, File::try_lock)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = File::open(path)?;
        held(file, path, File::try_lock_shared)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        Ok(Some(stamp_of(&fs::metadata(path)?)))
    }

    fn space(&self, path: &Path) -> io::Result<Option<DiskSpace>> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Some(DiskSpace {
            total_bytes: bytes(found.f_blocks),
            usable_bytes: bytes(found.f_bavail),
        }))
    }

    fn machine_id(&self) -> io::Result<Option<String>> {
        for path in CONTAINER_PATHS {
            if self.exists(Path::new(path))? {
                return Ok(None);
            }
        }
        match fs::read_to_string(MACHINE_ID_PATH) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The lock on a file, and on the directory that it is in: the file may be removed and made again
/// while somebody holds it.
fn held(
    file: File,
    path: &Path,
    take: fn(&File) -> Result<(), TryLockError>,
) -> io::Result<Box<dyn DiskLock>> {
    take(&file).map_err(refused)?;
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.map(File::open).transpose()?;
    match directory.as_ref().map_or(Ok(()), take) {
        // Some file systems, as NFS, have locks for files alone.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(taken) => return Err(refused(taken)),
    }
    Ok(Box::new(RealLock { _file: file, _directory: directory }))
}

fn refused(error: TryLockError) -> io::Error {
    match error {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(error) => error,
    }
}

/// What tells a file from its copies.
pub(crate) fn stamp_of(metadata: &fs::Metadata) -> FileStamp {
    // Not every file system keeps the birth of a file.
    let birth = metadata.created().ok();
    let since = birth.and_then(|birth| birth.duration_since(SystemTime::UNIX_EPOCH).ok());
    let birth_ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
    FileStamp { inode: metadata.ino(), birth_ns }
}

/// One open file of a [`RealDisk`].
#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// Without zeros that are overwritten at once: a fetch reads a lot.
    fn read_vec_at(&self, length: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(length); // The capacity may be more than was asked for.
        Ok(bytes)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        write_zeros(&self.file, length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        if length < self.len()? { self.file.set_len(length) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Grows `file` to `length` by writing zeros at its end.
pub(crate) fn write_zeros(file: &File, length: u64) -> io::Result<()> {
    let mut end = file.metadata()?.len();
    if end >= length {
        return Ok(());
    }
    let zeros = vec![0; PREALLOCATE_CHUNK_BYTES.min((length - end) as usize)];
    while end < length {
        let count = zeros.len().min((length - end) as usize);
        file.write_all_at(&zeros[..count], end)?;
        end += count as u64;
    }
    Ok(())
}

/// The kernel drops the lock when the last descriptor closes, on process death too.
#[derive(Debug)]
struct RealLock {
    _file: File,
    _directory: Option<File>,
}

impl DiskLock for RealLock {}

/// The clocks of the operating system; sleeping needs a tokio runtime with time enabled.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { tokio::time::sleep(duration).await })
    }

    fn sleep_blocking(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// The random numbers of the operating system.
///
/// # Panics
///
/// [`Rng::next_u64`] panics where the operating system has none to give: going on with guessable
/// session numbers could merge two histories.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealRng;

impl Rng for RealRng {
    fn next_u64(&self) -> u64 {
        getrandom::u64().expect("the operating system gives random numbers once it has booted")
    }
}

/// TCP of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealNet;

impl Net for RealNet {
    fn listen(
        &self,
        address: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Listener>>> + Send + '_>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(RealListener { listener }) as Box<dyn Listener>)
        })
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send + '_>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }
}

#[derive(Debug)]
struct RealListener {
    listener: TcpListener,
}

impl Listener for RealListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(
        &self,
    ) -> Pin<Box<dyn Future<Output = io::Result<(Box<dyn Connection>, SocketAddr)>> + Send + '_>>
    {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Connection>, peer))
        })
    }
}

impl Connection for TcpStream {}

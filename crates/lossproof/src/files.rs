use std::io;
use std::path::Path;

use lossproof_env::Disk;

/// A whole file that is text.
pub(crate) fn read_text(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    let file = disk.open_read_only(path)?;
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

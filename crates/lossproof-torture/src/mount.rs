//! File systems that a fault can have for itself. Needs root; whoever runs this in a mount
//! namespace of its own leaves nothing behind, even when it is killed.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::failure::{Ability, Context, Failure};
use crate::round::find_program;

/// Sparse: what is not written takes no space.
const IMAGE_SIZE: &str = "512M";
/// The file system's own journal is not to help: it would write what nobody has synced.
const EXT4_OPTIONS: &str = "loop,commit=300";
/// Writes to a file that nobody syncs, and at once `FS_IOC_SHUTDOWN` with `NOLOGFLUSH`: from then
/// on nothing reaches the disk, not even what the file system has in its log. An ioctl takes
/// `unsafe` in Rust, so Python does it; it waits for its standard input, so that it strikes at once
/// when it is told to. The file is a new one: ext4 hurries with what replaces something.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
control = os.open(sys.argv[2], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
how = struct.pack('I', 2)
sys.stdin.read()
os.write(control, b'unsynced')
fcntl.ioctl(directory, 0x8004587d, how)
";

static SHUTTING_DOWN: Ability = Ability::new();

/// Of so many cuts one may keep its control: the kernel also writes by itself, and somebody else's
/// sync takes that along.
const CUTS_PER_KEPT: u64 = 6;

/// What the power cuts of a disk came to.
#[derive(Debug, Default)]
struct Cuts {
    made: u64,
    /// Those that kept what nobody had synced.
    kept: u64,
}

impl Cuts {
    fn note(&mut self, is_kept: bool) {
        self.made += 1;
        self.kept += u64::from(is_kept);
    }

    /// Fails where there was none, or where they were none.
    fn check(&self) -> Result<(), Failure> {
        let Self { made, kept } = self;
        if *made > 0 && *kept <= made / CUTS_PER_KEPT {
            return Ok(());
        }
        let what = "kept what was not synced: FS_IOC_SHUTDOWN cuts no power here";
        Err(Failure::broken(format!("{kept} of {made} power cuts {what}")))
    }
}

fn need_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::missing("mounting needs root"))
}

fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<(), Failure> {
    let mut command = Command::new(find_program(program)?);
    let output = command.args(arguments).stdin(Stdio::null()).output().context(program)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::broken(format!("{program}: {}", said.trim())))
}

/// Something mounted on a directory; unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
}

impl Mount {
    fn new(path: &Path, arguments: &[&OsStr]) -> Result<Self, Failure> {
        fs::create_dir_all(path).context(path.display())?;
        run("mount", &[arguments, &[path.as_os_str()]].concat())?;
        Ok(Self { path: path.to_owned() })
    }

    /// Memory of that size in bytes as a file system.
    pub(crate) fn memory(path: &Path, size: u64) -> Result<Self, Failure> {
        need_root()?;
        let options = format!("size={size}");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs"].map(OsStr::new);
        // A container may have root and still no right to mount.
        Self::new(path, &arguments).map_err(as_missing)
    }

    /// Gives [`Mount::memory`] another size.
    pub(crate) fn resize(&self, size: u64) -> Result<(), Failure> {
        let options = format!("remount,size={size}");
        run("mount", &[OsStr::new("-o"), options.as_ref(), self.path.as_os_str()])
    }

    /// Copies what is on it to a place that lasts.
    pub(crate) fn keep(&self, to: &Path) -> Result<(), Failure> {
        run("cp", &[OsStr::new("-a"), self.path.as_os_str(), to.as_os_str()])
    }
}

/// The system's own where there is one: what version managers put first in the path takes a second
/// to find its interpreter.
fn python() -> Result<PathBuf, Failure> {
    let own = PathBuf::from("/usr/bin/python3");
    if own.is_file() { Ok(own) } else { find_program("python3") }
}

fn as_missing(failure: Failure) -> Failure {
    Failure::missing(format!("nothing can be mounted here: {failure}"))
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: what is still open goes with its process.
        let _ = run("umount", &[OsStr::new("-l"), self.path.as_os_str()]);
    }
}

/// An ext4 in a file, whose power can be cut.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    image: PathBuf,
    mount: Option<Mount>,
    pub(crate) path: PathBuf,
    /// The control of the last power cut, until the next mount has looked at it.
    control: Option<PathBuf>,
    cuts: Cuts,
}

impl LoopDisk {
    /// Makes and mounts one in `directory`.
    pub(crate) fn make(directory: &Path) -> Result<Self, Failure> {
        need_root()?;
        python()?;
        let (image, path) = (directory.join("image"), directory.join("disk"));
        run("truncate", &[OsStr::new("-s"), IMAGE_SIZE.as_ref(), image.as_os_str()])?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()])?;
        let mut disk = Self { image, mount: None, path, control: None, cuts: Cuts::default() };
        disk.mount().map_err(as_missing)?;
        Ok(disk)
    }

    pub(crate) fn mount(&mut self) -> Result<(), Failure> {
        assert!(self.mount.is_none(), "a disk is mounted once");
        let arguments = [OsStr::new("-o"), EXT4_OPTIONS.as_ref(), self.image.as_os_str()];
        self.mount = Some(Mount::new(&self.path, &arguments)?);
        if let Some(control) = self.control.take() {
            let kept = match fs::read(&control) {
                Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
                // Its name may have come to the disk with somebody else's sync.
                read => read.context(control.display())?,
            };
            self.cuts.note(!kept.is_empty());
        }
        Ok(())
    }

    /// Fails where power cuts took nothing: then they were none.
    pub(crate) fn check_cuts(&self) -> Result<(), Failure> {
        self.cuts.check()
    }

    /// Everybody who used it is gone.
    pub(crate) fn unmount(&mut self) -> Result<(), Failure> {
        let mount = self.mount.take();
        run("umount", &[&self.path])?;
        // It is done: there is nothing left for the drop.
        std::mem::forget(mount);
        Ok(())
    }

    /// Makes ready to cut the power.
    pub(crate) fn arm(&mut self) -> Result<PowerCut<'_>, Failure> {
        let control = self.path.join(format!("unsynced-{}", self.cuts.made));
        let mut command = Command::new(python()?);
        command.args(["-c", SHUTDOWN]).args([&self.path, &control]).stdin(Stdio::piped());
        Ok(PowerCut { child: command.spawn().context("python3")?, control, disk: self })
    }
}

/// A power cut that has only to be told.
#[derive(Debug)]
pub(crate) struct PowerCut<'a> {
    child: Child,
    control: PathBuf,
    disk: &'a mut LoopDisk,
}

impl PowerCut<'_> {
    /// Cuts it, and sees to it that the disk takes nothing more.
    pub(crate) fn strike(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("python3")?;
        if !status.success() {
            return Err(SHUTTING_DOWN.failure(format!("FS_IOC_SHUTDOWN failed: {status}")));
        }
        SHUTTING_DOWN.seen();
        self.disk.control = Some(self.control);
        let after = self.disk.path.join("after");
        match fs::write(&after, "after the cut") {
            Err(_) => Ok(()),
            Ok(()) => Err(Failure::broken("a disk without power took a file: it was not cut")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_cuts_that_keep_what_nobody_synced_are_none() {
        let is_real = |made, kept| Cuts { made, kept }.check().is_ok();
        assert!(is_real(2, 0) && is_real(6, 0) && is_real(6, 1));
        assert!(!is_real(6, 2) && !is_real(2, 1) && !is_real(6, 6));
        assert!(!is_real(0, 0), "nothing was cut");
    }
}

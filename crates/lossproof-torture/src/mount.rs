//! File systems that a fault can have for itself. Needs root; whoever runs this in a mount
//! namespace of its own leaves nothing behind, even when it is killed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::failure::{Context, Failure};
use crate::round::find_program;

/// Sparse: what is not written takes no space.
const IMAGE_SIZE: &str = "512M";
/// The file system's own journal is not to help: it would write what nobody has synced.
const EXT4_OPTIONS: &str = "loop,commit=300";
/// `FS_IOC_SHUTDOWN` with `NOLOGFLUSH`: from here on nothing reaches the disk, not even what the
/// file system has in its log. An ioctl takes `unsafe` in Rust, so Python does it; it waits for
/// its standard input, so that it strikes at once when it is told to.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
sys.stdin.read()
fcntl.ioctl(directory, 0x8004587d, struct.pack('I', 2))
";

/// A file that is written and not synced just before a power cut.
const CONTROL: &str = "unsynced";

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
    /// Is a power cut to be looked at by the next mount?
    is_cut: bool,
    cuts: u64,
    /// Cuts that took what nobody had synced.
    forgotten: u64,
}

impl LoopDisk {
    /// Makes and mounts one in `directory`.
    pub(crate) fn make(directory: &Path) -> Result<Self, Failure> {
        need_root()?;
        python()?;
        let (image, path) = (directory.join("image"), directory.join("disk"));
        run("truncate", &[OsStr::new("-s"), IMAGE_SIZE.as_ref(), image.as_os_str()])?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()])?;
        let (is_cut, cuts, forgotten) = (false, 0, 0);
        let mut disk = Self { image, mount: None, path, is_cut, cuts, forgotten };
        disk.mount().map_err(as_missing)?;
        Ok(disk)
    }

    pub(crate) fn mount(&mut self) -> Result<(), Failure> {
        assert!(self.mount.is_none(), "a disk is mounted once");
        let arguments = [OsStr::new("-o"), EXT4_OPTIONS.as_ref(), self.image.as_os_str()];
        self.mount = Some(Mount::new(&self.path, &arguments)?);
        if std::mem::take(&mut self.is_cut) {
            let control = self.path.join(CONTROL);
            // Its name may have come to the disk with somebody else's sync.
            let is_there = fs::read_to_string(&control).is_ok_and(|it| it == self.control());
            self.cuts += 1;
            self.forgotten += u64::from(!is_there);
        }
        Ok(())
    }

    /// What stands in the file of this cut and of no other.
    fn control(&self) -> String {
        format!("cut {}", self.cuts)
    }

    /// Fails where no power cut took anything: then they were none. One may keep what the kernel
    /// has just written by itself.
    pub(crate) fn check_cuts(&self) -> Result<(), Failure> {
        let Self { cuts, forgotten, .. } = self;
        if *forgotten > 0 {
            return Ok(());
        }
        let what = "kept what was not synced: FS_IOC_SHUTDOWN cuts no power here";
        Err(Failure::broken(format!("each of {cuts} power cuts {what}")))
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
        let mut command = Command::new(python()?);
        command.args(["-c", SHUTDOWN]).arg(&self.path).stdin(Stdio::piped());
        Ok(PowerCut { child: command.spawn().context("python3")?, disk: self })
    }
}

/// A power cut that has only to be told.
#[derive(Debug)]
pub(crate) struct PowerCut<'a> {
    child: Child,
    disk: &'a mut LoopDisk,
}

impl PowerCut<'_> {
    pub(crate) fn strike(mut self) -> Result<(), Failure> {
        let control = self.disk.path.join(CONTROL);
        fs::write(&control, self.disk.control()).context(control.display())?;
        self.disk.is_cut = true;
        drop(self.child.stdin.take());
        let status = self.child.wait().context("python3")?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::missing(format!("FS_IOC_SHUTDOWN failed: {status}")))
    }
}

//! Faults at system calls, by `strace`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::failure::{Ability, Context, Failure};
use crate::round::find_program;

/// Calls that change what is on the disk; the broker makes no others but `openat`, and what that
/// leaves is what a kill at the entry of the next of these leaves.
pub(crate) const CALLS: [&str; 8] =
    ["pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink", "mkdir", "fallocate"];
const ATTACH_TIME_MAX: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

static ATTACHING: Ability = Ability::new();

/// Runs what follows under `strace` as the child of `strace`'s own parent (`-D`), so that signals
/// to it meet the broker; `inject` is an expression of `strace -e inject=`. It stops at every call
/// of whatever kind: with `--seccomp-bpf`, strace 6.1 injects at the first of a thread or never.
pub(crate) fn from_start(inject: &str) -> Result<Vec<OsString>, Failure> {
    let strace = find_program("strace")?;
    let mut command = vec![strace.into_os_string()];
    let options = ["-D", "-f", "-qqq", "-o", "/dev/null"];
    command.extend(options.map(OsString::from));
    let calls = inject.split(':').next().unwrap_or_default();
    command.extend(["-e".to_owned(), format!("trace={calls}")].map(OsString::from));
    command.extend(["-e".to_owned(), format!("inject={inject}")].map(OsString::from));
    Ok(command)
}

/// The same, with all changing calls written to `log` and no fault.
pub(crate) fn observing(log: &Path) -> Result<Vec<OsString>, Failure> {
    let strace = find_program("strace")?;
    let mut command = vec![strace.into_os_string()];
    command.extend(["-D", "-f", "--seccomp-bpf", "-qqq", "-o"].map(OsString::from));
    command.push(log.as_os_str().to_owned());
    command.extend(["-e".to_owned(), trace_expression()].map(OsString::from));
    Ok(command)
}

fn trace_expression() -> String {
    format!("trace={}", CALLS.join(","))
}

/// A `strace` on a broker that was running before; ends with it.
#[derive(Debug)]
pub(crate) struct Attached {
    child: Child,
}

impl Attached {
    /// Injects from the calls after this one on: of that thread, or of any.
    pub(crate) fn inject(
        broker: &mut Broker,
        thread: Option<&str>,
        inject: &str,
        directory: &Path,
    ) -> Result<Self, Failure> {
        let calls = inject.split(':').next().unwrap_or_default();
        let mut options = Vec::new();
        let mut target = broker.pid().to_string();
        if let Some(name) = thread {
            let threads = threads(broker)?;
            let found = threads.into_iter().find(|(_, found)| found == name);
            target = found.ok_or_else(|| Failure::broken(format!("no thread {name}")))?.0;
        } else {
            options.push("-f".to_owned());
        }
        options.extend([format!("-etrace={calls}"), format!("-einject={inject}")]);
        Self::attach(broker, &target, &options, Path::new("/dev/null"), directory)
    }

    /// Writes all changing calls to `log`.
    pub(crate) fn observe(
        broker: &mut Broker,
        log: &Path,
        directory: &Path,
    ) -> Result<Self, Failure> {
        let options = ["-f".to_owned(), format!("-e{}", trace_expression())];
        Self::attach(broker, &broker.pid().to_string(), &options, log, directory)
    }

    fn attach(
        broker: &mut Broker,
        target: &str,
        options: &[String],
        log: &Path,
        directory: &Path,
    ) -> Result<Self, Failure> {
        let talk = directory.join("strace.log");
        let errors = File::create(&talk).context(talk.display())?;
        let mut command = Command::new(find_program("strace")?);
        command.args(options).arg("-o").arg(log).args(["-p", target]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut attached = Self { child: command.spawn().context("strace")? };
        let deadline = Instant::now() + ATTACH_TIME_MAX;
        loop {
            // Looked at before what was said: whoever ended had said all of it.
            let broker_ended = broker.ended()?;
            let ended = attached.child.try_wait().context("strace")?.is_some();
            let said = fs::read_to_string(&talk).context(talk.display())?;
            if said.contains("attached") {
                ATTACHING.seen();
                return Ok(attached);
            }
            if let Some(status) = broker_ended {
                return Err(Failure::broken(format!("the broker ended by itself: {status}")));
            }
            if ended || Instant::now() >= deadline {
                return Err(ATTACHING.failure(format!("strace cannot attach: {}", said.trim())));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Where the broker has ended, it has ended too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Id and name of each thread of a broker.
pub(crate) fn threads(broker: &Broker) -> Result<Vec<(String, String)>, Failure> {
    let folder = PathBuf::from(format!("/proc/{}/task", broker.pid()));
    let mut threads = Vec::new();
    for entry in fs::read_dir(&folder).context(folder.display())? {
        let entry = entry.context(folder.display())?;
        // One that has just ended has no name any more.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        threads.push((entry.file_name().to_string_lossy().into_owned(), name.trim().to_owned()));
    }
    Ok(threads)
}

/// By call: the highest number that one thread made, of that one or of all. Counters of `strace`
/// are per thread.
pub(crate) fn count(log: &Path, of: Option<&str>) -> Result<Vec<(&'static str, u64)>, Failure> {
    let text = fs::read_to_string(log).context(log.display())?;
    Ok(count_lines(&text, of))
}

fn count_lines(text: &str, of: Option<&str>) -> Vec<(&'static str, u64)> {
    let of_call = |call: &'static str| {
        let begin = format!("{call}(");
        let mut threads: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            if of.is_none_or(|of| of == thread) && rest.trim_start().starts_with(&begin) {
                *threads.entry(thread).or_default() += 1;
            }
        }
        (call, threads.into_values().max().unwrap_or_default())
    };
    CALLS.map(of_call).into_iter().filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread() {
        let text = "7   fsync(3) = 0\n7 fsync(3) = 0\n8 fsync(3 <unfinished ...>\n8 pwrite64(1";
        assert_eq!(count_lines(text, None), [("pwrite64", 1), ("fsync", 2)]);
        assert_eq!(count_lines(text, Some("8")), [("pwrite64", 1), ("fsync", 1)]);
        assert_eq!(count_lines(text, Some("9")), []);
    }
}

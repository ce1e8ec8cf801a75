//! Starts, watches, kills and restarts the programs that a run on real services needs.

mod http;
mod kafka;
mod lossproof;
mod ner;
mod opensearch;

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub(crate) use http::request;
pub(crate) use kafka::Kafka;
pub(crate) use lossproof::{Binaries, Broker, build, build_for_torture, build_release};
pub(crate) use ner::Ner;
pub(crate) use opensearch::OpenSearch;

use crate::command;
use crate::failure::{Context, Failure};

/// A killed process is gone at once; only a broken machine needs this long.
const KILL_TIME_MAX: Duration = Duration::from_secs(20);

/// A program that runs in the background. It is killed when this value goes, so that a failed run
/// leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it writes is added to `log`, except for outputs set before.
    pub(crate) fn start(name: &str, log: &Path, command: &mut Command) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(append(log)?).stderr(append(log)?);
        Process::start_with_pipes(name, log, command)
    }

    /// Starts `command` with the standard streams that the caller has chosen.
    pub(crate) fn start_with_pipes(
        name: &str,
        log: &Path,
        command: &mut Command,
    ) -> Result<Self, Failure> {
        let child = command::spawn(command)?;
        Ok(Process { name: name.to_owned(), child, log: log.to_path_buf() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// SIGKILL, and the end of the process.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        if self.child.try_wait().context(&self.name)?.is_some() {
            return Err(self.ended_too_early());
        }
        self.child.kill().context(&self.name)?;
        command::wait(&mut self.child, KILL_TIME_MAX)?;
        Ok(())
    }

    /// SIGTERM, and the end of the process; killed when it takes longer than `time_max`.
    pub(crate) fn terminate(&mut self, time_max: Duration) -> Result<ExitStatus, Failure> {
        self.ask_to_end()?;
        self.wait(time_max)
    }

    /// SIGTERM.
    pub(crate) fn ask_to_end(&self) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-s", "TERM", &pid]).status().context("kill").map(drop)
    }

    /// The end of the process by itself.
    pub(crate) fn wait(&mut self, time_max: Duration) -> Result<ExitStatus, Failure> {
        command::wait(&mut self.child, time_max)?.ok_or_else(|| {
            let seconds = time_max.as_secs();
            Failure::broken(format!("{} did not end in {seconds} s\n{}", self.name, self.tail()))
        })
    }

    /// Fails when the process has ended, which nobody asked it to.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait().context(&self.name)? {
            None => Ok(()),
            Some(_) => Err(self.ended_too_early()),
        }
    }

    /// Waits until the log holds `text` after its first `skip` bytes.
    pub(crate) fn wait_for_log(
        &mut self,
        text: &str,
        skip: usize,
        time_max: Duration,
    ) -> Result<String, Failure> {
        let log = self.log.clone();
        let what = format!("`{text}` from {}", self.name);
        command::poll_until(&what, time_max, || {
            let bytes = fs::read(&log).context(log.display())?;
            let new = String::from_utf8_lossy(bytes.get(skip..).unwrap_or_default()).into_owned();
            let found = new.lines().find(|line| line.contains(text)).map(str::to_owned);
            if found.is_none() {
                self.check_alive()?;
            }
            Ok(found)
        })
    }

    fn ended_too_early(&self) -> Failure {
        Failure::broken(format!("{} ended by itself:\n{}", self.name, self.tail()))
    }

    pub(crate) fn tail(&self) -> String {
        const LINES: usize = 30;
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The length of a log so far: what is new comes after it.
pub(crate) fn log_length(log: &Path) -> usize {
    fs::metadata(log).map_or(0, |metadata| metadata.len() as usize)
}

pub(crate) fn append(log: &Path) -> Result<File, Failure> {
    OpenOptions::new().create(true).append(true).open(log).context(log.display())
}

/// A port that nobody listens on now. Somebody else may take it before it is used: the start
/// then fails and says so.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("xtask-service-{name}-{id}"));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_process_that_ends_early_is_reported_with_its_last_words() {
        let log = scratch("early");
        let mut command = Command::new("sh");
        let mut process =
            Process::start("it", &log, command.args(["-c", "echo last words; exit 1"])).unwrap();
        process.wait(KILL_TIME_MAX).unwrap();
        let failure = process.check_alive().unwrap_err().to_string();
        assert!(failure.contains("last words"), "{failure}");
        fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_line_is_waited_for_and_only_a_new_one_counts() {
        let log = scratch("line");
        fs::write(&log, "ready old\n").unwrap();
        let skip = log_length(&log);
        let mut command = Command::new("sh");
        let script = "echo ready new; sleep 60";
        let mut process = Process::start("it", &log, command.args(["-c", script])).unwrap();
        let line = process.wait_for_log("ready", skip, KILL_TIME_MAX).unwrap();
        assert_eq!(line, "ready new");
        process.kill().unwrap();
        assert!(process.kill().is_err(), "a second kill has nothing to kill");
        fs::remove_file(&log).unwrap();
    }
}

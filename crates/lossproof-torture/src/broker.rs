//! The broker as its users see it: a program with a directory, a port and a log.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Context, Failure};

const READY: &str = "ready bootstrap.servers=";
/// Start and stop take a tenth of a second; a machine that builds at the same time is slower.
const CHANGE_TIME_MAX: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
pub(crate) const PARTITIONS: i32 = 3;

/// How a start ended.
pub(crate) enum Started {
    Ready(Broker),
    /// It ended by itself, with these last words.
    Ended(String),
}

/// What is needed to start the broker again and again on one directory and one port.
#[derive(Clone, Debug)]
pub(crate) struct BrokerSettings {
    pub(crate) binary: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) port: u16,
    pub(crate) options: Vec<String>,
}

impl BrokerSettings {
    /// Data and log in `directory`, and a port that nobody listens on now.
    pub(crate) fn new(binary: &Path, directory: &Path) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
        let port = listener.local_addr().context("find a free port")?.port();
        Ok(Self {
            binary: binary.to_owned(),
            data: directory.join("data"),
            log: directory.join("broker.log"),
            port,
            options: Vec::new(),
        })
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the log holds after its first `skip` bytes.
    pub(crate) fn log_after(&self, skip: u64) -> Result<String, Failure> {
        let bytes = fs::read(&self.log).context(self.log.display())?;
        Ok(String::from_utf8_lossy(bytes.get(skip as usize..).unwrap_or_default()).into_owned())
    }

    pub(crate) fn log_length(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// Starts it and waits until it is ready; its end before that is an error.
    pub(crate) fn start(&self) -> Result<Broker, Failure> {
        match self.start_under(&[])? {
            Started::Ready(broker) => Ok(broker),
            Started::Ended(text) => Err(Failure::broken(format!("the broker ended:\n{text}"))),
        }
    }

    /// The same, run by another program (`strace`), where its end may be what is wanted.
    pub(crate) fn start_under(&self, tracer: &[OsString]) -> Result<Started, Failure> {
        let skip = self.log_length();
        let mut broker = self.spawn(tracer)?;
        let deadline = Instant::now() + CHANGE_TIME_MAX;
        loop {
            let ended = broker.ended()?;
            let text = self.log_after(skip)?;
            if text.contains(READY) {
                return Ok(Started::Ready(broker));
            }
            if ended.is_some() {
                return Ok(Started::Ended(text));
            }
            if Instant::now() >= deadline {
                return Err(Failure::broken(format!("the broker does not start:\n{text}")));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(&self, tracer: &[OsString]) -> Result<Broker, Failure> {
        let mut command = match tracer.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        command.args(["broker", "--listen", &self.bootstrap()]);
        command.args(["--partitions", &PARTITIONS.to_string()]);
        command.args(&self.options).arg("--data").arg(&self.data);
        command.stdin(Stdio::null()).stdout(self.append()?).stderr(self.append()?);
        Ok(Broker { child: command.spawn().context(self.binary.display())? })
    }

    fn append(&self) -> Result<File, Failure> {
        let opened = OpenOptions::new().create(true).append(true).open(&self.log);
        opened.context(self.log.display())
    }
}

/// A running broker; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
}

impl Broker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().context("look at the broker")
    }

    /// SIGKILL, and its end. That it has ended already is an error: nobody asked it to.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        if let Some(status) = self.ended()? {
            return Err(Failure::broken(format!("the broker ended by itself: {status}")));
        }
        self.child.kill().context("kill the broker")?;
        self.child.wait().context("wait for the broker")?;
        Ok(())
    }

    /// SIGTERM, and an end in order.
    pub(crate) fn terminate(mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::broken("the broker has no pid"))?;
        let sent = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        sent.map_err(std::io::Error::from).context("stop the broker")?;
        match self.wait()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::broken(format!("the broker stopped with {status}"))),
            None => Err(Failure::broken("the broker does not stop")),
        }
    }

    /// Its end by itself; `None` where it does not come.
    pub(crate) fn wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let deadline = Instant::now() + CHANGE_TIME_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(None)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The project's own binary as separate processes, killed and restarted like any other program.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;

use super::{Process, free_port, log_length};
use crate::command::{self, cargo};
use crate::failure::{Context, Failure};
use crate::workspace::Workspace;

const FORGETS: &[&str] = &["--disk", "forgets"];
const READY: &str = "ready bootstrap.servers=";
/// It is ready in a tenth of a second; a machine that builds at the same time is slower.
const START_TIME_MAX: Duration = Duration::from_mins(1);
const STOP_TIME_MAX: Duration = Duration::from_mins(1);

/// The programs of the project.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) lossproof: PathBuf,
    pub(crate) judge: PathBuf,
    pub(crate) torture: PathBuf,
}

/// Builds the binaries in the profile that ships, with the tests, so that nothing is built twice,
/// and finds them.
pub(crate) fn build(workspace: &Workspace) -> Result<Binaries, Failure> {
    let built = messages(workspace, &["test", "--release", "--workspace", "--no-run"])?;
    // No test of its own needs it, so that the tests do not build it.
    let torture = ["build", "--release", "--workspace", "--bin", "lossproof-torture"];
    let torture = messages(workspace, &torture)?;
    Ok(Binaries {
        lossproof: find(&built, "lossproof")?,
        judge: find(&built, "lossproof-judge")?,
        torture: find(&torture, "lossproof-torture")?,
    })
}

/// The product as its users get it. The parts of `cargo xtask test` take the one of [`build`]: the
/// same profile, and the features that tests add to what it depends on (ADR 40).
pub(crate) fn build_release(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let built = messages(workspace, &["build", "--release", "-p", "lossproof"])?;
    find(&built, "lossproof")
}

/// Builds the product and the program that tortures it, in this order, and nothing else.
pub(crate) fn build_for_torture(workspace: &Workspace) -> Result<(PathBuf, PathBuf), Failure> {
    let product = build_release(workspace)?;
    let built = messages(workspace, &["build", "--release", "-p", "lossproof-torture"])?;
    Ok((product, find(&built, "lossproof-torture")?))
}

fn messages(workspace: &Workspace, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = cargo(workspace);
    command.args(arguments).arg("--message-format=json");
    let run = command::run(workspace, "build", &mut command)?;
    if run.success {
        return Ok(run.text);
    }
    Err(Failure::broken(format!("the build failed, see {}", run.log.display())))
}

fn find(built: &str, name: &str) -> Result<PathBuf, Failure> {
    let found = built.lines().filter_map(|line| executable_in(line, name)).next_back();
    found.ok_or_else(|| Failure::broken(format!("cargo built no binary `{name}`")))
}

/// The path of a finished binary, when this message of cargo announces it.
fn executable_in(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_binary = message["target"]["kind"] == serde_json::json!(["bin"])
        && message["target"]["name"] == name
        && message["profile"]["test"] == false;
    let path = message["executable"].as_str()?;
    is_binary.then(|| PathBuf::from(path))
}

/// `lossproof broker` on a port and a data directory that it keeps over restarts.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The binary, behind what it is run by.
    program: Vec<OsString>,
    options: &'static [&'static str],
    data: PathBuf,
    log: PathBuf,
    port: u16,
    process: Process,
}

impl Broker {
    /// On a disk that forgets what was not synced, so that SIGKILL is a power cut: the page cache
    /// of a plain disk outlives the process, and a broker that acknowledges before it syncs would
    /// pass.
    pub(crate) fn start(binary: &Path, run: &Path) -> Result<Self, Failure> {
        Broker::start_as(&[binary.as_os_str()], FORGETS, run)
    }

    /// On one processor alone, and on the real disk, which is what is measured.
    pub(crate) fn start_on_cpu(binary: &Path, run: &Path, cpu: &str) -> Result<Self, Failure> {
        let program = ["taskset".as_ref(), "-c".as_ref(), cpu.as_ref(), binary.as_ref()];
        Broker::start_as(&program, &[], run)
    }

    /// UNSAFE: acknowledges at once, so that a kill loses what was acknowledged, and what was known
    /// of its producers.
    pub(crate) fn start_unsafe(binary: &Path, run: &Path) -> Result<Self, Failure> {
        const OPTIONS: &[&str] = &["--disk", "forgets", "--flush", "page-cache"];
        Broker::start_as(&[binary.as_os_str()], OPTIONS, run)
    }

    fn start_as(
        program: &[&OsStr],
        options: &'static [&'static str],
        run: &Path,
    ) -> Result<Self, Failure> {
        let program: Vec<OsString> = program.iter().map(OsString::from).collect();
        let port = free_port()?;
        let data = run.join("broker");
        fs::create_dir_all(&data).context(data.display())?;
        let log = run.join("broker.log");
        let process = launch(&program, options, &data, &log, port)?;
        Ok(Broker { program, options, data, log, port, process })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        self.process.check_alive()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill()
    }

    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.process = launch(&self.program, self.options, &self.data, &self.log, self.port)?;
        Ok(())
    }

    /// What stands in its files, acknowledged or not: a JSON object a line.
    pub(crate) fn dump(&self, log: &Path) -> Result<String, Failure> {
        let (first, rest) =
            self.program.split_first().ok_or_else(|| Failure::broken("no program"))?;
        let mut command = Command::new(first);
        command.args(rest).args(["log", "dump", "--format", "json"]).arg(&self.data);
        command::run_to_log(log, &mut command, STOP_TIME_MAX)?.expect_success("the dump")
    }

    /// SIGTERM, which drains.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus, Failure> {
        self.process.terminate(STOP_TIME_MAX)
    }
}

fn launch(
    program: &[OsString],
    options: &[&str],
    data: &Path,
    log: &Path,
    port: u16,
) -> Result<Process, Failure> {
    let skip = log_length(log);
    let (first, rest) = program.split_first().ok_or_else(|| Failure::broken("no program"))?;
    let mut command = Command::new(first);
    command.args(rest);
    command.args(["broker", "--listen", &format!("127.0.0.1:{port}")]).args(options).arg("--data");
    command.arg(data);
    let mut process = Process::start("the broker", log, &mut command)?;
    process.wait_for_log(READY, skip, START_TIME_MAX)?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_finished_binary_is_taken() {
        let message = |kind: &str, test: bool| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"target\":{{\"kind\":[\"{kind}\"],\
                 \"name\":\"lossproof\"}},\"profile\":{{\"test\":{test}}},\
                 \"executable\":\"/t/lossproof\"}}"
            )
        };
        assert!(executable_in(&message("bin", false), "lossproof").is_some());
        assert!(executable_in(&message("bin", false), "lossproof-judge").is_none());
        assert!(executable_in(&message("bin", true), "lossproof").is_none());
        assert!(executable_in(&message("test", true), "lossproof").is_none());
        assert!(executable_in("   Compiling lossproof", "lossproof").is_none());
    }
}

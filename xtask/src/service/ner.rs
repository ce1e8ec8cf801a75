use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Process, free_port, log_length, request};
use crate::failure::Failure;
use crate::workspace::Workspace;

/// The model is loaded in 2 seconds on a quiet machine.
const START_TIME_MAX: Duration = Duration::from_mins(3);

/// The analysis service of the news example.
#[derive(Debug)]
pub(crate) struct Ner {
    process: Process,
    port: u16,
}

impl Ner {
    pub(crate) fn start(workspace: &Workspace, python: &Path, run: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let script: PathBuf = workspace.root().join("examples/news/service.py");
        let log = run.join("ner.log");
        let skip = log_length(&log);
        let mut command = Command::new(python);
        command.arg(script).args(["--port", &port.to_string()]);
        let mut process = Process::start("the analysis service", &log, &mut command)?;
        process.wait_for_log("ready http://", skip, START_TIME_MAX)?;
        Ok(Ner { process, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Answers every analysis with `status` for some time from now on.
    pub(crate) fn fail_for(&self, status: u16, time: Duration) -> Result<(), Failure> {
        let seconds = time.as_secs();
        let body = format!("{{\"status\":{status},\"seconds\":{seconds}}}");
        let answer = request(self.port, "POST", "/fault", Some(&body))?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(Failure::broken(format!("the fault switch answers {}", answer.status)))
    }

    /// Requests that were answered with the switched fault.
    pub(crate) fn refused(&self) -> Result<u64, Failure> {
        let stats = request(self.port, "GET", "/stats", None)?.json()?;
        stats["refused"].as_u64().ok_or_else(|| Failure::broken("the service has no statistics"))
    }

    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        self.process.check_alive()
    }
}

//! Runs other programs: with a log file, with a bound on their time, and with their end noticed.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::{Context, Failure};
use crate::stop;
use crate::workspace::Workspace;

/// Nothing that a part starts takes longer; what does hangs.
pub(crate) const RUN_TIME_MAX: Duration = Duration::from_mins(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// For questions that cost the other side something.
const SLOW_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Lines of a log that are shown when its program failed.
const TAIL_LINES: usize = 60;

/// How a program ended and what it wrote, standard error and output in one.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) success: bool,
    pub(crate) text: String,
    pub(crate) log: PathBuf,
}

impl Run {
    /// The end of the log, for a person who has to find out what went wrong.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let start = lines.len().saturating_sub(TAIL_LINES);
        let shown = lines.get(start..).unwrap_or_default().join("\n");
        format!("{shown}\n(all of it: {})", self.log.display())
    }

    /// The text, or the end of the log as the error.
    pub(crate) fn expect_success(self, what: &str) -> Result<String, Failure> {
        if self.success {
            Ok(self.text)
        } else {
            Err(Failure::broken(format!("{what} failed:\n{}", self.tail())))
        }
    }
}

/// Runs a command to its end, both outputs going to the log file `name`.
pub(crate) fn run(
    workspace: &Workspace,
    name: &str,
    command: &mut Command,
) -> Result<Run, Failure> {
    let logs = workspace.logs();
    fs::create_dir_all(&logs).context(logs.display())?;
    let log = logs.join(format!("{name}.log"));
    run_to_log(&log, command, RUN_TIME_MAX)
}

pub(crate) fn run_to_log(
    log: &Path,
    command: &mut Command,
    time_max: Duration,
) -> Result<Run, Failure> {
    let output = File::create(log).context(log.display())?;
    let errors = output.try_clone().context(log.display())?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    // A group of its own: what the program has started in turn is killed with it.
    let mut child = spawn(command.process_group(0))?;
    let status = wait_or(&mut child, time_max, kill_group)?;
    let bytes = fs::read(log).context(log.display())?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if status.is_none() {
        text.push_str("\nkilled: it took too long\n");
    }
    let success = status.is_some_and(|status| status.success());
    Ok(Run { success, text, log: log.to_path_buf() })
}

/// Starts a program; one that is not there is missing, not broken.
pub(crate) fn spawn(command: &mut Command) -> Result<Child, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            Failure::missing(format!("{program} is not installed"))
        } else {
            Failure::broken(format!("cannot start {program}: {error}"))
        }
    })
}

/// Kills a program that leads a group, and all others in it.
fn kill_group(child: &mut Child) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(kill_process_group(pid.ok_or(io::ErrorKind::InvalidInput)?, Signal::KILL)?)
}

/// Waits for the end of `child`; kills it and returns `None` when it takes longer than `time_max`,
/// and an error when this run shall end.
pub(crate) fn wait(child: &mut Child, time_max: Duration) -> Result<Option<ExitStatus>, Failure> {
    wait_or(child, time_max, Child::kill)
}

fn wait_or(
    child: &mut Child,
    time_max: Duration,
    kill: fn(&mut Child) -> io::Result<()>,
) -> Result<Option<ExitStatus>, Failure> {
    let deadline = Instant::now() + time_max;
    loop {
        if let Some(status) = child.try_wait().context("wait for a program")? {
            return Ok(Some(status));
        }
        let stop = stop::check();
        if stop.is_err() || Instant::now() >= deadline {
            kill(child).context("kill a program that hangs")?;
            child.wait().context("wait for a killed program")?;
            return stop.map(|()| None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Calls `ready` until it gives a value, at most for `time_max`.
pub(crate) fn poll_until<T>(
    what: &str,
    time_max: Duration,
    ready: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    poll_every(POLL_INTERVAL, what, time_max, ready)
}

/// [`poll_until`], but twice a second only.
pub(crate) fn poll_slowly<T>(
    what: &str,
    time_max: Duration,
    ready: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    poll_every(SLOW_POLL_INTERVAL, what, time_max, ready)
}

fn poll_every<T>(
    interval: Duration,
    what: &str,
    time_max: Duration,
    mut ready: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + time_max;
    loop {
        stop::check()?;
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            let seconds = time_max.as_secs();
            return Err(Failure::broken(format!("{what}: not within {seconds} s")));
        }
        thread::sleep(interval);
    }
}

/// The path of a program that the shell would find.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Cargo as it was called, for the workspace.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.target());
    command.env("CARGO_TERM_COLOR", "never");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_missing() {
        let failure = spawn(&mut Command::new("no-such-program-at-all"));
        assert!(matches!(failure, Err(Failure::Missing(_))));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let mut child = spawn(Command::new("sleep").arg("600")).unwrap();
        let status = wait(&mut child, Duration::from_millis(1)).unwrap();
        assert!(status.is_none());
    }

    #[test]
    fn what_a_program_has_started_ends_with_it() {
        let directory = std::env::temp_dir().join(format!("xtask-group-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let log = directory.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).process_group(0);
        let mut child = spawn(command.stdout(File::create(&log).unwrap())).unwrap();
        let pid = poll_until("a child of the child", RUN_TIME_MAX, || {
            let text = fs::read_to_string(&log).context("log")?;
            Ok(text.strip_suffix('\n').map(str::to_owned))
        })
        .unwrap();
        let status = wait_or(&mut child, Duration::ZERO, kill_group).unwrap();
        assert!(status.is_none());
        let stat = Path::new("/proc").join(pid).join("stat");
        poll_until("the end of it", RUN_TIME_MAX, || match fs::read_to_string(&stat) {
            // Nobody may be there to take its end: a zombie has ended too.
            Ok(stat) => Ok(stat.contains(") Z ").then_some(())),
            Err(_) => Ok(Some(())),
        })
        .unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn both_outputs_and_the_failure_are_seen() {
        let directory = std::env::temp_dir().join(format!("xtask-command-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let log = directory.join("log");
        let script = "echo out; echo err >&2; exit 3";
        let mut command = Command::new("sh");
        let run = run_to_log(&log, command.args(["-c", script]), RUN_TIME_MAX).unwrap();
        assert!(!run.success);
        assert!(run.text.contains("out") && run.text.contains("err"));
        assert!(run.expect_success("the script").is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}

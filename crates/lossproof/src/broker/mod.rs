//! `lossproof broker`.

mod accept;
mod board;
mod check;
mod metrics;
mod settings;

use core::net::SocketAddr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use lossproof_broker::{BrokerConfig, Server, StartError};
use lossproof_env::{Environment, ForgetfulDisk, RealNet};
use lossproof_log::{FlushPolicy, RecoveryReport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Outcome;
use crate::exit::{self, Exit, Failure};
use crate::journal::{open_code, warn_of_damage};
use crate::output::tell;

/// Exit status after a second signal: nobody can say what was in work.
const CUT_OFF: i32 = 1;
/// Open files beside the connections: 256 segments are 16 GiB of journal.
const FILES_FOR_JOURNAL: usize = 256;

#[derive(Args, Debug)]
#[command(
    after_help = "Settings and their defaults: docs/config.md. A later one wins: the file, --set, \
    the other options.\n\nExamples:\n  \
    lossproof broker --data /var/lib/lossproof\n  \
    lossproof broker --config broker.toml --set num.partitions=1\n  \
    lossproof broker --listen 127.0.0.1:0 --data ./data --partitions 1\n  \
    lossproof broker --check /var/lib/lossproof --format json\n  \
    lossproof broker --data /var/lib/lossproof --accept-loss news:0:4-6"
)]
pub(crate) struct Arguments {
    /// File of settings under their Kafka names, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting under its Kafka name; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = settings::parse_setting)]
    set: Vec<(String, String)>,
    /// Address to listen on; port 0 takes a free one (listeners) [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// UNSAFE: listen on an address that others can reach. Whoever does can read, write and
    /// delete everything
    #[arg(long)]
    insecure_listen: bool,
    /// Take over a directory that was copied or restored, as a broker of its own; the original must
    /// not come back
    #[arg(long, conflicts_with = "check")]
    adopt: bool,
    /// Address of /metrics, /livez and /readyz; off without it
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    metrics_listen: Option<SocketAddr>,
    /// Form of the log lines on standard error
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Directory of the journal; made if it is missing (log.dirs)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What clients are told to connect to, where that is not the address listened on
    /// (advertised.listeners)
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_host_port)]
    advertise: Option<String>,
    /// When a message counts as stored; anything but commit loses acknowledged messages in a
    /// power cut (lossproof.flush) [default: commit]
    #[arg(long, value_enum)]
    flush: Option<Flush>,
    /// What the journal is kept on; forgets keeps what was not synced in memory only, so that
    /// SIGKILL acts as a power cut (for tests)
    #[arg(long, value_enum, default_value = "keeps")]
    disk: DiskKind,
    /// Partitions of a topic that does not say how many it wants (num.partitions) [default: 4]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Topics must be created before they are used (auto.create.topics.enable=false)
    #[arg(long)]
    no_auto_create: bool,
    /// Largest request; a larger one closes its connection (socket.request.max.bytes)
    #[arg(long, value_name = "BYTES")]
    max_request_bytes: Option<usize>,
    /// Memory for all requests in work together (queued.max.request.bytes)
    #[arg(long, value_name = "BYTES")]
    memory_budget_bytes: Option<usize>,
    /// Largest record batch (message.max.bytes)
    #[arg(long, value_name = "BYTES")]
    max_message_bytes: Option<usize>,
    /// Connections at a time (max.connections)
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<usize>,
    /// How long the first rebalance of a group waits for more members
    /// (group.initial.rebalance.delay.ms)
    #[arg(long, value_name = "MILLISECONDS")]
    group_initial_delay_ms: Option<u64>,
    /// Instead of serving, read all of a stopped directory and change nothing: is everything there
    /// that was acknowledged? Exit code 0 yes, but for what was given up by --accept-loss; 3
    /// something durable does not read back (what is lost is named, and where a second copy has
    /// it, that is said); 1 cannot tell
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "data", "listen"])]
    check: Option<PathBuf>,
    /// Instead of serving, give up acknowledged messages of a stopped directory that cannot be
    /// read: what --check calls lost. Readers go on behind them, and transactions that overlap
    /// them are aborted. TOPIC:PARTITION:FIRST-LAST, state:NAME, or end; may be given several times
    #[arg(long, value_name = "LOSS", value_parser = accept::parse, requires = "data",
        conflicts_with_all = ["check", "config", "listen", "format"])]
    accept_loss: Vec<accept::Wanted>,
    /// Form of what --check says
    #[arg(long, value_enum, default_value = "text", requires = "check")]
    format: check::Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flush {
    /// Acknowledge after the fdatasync that covers the message
    Commit,
    /// UNSAFE: acknowledge at once, sync within a second
    EverySecond,
    /// UNSAFE: acknowledge at once, leave syncing to the operating system
    PageCache,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Arguments {
    pub(crate) fn logs_json(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    /// What a start on trial has to say is said by the report.
    pub(crate) fn only_looks(&self) -> bool {
        self.check.is_some() || !self.accept_loss.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DiskKind {
    /// The file system as it is
    Keeps,
    /// UNSAFE: what was not synced dies with the process
    Forgets,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    if let Some(directory) = &arguments.check {
        return check::run(&Environment::real(), directory, arguments.format);
    }
    if let (Some(directory), [_, ..]) = (&arguments.data, &*arguments.accept_loss) {
        let wanted = &arguments.accept_loss;
        return accept::run(&Environment::real(), directory, wanted, arguments.adopt);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(exit::START_FAILED, error))?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> Outcome {
    // Before anything else, so that no signal finds the default action.
    let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(terminate), Ok(interrupt)) = handlers else {
        return Err(Failure::new(exit::START_FAILED, "signals cannot be received"));
    };
    let mut env = Environment::real();
    let config = settings::config(&arguments, &env)?;
    warn_of_unsafe_choices(&arguments, &config);
    allow_open_files(config.connections_max);
    if arguments.disk == DiskKind::Forgets {
        env.disk = Arc::new(ForgetfulDisk::new());
    }
    let board = board::Board::default();
    let metrics = match arguments.metrics_listen {
        Some(address) => Some(board.start(&env, address).await?),
        None => None,
    };
    let data = config.data.clone();
    let started = Server::start(&env, &RealNet, config).await;
    let server = started.map_err(|error| failure(&error, &data))?;
    board.show(server.monitor());
    let servers = server.bootstrap_servers();
    let metrics = metrics.map(|address| format!(" metrics=http://{address}/metrics"));
    let metrics = metrics.unwrap_or_default();
    tell_of_start(&data, server.recovery());
    warn_of_damage(&data, server.recovery(), |partition| server.name_of(partition));
    let accepted = server.monitor().figures().accepted;
    if accepted > 0 {
        tracing::warn!(accepted, "losses were given up here; `broker --check` names them");
    }
    let mut stdout = std::io::stdout().lock();
    // Whoever started the broker may not care for its output.
    let _ = writeln!(stdout, "ready bootstrap.servers={servers}{metrics}")
        .and_then(|()| stdout.flush());
    drop(stdout);
    let stopper = server.stopper();
    tokio::spawn(async move {
        let mut signals = (terminate, interrupt);
        either(&mut signals).await;
        stopper.drain();
        either(&mut signals).await;
        tell("stopped at once: what was in work is not answered");
        std::process::exit(CUT_OFF);
    });
    match server.run().await {
        Ok(()) => Ok(Exit::Proven),
        Err(error) => Err(Failure::new(exit::STOP_FAILED, error)),
    }
}

fn tell_of_start(data: &Path, recovery: &RecoveryReport) {
    let RecoveryReport { fresh, clean, last_frame, rewritten, .. } = *recovery;
    let data = data.display();
    if fresh {
        // Where a disk should have been mounted, nothing of what it holds is there.
        tracing::warn!(%data, "there was no log in this directory: a new one has been made");
    }
    tracing::info!(
        %data,
        clean,
        last_frame,
        rewritten,
        damaged = recovery.damage.len(),
        in_doubt = recovery.in_doubt.len(),
        "broker has started"
    );
}

async fn either((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn warn_of_unsafe_choices(arguments: &Arguments, config: &BrokerConfig) {
    if config.flush != FlushPolicy::Commit {
        tracing::warn!(
            "UNSAFE: with lossproof.flush={} a power cut loses acknowledged messages",
            lossproof_broker::flush_name(config.flush)
        );
    }
    if arguments.disk == DiskKind::Forgets {
        tracing::warn!("UNSAFE: with --disk forgets everything not synced dies with this process");
    }
    if !config.listen.ip().is_loopback() && config.insecure_listen {
        tracing::warn!(
            "UNSAFE: whoever reaches {} can read, write and delete everything: there is no TLS, \
            no SASL and no ACL yet",
            config.listen
        );
    }
}

/// Each connection and each segment of the journal is an open file: takes as many as the system
/// gives, and says so where these are few.
fn allow_open_files(connections: usize) {
    let limits = getrlimit(Resource::Nofile);
    let allowed = Rlimit { current: limits.maximum, maximum: limits.maximum };
    let raised = setrlimit(Resource::Nofile, allowed);
    let files = if raised.is_ok() { limits.maximum } else { limits.current };
    let wanted = (connections + FILES_FOR_JOURNAL) as u64;
    if files.is_some_and(|files| files < wanted) {
        tracing::warn!(
            "{} open files are allowed: too few for {connections} connections; raise \
            the limit (ulimit -n {wanted}), or lower max.connections",
            files.unwrap_or(0)
        );
    }
}

/// Names are not looked up: what they stand for may change.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "IP-ADDRESS:PORT wanted, as in 127.0.0.1:9092 or [::1]:9092".into())
}

/// As `advertised.listeners` has it.
fn parse_host_port(text: &str) -> Result<String, String> {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| {
        let port: u16 = port.parse().ok()?;
        (!host.is_empty() && port > 0).then(|| format!("PLAINTEXT://{text}"))
    });
    parsed.ok_or_else(|| "HOST:PORT wanted, as in broker.example.org:9092".to_owned())
}

/// Each way in which a start fails has a code of its own, with a page that says what to do.
fn failure(error: &StartError, data: &Path) -> Failure {
    let code = match error {
        StartError::PortTaken { .. } => exit::PORT_TAKEN,
        StartError::PortForbidden { .. } | StartError::Listen { .. } => exit::PORT_UNUSABLE,
        StartError::Config { .. } => exit::SETTINGS,
        StartError::Insecure { .. } => exit::LISTENER_OPEN,
        StartError::Topics(_) => exit::JOURNAL_DAMAGED,
        StartError::Log(error) => open_code(error),
        _ => exit::START_FAILED,
    };
    Failure::new(code, format_args!("broker on {}: {}", data.display(), chain(error)))
}

/// An error with its causes, but not twice where the error tells of them itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        assert_eq!(parse_host_port("a.b:9092").as_deref(), Ok("PLAINTEXT://a.b:9092"));
        assert_eq!(parse_host_port("[::1]:1").as_deref(), Ok("PLAINTEXT://[::1]:1"));
        for wrong in ["a", "a:", ":1", "a:0", "a:99999"] {
            assert!(parse_host_port(wrong).is_err(), "{wrong}");
        }
        assert!(parse_address("127.0.0.1:0").is_ok());
        assert!(parse_address("localhost:0").unwrap_err().contains("as in 127.0.0.1:9092"));
    }
}

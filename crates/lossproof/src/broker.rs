//! `lossproof broker`.

use core::net::SocketAddr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lossproof_broker::{BrokerConfig, Server, StartError};
use lossproof_env::{Environment, ForgetfulDisk, RealNet};
use lossproof_log::FlushPolicy;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Outcome;
use crate::exit::{self, Exit, Failure};
use crate::journal::{open_code, warn_of_damage};

/// Exit status after a second signal: nobody can say what was in work.
const CUT_OFF: i32 = 1;
/// Open files beside the connections: 256 segments are 16 GiB of journal.
const FILES_FOR_JOURNAL: usize = 256;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    lossproof broker --data /var/lib/lossproof\n  \
    lossproof broker --listen 127.0.0.1:0 --data ./data --partitions 1")]
pub(crate) struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// Directory of the journal; made if it is missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What clients are told to connect to, where that is not the address listened on
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_host_port)]
    advertise: Option<(String, u16)>,
    /// When a message counts as stored; anything but commit loses acknowledged messages in a
    /// power cut
    #[arg(long, value_enum, default_value = "commit")]
    flush: Flush,
    /// What the journal is kept on; forgets keeps what was not synced in memory only, so that
    /// SIGKILL acts as a power cut (for tests)
    #[arg(long, value_enum, default_value = "keeps")]
    disk: DiskKind,
    /// Partitions of a topic that does not say how many it wants
    #[arg(long, value_name = "COUNT", default_value_t = lossproof_broker::PARTITIONS_DEFAULT,
          value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Topics must be created before they are used
    #[arg(long)]
    no_auto_create: bool,
    /// Largest request; a larger one closes its connection
    #[arg(long, value_name = "BYTES", default_value_t = lossproof_broker::REQUEST_BYTES_MAX)]
    max_request_bytes: usize,
    /// Memory for all requests in work together
    #[arg(long, value_name = "BYTES", default_value_t = lossproof_broker::MEMORY_BUDGET_BYTES)]
    memory_budget_bytes: usize,
    /// Largest record batch
    #[arg(long, value_name = "BYTES", default_value_t = lossproof_broker::MESSAGE_BYTES_MAX)]
    max_message_bytes: usize,
    /// Connections at a time
    #[arg(long, value_name = "COUNT", default_value_t = lossproof_broker::CONNECTIONS_MAX)]
    max_connections: usize,
    /// How long the first rebalance of a group waits for more members
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100)]
    group_initial_delay_ms: u64,
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
enum DiskKind {
    /// The file system as it is
    Keeps,
    /// UNSAFE: what was not synced dies with the process
    Forgets,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
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
    warn_of_unsafe_choices(&arguments);
    allow_open_files(arguments.max_connections);
    let mut env = Environment::real();
    if arguments.disk == DiskKind::Forgets {
        env.disk = Arc::new(ForgetfulDisk::new());
    }
    let config = config(arguments);
    let data = config.data.clone();
    let started = Server::start(&env, &RealNet, config).await;
    let server = started.map_err(|error| failure(&error, &data))?;
    let servers = server.bootstrap_servers();
    tracing::info!(data = %data.display(), recovery = ?server.recovery(), "broker has started");
    warn_of_damage(&data, server.recovery(), |partition| server.name_of(partition));
    let mut stdout = std::io::stdout().lock();
    // Whoever started the broker may not care for its output.
    let _ = writeln!(stdout, "ready bootstrap.servers={servers}").and_then(|()| stdout.flush());
    drop(stdout);
    let stopper = server.stopper();
    tokio::spawn(async move {
        let mut signals = (terminate, interrupt);
        either(&mut signals).await;
        stopper.drain();
        either(&mut signals).await;
        eprintln!("stopped at once: what was in work is not answered");
        std::process::exit(CUT_OFF);
    });
    match server.run().await {
        Ok(()) => Ok(Exit::Proven),
        Err(error) => Err(Failure::new(exit::STOP_FAILED, error)),
    }
}

async fn either((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn config(arguments: Arguments) -> BrokerConfig {
    let mut config = BrokerConfig::new(arguments.listen, arguments.data);
    config.advertise = arguments.advertise;
    config.flush = match arguments.flush {
        Flush::Commit => FlushPolicy::Commit,
        Flush::EverySecond => FlushPolicy::UnsafeEverySecond,
        Flush::PageCache => FlushPolicy::UnsafePageCache,
    };
    config.partitions_default = arguments.partitions;
    config.auto_create_topics = !arguments.no_auto_create;
    config.request_bytes_max = arguments.max_request_bytes;
    config.memory_budget_bytes = arguments.memory_budget_bytes;
    config.message_bytes_max = arguments.max_message_bytes;
    config.connections_max = arguments.max_connections;
    config.groups.initial_rebalance_delay = Duration::from_millis(arguments.group_initial_delay_ms);
    config
}

fn warn_of_unsafe_choices(arguments: &Arguments) {
    if arguments.flush != Flush::Commit {
        tracing::warn!(
            "UNSAFE: with --flush {} a power cut loses acknowledged messages",
            if arguments.flush == Flush::EverySecond { "every-second" } else { "page-cache" }
        );
    }
    if arguments.disk == DiskKind::Forgets {
        tracing::warn!("UNSAFE: with --disk forgets everything not synced dies with this process");
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
            the limit (ulimit -n {wanted}), or lower --max-connections",
            files.unwrap_or(0)
        );
    }
}

fn parse_host_port(text: &str) -> Result<(String, u16), String> {
    let parsed = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    });
    parsed.ok_or_else(|| "HOST:PORT wanted, as in broker.example.org:9092".to_owned())
}

/// Each way in which a start fails has a code of its own, with a page that says what to do.
fn failure(error: &StartError, data: &Path) -> Failure {
    let code = match error {
        StartError::PortTaken { .. } => exit::PORT_TAKEN,
        StartError::PortForbidden { .. } | StartError::Listen { .. } => exit::PORT_UNUSABLE,
        StartError::Config { .. } => exit::SETTINGS,
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
        assert_eq!(parse_host_port("a.b:9092"), Ok(("a.b".to_owned(), 9092)));
        assert_eq!(parse_host_port("[::1]:1"), Ok(("::1".to_owned(), 1)));
        for wrong in ["a", "a:", ":1", "a:0", "a:99999"] {
            assert!(parse_host_port(wrong).is_err(), "{wrong}");
        }
    }
}

//! The `lossproof` binary: argument parsing, wiring, output. Logic lives in the other crates.

mod audit;
mod broker;
mod demo;
mod exit;
mod explain;
mod files;
mod http;
mod journal;
mod log;
mod output;
mod produce;
mod run;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lossproof_env::Environment;

use crate::exit::{Exit, Failure};

/// Once lossproof has said yes to a message, it reaches its sink or is reported by name.
#[derive(Debug, Parser)]
#[command(
    name = "lossproof",
    version,
    after_help = "Exit codes: 0 proven complete, 1 could not decide or failed, 2 wrong usage \
                  or settings, 3 loss found, 4 duplicates only.\nData goes to standard output, \
                  talk to standard error."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Is anything lost? The verdict from outside, at any time
    Audit(audit::Arguments),
    /// Serve the Kafka protocol from a journal on this disk
    Broker(broker::Arguments),
    /// See it all work: real text, processes killed, services failing, and the proof at the end
    Demo(demo::Arguments),
    /// The demo's analysis service, a stand-in
    #[command(hide = true)]
    DemoService(demo::ServiceArguments),
    /// What an error code means: what happened, was anything lost, what to do
    Explain(explain::Arguments),
    /// Look into the files of a data directory
    Log(log::Arguments),
    /// Accept lines durably and ship them until each is acknowledged
    Produce(produce::Arguments),
    /// Run a pipeline: topic, steps, sink
    Run(run::Arguments),
}

fn main() -> ExitCode {
    demo::end_with_parent();
    let command = Cli::parse().command;
    // In the demo brokers go away on purpose: what the client library says of that is no news.
    let default = match &command {
        Command::Demo(_) => "info,librdkafka=off",
        Command::Broker(arguments) if arguments.only_looks() => "off",
        _ => "info",
    };
    let is_json = matches!(&command, Command::Broker(arguments) if arguments.logs_json());
    start_talking(default, is_json);
    let outcome = match command {
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Broker(arguments) => broker::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments, Environment::real()),
        Command::DemoService(arguments) => demo::run_service(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let exit = failure.exit();
            output::tell(failure);
            exit.into()
        }
    }
}

/// Log lines go to standard error; `RUST_LOG` chooses which.
fn start_talking(default: &str, is_json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // Where standard error takes nothing any more, it would panic to tell of that.
    let lines = tracing_subscriber::fmt().log_internal_errors(false);
    let lines = lines.with_env_filter(filter).with_writer(std::io::stderr);
    if is_json {
        output::talk_json();
        return lines.json().init();
    }
    lines
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()) && no_color_is_unset())
        .init();
}

/// <https://no-color.org>: present and not empty means no colour.
fn no_color_is_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What every subcommand returns.
type Outcome = Result<Exit, Failure>;

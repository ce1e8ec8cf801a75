//! `lossproof run`: a pipeline from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossproof_audit::receipt::Role;
use lossproof_audit::report::Reporter;
use lossproof_client::librdkafka::{self, ClientSettings, ConsumerSettings, ProducerSettings};
use lossproof_env::Environment;
use lossproof_log::{Log, Purpose};
use lossproof_pipeline::config::Source;
use lossproof_pipeline::{Config, Parts, ProducerFactory, Reported, Stop as PipelineStop};

use crate::Outcome;
use crate::exit::{self, Exit, Failure};
use crate::files::read_text;
use crate::journal;
use crate::stop::Stop;

/// Of a dead letter with its headers. No record that was received is larger: the client takes
/// 100 MB in one answer.
const DEAD_LETTER_BYTES_MAX: u32 = 128 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Every key of the file is in docs/config.md.\n\nExamples:\n  \
    lossproof run pipeline.toml\n  lossproof run --check pipeline.toml")]
pub(crate) struct Arguments {
    /// The pipeline file
    file: PathBuf,
    /// Only say whether the file is right
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let environment = Environment::real();
    let config = read(&arguments.file, &environment)?;
    for switch in config.unsafe_switches() {
        crate::output::mutter!("UNSAFE: {switch} is on: this pipeline can lose records");
    }
    if arguments.check {
        crate::output::mutter!("{}: nothing is wrong with it", arguments.file.display());
        return Ok(Exit::Proven);
    }
    let pipeline_stop = PipelineStop::default();
    let hook = pipeline_stop.clone();
    Stop::on_signals(
        "stopping: what is in work is finished and committed",
        "stopped at once; what was not committed is read again by the next start",
        move || hook.request(),
    )?;
    let (log, parts) = parts(&config, environment)?;
    let ran = lossproof_pipeline::run(&config, parts, &pipeline_stop);
    let closed = log.close_blocking();
    let summary = ran.map_err(|error| Failure::new(exit::PIPELINE_START_FAILED, error))?;
    closed.map_err(|error| Failure::new(exit::STOP_FAILED, error))?;
    crate::output::mutter!("{summary}");
    if !summary.is_good() {
        return Err(Failure::new(exit::PIPELINE_STOPPED, "the pipeline stopped by itself"));
    }
    Ok(Exit::Proven)
}

/// A pipeline file, also for the audit of what it describes.
pub(crate) fn read(file: &Path, environment: &Environment) -> Result<Config, Failure> {
    let shown = file.display();
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(exit::PIPELINE_FILE, format_args!("{shown}: {error}"))
    };
    let text = read_text(&*environment.disk, file).map_err(|error| wrong(&error))?;
    Config::parse(&text).map_err(|error| wrong(&error))
}

/// The journal of receipts, and everything that the pipeline needs.
fn parts(config: &Config, environment: Environment) -> Result<(Log, Parts), Failure> {
    let log = journal::open(&environment, &config.journal_directory, Purpose::Pipeline)?;
    let group = config.source.group.clone();
    let role = if config.source.unsafe_commit_before_processing {
        Role::UnsafePipeline { group }
    } else {
        Role::Pipeline { group }
    };
    let reporter = Reporter::open(log.clone(), &environment, role, Vec::new())
        .map_err(|error| Failure::new(exit::JOURNAL_DAMAGED, error))?
        .with_dead_letters(config.dead_letters.as_ref().map(|letters| letters.topic.clone()));
    let clock = Arc::clone(&environment.clock);
    let receipts =
        Reported::start(Arc::new(reporter), producers(receipt_settings(&config.source)), clock)
            .map_err(|error| Failure::new(exit::START_FAILED, error))?;
    let consumer = librdkafka::consumer(&consumer_settings(&config.source))
        .map_err(|error| Failure::new(exit::SETTINGS, error))?;
    let producers = producers(dead_letter_settings(&config.source));
    let parts = Parts { environment, consumer, producers, receipts: Box::new(receipts) };
    Ok((log, parts))
}

fn consumer_settings(source: &Source) -> ConsumerSettings {
    let mut client = ClientSettings::new(&source.bootstrap_servers);
    client.extra = source.client.clone().into_iter().collect();
    let topics = vec![source.topic.clone()];
    let mut settings = ConsumerSettings::new(client, &source.group, topics);
    settings.instance_id.clone_from(&source.static_member);
    settings.session_timeout = source.session_timeout;
    settings
}

/// The file's client settings are the consumer's alone.
fn receipt_settings(source: &Source) -> ProducerSettings {
    ProducerSettings::new(ClientSettings::new(&source.bootstrap_servers))
}

fn dead_letter_settings(source: &Source) -> ProducerSettings {
    ProducerSettings { record_bytes_max: DEAD_LETTER_BYTES_MAX, ..receipt_settings(source) }
}

fn producers(settings: ProducerSettings) -> ProducerFactory {
    Box::new(move || librdkafka::producer(&settings).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use lossproof_client::Record;

    use super::*;

    /// The size of the largest record that `lossproof broker` takes, and one just above the
    /// client's default. The client refuses what is too large at once, without a cluster.
    #[test]
    fn any_record_that_was_received_can_become_a_dead_letter() {
        let text = "[source]\nbootstrap_servers = \"127.0.0.1:1\"\ntopic = \"news\"\n\
                    group = \"index\"\n[journal]\ndirectory = \"none\"\n\
                    [sink]\nkind = \"jsonl\"\npath = \"out\"\n";
        let source = Config::parse(text).unwrap().source;
        let mut producer = producers(dead_letter_settings(&source))().unwrap();
        for bytes in [1_040_000, 16 << 20] {
            let value = Some(vec![b'x'; bytes].into());
            let headers = vec![("lossproof.reason".to_owned(), Some(vec![b'x'; 1024].into()))];
            let topic = "news-dead".to_owned();
            let sent = producer.send(Record { topic, value, headers, ..Record::default() }, 0);
            assert!(sent.is_ok(), "{bytes}: {:?}", sent.map_err(|error| error.cause));
        }
        producer.close(std::time::Duration::ZERO);
    }
}

//! `lossproof produce`.

mod format;
mod shipping;
mod source;
mod without_journal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lossproof_audit::identity::RecordId;
use lossproof_client::check_topic_name;
use lossproof_client::librdkafka::{self, ClientSettings, ProducerSettings, SettingsError};
use lossproof_env::Environment;
use lossproof_log::Purpose;
use lossproof_relay::{AcceptCause, OpenError, Progress, Spool};

use crate::Outcome;
use crate::exit::{self, Exit, Failure};
use crate::journal;
use crate::stop::Stop;
use format::Reader;
use shipping::Shipping;
use source::{Batch, Source};

/// The longest wait for one answer while the number of partitions is asked for.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries to accept into a full journal.
const FULL_WAIT: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(
    after_help = "Each accepted line is acknowledged as `ACCEPTED LINE IDENTITY` on standard \
    output (for a file only with --print-ids), a refused one as `REFUSED LINE REASON` on standard \
    error.\nRecords without a key go round robin by batch; those with one go where the Java client \
    would send them. A line has 995904 bytes at most.\n\nExamples:\n  \
    lossproof produce -b 127.0.0.1:9092 --topic news --journal /var/lib/news tweets.jsonl\n  \
    tail -f log | lossproof produce -b 127.0.0.1:9092 --topic log --journal /var/lib/log"
)]
pub(crate) struct Arguments {
    /// HOST:PORT of the cluster, several separated by commas
    #[arg(long, short = 'b')]
    bootstrap_server: String,
    #[arg(long, value_parser = parse_topic)]
    topic: String,
    /// Directory of the journal; made if it is missing. One process at a time
    #[arg(long, value_name = "DIR", required_unless_present = "unsafe_no_journal")]
    journal: Option<PathBuf>,
    /// UNSAFE: no journal, send and forget. Loses records in every crash and outage
    #[arg(long, conflicts_with = "journal")]
    unsafe_no_journal: bool,
    /// What a line is; with json each must be a JSON object
    #[arg(long, value_enum, default_value = "lines")]
    format: Format,
    /// Field of the JSON object whose value is the record's key; each line must have it
    #[arg(long, value_name = "FIELD")]
    key_field: Option<String>,
    /// What becomes of a line that is not what --format says
    #[arg(long, value_enum, default_value = "refuse")]
    on_bad_line: OnBadLine,
    /// Acknowledge the lines of a file too
    #[arg(long)]
    print_ids: bool,
    /// Accept no more than this many lines a second
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Further librdkafka setting; those that guard against loss cannot be changed
    #[arg(long = "client-setting", value_name = "NAME=VALUE", value_parser = parse_setting)]
    client_settings: Vec<(String, String)>,
    /// Input; without it standard input. What was accepted from a file is not accepted again. The
    /// file is known by its inode: one that an editor or `sed -i` has put in its place is another
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line is a record, whatever its bytes are
    Lines,
    /// A line is a JSON object
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnBadLine {
    /// Name it on standard error and go on; the exit code says that there was one
    Refuse,
    /// Accept it as it is, without a key
    Accept,
}

fn parse_topic(text: &str) -> Result<String, &'static str> {
    check_topic_name(text).map(|()| text.to_owned())
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.trim().is_empty());
    let (name, value) = split.ok_or("NAME=VALUE wanted, as in compression.type=lz4")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

impl Arguments {
    fn producer_settings(&self) -> ProducerSettings {
        let mut client = ClientSettings::new(&self.bootstrap_server);
        client.extra.clone_from(&self.client_settings);
        ProducerSettings::new(client)
    }
}

fn settings_failure(error: &SettingsError) -> Failure {
    Failure::new(exit::SETTINGS, error)
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let stop = Stop::on_signals(
        "stopping: no more lines are accepted",
        "stopped at once; the next start recovers from the journal",
        || {},
    )?;
    if arguments.unsafe_no_journal {
        return without_journal::run(arguments, &stop);
    }
    let Some(directory) = &arguments.journal else {
        return Err(Failure::new(exit::SETTINGS, "--journal is missing"));
    };
    let environment = Environment::real();
    if let Some(file) = &arguments.file {
        // Told before a cluster is waited for.
        source::look_at(&environment, file)?;
    }
    let spool = Arc::new(open_spool(&environment, directory)?);
    let shipping = Shipping::start(&environment, &spool, arguments)?;
    let accepted = accept_all(&environment, &spool, arguments, &stop, &shipping);
    // Whatever became of the input: what was accepted is shipped, or waits in the journal.
    let may_wait = accepted.as_ref().is_ok_and(|summary| summary.is_complete);
    let shipped = shipping.finish(&stop, may_wait);
    if let Err(error) = spool.log().close_blocking() {
        return Err(Failure::new(exit::STOP_FAILED, error));
    }
    conclude(accepted?, shipped?)
}

fn open_spool(environment: &Environment, directory: &Path) -> Result<Spool, Failure> {
    let shown = directory.display();
    let log = journal::open(environment, directory, Purpose::Producer)?;
    Spool::open(environment, log).map_err(|error| {
        let code = match error {
            OpenError::UnknownState { .. } => exit::FORMAT_UNKNOWN,
            _ => exit::JOURNAL_DAMAGED,
        };
        Failure::new(code, format_args!("journal {shown}: {error}"))
    })
}

/// What became of the input.
#[derive(Debug, Default)]
struct Summary {
    accepted: u64,
    refused: u64,
    /// The input was read to its end.
    is_complete: bool,
    /// There is an end that a later start could reach.
    is_file: bool,
}

fn accept_all(
    environment: &Environment,
    spool: &Spool,
    arguments: &Arguments,
    stop: &Stop,
    shipping: &Shipping,
) -> Result<Summary, Failure> {
    let mut summary = Summary { is_file: arguments.file.is_some(), ..Summary::default() };
    if !know_partitions(spool, arguments, stop)? {
        return Ok(summary);
    }
    shipping.announce(stop);
    let reader = Reader::new(arguments);
    let known = |input: &_| spool.position(input);
    let mut source = Source::open(environment, arguments, known)?;
    summary.refused = source.refused();
    let mut acknowledged = Acknowledge::new(arguments);
    while !summary.is_complete && !stop.is_set() {
        shipping.check()?;
        let batch = source.next_batch(stop)?;
        let lines = reader.read(&batch);
        summary.refused += lines.refused;
        let Some(ids) = accept(environment, spool, arguments, &mut source, &lines, stop)? else {
            break;
        };
        summary.accepted += ids.len() as u64;
        acknowledged.write(&lines.numbers, &ids)?;
        summary.is_complete = batch.is_last;
        source.pace(environment, &batch);
    }
    tracing::info!(accepted = summary.accepted, refused = summary.refused, "input");
    Ok(summary)
}

/// Asks the cluster for the number of partitions where the journal does not know it yet. False
/// when told to stop.
fn know_partitions(spool: &Spool, arguments: &Arguments, stop: &Stop) -> Result<bool, Failure> {
    if spool.partition_count(&arguments.topic).is_some() {
        return Ok(true);
    }
    match ask_partitions(arguments, stop)? {
        None => Ok(false),
        Some(count) => {
            let journaled = spool.set_partition_count(&arguments.topic, count);
            journaled.map_err(|error| Failure::new(exit::JOURNAL_FAILED, error))?;
            Ok(true)
        }
    }
}

/// Waits for a cluster that answers; says so.
fn ask_partitions(arguments: &Arguments, stop: &Stop) -> Result<Option<i32>, Failure> {
    let made = librdkafka::producer(&arguments.producer_settings());
    let mut producer = made.map_err(|error| settings_failure(&error))?;
    let mut told = false;
    let mut answer = None;
    while answer.is_none() && !stop.is_set() {
        match producer.partition_count(&arguments.topic, ASK_TIMEOUT) {
            Ok(count) => answer = Some(count),
            Err(error) => {
                if !told {
                    let (topic, server) = (&arguments.topic, &arguments.bootstrap_server);
                    crate::output::mutter!(
                        "waiting for {server} to say how many partitions topic {topic} has; \
                         nothing is accepted yet ({error})"
                    );
                    told = true;
                }
                // An answer that comes at once is not asked for again at once.
                producer.poll(FULL_WAIT);
            }
        }
    }
    producer.close(Duration::ZERO);
    Ok(answer)
}

/// Accepts one batch; waits while the journal is full. `None` when told to stop before.
fn accept(
    environment: &Environment,
    spool: &Spool,
    arguments: &Arguments,
    source: &mut Source,
    lines: &format::Lines,
    stop: &Stop,
) -> Result<Option<Vec<RecordId>>, Failure> {
    let position = source.advance(lines)?;
    let position = position.as_ref().map(|(input, position)| (input, position));
    if lines.records.is_empty() && (position.is_none() || lines.refused == 0) {
        return Ok(Some(Vec::new()));
    }
    let mut told = false;
    loop {
        match spool.accept(&arguments.topic, &lines.records, position) {
            Ok(ids) => return Ok(Some(ids)),
            Err(error) if matches!(error.cause, AcceptCause::Full(_)) => {
                if !told {
                    crate::output::mutter!("{error}; waiting");
                    told = true;
                }
                if stop.is_set() {
                    return Ok(None);
                }
                environment.clock.sleep_blocking(FULL_WAIT);
            }
            Err(error) => return Err(Failure::new(exit::JOURNAL_FAILED, error)),
        }
    }
}

/// Writes the acknowledgements, where they are asked for.
struct Acknowledge {
    is_on: bool,
}

impl Acknowledge {
    fn new(arguments: &Arguments) -> Self {
        Self { is_on: arguments.print_ids || arguments.file.is_none() }
    }

    fn write(&mut self, numbers: &[u64], ids: &[RecordId]) -> Result<(), Failure> {
        if !self.is_on || ids.is_empty() {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        let mut all = || {
            for (number, id) in numbers.iter().zip(ids) {
                writeln!(stdout, "ACCEPTED {number} {id}")?;
            }
            stdout.flush()
        };
        all().map_err(|error| Failure::new(exit::ACKNOWLEDGEMENT_FAILED, error))
    }
}

fn conclude(summary: Summary, shipped: Progress) -> Outcome {
    let Progress { waiting, parked, damaged, .. } = shipped;
    if damaged > 0 {
        let message = format_args!("{damaged} accepted records cannot be read any more");
        crate::output::mutter!("{}", Failure::new(exit::RECORDS_DAMAGED, message));
        return Ok(Exit::Loss);
    }
    if waiting > 0 || (summary.is_file && !summary.is_complete) {
        let message = format_args!(
            "stopped: {waiting} accepted records wait in the journal{}",
            if summary.is_complete { "" } else { ", and the input was not read to its end" }
        );
        return Err(Failure::new(exit::STILL_WAITING, message));
    }
    if parked > 0 {
        let message = format_args!(
            "the cluster has refused {parked} records of this journal for good; it keeps them"
        );
        return Err(Failure::new(exit::RECORDS_REJECTED, message));
    }
    if summary.refused > 0 {
        let message = format_args!("{} lines were refused", summary.refused);
        return Err(Failure::new(exit::LINES_REFUSED, message));
    }
    crate::output::mutter!(
        "{} records accepted now; all acknowledged by the cluster",
        summary.accepted
    );
    Ok(Exit::Proven)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_names_the_worst_that_is_left() {
        let ended = || Summary { is_complete: true, is_file: true, ..Summary::default() };
        let code = |summary, progress| conclude(summary, progress).map_err(|f| f.code.name);
        let none = Progress::default();
        assert_eq!(code(ended(), none), Ok(Exit::Proven));
        assert_eq!(code(ended(), Progress { waiting: 1, ..none }), Err("LP2003"));
        assert_eq!(code(Summary { is_complete: false, ..ended() }, none), Err("LP2003"));
        assert_eq!(code(Summary { refused: 2, ..ended() }, none), Err("LP2004"));
        assert_eq!(code(ended(), Progress { parked: 1, ..none }), Err("LP2005"));
        assert_eq!(code(ended(), Progress { damaged: 1, ..none }), Ok(Exit::Loss));
        // Standard input has no end that a later start could reach.
        assert_eq!(code(Summary::default(), none), Ok(Exit::Proven));
    }

    #[test]
    fn settings_are_names_with_values() {
        let parsed = Ok(("linger.ms".to_owned(), "5=5".to_owned()));
        assert_eq!(parse_setting("linger.ms=5=5"), parsed);
        assert!(parse_setting("linger.ms").is_err() && parse_setting("=5").is_err());
    }
}

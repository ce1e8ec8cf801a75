//! `lossproof log dump`: what stands in the files of a data directory.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use lossproof_env::Environment;
use lossproof_log::{DumpOptions, Field, Line, PartitionId, dump};
use serde_json::{Map, Value};

use crate::Outcome;
use crate::exit::{Exit, Failure};
use crate::journal::open_code;
use crate::output::say;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what stands in the files: frames, entries, batches, marks; damaged ones as such
    #[command(after_help = "Nothing is written and no lock is taken. Of a broker that runs, the \
        end is whatever was written when it was read.\ndocs/format/journal.md draws the files.\n\n\
        Examples:\n  \
        lossproof log dump /var/lib/lossproof --limit 100\n  \
        lossproof log dump /var/lib/lossproof/journal/0000000000000001.wal --from-frame 4711\n  \
        lossproof log dump /var/lib/lossproof --partition 3 --records --format json")]
    Dump(DumpArguments),
}

#[derive(Debug, Args)]
struct DumpArguments {
    /// A data directory, or one file of it
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Only what belongs to the partition with this id (`broker --check --format json` and the
    /// warnings of a start have ids)
    #[arg(long, value_name = "ID")]
    partition: Option<u64>,
    /// Only frames with this number or a higher one
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    from_frame: u64,
    /// Show so many lines at most
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// The records of each batch as well
    #[arg(long)]
    records: bool,
    /// Form of a line
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Words, for people
    Text,
    /// A JSON object a line
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Action::Dump(arguments) = &arguments.action;
    let options = DumpOptions {
        partition: arguments.partition.map(PartitionId),
        from_frame: arguments.from_frame,
        records: arguments.records,
    };
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut show = |line: &Line| {
        if left == 0 {
            eprintln!("there is more: --limit was reached");
            return ControlFlow::Break(());
        }
        left -= 1;
        match arguments.format {
            Format::Text => say!("{line}"),
            Format::Json => say!("{}", to_json(line)),
        }
        ControlFlow::Continue(())
    };
    dump(&Environment::real(), &arguments.path, &options, &mut show).map_err(|error| {
        Failure::new(open_code(&error), format_args!("{}: {error}", arguments.path.display()))
    })?;
    Ok(Exit::Proven)
}

fn to_json(line: &Line) -> Value {
    let mut object = Map::new();
    object.insert("line".to_owned(), line.what.into());
    for (name, field) in &line.fields {
        let value = match field {
            Field::Count(count) => (*count).into(),
            Field::Number(number) => (*number).into(),
            Field::Flag(flag) => (*flag).into(),
            Field::Text(text) => text.clone().into(),
            id => id.to_string().into(),
        };
        object.insert((*name).to_owned(), value);
    }
    Value::Object(object)
}

//! `lossproof log dump`: what stands in the files of a data directory.

use std::ops::ControlFlow;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use lossproof_env::Environment;
use lossproof_log::{DumpOptions, Field, Line, PartitionId, dump};
use lossproof_wire::batch::RecordHeader;
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
        end is whatever was written when it was read.\nText cuts keys and values at 1000 bytes and \
        counts headers; json has all of them, with _base64\nbehind the name of what is not UTF-8. \
        Copies under quarantine are shown when they are named.\n\
        docs/format/journal.md draws the files.\n\n\
        Examples:\n  \
        lossproof log dump /var/lib/lossproof --limit 100\n  \
        lossproof log dump /var/lib/lossproof/journal/0000000000000001.wal --from-frame 4711\n  \
        lossproof log dump /var/lib/lossproof --partition 3 --records --format json\n  \
        lossproof log dump /var/lib/lossproof/quarantine/NAME.piece --records --format json")]
    Dump(DumpArguments),
}

#[derive(Debug, Args)]
struct DumpArguments {
    /// A data directory, or one file of it, or of its quarantine
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Only what belongs to the partition with this id (`broker --check --format json`
    /// lists the ids by topic and partition)
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
            crate::output::mutter!("there is more: --limit was reached");
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
            Field::Bytes(bytes) => {
                insert_bytes(&mut object, name, bytes);
                continue;
            }
            Field::Headers(headers) => headers.iter().map(header_json).collect(),
            id => id.to_string().into(),
        };
        object.insert((*name).to_owned(), value);
    }
    Value::Object(object)
}

fn header_json(header: &RecordHeader) -> Value {
    let mut object = Map::new();
    insert_bytes(&mut object, "name", &header.key);
    match &header.value {
        Some(value) => insert_bytes(&mut object, "value", value),
        None => drop(object.insert("value".to_owned(), Value::Null)),
    }
    Value::Object(object)
}

/// All of them, so that they can be had back: as text where that says it.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_has_bytes_whole_and_as_they_are() {
        let header = |name: &'static [u8], value: Option<&'static [u8]>| RecordHeader {
            key: Bytes::from_static(name),
            value: value.map(Bytes::from_static),
        };
        let headers = vec![
            header(b"text", Some(b"a b")),
            header(b"none", None),
            header(b"\xff", Some(b"\xfe")),
        ];
        let long = "ä \"=\n".repeat(1_000);
        let fields = vec![
            ("offset", Field::Number(7)),
            ("key", Field::Bytes(long.clone().into())),
            ("value", Field::Bytes(vec![0xff; 2_000].into())),
            ("headers", Field::Headers(headers)),
        ];
        let expected = json!({
            "line": "record",
            "offset": 7,
            "key": long,
            "value_base64": STANDARD.encode([0xff; 2_000]),
            "headers": [
                { "name": "text", "value": "a b" },
                { "name": "none", "value": null },
                { "name_base64": "/w==", "value_base64": "/g==" },
            ],
        });
        assert_eq!(to_json(&Line { what: "record", fields }), expected);
    }
}

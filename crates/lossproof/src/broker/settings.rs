//! Where the broker's settings come from: the file, then `--set`, then options; a later one wins.

use core::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use lossproof_broker::BrokerConfig;
use lossproof_env::Environment;

use super::{Arguments, Flush};
use crate::exit::{self, Failure};
use crate::files::read_text;

const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);

/// A setting under its Kafka name.
type Setting = (String, String);

/// All settings of a start, in their typed form.
pub(super) fn config(arguments: &Arguments, env: &Environment) -> Result<BrokerConfig, Failure> {
    let mut config = BrokerConfig::new(LISTEN_DEFAULT, "");
    if let Some(file) = &arguments.config {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::new(exit::SETTINGS, format_args!("{}: {error}", file.display()))
        };
        let settings = read_file(file, env).map_err(|error| wrong(&error))?;
        for (name, value) in settings {
            config.set(&name, &value).map_err(|error| wrong(&error))?;
        }
    }
    for (name, value) in arguments.set.iter().chain(&options(arguments)) {
        config.set(name, value).map_err(|error| Failure::new(exit::SETTINGS, error))?;
    }
    config.insecure_listen = arguments.insecure_listen;
    config.log.adopt = arguments.adopt;
    let outside = arguments.metrics_listen.filter(|address| !address.ip().is_loopback());
    if let Some(address) = outside.filter(|_| !arguments.insecure_listen) {
        let message =
            format!("--metrics-listen {address}: names and figures would be open to others");
        return Err(Failure::new(exit::LISTENER_OPEN, message));
    }
    if config.data.as_os_str().is_empty() {
        let message = "no directory for the journal: --data DIR (or log.dirs) is needed";
        return Err(Failure::new(exit::SETTINGS, message));
    }
    Ok(config)
}

/// The options, under the names of the settings that they stand for.
fn options(arguments: &Arguments) -> Vec<Setting> {
    let number = |value: Option<usize>| value.map(|value| value.to_string());
    let flush = arguments.flush.map(|flush| match flush {
        Flush::Commit => "commit",
        Flush::EverySecond => "every-second",
        Flush::PageCache => "page-cache",
    });
    let options = [
        ("listeners", arguments.listen.map(|address| format!("PLAINTEXT://{address}"))),
        ("log.dirs", arguments.data.as_ref().map(|path| path.display().to_string())),
        ("advertised.listeners", arguments.advertise.clone()),
        ("lossproof.flush", flush.map(str::to_owned)),
        ("num.partitions", arguments.partitions.map(|count| count.to_string())),
        ("auto.create.topics.enable", arguments.no_auto_create.then(|| "false".to_owned())),
        ("socket.request.max.bytes", number(arguments.max_request_bytes)),
        ("queued.max.request.bytes", number(arguments.memory_budget_bytes)),
        ("message.max.bytes", number(arguments.max_message_bytes)),
        ("max.connections", number(arguments.max_connections)),
        (
            "group.initial.rebalance.delay.ms",
            arguments.group_initial_delay_ms.map(|delay| delay.to_string()),
        ),
    ];
    let given = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
    options.into_iter().filter_map(given).collect()
}

fn read_file(path: &Path, env: &Environment) -> Result<Vec<Setting>, String> {
    let text = read_text(&*env.disk, path).map_err(|error| error.to_string())?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| error.to_string())?;
    let mut settings = Vec::new();
    flatten("", table, &mut settings)?;
    Ok(settings)
}

/// `num.partitions = 4`, `"num.partitions" = 4` and `partitions = 4` under `[num]` are the same.
fn flatten(prefix: &str, table: toml::Table, settings: &mut Vec<Setting>) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        if let toml::Value::Table(inner) = value {
            flatten(&name, inner, settings)?;
            continue;
        }
        if settings.iter().any(|(known, _)| *known == name) {
            return Err(format!("{name} is given twice"));
        }
        let value = text(&value)
            .ok_or_else(|| format!("{name} must be a text, a number, true, false or a list"))?;
        settings.push((name, value));
    }
    Ok(())
}

/// A value as Kafka writes it; a list has commas.
fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(is_true) => Some(is_true.to_string()),
        toml::Value::Array(values) => {
            let parts: Option<Vec<String>> = values.iter().map(text).collect();
            Some(parts?.join(","))
        }
        toml::Value::Table(_) | toml::Value::Datetime(_) => None,
    }
}

/// `KEY=VALUE` of `--set`.
pub(super) fn parse_setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("KEY=VALUE wanted, as in num.partitions=4".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_quoted_keys_are_the_same() {
        let flat = |text: &str| {
            let mut settings = Vec::new();
            flatten("", toml::from_str(text).expect("it is TOML"), &mut settings)?;
            Ok::<_, String>(settings)
        };
        let expected = vec![("num.partitions".to_owned(), "3".to_owned())];
        for text in ["num.partitions = 3", "\"num.partitions\" = 3", "[num]\npartitions = \"3\""] {
            assert_eq!(flat(text), Ok(expected.clone()), "{text}");
        }
        let list = flat("log.cleanup.policy = [\"delete\", \"compact\"]").expect("a list");
        assert_eq!(list[0].1, "delete,compact");
        flat("log.retention.ms = 2026-01-01").expect_err("a date is no value");
        flat("num.partitions = 1\n\"num.partitions\" = 2").expect_err("which one?");
    }

    #[test]
    fn a_setting_has_a_name_and_a_value() {
        let parsed = parse_setting("a.b = c=d");
        assert_eq!(parsed, Ok(("a.b".to_owned(), "c=d".to_owned())));
        for wrong in ["a.b", "=1", ""] {
            parse_setting(wrong).expect_err("no setting");
        }
    }
}

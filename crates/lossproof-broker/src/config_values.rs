//! The broker's settings under Kafka's names: how they are given, and what is told of them.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use lossproof_log::ClusterId;

use crate::config::BrokerConfig;
use crate::settings::{BrokerSetting, FLUSH, SettingError, broker_setting, broker_settings};
use crate::topic_config::{TopicConfig, flush_name, parse_flush};

const PROTOCOL: &str = "PLAINTEXT://";

/// Coarser settings of a length of time, the finest first, with the milliseconds of their unit.
const INSTEAD_OF: [(&str, &str, i64); 3] = [
    ("log.retention.ms", "log.retention.minutes", 60_000),
    ("log.retention.ms", "log.retention.hours", 3_600_000),
    ("log.roll.ms", "log.roll.hours", 3_600_000),
];

impl BrokerConfig {
    /// Takes a setting under its Kafka name; a later one wins over an earlier one.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let known = broker_setting(name)?;
        known.setting.check(value)?;
        self.assign(known, value)?;
        self.given.insert(known.name, value.to_owned());
        Ok(())
    }

    fn assign(&mut self, known: BrokerSetting, value: &str) -> Result<(), SettingError> {
        let refusal = |expected: &str| known.setting.refusal(value, expected);
        // The check has let through nothing else.
        let number = || value.parse::<i64>().unwrap_or(i64::MAX);
        let size = || number() as usize;
        let milliseconds = || Duration::from_millis(number().unsigned_abs());
        match known.name {
            "advertised.listeners" => {
                let parsed =
                    host_and_port(value).filter(|(host, port)| !host.is_empty() && *port > 0);
                let parsed = parsed.ok_or_else(|| refusal("PLAINTEXT://HOST:PORT"))?;
                self.advertise = Some(parsed);
            }
            "listeners" => {
                let parsed = host_and_port(value).and_then(|(host, port)| address(&host, port));
                self.listen = parsed.ok_or_else(|| refusal("one PLAINTEXT://ADDRESS:PORT"))?;
            }
            "broker.id" | "node.id" => self.node_id = number() as i32,
            "cluster.id" => {
                let parsed = ClusterId::parse(value);
                let parsed = parsed.ok_or_else(|| refusal("22 characters of URL-safe base64"))?;
                self.log.cluster_id = Some(parsed);
            }
            "log.dirs" if value.is_empty() || value.contains(',') => {
                return Err(refusal("one directory"));
            }
            "log.dirs" => self.data = value.into(),
            "auto.create.topics.enable" => self.auto_create_topics = value == "true",
            "connections.max.idle.ms" => self.idle_connection = milliseconds(),
            "fetch.max.bytes" => self.fetch_bytes_max = size(),
            "group.initial.rebalance.delay.ms" => {
                self.groups.initial_rebalance_delay = milliseconds();
            }
            "group.max.session.timeout.ms" => self.groups.session_timeout_max = milliseconds(),
            "group.max.size" => self.groups.members_max = size(),
            "group.min.session.timeout.ms" => self.groups.session_timeout_min = milliseconds(),
            "log.retention.check.interval.ms" => self.retention_check = milliseconds(),
            "transaction.max.timeout.ms" => self.transactions.timeout_max = milliseconds(),
            "transactional.id.expiration.ms" => self.transactions.id_expiry = milliseconds(),
            FLUSH => self.flush = parse_flush(value).unwrap_or_default(),
            "lossproof.partitions.max" => self.partitions_max = size(),
            "max.connections" => self.connections_max = size(),
            "max.connections.per.ip" => self.connections_per_address_max = size(),
            "message.max.bytes" => self.message_bytes_max = size(),
            "num.partitions" => self.partitions_default = number() as i32,
            "offsets.retention.minutes" => {
                self.offsets_retention = u64::try_from(number()).ok().map(Duration::from_mins);
            }
            "producer.id.expiration.ms" => self.log.producer_expiry = milliseconds(),
            "queued.max.request.bytes" => self.memory_budget_bytes = size(),
            "socket.request.max.bytes" => self.request_bytes_max = size(),
            // What has no field is looked up where it is needed.
            _ => {}
        }
        Ok(())
    }

    /// What holds of a setting; `None` where it has no value.
    pub(crate) fn value(&self, known: BrokerSetting) -> Option<String> {
        let milliseconds = |duration: Duration| Some(duration.as_millis().to_string());
        match known.name {
            "advertised.listeners" => {
                self.advertise.as_ref().map(|(host, port)| format!("{PROTOCOL}{host}:{port}"))
            }
            "listeners" => Some(format!("{PROTOCOL}{}", self.listen)),
            "broker.id" | "node.id" => Some(self.node_id.to_string()),
            "cluster.id" => self.log.cluster_id.map(|id| id.to_string()),
            "log.dirs" => Some(self.data.display().to_string()),
            "auto.create.topics.enable" => Some(self.auto_create_topics.to_string()),
            "connections.max.idle.ms" => milliseconds(self.idle_connection),
            "fetch.max.bytes" => Some(self.fetch_bytes_max.to_string()),
            "group.initial.rebalance.delay.ms" => milliseconds(self.groups.initial_rebalance_delay),
            "group.max.session.timeout.ms" => milliseconds(self.groups.session_timeout_max),
            "group.max.size" => Some(self.groups.members_max.to_string()),
            "group.min.session.timeout.ms" => milliseconds(self.groups.session_timeout_min),
            "log.retention.check.interval.ms" => milliseconds(self.retention_check),
            "transaction.max.timeout.ms" => milliseconds(self.transactions.timeout_max),
            "transactional.id.expiration.ms" => milliseconds(self.transactions.id_expiry),
            FLUSH => Some(flush_name(self.flush).to_owned()),
            "lossproof.partitions.max" => Some(self.partitions_max.to_string()),
            "max.connections" => Some(self.connections_max.to_string()),
            "max.connections.per.ip" => Some(self.connections_per_address_max.to_string()),
            "message.max.bytes" => Some(self.message_bytes_max.to_string()),
            "num.partitions" => Some(self.partitions_default.to_string()),
            "offsets.retention.minutes" => Some(
                self.offsets_retention
                    .map_or_else(|| "-1".to_owned(), |kept| (kept.as_secs() / 60).to_string()),
            ),
            "producer.id.expiration.ms" => milliseconds(self.log.producer_expiry),
            "queued.max.request.bytes" => Some(self.memory_budget_bytes.to_string()),
            "socket.request.max.bytes" => Some(self.request_bytes_max.to_string()),
            _ => self.given_value(known.name).or_else(|| known.setting.default.map(str::to_owned)),
        }
    }

    /// As given by name, or under the name of a coarser setting.
    fn given_value(&self, name: &str) -> Option<String> {
        let own = self.given.get(name).cloned();
        own.or_else(|| {
            let mut coarser = INSTEAD_OF.iter().filter(|(finest, _, _)| *finest == name);
            coarser.find_map(|(_, coarse, unit_ms)| {
                let count: i64 = self.given.get(coarse)?.parse().ok()?;
                Some(if count < 0 { -1 } else { count.saturating_mul(*unit_ms) }.to_string())
            })
        })
    }

    /// The defaults of topics that were told to this broker.
    pub(crate) fn topic_defaults(&self) -> TopicConfig {
        let of_topics = |known: &BrokerSetting| {
            let topic_name = known.topic_name?;
            let value = self.value(*known).filter(|value| known.setting.default != Some(value))?;
            Some((topic_name.to_owned(), value))
        };
        TopicConfig::from_entries(broker_settings().iter().filter_map(of_topics).collect())
    }
}

/// The parts of `PLAINTEXT://HOST:PORT`, with or without the name of the protocol.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.strip_prefix(PROTOCOL).unwrap_or(text).rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let plain = !host.contains([',', '/', ' ']);
    plain.then(|| Some((host.to_owned(), port.parse().ok()?)))?
}

/// Names are not looked up: what is listened on would depend on who answers. No host at all is
/// every address, as with Apache Kafka.
fn address(host: &str, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        "" => Ipv4Addr::UNSPECIFIED.into(),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BrokerConfig {
        BrokerConfig::new("127.0.0.1:9092".parse().expect("an address"), "data")
    }

    fn value(config: &BrokerConfig, name: &str) -> Option<String> {
        config.value(broker_setting(name).expect("it exists"))
    }

    /// A value that is not the default, for each setting that has another.
    fn another(known: BrokerSetting) -> Option<String> {
        let candidates = [
            "127.0.0.2:1",
            "PLAINTEXT://127.0.0.2:1",
            "2000",
            "1048577",
            "7",
            "0.25",
            "true",
            "false",
            "compact",
            "LogAppendTime",
            "page-cache",
            "MkU3OEVBNTcwNTJENDM2Qk",
        ];
        let fits = |value: &&&str| {
            config().set(known.name, value).is_ok() && known.setting.default != Some(**value)
        };
        let values = candidates.iter().filter(fits);
        let told = |value: &&str| known.name != "log.dirs" || *value != "127.0.0.2:1";
        values.copied().find(told).map(str::to_owned)
    }

    #[test]
    fn what_is_set_is_what_is_told() {
        for known in broker_settings() {
            let Some(set) = another(*known) else {
                let fixed = matches!(known.setting.rule, crate::settings::Rule::Only);
                assert!(fixed, "{} takes another value", known.name);
                continue;
            };
            let mut config = config();
            config.set(known.name, &set).expect("it was tried");
            let told = value(&config, known.name).expect("a value");
            assert_eq!(told.trim_start_matches(PROTOCOL), set.trim_start_matches(PROTOCOL));
        }
    }

    #[test]
    fn defaults_of_the_table_are_those_of_the_code() {
        for known in broker_settings() {
            if known.setting.default.is_some() {
                let told = config().value(*known);
                assert_eq!(told.as_deref(), known.setting.default, "{}", known.name);
            }
        }
        assert_eq!(config().topic_defaults(), TopicConfig::default());
    }

    #[test]
    fn the_finest_unit_of_time_wins_whatever_the_order() {
        let mut config = config();
        let retention = |config: &BrokerConfig| value(config, "log.retention.ms");
        config.set("log.retention.hours", "2").expect("a number");
        assert_eq!(retention(&config).as_deref(), Some("7200000"));
        config.set("log.retention.minutes", "3").expect("a number");
        assert_eq!(retention(&config).as_deref(), Some("180000"));
        config.set("log.retention.ms", "-1").expect("a number");
        config.set("log.retention.minutes", "4").expect("a number");
        assert_eq!(retention(&config).as_deref(), Some("-1"));
    }

    #[test]
    fn a_listener_is_one_address() {
        let listen = |text: &str| {
            let mut config = config();
            config.set("listeners", text).map(|()| config.listen.to_string())
        };
        for (text, address) in [
            ("PLAINTEXT://127.0.0.1:1", "127.0.0.1:1"),
            ("PLAINTEXT://localhost:0", "127.0.0.1:0"),
            ("PLAINTEXT://:9092", "0.0.0.0:9092"),
            ("PLAINTEXT://[::1]:9092", "[::1]:9092"),
        ] {
            assert_eq!(listen(text).as_deref(), Ok(address));
        }
        for wrong in ["SSL://127.0.0.1:1", "PLAINTEXT://a.b:1", "PLAINTEXT://127.0.0.1:1,x:2", ""] {
            listen(wrong).expect_err("not an address");
        }
    }
}

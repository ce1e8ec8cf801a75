//! The broker's own settings by name; those that are defaults of topics stand in their table.

use super::Rule::{Any, Only, Within};
use super::SettingType::{Boolean, Int, List, Long, String as Text};
use super::{Rule, Setting, SettingType, Standing};

/// Several of the largest answers, and what they are copied from, fit the memory for answers.
const FETCH_BYTES_BOUND: i64 = 64 << 20;

const fn enforced(
    name: &'static str,
    kind: SettingType,
    default: &'static str,
    rule: Rule,
    about: &'static str,
) -> Setting {
    let default = Some(default);
    Setting { name, kind, default, rule, standing: Standing::Enforced, broker_name: None, about }
}

/// The one value that holds here, told to whoever asks.
const fn only(
    name: &'static str,
    kind: SettingType,
    value: &'static str,
    about: &'static str,
) -> Setting {
    enforced(name, kind, value, Only, about)
}

/// Another way to give a setting, without a value of its own.
const fn instead_of(name: &'static str, about: &'static str) -> Setting {
    let setting = enforced(name, Int, "", Within(-1, i32::MAX as i64), about);
    Setting { default: None, ..setting }
}

const INT_FROM_1: Rule = Within(1, i32::MAX as i64);
const INT_FROM_0: Rule = Within(0, i32::MAX as i64);

pub(super) const BROKER_SETTINGS: &[Setting] = &[
    Setting {
        default: None,
        ..enforced(
            "advertised.listeners",
            Text,
            "",
            Any,
            "What clients connect to, as PLAINTEXT://HOST:PORT; without it, the listener.",
        )
    },
    enforced(
        "auto.create.topics.enable",
        Boolean,
        "true",
        Any,
        "Whether a topic is made when it is first used.",
    ),
    enforced(
        "broker.id",
        Int,
        "1",
        INT_FROM_0,
        "The number of the one node of this cluster; the same as node.id.",
    ),
    Setting {
        default: None,
        ..enforced(
            "cluster.id",
            Text,
            "",
            Any,
            "What the cluster is called, 22 characters of URL-safe base64. A new directory is made \
             with it, and one of another cluster is refused; without it, one is drawn.",
        )
    },
    enforced(
        "connections.max.idle.ms",
        Long,
        "600000",
        Within(1_000, i64::MAX),
        "A connection that is silent for this long is closed.",
    ),
    only("controlled.shutdown.enable", Boolean, "true", "A stop finishes what is in work."),
    only("default.replication.factor", Int, "1", "Replicas of a topic: there is one node."),
    only("delete.topic.enable", Boolean, "true", "Topics can be deleted."),
    enforced(
        "fetch.max.bytes",
        Int,
        "8388608",
        Within(1_024, FETCH_BYTES_BOUND),
        "Largest answer to a fetch, but for a single larger batch.",
    ),
    enforced(
        "group.initial.rebalance.delay.ms",
        Int,
        "100",
        INT_FROM_0,
        "How long the first rebalance of a group waits for more members.",
    ),
    enforced(
        "group.max.session.timeout.ms",
        Int,
        "1800000",
        INT_FROM_1,
        "Longest session timeout that a member may ask for.",
    ),
    enforced("group.max.size", Int, "1000", INT_FROM_1, "Members that a group may have."),
    enforced(
        "group.min.session.timeout.ms",
        Int,
        "1000",
        INT_FROM_1,
        "Shortest session timeout that a member may ask for.",
    ),
    only(
        "listener.security.protocol.map",
        Text,
        "PLAINTEXT:PLAINTEXT",
        "Listeners have no TLS and no SASL.",
    ),
    enforced(
        "listeners",
        Text,
        "PLAINTEXT://127.0.0.1:9092",
        Any,
        "Where to listen, one PLAINTEXT://ADDRESS:PORT; port 0 takes a free one.",
    ),
    Setting {
        default: None,
        ..enforced("log.dirs", Text, "", Any, "The one directory of the journal.")
    },
    enforced(
        "log.retention.check.interval.ms",
        Long,
        "300000",
        Within(1, i64::MAX),
        "How often it is looked for records that need not be kept any more or can be compacted.",
    ),
    instead_of("log.retention.hours", "log.retention.ms in hours; the finer one wins."),
    instead_of("log.retention.minutes", "log.retention.ms in minutes; the finer one wins."),
    instead_of("log.roll.hours", "log.roll.ms in hours; the finer one wins."),
    enforced(
        "lossproof.partitions.max",
        Int,
        "100000",
        INT_FROM_1,
        "Partitions of all topics together.",
    ),
    enforced("max.connections", Int, "1024", INT_FROM_1, "Connections at a time."),
    enforced(
        "max.connections.per.ip",
        Int,
        "2147483647",
        INT_FROM_1,
        "Connections at a time from one address.",
    ),
    enforced("node.id", Int, "1", INT_FROM_0, "The number of the one node of this cluster."),
    enforced(
        "num.partitions",
        Int,
        "4",
        INT_FROM_1,
        "Partitions of a topic that does not say how many it wants.",
    ),
    only("offset.metadata.max.bytes", Int, "4096", "Longest note beside a committed offset."),
    enforced(
        "offsets.retention.minutes",
        Int,
        "-1",
        Within(-1, i32::MAX as i64),
        "How long the offsets of a group without members are kept, and those of topics that no \
         member subscribes to; -1 is for ever. A group that comes back later has lost its place: \
         it begins where auto.offset.reset says, and with latest it skips records.",
    ),
    only("offsets.topic.replication.factor", Int, "1", "Offsets are in the journal of the node."),
    only("process.roles", List, "broker,controller", "One process is all of the cluster."),
    enforced(
        "producer.id.expiration.ms",
        Int,
        "86400000",
        INT_FROM_1,
        "An idempotent producer that wrote nothing for this long may be forgotten.",
    ),
    enforced(
        "queued.max.request.bytes",
        Long,
        "268435456",
        Within(1, i64::MAX),
        "Memory for all requests in work together.",
    ),
    only("sasl.enabled.mechanisms", List, "", "There is no SASL."),
    only("security.inter.broker.protocol", Text, "PLAINTEXT", "There are no other brokers."),
    enforced(
        "socket.request.max.bytes",
        Int,
        "104857600",
        INT_FROM_1,
        "Largest request; a larger one closes its connection.",
    ),
    enforced(
        "transaction.max.timeout.ms",
        Int,
        "900000",
        INT_FROM_1,
        "Longest transaction timeout that a producer may ask for.",
    ),
    only("transaction.state.log.min.isr", Int, "1", "Transactions are in the journal of the node."),
    only(
        "transaction.state.log.replication.factor",
        Int,
        "1",
        "Transactions are in the journal of the node.",
    ),
    enforced(
        "transactional.id.expiration.ms",
        Int,
        "604800000",
        INT_FROM_1,
        "A transactional id that is not used for this long is forgotten.",
    ),
];

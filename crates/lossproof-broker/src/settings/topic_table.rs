//! Every topic setting of Apache Kafka that clients look for, by name.

use super::Rule::{Any, OneOf, Only, Ratio, SomeOf, Within};
use super::SettingType::{Boolean, Double, Int, List, Long, String as Text};
use super::{FLUSH, Rule, Setting, SettingType, Standing};
use crate::config::MESSAGE_BYTES_MAX;

const LONG_MAX: &str = "9223372036854775807";
const MESSAGE_BYTES: &str = "16777216";
const _: () = assert!(MESSAGE_BYTES_MAX == 16_777_216);

/// A setting that is carried out.
const fn enforced(
    name: &'static str,
    broker_name: &'static str,
    kind: SettingType,
    default: &'static str,
    rule: Rule,
    about: &'static str,
) -> Setting {
    let (default, broker_name) = (Some(default), Some(broker_name));
    Setting { name, kind, default, rule, standing: Standing::Enforced, broker_name, about }
}

/// A setting of another storage than this.
const fn unused(
    name: &'static str,
    broker_name: Option<&'static str>,
    kind: SettingType,
    default: &'static str,
    rule: Rule,
    about: &'static str,
) -> Setting {
    let default = Some(default);
    Setting { name, kind, default, rule, standing: Standing::Unused, broker_name, about }
}

const FROM_0: Rule = Within(0, i64::MAX);
const FROM_1: Rule = Within(1, i64::MAX);
/// -1: without a bound.
const FROM_NONE: Rule = Within(-1, i64::MAX);

pub(crate) const TOPIC_SETTINGS: &[Setting] = &[
    enforced(
        "cleanup.policy",
        "log.cleanup.policy",
        List,
        "delete",
        SomeOf(&["delete", "compact"]),
        "With delete, records go by retention.ms and retention.bytes; with compact, of each key \
         the last record stays, and a record without a key is refused.",
    ),
    unused(
        "compression.gzip.level",
        Some("compression.gzip.level"),
        Int,
        "-1",
        Within(-1, 9),
        "Level of gzip, where a broker compresses.",
    ),
    unused(
        "compression.lz4.level",
        Some("compression.lz4.level"),
        Int,
        "9",
        Within(1, 17),
        "Level of LZ4, where a broker compresses.",
    ),
    enforced(
        "compression.type",
        "compression.type",
        Text,
        "producer",
        Only,
        "Batches are stored as the producer compressed them.",
    ),
    unused(
        "compression.zstd.level",
        Some("compression.zstd.level"),
        Int,
        "3",
        Within(-131_072, 22),
        "Level of Zstandard, where a broker compresses.",
    ),
    enforced(
        "delete.retention.ms",
        "log.cleaner.delete.retention.ms",
        Long,
        "86400000",
        FROM_0,
        "How long a compacted topic keeps the record that deletes a key, once the older ones of \
         the key are gone.",
    ),
    unused(
        "file.delete.delay.ms",
        Some("log.segment.delete.delay.ms"),
        Long,
        "60000",
        FROM_0,
        "How long a removed file stays on the disk.",
    ),
    unused(
        "flush.messages",
        Some("log.flush.interval.messages"),
        Long,
        "1",
        FROM_1,
        "Records between two syncs; lossproof.flush decides here.",
    ),
    unused(
        "flush.ms",
        Some("log.flush.interval.ms"),
        Long,
        "0",
        FROM_0,
        "Time between two syncs; lossproof.flush decides here.",
    ),
    unused(
        "follower.replication.throttled.replicas",
        None,
        List,
        "",
        Any,
        "Replicas whose following is slowed down; there are no followers.",
    ),
    unused(
        "index.interval.bytes",
        Some("log.index.interval.bytes"),
        Int,
        "4096",
        FROM_0,
        "Bytes of log between two entries of the index.",
    ),
    unused(
        "leader.replication.throttled.replicas",
        None,
        List,
        "",
        Any,
        "Replicas whose leading is slowed down; there are no followers.",
    ),
    unused(
        "local.retention.bytes",
        Some("log.local.retention.bytes"),
        Long,
        "-2",
        Within(-2, i64::MAX),
        "Bytes kept here of a log that is also in remote storage.",
    ),
    unused(
        "local.retention.ms",
        Some("log.local.retention.ms"),
        Long,
        "-2",
        Within(-2, i64::MAX),
        "How long records are kept here that are also in remote storage.",
    ),
    enforced(
        FLUSH,
        FLUSH,
        Text,
        "commit",
        OneOf(&["commit", "every-second", "page-cache"]),
        "When a record counts as stored: after the fdatasync that covers it; or UNSAFE, at once, \
         with a sync within a second or when the operating system likes to.",
    ),
    enforced(
        "max.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
        Long,
        LONG_MAX,
        FROM_1,
        "A record of a compacted topic is compacted after this time at the latest.",
    ),
    enforced(
        "max.message.bytes",
        "message.max.bytes",
        Int,
        MESSAGE_BYTES,
        Within(1, MESSAGE_BYTES_MAX as i64),
        "Largest record batch, as it is sent.",
    ),
    enforced(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        Long,
        LONG_MAX,
        FROM_0,
        "How far a producer's timestamp may be ahead of the broker's clock.",
    ),
    enforced(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        Long,
        LONG_MAX,
        FROM_0,
        "How far a producer's timestamp may be behind the broker's clock.",
    ),
    enforced(
        "message.timestamp.type",
        "log.message.timestamp.type",
        Text,
        "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]),
        "Whose clock timestamps are of: the producer's, or the broker's at the append.",
    ),
    enforced(
        "min.cleanable.dirty.ratio",
        "log.cleaner.min.cleanable.ratio",
        Double,
        "0.5",
        Ratio,
        "A log is compacted when a larger share of its bytes than this is uncompacted.",
    ),
    enforced(
        "min.compaction.lag.ms",
        "log.cleaner.min.compaction.lag.ms",
        Long,
        "0",
        FROM_0,
        "A record of a compacted topic is left alone for this time at least.",
    ),
    unused(
        "min.insync.replicas",
        Some("min.insync.replicas"),
        Int,
        "1",
        FROM_1,
        "Replicas that must have a record; never more than there are, and there is one.",
    ),
    unused(
        "preallocate",
        Some("log.preallocate"),
        Boolean,
        "true",
        Any,
        "Whether segments are made at their full size; the journal's always are.",
    ),
    unused(
        "remote.log.copy.disable",
        None,
        Boolean,
        "false",
        Only,
        "There is no remote storage to copy to.",
    ),
    unused(
        "remote.log.delete.on.disable",
        None,
        Boolean,
        "false",
        Only,
        "There is no remote storage to delete from.",
    ),
    unused("remote.storage.enable", None, Boolean, "false", Only, "There is no remote storage."),
    enforced(
        "retention.bytes",
        "log.retention.bytes",
        Long,
        "-1",
        FROM_NONE,
        "Bytes that a partition may keep; -1 is without a bound.",
    ),
    enforced(
        "retention.ms",
        "log.retention.ms",
        Long,
        "-1",
        FROM_NONE,
        "How long records are kept; -1 is for ever.",
    ),
    unused(
        "segment.bytes",
        Some("log.segment.bytes"),
        Int,
        "67108864",
        Within(1 << 20, i64::MAX),
        "The most that is kept beyond retention.bytes or retention.ms because it goes together. \
         Here it goes in pieces of at most a megabyte, or a frame of the journal, whatever is \
         asked for.",
    ),
    unused(
        "segment.index.bytes",
        Some("log.index.size.max.bytes"),
        Int,
        "10485760",
        Within(4, i64::MAX),
        "Size of the index of a part of the log.",
    ),
    unused(
        "segment.jitter.ms",
        Some("log.roll.jitter.ms"),
        Long,
        "0",
        FROM_0,
        "By how much segment.ms is shortened at random; there are no segments of a topic's own \
         that could all be closed at once.",
    ),
    enforced(
        "segment.ms",
        "log.roll.ms",
        Long,
        "604800000",
        FROM_1,
        "Time after which the journal's last segment is closed even if it is not full, when it \
         holds records of a compacted topic. Only what is in closed ones is compacted. Retention \
         does not wait for it.",
    ),
    unused(
        "unclean.leader.election.enable",
        Some("unclean.leader.election.enable"),
        Boolean,
        "false",
        Only,
        "A replica that lacks acknowledged records never leads.",
    ),
];

//! The figures of a broker as OpenMetrics. Names of offsets and groups are those of kafka_exporter,
//! so that its dashboards and alerts go on working.

use core::fmt::Error;
use std::collections::BTreeMap;

use lossproof_broker::{Figures, OffsetFigures};
use lossproof_log::{Bounded, Helper, Histogram, LogFigures, ScrubFigures};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

const MICROS_PER_SECOND: f64 = 1_000_000.0;
const MILLIS_PER_SECOND: i64 = 1_000;

#[derive(Debug)]
pub(super) struct BrokerCollector(pub(super) Figures);

/// One sample: its labels and its value.
type Sample = (Vec<(&'static str, String)>, i64);

impl Collector for BrokerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let figures = &self.0;
        let mut page = Page(&mut encoder);
        page.log(figures)?;
        page.broker(figures)?;
        page.topics(figures)?;
        page.replicas(figures)?;
        page.groups(figures)
    }
}

struct Page<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Page<'_, '_> {
    fn log(&mut self, figures: &Figures) -> Result<(), Error> {
        let log = &figures.log;
        let help = "Time of an fdatasync of the journal";
        self.histogram("lossproof_broker_fsync_seconds", help, &log.sync_us, MICROS_PER_SECOND)?;
        let help = "Bytes written by one commit";
        self.histogram("lossproof_broker_commit_bytes", help, &log.frame_bytes, 1.0)?;
        let help = "Record batches in one commit";
        self.histogram("lossproof_broker_commit_batches", help, &log.frame_batches, 1.0)?;
        let help = "Bytes that wait for the journal or are being written";
        self.gauge("lossproof_broker_queue_bytes", help, log.queue_bytes as i64)?;
        let help = "1 when the journal takes no more writes after a failed write or sync";
        self.gauge("lossproof_broker_fenced", help, i64::from(figures.is_fenced))?;
        let help = "Pieces of journal and cold files that were found damaged or in doubt";
        self.gauge("lossproof_broker_quarantined", help, figures.quarantined as i64)?;
        let help = "Ranges of lost messages, and kinds of lost state, that were given up for good";
        self.gauge("lossproof_broker_accepted_losses", help, figures.accepted as i64)?;
        let help = "1 when records are refused because the disk is full";
        self.gauge("lossproof_broker_disk_full", help, i64::from(log.is_disk_full))?;
        let help = "Bytes that are held back for a full disk";
        self.gauge("lossproof_broker_ballast_bytes", help, log.ballast_bytes as i64)?;
        self.bounds(log)?;
        self.threads(log)?;
        self.scrub(&log.scrub)
    }

    /// What is refused when there is too much of it.
    fn bounds(&mut self, log: &LogFigures) -> Result<(), Error> {
        let help = "Entries of the index of all partitions; at the bound all records are refused";
        self.bounded("lossproof_broker_index_entries", help, log.index_entries)?;
        let help = "Bytes of topics, groups, offsets and transactions; at the bound all that \
                    adds to them is refused";
        self.bounded("lossproof_broker_state_bytes", help, log.state_bytes)?;
        let help = "Idempotent producers that are remembered, once for each partition";
        self.bounded("lossproof_broker_producers", help, log.producers)?;
        let help = "Transactions that are open or were aborted, once for each partition; at the \
                    bound new ones are refused";
        self.bounded("lossproof_broker_transactions", help, log.transactions)
    }

    fn bounded(&mut self, name: &str, help: &str, bounded: Bounded) -> Result<(), Error> {
        self.gauge(name, help, bounded.used as i64)?;
        self.gauge(&format!("{name}_max"), "The bound of it", bounded.max as i64)
    }

    fn threads(&mut self, log: &LogFigures) -> Result<(), Error> {
        let samples = Helper::ALL.map(|thread| {
            let is_ended = log.ended.iter().any(|ended| ended.thread == thread);
            (vec![("thread", thread.name().to_owned())], i64::from(is_ended))
        });
        let help = "1 when a thread of the journal does its work no more until the next start";
        self.gauges("lossproof_broker_thread_ended", help, samples.into_iter())
    }

    fn scrub(&mut self, scrub: &ScrubFigures) -> Result<(), Error> {
        let help = "Bytes of cold files and full segments that were read through";
        self.counter("lossproof_broker_scrub_bytes", help, scrub.bytes)?;
        let help = "Bytes read through in the present round";
        self.gauge("lossproof_broker_scrub_round_bytes", help, scrub.round_bytes as i64)?;
        let help = "Bytes that there were to read through when the round began";
        let total = scrub.round_total_bytes as i64;
        self.gauge("lossproof_broker_scrub_round_total_bytes", help, total)?;
        let help = "Damaged pieces that reading through has found since the start";
        self.gauge("lossproof_broker_scrub_findings", help, scrub.findings as i64)?;
        let help = "Unix time of the end of the last round; 0 before the first";
        let finished = scrub.finished_ms.unwrap_or(0) / MILLIS_PER_SECOND;
        self.gauge("lossproof_broker_scrub_finished_timestamp_seconds", help, finished)
    }

    fn broker(&mut self, figures: &Figures) -> Result<(), Error> {
        let help = "Partitions acknowledged before they are synced: a power cut loses records";
        let partitions = figures.unsafe_partitions as i64;
        self.gauge("lossproof_broker_unsafe_partitions", help, partitions)?;
        let help = "1 when new topics get such a policy where they do not say otherwise";
        let unsafe_default = i64::from(figures.unsafe_default);
        self.gauge("lossproof_broker_unsafe_default", help, unsafe_default)?;
        let help = "Connections that are open";
        self.gauge("lossproof_broker_connections", help, figures.connections as i64)?;
        let help = "Connections closed at once because there were too many";
        let refused = figures.connections_refused;
        self.counter("lossproof_broker_connections_refused", help, refused)?;
        let help = "Record batches that were not taken";
        self.counter("lossproof_broker_batches_refused", help, figures.batches_refused)?;
        let help = "Fetches of a partition that met damaged records (LP1012)";
        self.counter("lossproof_broker_fetches_damaged", help, figures.fetches_damaged)?;
        let help = "Requests by API";
        let name = "lossproof_broker_requests";
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (api, count) in &figures.requests {
            let labels = [("api", api.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn topics(&mut self, figures: &Figures) -> Result<(), Error> {
        self.gauge("kafka_brokers", "Brokers of the cluster", 1)?;
        let topics = &figures.topics;
        let counts = topics
            .iter()
            .map(|topic| (vec![("topic", topic.name.clone())], topic.partition_count as i64));
        self.gauges("kafka_topic_partitions", "Partitions of the topic", counts)?;
        let bounds = || {
            topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|(partition, (start, end))| {
                    let labels =
                        vec![("topic", topic.name.clone()), ("partition", partition.to_string())];
                    (labels, *start, *end)
                })
            })
        };
        let help = "Offset that the next record gets";
        let ends = bounds().map(|(labels, _, end)| (labels, end));
        self.gauges("kafka_topic_partition_current_offset", help, ends)?;
        let help = "Offset of the first record that is kept";
        let starts = bounds().map(|(labels, start, _)| (labels, start));
        self.gauges("kafka_topic_partition_oldest_offset", help, starts)
    }

    /// Of each partition there is one, here; of one that cannot be read there is none in sync.
    fn replicas(&mut self, figures: &Figures) -> Result<(), Error> {
        let partitions = || {
            figures.topics.iter().flat_map(|topic| {
                (0..topic.partition_count).map(|partition| {
                    let labels =
                        vec![("topic", topic.name.clone()), ("partition", partition.to_string())];
                    (labels, topic.partitions.contains_key(&partition))
                })
            })
        };
        let is_well = || partitions().map(|(labels, is_well)| (labels, i64::from(is_well)));
        let all = partitions().map(|(labels, _)| (labels, 1));
        self.gauges("kafka_topic_partition_replicas", "Replicas of the partition", all)?;
        let help = "Replicas of the partition that are in sync";
        self.gauges("kafka_topic_partition_in_sync_replica", help, is_well())?;
        let node_id = i64::from(figures.node_id);
        let leaders = partitions().filter(|(_, is_well)| *is_well);
        let leaders = leaders.map(|(labels, _)| (labels, node_id));
        self.gauges("kafka_topic_partition_leader", "Node that leads the partition", leaders)?;
        let help = "1 when the partition is led by the node that should";
        self.gauges("kafka_topic_partition_leader_is_preferred", help, is_well())?;
        let help = "1 when a replica of the partition is not in sync";
        let behind = partitions().map(|(labels, is_well)| (labels, i64::from(!is_well)));
        self.gauges("kafka_topic_partition_under_replicated_partition", help, behind)
    }

    fn groups(&mut self, figures: &Figures) -> Result<(), Error> {
        let groups = &figures.groups;
        let above = groups.iter().flat_map(|group| &group.offsets).filter(|it| it.is_above_end);
        let help = "Committed offsets above the end of their partition: records are missing there";
        self.gauge("lossproof_broker_offsets_above_end", help, above.count() as i64)?;
        let members = groups
            .iter()
            .map(|group| (vec![("consumergroup", group.name.clone())], group.members as i64));
        self.gauges("kafka_consumergroup_members", "Members of the group", members)?;
        let offsets = || {
            groups.iter().flat_map(|group| {
                group.offsets.iter().map(|offset| {
                    let labels = vec![
                        ("consumergroup", group.name.clone()),
                        ("topic", offset.topic.clone()),
                        ("partition", offset.partition.to_string()),
                    ];
                    (labels, offset)
                })
            })
        };
        let committed = offsets().map(|(labels, offset)| (labels, offset.offset));
        self.gauges("kafka_consumergroup_current_offset", "Committed offset", committed)?;
        let lags = offsets().filter_map(|(labels, offset)| Some((labels, offset.lag?)));
        self.gauges("kafka_consumergroup_lag", "Records behind the committed offset", lags)?;
        let sums = |value: fn(&OffsetFigures) -> Option<i64>| {
            let mut sums: BTreeMap<[&str; 2], i64> = BTreeMap::new();
            for group in groups {
                for offset in &group.offsets {
                    let sum = sums.entry([&group.name, &offset.topic]).or_default();
                    *sum = sum.saturating_add(value(offset).unwrap_or_default());
                }
            }
            sums.into_iter().map(|([group, topic], sum)| {
                let labels = [("consumergroup", group), ("topic", topic)];
                (labels.map(|(name, value)| (name, value.to_owned())).to_vec(), sum)
            })
        };
        let help = "Committed offsets of all partitions of the topic";
        let committed = sums(|offset| Some(offset.offset));
        self.gauges("kafka_consumergroup_current_offset_sum", help, committed)?;
        let help = "Records behind the committed offsets of all partitions of the topic";
        self.gauges("kafka_consumergroup_lag_sum", help, sums(|offset| offset.lag))
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> Result<(), Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = Sample>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let mut counter = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// `unit` is how many of the figures make one of the metric.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        histogram: &Histogram,
        unit: f64,
    ) -> Result<(), Error> {
        let bounds = histogram.buckets.iter().map(|(bound, count)| (*bound as f64 / unit, *count));
        let buckets: Vec<_> = bounds.chain([(f64::INFINITY, histogram.beyond)]).collect();
        let (sum, count) = (histogram.sum as f64 / unit, histogram.count());
        self.0
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

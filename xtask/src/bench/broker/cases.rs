//! What is measured, and what has to be reached.

use super::contestant::Who;

/// One row: a load that all contestants get in turn.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) load: Load,
    /// The broker that only answers takes part.
    pub(super) with_stub: bool,
    /// All have to hold; of each, one alternative.
    pub(super) bars: &'static [&'static [Bar]],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// One record of 1 KiB in flight on each connection.
    Closed { connections: u32, partitions: u32 },
    /// As much as one librdkafka producer can send.
    Saturate { record_bytes: u32, partitions: u32 },
    /// All of a topic of 1 KiB records, from the disk.
    ConsumeCold,
    /// Its last records, which are in memory.
    ConsumeTail,
    /// From the time a record is due to its arrival at a consumer, at a fixed rate.
    EndToEnd { per_second: u32, partitions: u32 },
}

impl Load {
    /// Where it writes to, or reads from.
    pub(super) fn topic(self) -> (String, u32) {
        match self {
            Load::Closed { partitions, .. } => (format!("closed-{partitions}"), partitions),
            Load::Saturate { record_bytes, partitions } => {
                (format!("saturate-{record_bytes}-{partitions}"), partitions)
            }
            Load::ConsumeCold | Load::ConsumeTail => ("consume".to_owned(), 1),
            Load::EndToEnd { partitions, .. } => (format!("latency-{partitions}"), partitions),
        }
    }
}

/// A figure of lossproof's, compared with another's in the same round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) figure: Figure,
    pub(super) against: Against,
    /// Of the ratio: at least so much for a rate, at most so much for anything else.
    pub(super) limit: f64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Figure {
    /// Acknowledgements or megabytes per second.
    Rate,
    P99,
    Cpu,
    Resident,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Against {
    Contestant(Who),
    /// One raw fdatasync and one round trip to the broker that only answers.
    RawAndRoundTrip,
    /// Lossproof itself under another load.
    Case(&'static str),
    /// The number itself.
    One,
}

const fn rate(who: Who, limit: f64) -> Bar {
    Bar { figure: Figure::Rate, against: Against::Contestant(who), limit }
}

const fn bar(figure: Figure, against: Against, limit: f64) -> Bar {
    Bar { figure, against, limit }
}

const DEFAULTS: Against = Against::Contestant(Who::Defaults);
const P99_NOT_ABOVE: Bar = bar(Figure::P99, DEFAULTS, 1.0);
const RESIDENT: &[Bar] = &[bar(Figure::Resident, DEFAULTS, 0.2)];
const SATURATE_BARS: &[&[Bar]] = &[
    &[rate(Who::Defaults, 1.5), rate(Who::Stub, 0.95)],
    &[P99_NOT_ABOVE],
    &[bar(Figure::Cpu, DEFAULTS, 0.5)],
    RESIDENT,
];
const WIDE_BARS: &[&[Bar]] =
    &[&[rate(Who::Flushing, 6.0)], &[rate(Who::Defaults, 1.0)], &[P99_NOT_ABOVE], RESIDENT];

const fn closed(
    name: &'static str,
    connections: u32,
    partitions: u32,
    bars: &'static [&'static [Bar]],
) -> Case {
    let with_stub = connections == 1;
    Case { name, load: Load::Closed { connections, partitions }, with_stub, bars }
}

const fn saturate(name: &'static str, record_bytes: u32, partitions: u32) -> Case {
    let load = Load::Saturate { record_bytes, partitions };
    Case { name, load, with_stub: true, bars: SATURATE_BARS }
}

/// About half of what 64 connections reach on 16 partitions of the machine of the evidence.
const HALF_LOAD_PER_SECOND: u32 = 10_000;

pub(super) const CASES: &[Case] = &[
    closed(
        "closed-1",
        1,
        1,
        &[&[rate(Who::Flushing, 2.5)], &[bar(Figure::Rate, Against::RawAndRoundTrip, 0.8)]],
    ),
    closed(
        "closed-64x1",
        64,
        1,
        &[&[rate(Who::Flushing, 10.0)], &[rate(Who::Defaults, 1.0)], RESIDENT],
    ),
    closed("closed-64x16", 64, 16, WIDE_BARS),
    closed("closed-256x64", 256, 64, WIDE_BARS),
    closed("closed-256x1", 256, 1, &[]),
    closed(
        "closed-256x1000",
        256,
        1000,
        &[&[bar(Figure::Rate, Against::Case("closed-256x1"), 0.85)]],
    ),
    saturate("saturate-1k-1", 1024, 1),
    saturate("saturate-1k-16", 1024, 16),
    saturate("saturate-100-1", 100, 1),
    saturate("saturate-100-16", 100, 16),
    Case {
        name: "consume-cold",
        load: Load::ConsumeCold,
        with_stub: false,
        bars: &[&[rate(Who::Defaults, 1.0)]],
    },
    Case {
        name: "consume-tail",
        load: Load::ConsumeTail,
        with_stub: false,
        bars: &[&[rate(Who::Defaults, 1.0)]],
    },
    Case {
        name: "end-to-end",
        load: Load::EndToEnd { per_second: HALF_LOAD_PER_SECOND, partitions: 16 },
        with_stub: false,
        bars: &[&[bar(Figure::P99, Against::One, 5.0), P99_NOT_ABOVE]],
    },
];

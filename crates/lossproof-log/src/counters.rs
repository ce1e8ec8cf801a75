//! What the commit thread measures for operators: counted by one thread, read by any.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::helper::Ended;

/// Upper bounds of an fdatasync, in microseconds: from a fast disk to a broken one.
const SYNC_US: &[u64] =
    &[50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 2_000_000];
/// Upper bounds of a frame, in bytes.
const FRAME_BYTES: &[u64] =
    &[4 << 10, 8 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// Upper bounds of the batches in a frame.
const FRAME_BATCHES: &[u64] = &[1, 2, 4, 8, 16, 64, 256, 1_024, 4_096];

/// How often values fell below fixed bounds.
#[derive(Debug)]
struct Buckets {
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond the last.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// How often values fell below fixed bounds, at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Histogram {
    /// Upper bound, and how many values were not above it but above the one before.
    pub buckets: Vec<(u64, u64)>,
    /// Values above the last bound.
    pub beyond: u64,
    pub sum: u64,
}

impl Buckets {
    fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn snapshot(&self) -> Histogram {
        let counts: Vec<u64> =
            self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Histogram {
            buckets: self.bounds.iter().copied().zip(counts.iter().copied()).collect(),
            beyond: counts.last().copied().unwrap_or_default(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl Histogram {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.beyond + self.buckets.iter().map(|(_, count)| count).sum::<u64>()
    }
}

/// What a [`Log`](crate::Log) has measured since it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogFigures {
    /// Time of an fdatasync of the journal, in microseconds.
    pub sync_us: Histogram,
    /// Bytes of a frame.
    pub frame_bytes: Histogram,
    /// Record batches in a frame.
    pub frame_batches: Histogram,
    /// Bytes of commits that wait or are in work.
    pub queue_bytes: u64,
    /// Held back for a full disk.
    pub ballast_bytes: u64,
    /// There was no room for records when it was last asked for, or they wait for the ballast.
    pub is_disk_full: bool,
    pub scrub: ScrubFigures,
    /// Entries of the index of all partitions.
    pub index_entries: Bounded,
    /// Bytes of the keyed state: offsets of groups, topics, transactions.
    pub state_bytes: Bounded,
    /// Idempotent producers that are remembered, once for each partition.
    pub producers: Bounded,
    /// Transactions that are open or were aborted, once for each partition.
    pub transactions: Bounded,
    pub ended: Vec<Ended>,
}

/// Something of which there may be only so many.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bounded {
    pub used: usize,
    pub max: usize,
}

/// How far the reading through of cold files and full segments has come since the log was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ScrubFigures {
    /// Verified, over all rounds.
    pub bytes: u64,
    /// Verified in this round, and what it has before it altogether.
    pub round_bytes: u64,
    pub round_total_bytes: u64,
    /// Wall time in milliseconds of the end of the last round; `None` before the first.
    pub finished_ms: Option<i64>,
    /// Damaged pieces that it found, beside those of the start.
    pub findings: u64,
}

/// Counted by the thread that reads through.
#[derive(Debug, Default)]
pub(crate) struct ScrubCounters {
    pub(crate) bytes: AtomicU64,
    /// What `bytes` was when this round began.
    begun_at: AtomicU64,
    total: AtomicU64,
    /// 0 before the first round has ended.
    pub(crate) finished_ms: AtomicI64,
    pub(crate) findings: AtomicU64,
}

impl ScrubCounters {
    pub(crate) fn begin(&self, total: u64) {
        self.begun_at.store(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn figures(&self) -> ScrubFigures {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let finished_ms = self.finished_ms.load(Ordering::Relaxed);
        ScrubFigures {
            bytes,
            round_bytes: bytes.saturating_sub(self.begun_at.load(Ordering::Relaxed)),
            round_total_bytes: self.total.load(Ordering::Relaxed),
            finished_ms: (finished_ms != 0).then_some(finished_ms),
            findings: self.findings.load(Ordering::Relaxed),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Counters {
    sync_us: Buckets,
    frame_bytes: Buckets,
    frame_batches: Buckets,
    pub(crate) scrub: ScrubCounters,
    /// As the commit thread knows them.
    pub(crate) producers: AtomicUsize,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            sync_us: Buckets::new(SYNC_US),
            frame_bytes: Buckets::new(FRAME_BYTES),
            frame_batches: Buckets::new(FRAME_BATCHES),
            scrub: ScrubCounters::default(),
            producers: AtomicUsize::new(0),
        }
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.sync_us.observe(took.as_micros() as u64);
    }

    pub(crate) fn wrote(&self, bytes: u64, batches: usize) {
        self.frame_bytes.observe(bytes);
        self.frame_batches.observe(batches as u64);
    }

    pub(crate) fn figures(&self, queue_bytes: u64) -> LogFigures {
        LogFigures {
            sync_us: self.sync_us.snapshot(),
            frame_bytes: self.frame_bytes.snapshot(),
            frame_batches: self.frame_batches.snapshot(),
            queue_bytes,
            scrub: self.scrub.figures(),
            ..LogFigures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_counted_once_at_the_first_bound_that_holds_it() {
        let buckets = Buckets::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1_000] {
            buckets.observe(value);
        }
        let histogram = buckets.snapshot();
        assert_eq!(histogram.buckets, [(10, 2), (20, 2)]);
        assert_eq!((histogram.beyond, histogram.count(), histogram.sum), (2, 6, 1_062));
    }
}

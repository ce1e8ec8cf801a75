use std::time::Duration;

use crate::cluster_id::ClusterId;
use crate::error::OpenError;
use crate::frame::BLOCK;
use crate::segment::DATA_AT;

/// Whose log a directory holds: the entries of one are not those of another, which would take them
/// for damage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Purpose {
    /// Opens any, and says nothing of it: for looking.
    #[default]
    Any = 0,
    Broker = 1,
    Producer = 2,
    Pipeline = 3,
}

impl Purpose {
    /// Of a directory; [`Purpose::Any`] where it says nothing, or something that is not known here.
    pub(crate) fn of_code(code: u8) -> Self {
        let all = [Self::Broker, Self::Producer, Self::Pipeline];
        all.into_iter().find(|purpose| *purpose as u8 == code).unwrap_or_default()
    }
}

/// In words; that of a program that is not known here yet as well.
pub(crate) fn purpose_name(code: u8) -> &'static str {
    match code {
        1 => "the data of a broker",
        2 => "the journal of a producer",
        3 => "the journal of a pipeline",
        _ => "something of another program",
    }
}

/// Bounds and sizes of a [`Log`](crate::Log). The defaults suit a broker; tests make them small.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Size of a journal segment, a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// How much of a new segment is written with zeros before it is used; the rest follows in the
    /// background.
    pub initial_zero_bytes: u64,
    /// Step in which the background thread writes zeros, each with a sync of its own.
    pub zero_step_bytes: u64,
    /// How far the zero-written part is kept ahead of the frames.
    pub zero_ahead_bytes: u64,
    /// A group commit takes no more commits once its frame has reached this size.
    pub frame_bytes_target: usize,
    /// Bytes of commits that wait or are in work; [`Log::enqueue`](crate::Log::enqueue) waits
    /// beyond.
    pub queue_bytes_max: usize,
    /// Entries of the partition index in memory; further appends are refused.
    pub index_entries_max: usize,
    /// Idempotent producers that are remembered, over all partitions; for a further one the longest
    /// idle is forgotten, and where none is idle it is refused.
    pub producers_max: usize,
    /// A producer that appended nothing for this long, in running time, may be forgotten.
    pub producer_expiry: Duration,
    /// Transactions that are open or were aborted, over all partitions; further ones are refused.
    pub transactions_max: usize,
    /// Keys and values of the keyed state in memory; further changes are refused.
    pub state_bytes_max: usize,
    /// Held back in a file of its own, for what must go on once the disk is full; the first frame
    /// begins it, in the background. Once full segments have the bytes of one, half of
    /// `checkpoint_bytes` is added.
    pub ballast_bytes: u64,
    /// End of a segment that only commits without appends may use once the disk is full.
    pub reserve_bytes: u64,
    /// Keys that a compaction remembers at a time; a partition with more is done in several.
    pub compaction_keys_max: usize,
    /// Batches are moved out of full segments when these have so many bytes together.
    pub checkpoint_bytes: u64,
    /// Cold files and full segments are read through so often ...
    pub scrub_period: Duration,
    /// ... and no faster than this.
    pub scrub_bytes_per_second: u64,
    /// A new directory is made with it, and one that has another is refused; `None` draws one and
    /// opens any.
    pub cluster_id: Option<ClusterId>,
    /// A directory is made for it, and one of another is refused.
    pub purpose: Purpose,
    /// A directory that was copied or restored is taken over, under a new identity.
    pub adopt: bool,
    /// Takes writes although acknowledged frames at the end are missing: from then on these count
    /// as frames that are missing in the middle. A person has to have decided so.
    pub accept_lost_end: bool,
    /// What has been durable for so long is named by the durable mark (MARK-3).
    pub mark_after: Duration,
}

pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;
pub(crate) const INITIAL_ZERO_BYTES: u64 = 4 << 20;
pub(crate) const ZERO_STEP_BYTES: u64 = 1 << 20;
pub(crate) const ZERO_AHEAD_BYTES: u64 = 16 << 20;
pub(crate) const FRAME_BYTES_TARGET: usize = 4 << 20;
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;
/// 40 bytes each.
pub(crate) const INDEX_ENTRIES_MAX: usize = 4 << 20;
pub(crate) const PRODUCERS_MAX: usize = 100_000;
/// As long as Apache Kafka's `producer.id.expiration.ms`.
pub(crate) const PRODUCER_EXPIRY: Duration = Duration::from_hours(24);
/// 40 bytes each.
pub(crate) const TRANSACTIONS_MAX: usize = 1 << 20;
pub(crate) const STATE_BYTES_MAX: usize = 256 << 20;
pub(crate) const RESERVE_BYTES: u64 = 3 << 20;
/// A new segment, a checkpoint, and small commits.
pub(crate) const BALLAST_BYTES: u64 = 8 << 20;
/// 25 bytes each: with these the table has 2^20 places and takes 26 MB, while it is needed.
pub(crate) const COMPACTION_KEYS_MAX: usize = (1 << 20) / 8 * 7;
pub(crate) const CHECKPOINT_BYTES: u64 = 128 << 20;
/// What fails on a disk should be known while there is a copy elsewhere.
pub(crate) const SCRUB_PERIOD: Duration = Duration::from_hours(7 * 24);
/// Hardly noticed by a disk that does anything else; 2.4 TB in a week.
pub(crate) const SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;
/// The window within which damage of the last frame cannot be told from a torn write.
pub(crate) const MARK_AFTER: Duration = Duration::from_millis(80);

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            initial_zero_bytes: INITIAL_ZERO_BYTES,
            zero_step_bytes: ZERO_STEP_BYTES,
            zero_ahead_bytes: ZERO_AHEAD_BYTES,
            frame_bytes_target: FRAME_BYTES_TARGET,
            queue_bytes_max: QUEUE_BYTES_MAX,
            index_entries_max: INDEX_ENTRIES_MAX,
            producers_max: PRODUCERS_MAX,
            producer_expiry: PRODUCER_EXPIRY,
            transactions_max: TRANSACTIONS_MAX,
            state_bytes_max: STATE_BYTES_MAX,
            ballast_bytes: BALLAST_BYTES,
            reserve_bytes: RESERVE_BYTES,
            compaction_keys_max: COMPACTION_KEYS_MAX,
            checkpoint_bytes: CHECKPOINT_BYTES,
            scrub_period: SCRUB_PERIOD,
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
            cluster_id: None,
            purpose: Purpose::Any,
            adopt: false,
            accept_lost_end: false,
            mark_after: MARK_AFTER,
        }
    }
}

impl LogConfig {
    /// A small log, for tests that look at many of them.
    pub fn small() -> Self {
        Self {
            segment_bytes: 64 << 10,
            initial_zero_bytes: 32 << 10,
            zero_step_bytes: 16 << 10,
            zero_ahead_bytes: 32 << 10,
            frame_bytes_target: 16 << 10,
            queue_bytes_max: 1 << 20,
            index_entries_max: 1000,
            producers_max: 100,
            transactions_max: 1000,
            state_bytes_max: 1 << 20,
            ballast_bytes: 128 << 10,
            reserve_bytes: 8 << 10,
            checkpoint_bytes: 128 << 10,
            ..Self::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let block = BLOCK;
        let reason = if !self.segment_bytes.is_multiple_of(block)
            || !self.initial_zero_bytes.is_multiple_of(block)
            || !self.zero_step_bytes.is_multiple_of(block)
            || !self.reserve_bytes.is_multiple_of(block)
        {
            "sizes of segments are multiples of 4096"
        } else if self.segment_bytes < self.initial_zero_bytes {
            "initial_zero_bytes is more than segment_bytes"
        } else if self.segment_bytes > u64::from(u32::MAX) {
            "segment_bytes is more than 4 GiB"
        } else if self.zero_step_bytes == 0 {
            "zero_step_bytes is 0"
        } else if self.initial_zero_bytes < DATA_AT + self.reserve_bytes + 2 * block {
            "initial_zero_bytes leaves no room for frames beside the reserve"
        } else {
            return Ok(());
        };
        Err(OpenError::Config { reason })
    }
}

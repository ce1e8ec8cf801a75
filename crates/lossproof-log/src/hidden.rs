//! What is there and is not shown to committed readers since something beside it was given up.
//!
//! # Invariants
//! - HIDDEN-1: each such offset is named (ACCEPT-4): that of a transaction of which nobody can tell
//!   how it ended, and that may have been answered as committed.

use crate::batch::BatchHeader;
use crate::commit::PartitionId;
use crate::error::{OffsetRange, ReadError};
use crate::log::Log;
use crate::report::PartitionRange;
use crate::transactions::{AbortedTransaction, Part, Step};

impl Log {
    /// Offsets that can be read and that committed readers are not given, since their transaction
    /// was open where a range begins that was given up (HIDDEN-1). By partition and offset.
    pub fn hidden(&self) -> Vec<PartitionRange> {
        let mut all = Vec::new();
        for partition in self.partitions() {
            let Some(known) = self.shared().view.partition(partition) else { continue };
            let mut ranges: Vec<OffsetRange> = Vec::new();
            for decided in known.transactions().decided() {
                self.records_of(partition, &decided, known.bounds().0, &mut ranges);
            }
            ranges.sort_unstable();
            ranges.dedup_by(|next, last| {
                let joins = next.first == last.last + 1;
                if joins {
                    last.last = next.last;
                }
                joins
            });
            all.extend(ranges.into_iter().map(|range| PartitionRange { partition, range }));
        }
        all
    }

    /// Adds the batches of a transaction. What of it cannot be read is told as lost.
    fn records_of(
        &self,
        id: PartitionId,
        wanted: &AbortedTransaction,
        log_start: i64,
        ranges: &mut Vec<OffsetRange>,
    ) {
        let mut next = wanted.first_offset.max(log_start);
        while next <= wanted.last_offset {
            let slice = match self.read_or_damage(id, next) {
                Ok(slice) => slice,
                Err(ReadError::Damaged { range, .. }) if !range.is_open() => {
                    next = range.last + 1;
                    continue;
                }
                Err(_) => return,
            };
            let Some(last) = slice.batches.last() else { return };
            next = last.last_offset + 1;
            let before = |offset: i64| offset <= wanted.last_offset;
            for batch in slice.batches.iter().filter(|batch| before(batch.base_offset)) {
                let part = BatchHeader::parse(&batch.bytes).ok().and_then(|header| header.part);
                let is_of_it = |part: &Part| {
                    part.producer_id == wanted.producer_id && part.step == Step::Records
                };
                if part.as_ref().is_some_and(is_of_it) {
                    let (first, last) = (batch.base_offset, batch.last_offset);
                    ranges.push(OffsetRange { first, last });
                }
            }
        }
    }
}

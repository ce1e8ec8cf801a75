//! Verified batches that have no place in the log: told of by partition, however many they are.

use std::collections::BTreeMap;

use crate::commit::PartitionId;
use crate::report::{Finding, FindingKind, PartitionRange};

/// The misfits of one segment.
#[derive(Debug, Default)]
pub(crate) struct Misfits(BTreeMap<(FindingKind, PartitionId), Finding>);

impl Misfits {
    /// Adds a batch; `frame` is a finding about the frame that it stands in.
    pub(crate) fn add(&mut self, frame: Finding, batch: PartitionRange) {
        let (end, last_frame) = (frame.position + frame.bytes, frame.last_frame);
        let finding = self.0.entry((frame.kind, batch.partition)).or_insert(frame);
        finding.bytes = end - finding.position;
        finding.last_frame = last_frame;
        match finding.partitions.last_mut() {
            Some(last) if last.range.last.saturating_add(1) == batch.range.first => {
                last.range.last = batch.range.last;
            }
            _ => finding.partitions.push(batch),
        }
    }

    /// All of them as one piece of the segment, to be copied.
    pub(crate) fn piece(&self) -> Option<Finding> {
        let first = self.0.values().min_by_key(|finding| finding.position)?;
        let end = self.0.values().map(|finding| finding.position + finding.bytes).max()?;
        Some(Finding { bytes: end - first.position, ..first.clone() })
    }

    pub(crate) fn take(&mut self) -> impl Iterator<Item = Finding> + use<> {
        std::mem::take(&mut self.0).into_values()
    }
}

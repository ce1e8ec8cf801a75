//! The state of a checkpoint, put together again: where recovery and the mover begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::accept::without;
use crate::checkpoint::{self, Checkpoint};
use crate::cold;
use crate::commit::PartitionId;
use crate::effect::Effect;
use crate::error::{OffsetRange, OpenError};
use crate::frame::{BLOCK, Life};
use crate::partition::{IndexEntry, Place};
use crate::paths::Paths;
use crate::reader::{self, JUDGED_BYTES, ReadSegment, Unread};
use crate::recovery::{Recovery, failed};
use crate::report::{Finding, FindingKind, PartitionRange, push_joined};
use crate::snapshot::{ColdFact, Fact, LogFact, PartitionFact};
use crate::staging::StagedPartition;

/// What belongs to no frame of the journal.
pub(crate) const NOWHERE: Place = Place { segment: 0, block: 0, blocks: 0, run: 0 };

/// A cold file as it was found.
struct FoundCold {
    sequence: u64,
    /// `None`: it is not there.
    length: Option<u64>,
    /// Index entries that reach into the part that is missing.
    short: Vec<(PartitionId, IndexEntry)>,
}

impl Recovery {
    /// Takes over what `checkpoint` says; the journal goes on behind it.
    pub(crate) fn load(
        &mut self,
        paths: &Paths,
        directory_id: u64,
        checkpoint: &Checkpoint,
    ) -> Result<(), OpenError> {
        let mut colds: BTreeMap<u32, FoundCold> = BTreeMap::new();
        let mut known = Vec::new();
        let mut failure = None;
        let disk = self.env.disk.clone();
        let read =
            checkpoint::read(
                &*disk,
                &paths.checkpoint,
                directory_id,
                checkpoint,
                |fact| match fact {
                    Fact::Cold(fact) => match self.open_cold(paths, directory_id, fact) {
                        Ok((key, found)) => drop(colds.insert(key, found)),
                        Err(error) => failure = Some(error),
                    },
                    Fact::Index(id, entries) => self.restore_index(id, &entries, &mut colds),
                    Fact::Partition(id, fact) => {
                        let ranges = fact.damaged.iter();
                        known.extend(
                            ranges.map(|range| PartitionRange { partition: id, range: *range }),
                        );
                        self.restore_partition(id, &fact);
                    }
                    fact => self.restore(fact),
                },
            );
        if let Some(error) = failure {
            return Err(error);
        }
        let whole = read.map_err(failed("read", &paths.checkpoint))?;
        whole.ok_or_else(|| OpenError::CheckpointUnreadable {
            directory: paths.directory.clone(),
        })?;
        known.retain(|lost| !self.take_back(*lost));
        self.report_before(known);
        for found in colds.values() {
            self.report_short(found);
        }
        self.expected = checkpoint.through_frame + 1;
        self.durable = self.durable.max(checkpoint.through_frame);
        Ok(())
    }

    fn restore(&mut self, fact: Fact) {
        match fact {
            Fact::Log(LogFact { running_ms, next_producer_id, highest_id }) => {
                self.running_ms = self.running_ms.max(running_ms);
                self.staging.restore(next_producer_id, highest_id);
                self.view.raise_highest_id(highest_id);
            }
            Fact::Transactions(id, transactions) => {
                self.view.restore_transactions(id, transactions);
            }
            Fact::Compacted(id, compacted) => {
                if let Some(partition) = self.view.partition(id) {
                    partition.set_compacted(compacted);
                }
            }
            Fact::Producers(id, producers) => {
                for producer in producers {
                    self.staging.producers.restore(id, producer);
                }
            }
            Fact::State { kind, key, value } => {
                self.view.change_state(|table| table.apply(kind, &key, Some(&value)));
            }
            Fact::StateDamaged(kind, missing) => self.view.change_state(|table| {
                for places in missing {
                    table.note_damage(kind, places);
                }
            }),
            Fact::StateAccepted(kind) => {
                self.view.change_state(|table| table.note_accepted(kind));
            }
            Fact::Accepted(id, ranges) => {
                if let Some(partition) = self.view.partition(id) {
                    partition.restore_accepted(&ranges);
                }
            }
            Fact::Cold(_) | Fact::Partition(..) | Fact::Index(..) => {
                unreachable!("taken by load itself")
            }
        }
    }

    fn restore_partition(&mut self, id: PartitionId, fact: &PartitionFact) {
        let PartitionFact { topic_id, index, flush, .. } = *fact;
        self.view.apply(&Effect::Create { id, topic_id, index, flush }, &NOWHERE);
        if let Some(partition) = self.view.partition(id) {
            partition.restore(fact);
        }
        let staged = StagedPartition {
            next_offset: fact.next_offset,
            log_start: fact.log_start,
            leader_epoch: fact.epochs.last().map_or(0, |present| present.epoch),
            flush,
            closed: fact.closed,
        };
        self.staging.partitions.insert(id, staged);
        if fact.suspect {
            self.suspects.insert(id);
        }
    }

    fn open_cold(
        &mut self,
        paths: &Paths,
        directory_id: u64,
        fact: ColdFact,
    ) -> Result<(u32, FoundCold), OpenError> {
        let life = Life::cold(directory_id, fact.sequence, fact.incarnation);
        let path = cold::path_of(&paths.cold, fact.sequence);
        let mut found = FoundCold { sequence: fact.sequence, length: None, short: Vec::new() };
        if self.env.disk.exists(&path).map_err(failed("look at", &path))? {
            let file = self.env.disk.open_read_only(&path).map_err(failed("open", &path))?;
            found.length = Some(file.len().map_err(failed("measure", &path))?);
            let segment = ReadSegment { life, path, file, first_frame: 1, recycled: false };
            self.segments.insert(Arc::new(segment));
        } else {
            self.segments.missing.insert(life.file_key(), fact);
        }
        Ok((life.file_key(), found))
    }

    /// What is there is verified when it is read. Entries of what is not there any more stay: it
    /// may come back.
    fn restore_index(
        &mut self,
        id: PartitionId,
        entries: &[IndexEntry],
        colds: &mut BTreeMap<u32, FoundCold>,
    ) {
        for entry in entries {
            let end = (u64::from(entry.block) + u64::from(entry.blocks)) * BLOCK;
            let found = colds.get_mut(&entry.segment);
            let found = found.filter(|found| found.length.is_none_or(|length| length < end));
            if let Some(found) = found {
                found.short.push((id, *entry));
            }
        }
        self.view.restore_entries(id, entries);
    }

    /// Tells of what a cold file does not give any more for what is missing of it, but for what is
    /// known from before. What was given up is not in it for anybody any more; where a piece of it
    /// is left, its entry says whose that was (LOOK-3).
    fn report_short(&mut self, found: &FoundCold) {
        let mut lost = Vec::new();
        for (id, entry) in &found.short {
            let Some(partition) = self.view.partition(*id) else { continue };
            let view = partition.view();
            let first = entry.base_offset.max(view.log_start);
            if without(OffsetRange { first, ..entry.range() }, &view.accepted).is_empty() {
                if found.length.is_none_or(|length| length <= u64::from(entry.block) * BLOCK) {
                    self.view.forget_entry(*id, entry);
                }
                continue;
            }
            // What cannot be told now is an error to whoever reads it.
            let unreadable = reader::unreadable(&self.segments, *id, &partition, entry);
            let unreadable = unreadable.unwrap_or_default().into_iter();
            for range in unreadable.flat_map(|range| without(range, &view.damaged)) {
                push_joined(&mut lost, PartitionRange { partition: *id, range });
            }
        }
        for PartitionRange { partition, range } in &lost {
            if let Some(partition) = self.view.partition(*partition) {
                partition.note_loss(*range);
            }
        }
        if !lost.is_empty() {
            let length = found.length.unwrap_or(0);
            let finding = Finding::whole_file(FindingKind::ColdMissing, found.sequence, length);
            self.damage.push(Finding { partitions: lost, ..finding });
        }
    }

    /// Puts what was found damaged in a cold file back into service, if all of it verifies now:
    /// what a medium gave back wrongly once, or not at all, need not be lost (SCRUB-2).
    fn take_back(&self, lost: PartitionRange) -> bool {
        let PartitionRange { partition: id, range } = lost;
        let Some(partition) = self.view.partition(id).filter(|_| !range.is_open()) else {
            return false;
        };
        partition.forget_damage(range);
        let mut next = range.first.max(partition.bounds().0);
        while next <= range.last {
            let read =
                reader::read(&self.segments, id, &partition, next, JUDGED_BYTES, Unread::IsError);
            let Some(last) = read.ok().and_then(|slice| Some(slice.batches.last()?.last_offset))
            else {
                partition.note_loss(range);
                return false;
            };
            next = last + 1;
        }
        tracing::info!(%lost, "what could not be read before can be read, and is served again");
        true
    }

    /// What was found before is told at each start, for as long as it is not accepted.
    fn report_before(&mut self, known: Vec<PartitionRange>) {
        let states = self.view.state(crate::state::StateTable::damaged_kinds);
        if !known.is_empty() || !states.is_empty() {
            let finding = Finding::whole_file(FindingKind::DamagedBefore, 0, 0);
            self.damage.push(Finding { partitions: known, states, ..finding });
        }
    }
}

//! What a move begins with: everything up to its end as a start would read it, from the disk.

use std::sync::Arc;

use crate::effect::Effect;
use crate::gather::Gathered;
use crate::mover::{MoveError, Mover};
use crate::pace::Pace;
use crate::reader::ReadSegment;
use crate::recovery::Recovery;
use crate::report::{Finding, FindingKind};
use crate::restore::NOWHERE;

impl Mover {
    /// The checkpoint before and the frames since, read from the disk (MOVE-2, MOVE-3).
    pub(crate) fn fold(
        &self,
        sealed: &[Arc<ReadSegment>],
        end: u64,
    ) -> Result<Recovery, MoveError> {
        let env = &self.shared.env;
        let mut recovery = Recovery::new(env, &self.paths.quarantine, self.producer_id_high);
        if let Some(current) = &self.current {
            recovery
                .load(&self.paths, self.shared.directory_id, current)
                .map_err(MoveError::Read)?;
        }
        recovery.located = Some(Vec::new());
        recovery.pace = Some(Pace::begin(&self.shared));
        let (segments, durable) = (sealed.to_vec(), end - 1);
        let gathered = Gathered { segments, durable, ..Gathered::default() };
        recovery.walk(gathered, Some(end)).map_err(MoveError::Read)?;
        let is_known = |it: &Finding| self.known.iter().any(|known| known.covers(it));
        let is_news = |it: &&Finding| it.kind != FindingKind::DamagedBefore && !is_known(it);
        if let Some(finding) = recovery.damage.iter().find(is_news) {
            return Err(MoveError::Damage(finding.to_string()));
        }
        self.forget_removed(&mut recovery)?;
        self.keep_findings(&recovery);
        let now_ms = recovery.running_ms;
        recovery.staging.producers.make_room(now_ms, 0, &self.shared.config);
        Ok(recovery)
    }

    /// What has been found since the start in cold files, which no start reads, is told by the
    /// checkpoint from now on.
    fn keep_findings(&self, recovery: &Recovery) {
        for id in recovery.view.partition_ids() {
            let live = self.shared.view.partition(id).map(|live| live.view().damaged);
            let Some(partition) = recovery.view.partition(id) else { continue };
            let (_, end) = partition.bounds();
            for range in live.into_iter().flatten().filter(|range| range.last < end) {
                partition.note_loss(range);
            }
        }
    }

    /// What has been removed since need not be kept: the journal behind the checkpoint says so too.
    fn forget_removed(&self, recovery: &mut Recovery) -> Result<(), MoveError> {
        let came_back = self.came_back(recovery);
        for id in recovery.view.partition_ids() {
            let Some(staged) = recovery.staging.partitions.get(&id) else { continue };
            let log_start = match self.shared.view.partition(id) {
                Some(live) => live.bounds().0,
                None if came_back || self.unplaced.contains(&id) => {
                    let what = format!("partition {id} may be one that the start could not read");
                    return Err(MoveError::Damage(what));
                }
                // It was deleted.
                None => i64::MAX,
            };
            let effect = Effect::LogStart { id, offset: log_start.min(staged.next_offset) };
            recovery.staging.apply(&effect, None, recovery.running_ms);
            recovery.view.apply(&effect, &NOWHERE);
        }
        Ok(())
    }

    /// Whether frames of which nothing was left at the start can be read now: nobody knows what it
    /// would have made of them.
    fn came_back(&self, recovery: &Recovery) -> bool {
        let before = self.current.map_or(0, |current| current.through_frame);
        let walked = before + 1..recovery.expected;
        let is_lost =
            |it: &&Finding| it.kind == FindingKind::FramesLost && walked.contains(&it.first_frame);
        let is_still = |it: &Finding| {
            let mut lost = recovery.damage.iter().filter(|found| found.kind == it.kind);
            lost.any(|found| {
                found.first_frame <= it.first_frame && it.last_frame <= found.last_frame
            })
        };
        self.known.iter().filter(is_lost).any(|it| !is_still(it))
    }
}

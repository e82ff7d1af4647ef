//! A log whose last batch lies below the log start offset: it begins there, empty (`LogLoader`, a log end below the checkpointed
//! log start).
//!
//! Who empties a log says so before it removes anything, and may crash then; what it leaves is removed here. Any other start above
//! the end is nothing that the engine writes down: a checkpoint that somebody changed, or one that does not belong to these
//! segments, as behind a backup. So what they hold is kept aside, and reported.

use std::sync::Arc;

use super::repair::Change;
use super::report::BelowStart;
use super::{Recovery, quarantine};
use crate::epoch::LeaderEpochs;
use crate::error::Result;
use crate::segment::Segment;
use crate::types::Offset;

impl Recovery<'_> {
    /// Lets the log begin at its start, if it ends at `log_end` below. A repair only tells of it.
    pub(super) fn judge_start(&mut self, log_end: Offset) -> Result<()> {
        if log_end >= self.log_start || self.files.is_empty() {
            return Ok(());
        }
        let mut below = BelowStart { log_end, kept: Vec::new() };
        if !self.request.for_repair {
            self.start_over(&mut below)?;
        }
        self.report.below_start = Some(below);
        Ok(())
    }

    fn start_over(&mut self, below: &mut BelowStart) -> Result<()> {
        self.starts_over = true;
        // Whatever stays of a segment stays whole.
        self.changes.retain(|change| !matches!(change, Change::Name { .. } | Change::Cut { .. }));
        self.report.adopted_prepared = false;
        for (at, segment) in std::mem::take(&mut self.files).into_iter().enumerate() {
            let removal = match self.request.checkpointed.is_emptied() || !self.holds_batches(at, &segment) {
                true => Change::RemoveSegment(segment),
                false => {
                    let to = quarantine::of_file(self.request, segment.base_offset(), 0)?;
                    below.kept.push(to.clone());
                    Change::KeepBelowStart { segment, to }
                }
            };
            self.changes.push(removal);
        }
        self.scanned.clear();
        self.untouched = 0;
        self.scan.leader_epochs = LeaderEpochs::default();
        Ok(())
    }

    /// Whether there are batches in the file at this place. Of one that was not read: whether it has any bytes.
    fn holds_batches(&self, at: usize, segment: &Arc<Segment>) -> bool {
        let scanned = at.checked_sub(self.untouched).and_then(|at| self.scanned.get(at));
        scanned.map_or(segment.file().end(), |scanned| scanned.end) > 0
    }
}

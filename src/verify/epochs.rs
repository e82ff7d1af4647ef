//! The leader epochs on the disk, held against those of the batches.

use std::path::{Path, PathBuf};

use super::{ProblemKind, VerifyReport};
use crate::epoch::LeaderEpochs;
use crate::error::Result;
use crate::fs::Disk;
use crate::fs::name::partition_file;
use crate::log::read_leader_epochs;
use crate::segment::PlacedBatch;
use crate::types::{LeaderEpoch, Offset};

/// The history in the checkpoint file. Nothing is held against a file that is missing: opening makes it.
#[derive(Debug)]
pub(super) struct Epochs {
    path: PathBuf,
    recorded: Option<LeaderEpochs>,
    /// The newest epoch that was found to be missing, so that each is told once.
    missing: LeaderEpoch,
    /// Whether a batch disagreed, which is told once.
    is_wrong: bool,
}

impl Epochs {
    pub(super) fn read(disk: &dyn Disk, directory: &Path, report: &mut VerifyReport) -> Result<Self> {
        let path = directory.join(partition_file::LEADER_EPOCHS);
        let recorded = report.take(read_leader_epochs(disk, directory))?.flatten();
        Ok(Self { path, recorded, missing: LeaderEpoch::UNKNOWN, is_wrong: false })
    }

    /// The batch must be of the epoch that covers its offset: else the file is wrong, as it is made of the batches. Epochs
    /// behind the last one that it knows are those that a crash kept from it.
    pub(super) fn check(&mut self, batch: &PlacedBatch, report: &mut VerifyReport) {
        let Some(recorded) = &self.recorded else { return };
        let (offset, got) = (batch.header.base_offset, batch.header.leader_epoch);
        let Some(expected) = recorded.epoch_for_offset(offset) else { return };
        if got == expected || got == LeaderEpoch::UNKNOWN {
            return;
        }
        let is_newer = recorded.latest().is_some_and(|(latest, _)| got > latest);
        if !is_newer && !self.is_wrong {
            report.error(&self.path, 0, ProblemKind::LeaderEpoch { offset, expected, got });
            self.is_wrong = true;
        } else if is_newer && got > self.missing {
            report.note(&self.path, 0, ProblemKind::NewLeaderEpoch { epoch: got, offset });
            self.missing = got;
        }
    }

    pub(super) fn finish(&self, log_end: Offset, report: &mut VerifyReport) {
        let latest = self.recorded.as_ref().and_then(LeaderEpochs::latest);
        if let Some((epoch, start)) = latest
            && start > log_end
        {
            report.note(&self.path, 0, ProblemKind::LeaderEpochBeyondEnd { epoch, start, log_end });
        }
    }
}

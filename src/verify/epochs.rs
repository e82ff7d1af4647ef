//! The leader epochs on the disk, held against those of the batches.

use std::path::{Path, PathBuf};

use super::{ProblemKind, VerifyReport};
use crate::epoch::LeaderEpochs;
use crate::error::{CorruptionKind, Error, Result};
use crate::fs::Disk;
use crate::fs::missing::read_if_present;
use crate::fs::name::PartitionFile;
use crate::segment::PlacedBatch;
use crate::types::{LeaderEpoch, Offset};

const MAX_BYTES: u64 = 64 << 20;

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
        let path = directory.join(PartitionFile::LeaderEpochs.name().unwrap_or_default());
        let recorded = match report.take(read_if_present(disk, &path, MAX_BYTES))?.flatten() {
            None => None,
            Some(bytes) => report.take(decode(&bytes).map_err(|kind| Error::corrupt(&path, 0, kind)))?,
        };
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

fn decode(bytes: &[u8]) -> Result<LeaderEpochs, CorruptionKind> {
    let text = std::str::from_utf8(bytes).map_err(|_| CorruptionKind::Format("not text in UTF-8"))?;
    LeaderEpochs::decode(text)
}

//! The checkpoint files of a log directory, which tell three offsets of each of its partitions.

mod current;
mod text;

use std::path::Path;

pub(super) use current::state_of;
pub(crate) use text::OffsetsByPartition;
pub(super) use text::clean_shutdown;

use crate::error::{Error, IoContext, Result};
use crate::fs::missing::read_text_if_present;
use crate::fs::name::{TopicPartition, directory_file};
use crate::fs::{Disk, atomic};
use crate::log::CheckpointedState;
use crate::types::Offset;

/// The largest checkpoint file that is read.
const MAX_CHECKPOINT: u64 = 1 << 30;

/// The offsets of all partitions, as the files have them, or are to have.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    recovery_points: OffsetsByPartition,
    log_starts: OffsetsByPartition,
    high_watermarks: OffsetsByPartition,
    /// Whether files that were read are idemlog's own. Kafka's have not the start of each log.
    are_ours: bool,
}

impl Checkpoints {
    /// Reads the files. One that is missing tells of no partition.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for the first that is damaged; the disk's.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Self> {
        Self::read_by(disk, directory, |file| file)
    }

    /// The same for those who have something to say about each of the files: `judge` makes of it what is taken for its offsets.
    pub(crate) fn read_by(
        disk: &dyn Disk,
        directory: &Path,
        mut judge: impl FnMut(Result<OffsetsByPartition>) -> Result<OffsetsByPartition>,
    ) -> Result<Self> {
        let mut read = |file| judge(read_offsets(disk, directory, file));
        let recovery_points = read(directory_file::RECOVERY_POINTS)?;
        let log_starts = read(directory_file::LOG_STARTS)?;
        let high_watermarks = read(directory_file::HIGH_WATERMARKS)?;
        // Not for each partition: there may be many.
        let are_ours = recovery_points.keys().all(|name| log_starts.contains_key(name));
        Ok(Self { recovery_points, log_starts, high_watermarks, are_ours })
    }

    /// Replaces the files. That of the high watermarks is left out where nobody has ever set one.
    pub(super) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<()> {
        write_offsets(disk, directory, directory_file::RECOVERY_POINTS, &self.recovery_points)?;
        write_offsets(disk, directory, directory_file::LOG_STARTS, &self.log_starts)?;
        let path = directory.join(directory_file::HIGH_WATERMARKS);
        if self.high_watermarks.is_empty() && !disk.exists(&path).at("look up", &path)? {
            return Ok(());
        }
        write_offsets(disk, directory, directory_file::HIGH_WATERMARKS, &self.high_watermarks)
    }

    /// What they say of a partition, in a directory that is marked as closed well, or is not.
    pub(crate) fn state(&self, name: &TopicPartition, clean: bool) -> CheckpointedState {
        CheckpointedState {
            recovery_point: self.recovery_points.get(name).copied(),
            log_start: self.log_starts.get(name).copied(),
            high_watermark: self.high_watermarks.get(name).copied(),
            clean,
            is_ours: self.are_ours,
        }
    }

    /// Has them say so of a partition.
    pub(super) fn add(&mut self, name: &TopicPartition, state: CheckpointedState) {
        let offsets = [
            (&mut self.recovery_points, state.recovery_point),
            (&mut self.log_starts, state.log_start),
            (&mut self.high_watermarks, state.high_watermark),
        ];
        for (offsets, offset) in offsets {
            offsets.extend(offset.map(|offset| (name.clone(), offset)));
        }
    }

    pub(crate) fn recovery_points(&self) -> &OffsetsByPartition {
        &self.recovery_points
    }

    /// The partitions that any of them tells of, some more than once.
    pub(super) fn names(&self) -> impl Iterator<Item = &TopicPartition> {
        let told = [&self.recovery_points, &self.log_starts, &self.high_watermarks];
        told.into_iter().flat_map(|offsets| offsets.keys())
    }
}

/// Replaces the offset of one partition in one of the files.
pub(super) fn write_offset(
    disk: &dyn Disk,
    directory: &Path,
    file: &str,
    name: &TopicPartition,
    offset: Offset,
) -> Result<()> {
    let mut offsets = read_offsets(disk, directory, file)?;
    offsets.insert(name.clone(), offset);
    write_offsets(disk, directory, file, &offsets)
}

fn read_offsets(disk: &dyn Disk, directory: &Path, file: &str) -> Result<OffsetsByPartition> {
    let path = directory.join(file);
    let Some(text) = read_text_if_present(disk, &path, MAX_CHECKPOINT)? else {
        return Ok(OffsetsByPartition::new());
    };
    text::decode_offsets(&text).map_err(|kind| Error::corrupt(&path, 0, kind))
}

fn write_offsets(disk: &dyn Disk, directory: &Path, file: &str, offsets: &OffsetsByPartition) -> Result<()> {
    let encoded = text::encode_offsets(offsets);
    atomic::replace_file(disk, &directory.join(file), encoded.as_bytes())
}

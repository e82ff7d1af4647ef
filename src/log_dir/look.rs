//! For those who look at a log directory without opening it: what it is, who has it, and what its files say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoints::{Checkpoints, write_offset};
use super::options::ALL_PRODUCER_IDS;
use super::producers::{NamedProducers, ProducerIds};
use crate::error::{IoContext, Result};
use crate::fs::name::{PartitionDirectory, TopicPartition, directory_file};
use crate::fs::{Disk, RealDisk, lock};
use crate::log::CheckpointedState;
use crate::types::Offset;

/// A log directory on the real disk, and the name under which a partition lies in it.
pub(crate) struct Around {
    pub(crate) directory: PathBuf,
    pub(crate) name: TopicPartition,
}

impl Around {
    /// `None` for a partition that lies in no log directory, or under a name that an opening passes over: a copy.
    pub(crate) fn of_partition(path: &Path) -> Result<Option<Self>> {
        let path = std::fs::canonicalize(path).at("find", path)?;
        let Some(PartitionDirectory::Live(name)) = path.file_name().map(PartitionDirectory::parse) else {
            return Ok(None);
        };
        match path.parent() {
            Some(directory) if is_log_dir(&RealDisk, directory)? => {
                Ok(Some(Self { directory: directory.to_owned(), name }))
            }
            _ => Ok(None),
        }
    }

    /// What the checkpoints say of the partition.
    pub(crate) fn state(&self) -> Result<CheckpointedState> {
        let checkpoints = Checkpoints::read(&RealDisk, &self.directory)?;
        Ok(checkpoints.state(&self.name, is_clean(&RealDisk, &self.directory)?))
    }
}

/// The log directory at `path`, or around the partition there, if somebody has it open. Where that cannot be seen, nobody is
/// taken to have.
pub(crate) fn in_use(path: &Path) -> Option<PathBuf> {
    let around = Around::of_partition(path).ok().flatten().map(|around| around.directory);
    let is_held = |directory: &PathBuf| lock::is_held(&directory.join(directory_file::LOCK)).unwrap_or(false);
    [Some(path.to_owned()), around].into_iter().flatten().find(is_held)
}

/// Reads each of the files that are the directory's own and no checkpoint, as opening does. Writes nothing.
pub(crate) fn check_own_files(disk: &Arc<dyn Disk>, path: &Path) -> [Result<()>; 2] {
    [
        NamedProducers::open(Arc::clone(disk), path).map(drop),
        ProducerIds::open(Arc::clone(disk), path, ALL_PRODUCER_IDS, None).map(drop),
    ]
}

/// Whether one of the files that only a log directory has is there.
pub(crate) fn is_log_dir(disk: &dyn Disk, path: &Path) -> Result<bool> {
    let files = [directory_file::LOCK, directory_file::CLEAN_SHUTDOWN, directory_file::RECOVERY_POINTS];
    let mut found =
        files.iter().map(|file| path.join(file)).map(|file| disk.exists(&file).at("look up", &file));
    found.try_fold(false, |any, exists| Ok(any || exists?))
}

/// Whether a log directory is marked as closed well.
pub(crate) fn is_clean(disk: &dyn Disk, path: &Path) -> Result<bool> {
    let marker = path.join(directory_file::CLEAN_SHUTDOWN);
    disk.exists(&marker).at("look up", &marker)
}

/// Replaces the recovery point of one partition. The caller holds the lock of the directory.
pub(crate) fn write_recovery_point(disk: &dyn Disk, around: &Around, point: Offset) -> Result<()> {
    write_offset(disk, &around.directory, directory_file::RECOVERY_POINTS, &around.name, point)
}

/// Replaces the log start offset of one partition. The caller holds the lock of the directory.
pub(crate) fn write_log_start(disk: &dyn Disk, around: &Around, start: Offset) -> Result<()> {
    write_offset(disk, &around.directory, directory_file::LOG_STARTS, &around.name, start)
}

//! What lies in a partition's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::epoch::LeaderEpochs;
use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::missing::read_text_if_present;
use crate::fs::name::{PartitionFile, SegmentFile, Stage, is_quarantined, partition_file};
use crate::fs::{Disk, EntryKind};
use crate::log::options::MAX_SEGMENT_BYTES;
use crate::types::Offset;

/// The largest checkpoint file that is read.
const MAX_CHECKPOINT: u64 = 64 << 20;

/// The length of a `.log` file.
///
/// # Errors
///
/// [`Error::Corrupt`] for one that is longer than any can be; the disk's.
pub(crate) fn segment_length(disk: &dyn Disk, path: &Path) -> Result<u64> {
    match disk.len(path).at("look at", path)? {
        got if got > MAX_SEGMENT_BYTES => {
            Err(Error::corrupt(path, 0, CorruptionKind::TooLong { limit: MAX_SEGMENT_BYTES, got }))
        }
        len => Ok(len),
    }
}

/// The files of a partition, by what they are.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// The length of each `.log` file, by base offset.
    pub(super) logs: BTreeMap<Offset, u64>,
    /// The base offsets of index files.
    offset_indexes: BTreeSet<Offset>,
    time_indexes: BTreeSet<Offset>,
    transaction_indexes: BTreeSet<Offset>,
    /// Snapshots by offset, newest first.
    pub(super) snapshots: Vec<Offset>,
    /// The length of a segment that was prepared.
    pub(super) prepared: Option<u64>,
    /// Whether there is anything that was taken out of the log, and kept.
    pub(super) has_quarantined: bool,
    /// Leftovers that nothing refers to.
    pub(super) leftovers: Vec<PathBuf>,
    /// `None` if the file is missing or does not follow its format.
    pub(super) leader_epochs: Option<LeaderEpochs>,
}

impl Inventory {
    /// Lists the directory. Foreign files are left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where a name of ours is not a file, or Kafka left a compaction unfinished: a Kafka that is
    /// started and stopped once finishes it.
    pub(super) fn of(disk: &dyn Disk, directory: &Path) -> Result<Self> {
        let mut inventory = Self::default();
        for entry in disk.list(directory).at("list", directory)? {
            let file = PartitionFile::parse(&entry.name);
            let path = directory.join(&entry.name);
            if file != PartitionFile::Other && entry.kind != EntryKind::File {
                let problem = "a regular file must be here, not a directory or a link";
                return Err(Error::corrupt(&path, 0, CorruptionKind::Format(problem)));
            }
            inventory.has_quarantined |= is_quarantined(&entry.name);
            inventory.add(disk, file, path)?;
        }
        inventory.add_orphans(directory);
        inventory.snapshots.sort_unstable_by(|a, b| b.cmp(a));
        inventory.leader_epochs = match read_leader_epochs(disk, directory) {
            Err(Error::Corrupt(_)) => None,
            read => read?,
        };
        Ok(inventory)
    }

    fn add(&mut self, disk: &dyn Disk, file: PartitionFile, path: PathBuf) -> Result<()> {
        match file {
            PartitionFile::Segment { file, base, stage: Stage::Live } => match file {
                SegmentFile::Log => {
                    self.logs.insert(base, segment_length(disk, &path)?);
                }
                SegmentFile::OffsetIndex => self.offset_indexes.extend([base]),
                SegmentFile::TimeIndex => self.time_indexes.extend([base]),
                SegmentFile::Snapshot => self.snapshots.push(base),
                SegmentFile::TransactionIndex => self.transaction_indexes.extend([base]),
            },
            PartitionFile::Segment { stage: Stage::Swap, .. } => {
                let problem =
                    "a compaction or split by Kafka is unfinished: start Kafka on it once and stop it";
                return Err(Error::corrupt(&path, 0, CorruptionKind::Format(problem)));
            }
            PartitionFile::Segment { stage: Stage::Deleted | Stage::Cleaned, .. }
            | PartitionFile::Temporary => {
                self.leftovers.push(path);
            }
            PartitionFile::Prepared => self.prepared = Some(segment_length(disk, &path)?),
            PartitionFile::LeaderEpochs
            | PartitionFile::Metadata
            | PartitionFile::Quarantined { .. }
            | PartitionFile::Other => {}
        }
        Ok(())
    }

    /// Index files of segments that are not there.
    fn add_orphans(&mut self, directory: &Path) {
        let kinds = [
            (SegmentFile::OffsetIndex, &mut self.offset_indexes),
            (SegmentFile::TimeIndex, &mut self.time_indexes),
            (SegmentFile::TransactionIndex, &mut self.transaction_indexes),
        ];
        for (file, bases) in kinds {
            bases.retain(|base| {
                let belongs = self.logs.contains_key(base);
                if !belongs {
                    self.leftovers.push(directory.join(file.name(*base)));
                }
                belongs
            });
        }
    }

    /// Whether both index files of a segment are there.
    pub(super) fn has_indexes(&self, base: Offset) -> bool {
        self.offset_indexes.contains(&base) && self.time_indexes.contains(&base)
    }
}

/// The history in the checkpoint file, if there is one.
///
/// # Errors
///
/// [`Error::Corrupt`] for a file that does not follow its format; the disk's.
pub(crate) fn read_leader_epochs(disk: &dyn Disk, directory: &Path) -> Result<Option<LeaderEpochs>> {
    let path = directory.join(partition_file::LEADER_EPOCHS);
    let Some(text) = read_text_if_present(disk, &path, MAX_CHECKPOINT)? else { return Ok(None) };
    LeaderEpochs::decode(&text).map(Some).map_err(|kind| Error::corrupt(&path, 0, kind))
}

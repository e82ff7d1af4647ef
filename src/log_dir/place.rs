//! What lies at a path, for those who are told one by a human.

use std::path::Path;

use super::look::{Around, is_log_dir};
use crate::error::{IoContext, Result};
use crate::fs::name::{PartitionDirectory, PartitionFile, TopicPartition};
use crate::fs::{Disk, EntryKind};

/// What a directory is. Part of the answer of [`inspect::place`](crate::inspect::place()).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The directory of one partition.
    Partition,
    /// A log directory, or a directory with copies of partitions.
    LogDirectory {
        /// The partitions in it, in order.
        partitions: Vec<TopicPartition>,
    },
}

impl Place {
    /// `None` for a directory that is neither.
    pub(crate) fn of(disk: &dyn Disk, path: &Path) -> Result<Option<Self>> {
        let is_log_dir = is_log_dir(disk, path)?;
        let mut partitions = partitions_in(disk, path)?;
        if !is_log_dir {
            // Other directories have such names, too. What cannot be read is not passed over.
            partitions.retain(|name| holds_files(disk, &path.join(name.to_string())).unwrap_or(true));
        }
        Ok(if !partitions.is_empty() || is_log_dir {
            Some(Self::LogDirectory { partitions })
        } else {
            // Before the first append a partition has no file: it is one by its name in a log directory.
            let is_partition = holds_files(disk, path)? || Around::of_partition(path)?.is_some();
            is_partition.then_some(Self::Partition)
        })
    }
}

/// The directories that have names of partitions, in order.
fn partitions_in(disk: &dyn Disk, path: &Path) -> Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for entry in disk.list(path).at("list", path)? {
        if entry.kind == EntryKind::Directory
            && let PartitionDirectory::Live(name) = PartitionDirectory::parse(&entry.name)
        {
            partitions.push(name);
        }
    }
    partitions.sort();
    Ok(partitions)
}

/// Whether there is any file that only a partition has.
fn holds_files(disk: &dyn Disk, directory: &Path) -> Result<bool> {
    let entries = disk.list(directory).at("list", directory)?;
    let is_ours =
        |name| !matches!(PartitionFile::parse(name), PartitionFile::Other | PartitionFile::Temporary);
    Ok(entries.iter().any(|entry| is_ours(&entry.name)))
}

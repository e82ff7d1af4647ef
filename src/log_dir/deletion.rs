//! The end of a partition. A crash, or a call of the disk that fails, leaves it whole or deleted; in which of the two cases it is
//! can only be told once the new name of its directory is durable. Until then it counts as one that failed.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::checkpoints::state_of;
use super::creation::sought;
use super::found::{Failed, empty_deleted};
use super::{Inner, LogDir};
use crate::error::{Error, IoContext, Result};
use crate::fs::missing::if_present;
use crate::fs::name::{PartitionDirectory, TopicPartition};
use crate::log::Log;
use crate::panic::watched;

impl LogDir {
    /// Deletes a partition, also one that [did not open](Self::failed): handles answer [`Error::Gone`](crate::Error::Gone) from
    /// now on, slices stay. `false` if there is none.
    ///
    /// The directory is renamed first, so that a crash leaves the partition whole or deleted; what was not removed yet is
    /// removed by the next opening.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, Error, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// let batch = BatchBuilder::new().record(b"key", b"value").build()?;
    /// log.append(&batch)?;
    /// assert!(dir.delete_partition("orders", 0)?);
    ///
    /// assert!(matches!(log.append(&batch), Err(Error::Gone)));
    /// assert!(!dir.delete_partition("orders", 0)?); // there is none any more
    /// assert_eq!(dir.partition("orders", 0)?.log_end_offset(), Offset(0)); // another one
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTopic`](crate::Error::InvalidTopic) for a name that Kafka would refuse;
    /// [`Error::Closed`](crate::Error::Closed), [`Error::ReadOnly`](crate::Error::ReadOnly) if the directory is.
    ///
    /// The disk's. If the partition is not deleted, or may come back after a crash, it is among those that
    /// [`failed`](Self::failed) from now on, and the call can be made again; else only its files could not be removed.
    pub fn delete_partition(&self, topic: &str, partition: i32) -> Result<bool> {
        let name = sought(topic, partition)?;
        let inner = &self.inner;
        if inner.options.read_only {
            return Err(self.read_only());
        }
        let Some(name) = name else { return self.check_open().map(|()| false) };
        let mut abandoned = None;
        let deleted = self.delete(&name, &mut abandoned);
        abandoned.iter().for_each(Log::tell);
        match &deleted {
            Ok(true) => {
                event!(info, partition = %name, "partition deleted");
            }
            Ok(false) => {}
            Err(_error) => {
                event!(warn, partition = %name, error = %_error, "a deletion failed");
            }
        }
        deleted
    }

    /// Deletes the partition. Nobody who waits for its log, if it is open, is told.
    fn delete(&self, name: &TopicPartition, abandoned: &mut Option<Log>) -> Result<bool> {
        let Some(doomed) = self.take_out(name, abandoned)? else { return Ok(false) };
        let (disk, environment) = (&*self.inner.options.disk, &self.inner.environment);
        // Of a large partition this takes long, and nobody else looks at that name.
        empty_deleted(disk, &doomed)?;
        environment.with_reserve(|| environment.checkpoints.write())?;
        if_present(disk.remove_directory(&doomed)).at("remove", &doomed)?;
        Ok(true)
    }

    /// Takes a partition out of the directory, durably. Returns where its files are then; `None` if there is none.
    fn take_out(&self, name: &TopicPartition, abandoned: &mut Option<Log>) -> Result<Option<PathBuf>> {
        let inner = &self.inner;
        let _turn = inner.creating.lock();
        self.check_open()?;
        *abandoned = inner.partitions.read().get(name).cloned();
        // Waits for work of the partition that may itself wait to look at the partitions.
        abandoned.iter().for_each(Log::abandon);
        let Some(doomed) = inner.begin_deletion(name) else { return Ok(None) };
        let rename = || inner.rename_durably(&inner.path.join(name.to_string()), &doomed);
        let renamed = watched(rename, || inner.end_deletion(name, Some(&Error::Gone)));
        inner.end_deletion(name, renamed.as_ref().err());
        renamed?;
        inner.environment.checkpoints.set_stale();
        Ok(Some(doomed))
    }
}

impl Inner {
    /// Notes that a partition is being deleted. Which name its directory gets; `None` if there is none. The caller has the turn
    /// to create.
    fn begin_deletion(&self, name: &TopicPartition) -> Option<PathBuf> {
        let (mut failed, mut partitions) = (self.failed.lock(), self.partitions.write());
        if let Some(log) = partitions.remove(name) {
            failed.insert(name.clone(), Failed::new(Error::Gone, state_of(&log)));
        }
        let going = failed.get_mut(name)?;
        going.is_going = true;
        // An earlier try may have given it the name already.
        let doomed = || self.path.join(PartitionDirectory::deleted(name, self.unique(name)));
        Some(going.doomed.get_or_insert_with(doomed).clone())
    }

    /// Notes what a deletion came to.
    fn end_deletion(&self, name: &TopicPartition, error: Option<&Error>) {
        let mut failed = self.failed.lock();
        match (error, failed.get_mut(name)) {
            (None, _) => {
                failed.remove(name);
                self.gone.lock().insert(name.clone());
            }
            (Some(error), Some(left)) => {
                left.is_going = false;
                if matches!(left.error, Error::Gone) {
                    left.error = error.clone();
                }
            }
            (Some(_), None) => {}
        }
    }

    fn rename_durably(&self, directory: &Path, doomed: &Path) -> Result<()> {
        let disk = &*self.options.disk;
        // An earlier try may have come as far as this.
        if_present(disk.rename(directory, doomed)).at("rename", directory)?;
        disk.sync_directory(&self.path).at("sync directory", &self.path)
    }

    /// A number that no earlier deletion of the same name had.
    fn unique(&self, name: &TopicPartition) -> u128 {
        let now = self.options.clock.now().0 as u128;
        let count = self.deletions.fetch_add(1, Ordering::Relaxed) as u128;
        (now << 64) ^ (count << 16) ^ name.partition() as u128
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::fs::sim::{Fault, Operation, SimDisk};
    use crate::fs::{Disk, IoMode};
    use crate::{BatchBuilder, LogDir, LogDirOptions, LogOptions};

    /// The blocks of a segment that was prepared, and what was filled since the budget was last told, counted for ever. When
    /// enough partitions were deleted, all others got their blocks in the smallest steps.
    #[test]
    fn a_deleted_partition_leaves_nothing_in_the_budget_of_space() {
        for mode in [IoMode::Mapped, IoMode::Write] {
            let disk = SimDisk::new(mode);
            let log = LogOptions::default().io_mode(Some(mode)).segment_bytes(100 << 10);
            let options = LogDirOptions::default().disk(Arc::new(disk.clone())).log(log);
            let dir = LogDir::open("/data", options).unwrap();
            let room = || dir.inner.environment.space.room();
            let before = room();
            let log = dir.partition("t", 0).unwrap();
            let of_size = |size: usize| BatchBuilder::new().record("k", vec![b'x'; size]).build().unwrap();
            log.append(&of_size(20 << 10)).unwrap();
            // The next segment is made, and then there are no blocks for the batch.
            disk.inject(Fault::nth(Operation::Allocate, 2));
            log.append(&of_size(90 << 10)).unwrap_err();
            assert!(disk.exists("/data/t-0/segment.prepared".as_ref()).unwrap());
            dir.delete_partition("t", 0).unwrap();
            assert_eq!(before - room(), 0, "{mode:?}");
        }
    }
}

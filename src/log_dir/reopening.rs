//! A partition that takes nothing any more, opened again while the directory and all others stay open. It is closed for good
//! first, as with the whole directory, and counts as one that failed until what was recovered is on the disk.

use std::path::Path;

use super::checkpoints::state_of;
use super::found::{Failed, open_request, report_unopened};
use super::{Inner, LogDir};
use crate::error::{Error, IoContext, Result};
use crate::fs::name::TopicPartition;
use crate::log::{CheckpointedState, Log};

impl LogDir {
    /// Opens a partition again that takes nothing any more, and recovers it, while the directory and all others stay open: one
    /// that [did not open](Self::failed), now that the cause is mended; one that is [poisoned](crate::Error::Poisoned), as after a
    /// sync that failed; or one that was [closed](Log::close). Its options are asked for anew.
    ///
    /// Handles from before stay closed for good, slices stay. Partitions are created and deleted only when it is through, which
    /// for a long log takes as long as at an opening of the directory; everything else goes on meanwhile.
    ///
    /// A crash in the middle leaves what one leaves while the directory opens.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// log.close()?;
    ///
    /// let log = dir.reopen_partition("orders", 0)?;
    /// assert_eq!(log.log_end_offset(), Offset(1));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if it is open and takes appends; [`Error::Gone`] if there is no such partition; the first error of a
    /// deletion that is to be called again; [`Error::InvalidTopic`], [`Error::InvalidPartition`] for a name that no partition has;
    /// [`Error::Closed`], [`Error::ReadOnly`] if the directory is; else what keeps the partition from
    /// opening. It is among those that [`failed`](Self::failed) then, and the call can be made again.
    pub fn reopen_partition(&self, topic: &str, partition: i32) -> Result<Log> {
        let name = TopicPartition::new(topic, partition)?;
        let inner = &self.inner;
        self.check_open()?;
        if inner.options.read_only {
            return Err(self.read_only());
        }
        // Before the turn: who waits for the old log is told, and may call the directory. How it closes tells nothing new.
        let ended = inner.partitions.read().get(&name).filter(|log| log.ended().is_some()).cloned();
        ended.iter().for_each(|log| drop(log.close()));
        let _turn = inner.creating.lock();
        self.check_open()?;
        let state = inner.set_apart(&name)?;
        inner.reopen(&name, state).inspect_err(|error| {
            report_unopened(&name, error);
            inner.failed.lock().entry(name.clone()).and_modify(|failed| failed.error = error.clone());
        })
    }
}

impl Inner {
    /// Counts a partition whose log was closed among those that failed. What the checkpoints say of it.
    fn set_apart(&self, name: &TopicPartition) -> Result<CheckpointedState> {
        let (mut failed, mut partitions) = (self.failed.lock(), self.partitions.write());
        if let Some(log) = partitions.get(name) {
            match log.ended() {
                Some(closed @ (Error::Closed | Error::Gone)) => {
                    failed.insert(name.clone(), Failed::new(closed, state_of(log)));
                }
                // Somebody else was faster.
                _ => return Err(Error::Exists { path: log.directory().to_owned() }),
            }
            partitions.remove(name);
        }
        match failed.get(name) {
            Some(Failed { error, doomed: Some(_), .. }) => Err(error.clone()),
            Some(Failed { state, .. }) => Ok(*state),
            None => Err(Error::Gone),
        }
    }

    /// Whether the directory of a partition that was missing is there.
    fn expect_back(&self, name: &TopicPartition, directory: &Path) -> Result<()> {
        let is_here = self.options.disk.exists(directory).at("look up", directory)?;
        match self.failed.lock().get(name) {
            Some(failed) if failed.is_missing() && !is_here => Err(failed.error.clone()),
            _ => Ok(()),
        }
    }

    /// Opens a partition that failed. The caller has the turn to create.
    fn reopen(&self, name: &TopicPartition, state: CheckpointedState) -> Result<Log> {
        let directory = self.path.join(name.to_string());
        self.expect_back(name, &directory)?;
        let options = self.options.log_options(name)?;
        let log = Log::open(open_request(name, directory, options, &self.environment, state)?)?;
        let recovered = state_of(&log);
        self.failed.lock().entry(name.clone()).and_modify(|failed| failed.state = recovered);
        // By the old one, what is appended behind a cut would be taken for durable, and its loss for damage.
        self.environment.with_reserve(|| self.environment.checkpoints.write())?;
        self.pass_ids_of(&log);
        let (mut failed, mut partitions) = (self.failed.lock(), self.partitions.write());
        // Whoever was fenced since it was opened was fenced in the partitions that are here.
        log.raise_fences();
        failed.remove(name);
        partitions.insert(name.clone(), log.clone());
        // A worker may have moved its recovery point already, and the files were written by what was known of it before.
        self.environment.checkpoints.set_stale();
        Ok(log)
    }
}

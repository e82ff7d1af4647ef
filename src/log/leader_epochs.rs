//! The history of leader epochs of a partition: what a leader says and answers, and the file that keeps it.

use super::{Appender, Log, Shared};
use crate::epoch::LeaderEpochs;
use crate::error::Result;
use crate::fs::atomic;
use crate::fs::name::partition_file;
use crate::types::{LeaderEpoch, Offset};

impl Log {
    /// The leader epoch that appended batches are stamped with: the highest in the log at first, 0 in a new one.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.shared.appender.lock().leader_epoch
    }

    /// Leads the partition in `epoch` from now on, as a new leader does before it takes or answers anything: appended batches
    /// are stamped with it, and the epochs before it end at the log end offset, also while no batch is stored
    /// ([`end_offset_for_epoch`](Self::end_offset_for_epoch)). A lower one than before is ignored.
    ///
    /// On the disk its first batch tells of it: after an opening who leads says it again.
    pub fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        let mut appender = self.shared.appender.lock();
        appender.leader_epoch = appender.leader_epoch.max(epoch);
    }

    /// Where each leader epoch began, oldest first.
    pub fn leader_epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        self.shared.appender.lock().leader_epochs.entries().to_vec()
    }

    /// Where the largest leader epoch that is not above `epoch` ends in this log, exclusive: what a leader answers a
    /// follower that asks for the end of its own latest epoch, to find where the two logs part. The latest epoch ends at
    /// the log end offset: that of the last batch, or the [`leader_epoch`](Self::leader_epoch) above it, which begins
    /// there as long as it has no batch. `None` for one above it. Source: `OffsetsForLeaderEpoch`, KIP-101, KIP-279.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LeaderEpoch, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// for epoch in [1, 4] {
    ///     log.set_leader_epoch(LeaderEpoch(epoch));
    ///     log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// }
    /// assert_eq!(log.end_offset_for_epoch(LeaderEpoch(2)), Some((LeaderEpoch(1), Offset(1))));
    /// assert_eq!(log.end_offset_for_epoch(LeaderEpoch(4)), Some((LeaderEpoch(4), Offset(2))));
    ///
    /// log.set_leader_epoch(LeaderEpoch(6)); // elected again, nothing stored since
    /// assert_eq!(log.end_offset_for_epoch(LeaderEpoch(5)), Some((LeaderEpoch(4), Offset(2))));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let appender = self.shared.appender.lock();
        appender.leader_epochs.end_offset_for(epoch, self.shared.watermarks.log_end(), appender.leader_epoch)
    }

    /// The leader epoch of the batch at `offset`, as far as the history goes back.
    pub fn epoch_of_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.appender.lock().leader_epochs.epoch_for_offset(offset)
    }
}

impl Appender {
    /// The highest leader epoch in the log.
    pub(super) fn latest_epoch(&self) -> LeaderEpoch {
        self.leader_epochs.latest().map_or(LeaderEpoch::UNKNOWN, |(epoch, _)| epoch)
    }

    /// What the next batch is stamped with at least: recovery takes none behind one of a higher leader epoch.
    pub(super) fn lowest_next_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.max(self.latest_epoch())
    }
}

impl Shared {
    pub(super) fn write_leader_epochs_now(&self) -> Result<()> {
        let _sealing = self.sealing.lock();
        self.commit.check()?;
        self.write_leader_epochs()
    }

    pub(super) fn write_leader_epochs(&self) -> Result<()> {
        let epochs = self.appender.lock().leader_epochs.clone();
        self.replace_leader_epochs(&epochs)
    }

    /// A new leader's epoch may begin where the log ends, with no batch of it.
    pub(super) fn forget_epochs_behind_the_end(&self) -> Result<()> {
        let mut appender = self.appender.lock();
        let mut epochs = appender.leader_epochs.clone();
        epochs.truncate_from_end(self.watermarks.log_end());
        if epochs != appender.leader_epochs {
            self.replace_leader_epochs(&epochs)?;
            appender.leader_epochs = epochs;
        }
        Ok(())
    }

    pub(super) fn replace_leader_epochs(&self, epochs: &LeaderEpochs) -> Result<()> {
        let path = self.path(partition_file::LEADER_EPOCHS);
        atomic::replace_file(&*self.environment.disk, &path, epochs.encode().as_bytes())
    }
}

//! The partitions of a directory: one that is sought, and made where it is missing.

use std::path::Path;

use super::found::open_request;
use super::{Inner, LogDir};
use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::name::TopicPartition;
use crate::fs::{EntryKind, atomic};
use crate::log::{CheckpointedState, Log};
use crate::types::TopicId;

impl LogDir {
    /// The log of a partition, which is created if missing, unless the directory is
    /// [`read_only`](crate::LogDirOptions::read_only). A new one is durable when this returns; a crash before may leave it or not.
    ///
    /// Of a partition that was [closed](Log::close) or is poisoned it is the handle that says so:
    /// [`reopen_partition`](Self::reopen_partition) opens it again.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTopic`] for a name that Kafka would refuse; [`Error::InvalidPartition`] for a number below 0;
    /// [`Error::InvalidOption`] for options of [`log_for`](crate::LogDirOptions::log_for) that cannot work; [`Error::ReadOnly`] where
    /// one would have to be created in a directory that is; [`Error::Corrupt`] if a file or a link has its name, or where its directory
    /// [has vanished](CorruptionKind::MissingPartition); what kept the partition from
    /// opening, or its deletion from ending; [`Error::Closed`] if the directory is; the disk's.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<Log> {
        let name = TopicPartition::new(topic, partition)?;
        match self.existing(&name) {
            Ok(Some(log)) => return Ok(log),
            // It may just be deleted, and is made anew behind that.
            Ok(None) | Err(Error::Gone) => {}
            Err(error) => return Err(error),
        }
        let _turn = self.inner.creating.lock();
        match self.existing(&name)? {
            Some(log) => Ok(log),
            None => self.create(name),
        }
    }

    /// Creates a partition that must not be there yet. It is durable when this returns. One that a call before a crash, or one
    /// that failed, has begun may be there after the next opening.
    ///
    /// ```
    /// use idemlog::{ErrorCode, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// dir.create_partition("orders", 0)?;
    /// let again = dir.create_partition("orders", 0).unwrap_err();
    /// assert_eq!(again.code(), ErrorCode::TopicAlreadyExists);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if it is there; else as [`partition`](Self::partition).
    pub fn create_partition(&self, topic: &str, partition: i32) -> Result<Log> {
        let name = TopicPartition::new(topic, partition)?;
        let _turn = self.inner.creating.lock();
        match self.existing(&name)? {
            Some(log) => Err(Error::Exists { path: log.directory().to_owned() }),
            None => self.create(name),
        }
    }

    /// [`partition`](Self::partition) of the topic with this id, which is noted in the partition, durably, if it has none. A crash
    /// before it returns may leave the partition without the id, or none.
    ///
    /// ```
    /// use idemlog::{Error, LogDir, LogDirOptions, TopicId};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// dir.partition_of(TopicId([1; 16]), "orders", 0)?;
    /// let deleted_and_created_again = dir.partition_of(TopicId([2; 16]), "orders", 0);
    /// assert!(matches!(deleted_and_created_again, Err(Error::TopicId { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TopicId`] if it belongs to another topic of the same name; [`Error::UnknownTopicId`] for [`TopicId::ZERO`], by which
    /// nothing is made: who does not know the id calls [`partition`](Self::partition). [`Error::ReadOnly`], [`Error::Poisoned`] and
    /// [`Error::Closed`] of a partition in which the id would have to be noted. Else as there.
    pub fn partition_of(&self, id: TopicId, topic: &str, partition: i32) -> Result<Log> {
        if id == TopicId::ZERO {
            return Err(Error::UnknownTopicId);
        }
        let log = self.partition(topic, partition)?;
        log.belong_to(id)?;
        Ok(log)
    }

    /// The log of a partition, if there is one; below 0 there is none.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTopic`] for a name that Kafka would refuse; what kept the partition from opening, or its deletion
    /// from ending; [`Error::Gone`] in the middle of one; [`Error::Closed`] if the directory is.
    pub fn find(&self, topic: &str, partition: i32) -> Result<Option<Log>> {
        self.check_open()?;
        sought(topic, partition)?.map_or(Ok(None), |name| self.existing(&name))
    }

    fn existing(&self, name: &TopicPartition) -> Result<Option<Log>> {
        self.check_open()?;
        match self.inner.failed.lock().get(name) {
            Some(failed) => Err(failed.error.clone()),
            None => Ok(self.inner.partitions.read().get(name).cloned()),
        }
    }

    /// Makes a partition. The caller has the turn to create, and has found none.
    fn create(&self, name: TopicPartition) -> Result<Log> {
        let inner = &self.inner;
        let directory = inner.path.join(name.to_string());
        if inner.options.read_only {
            return Err(Error::ReadOnly { path: directory });
        }
        inner.expect_no_impostor(&directory)?;
        let options = inner.options.log_options(&name)?;
        // After a crash the new partition would be measured by the recovery point and log start of the one before it.
        if inner.gone.lock().contains(&name) {
            inner.environment.checkpoints.write()?;
        }
        atomic::create_level(&*inner.options.disk, &directory)?;
        let state = CheckpointedState::default();
        let log = Log::open(open_request(&name, directory, options, &inner.environment, state)?)?;
        // Its directory may have been there, from elsewhere.
        inner.pass_ids_of(&log);
        inner.partitions.write().insert(name, log.clone());
        Ok(log)
    }
}

impl Inner {
    /// Refuses what is no directory under a partition's name: a link would lead out of this one.
    fn expect_no_impostor(&self, directory: &Path) -> Result<()> {
        let kind = self.options.disk.kind(directory).at("look up", directory)?;
        if kind.is_none_or(|kind| kind == EntryKind::Directory) {
            return Ok(());
        }
        let problem = "a directory must be here, not a file or a link";
        Err(Error::corrupt(directory, 0, CorruptionKind::Format(problem)))
    }
}

/// The name of a partition that somebody looks for; `None` below 0, where none can be.
pub(super) fn sought(topic: &str, partition: i32) -> Result<Option<TopicPartition>> {
    match TopicPartition::new(topic, partition) {
        Err(Error::InvalidPartition { .. }) => Ok(None),
        name => name.map(Some),
    }
}

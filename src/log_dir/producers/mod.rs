//! The producers of a directory: the ids that it hands out, and those that come under a name. What a partition knows of its
//! producers is [`producer`](crate::producer)'s.

mod ids;
mod named;
mod own_file;
mod producer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(super) use ids::ProducerIds;
pub(super) use named::NamedProducers;
pub use producer::{LastBatch, Producer};

use super::{Inner, LogDir, LogDirOptions};
use crate::environment::Fences;
use crate::error::Result;
use crate::fs::name::TopicPartition;
use crate::log::Log;
use crate::types::{ProducerEpoch, ProducerId};

impl LogDir {
    /// A producer id that this directory never handed out before, also not before a crash, and that no partition knew when the
    /// directory was opened. Ids of 2^62 and more that clients bring along do not count: one such client could use up all ids.
    ///
    /// Of other directories it knows nothing. Where partitions go from one to another, as replicas do, each needs a range of
    /// its own, [`LogDirOptions::producer_ids`]: two producers with one id are one to a partition, which may answer the second
    /// one's first batch as a duplicate of the first one's, and not store it.
    ///
    /// ```
    /// use idemlog::{LogDir, LogDirOptions, ProducerId};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let of_broker = |broker: i64| ProducerId(broker << 40)..ProducerId((broker + 1) << 40);
    /// let dir = LogDir::open(data.path(), LogDirOptions::default().producer_ids(of_broker(7)))?;
    /// assert_eq!(dir.new_producer_id()?, ProducerId(7 << 40));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The disk's, when a new block of ids cannot be reserved; nothing is handed out.
    /// [`Error::ProducerIdsExhausted`](crate::Error::ProducerIdsExhausted) at the end of the range.
    /// [`Error::Closed`](crate::Error::Closed), [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn new_producer_id(&self) -> Result<ProducerId> {
        self.check_open()?;
        self.inner.producer_ids.as_ref().ok_or_else(|| self.read_only())?.next()
    }

    /// Gives out no producer id up to `known` any more, also after a restart: for a host that hears from the peers of a directory which
    /// of its ids their partitions know. An empty disk in the place of one that was lost begins its range anew, and its partitions
    /// come to know the ids that were given out before only when they have been filled again. An id that is not in the directory's
    /// [range](LogDirOptions::producer_ids) changes nothing.
    ///
    /// A range that was never used is safer: it does not depend on what the peers still know.
    ///
    /// ```
    /// use idemlog::{LogDir, LogDirOptions, ProducerId};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// dir.pass_producer_id(ProducerId(41))?;
    /// assert_eq!(dir.new_producer_id()?, ProducerId(42));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The disk's: it may be given out still. [`Error::Closed`](crate::Error::Closed); [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn pass_producer_id(&self, known: ProducerId) -> Result<()> {
        self.check_open()?;
        self.inner.producer_ids.as_ref().ok_or_else(|| self.read_only())?.pass_durably(known)
    }

    /// The producer of a name: the same id every time, with a higher epoch at every call. From the moment this returns
    /// the one before is refused in every partition, also after a restart; a crash before may have used up an epoch. After epoch
    /// 32,766 comes a new id. The name is kept for good; what the producer stored last is forgotten in a partition like that of
    /// every other ([`expiry_ms`](crate::ProducerPolicy)).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) for a name that is not 1 to 249 bytes long;
    /// [`Error::ProducerNamesExhausted`](crate::Error::ProducerNamesExhausted) for a new name where there are two million; where a
    /// new id is needed, [`Error::ProducerIdsExhausted`](crate::Error::ProducerIdsExhausted);
    /// [`Error::Closed`](crate::Error::Closed), [`Error::ReadOnly`](crate::Error::ReadOnly); the disk's. No epoch was used up then,
    /// or one that nobody has.
    pub fn producer(&self, name: &str) -> Result<Producer> {
        self.check_open()?;
        let named = self.inner.named_producers.as_ref().ok_or_else(|| self.read_only())?;
        let next = named.next_incarnation(name, || self.new_producer_id())?;
        // The directory's fences first: a partition that does not know the producer yet asks them, as does one that is made behind
        // the look at which there are.
        next.fences().for_each(|(id, epoch)| self.inner.environment.fences.raise(id, epoch));
        // Of a new id, at epoch 0, there is nobody to refuse in any of them.
        for (id, epoch) in next.fences().filter(|&(_, epoch)| epoch > ProducerEpoch(0)) {
            self.inner.logs().iter().for_each(|log| log.fence(id, epoch));
        }
        Ok(Producer::new(next.id, next.epoch))
    }
}

impl Inner {
    /// Gives out no id that a partition knows which has just been opened. Before anybody else sees it.
    pub(super) fn pass_ids_of(&self, log: &Log) {
        if let Some(ids) = &self.producer_ids {
            ids.pass(log.highest_producer_id_below(self.options.producer_ids.end));
        }
    }
}

/// Reads who has come under a name, and fences all others, before any partition is opened: each raises the epochs of those
/// whom it knows. `None` for those who only read.
pub(super) fn open_named_producers(
    path: &Path,
    options: &LogDirOptions,
    fences: &Fences,
) -> Result<Option<NamedProducers>> {
    if options.read_only {
        return Ok(None);
    }
    let named = NamedProducers::open(Arc::clone(&options.disk), path)?;
    named.fences().for_each(|(id, epoch)| fences.raise(id, epoch));
    Ok(Some(named))
}

/// The allocator starts above every id that a partition or a named producer has, but for those that a client made up.
pub(super) fn open_producer_ids(
    path: &Path,
    options: &LogDirOptions,
    partitions: &BTreeMap<TopicPartition, Log>,
    named: &NamedProducers,
) -> Result<ProducerIds> {
    let range = &options.producer_ids;
    let named = named.fences().map(|(id, _)| id).filter(|&id| id < range.end);
    let known =
        partitions.values().filter_map(|log| log.highest_producer_id_below(range.end)).chain(named).max();
    ProducerIds::open(Arc::clone(&options.disk), path, range.clone(), known)
}

//! Many partitions in one directory: who owns it, what is in it, and what they share.

mod checkpoints;
mod closing;
mod creation;
mod deletion;
mod found;
pub(crate) mod look;
mod named_producers;
mod opening;
mod options;
mod own_file;
mod place;
mod producer;
mod producer_ids;
mod reopening;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};

pub use options::LogDirOptions;
pub use place::Place;
pub use producer::{LastBatch, Producer};

use crate::environment::{Environment, Queue};
use crate::error::{Error, Result};
use crate::fs::name::TopicPartition;
use crate::log::{Log, LogMetrics};
use crate::types::ProducerId;
pub(crate) use checkpoints::{Checkpoints, OffsetsByPartition};
use found::Failed;
use named_producers::NamedProducers;
pub(crate) use opening::take_lock;
use producer_ids::ProducerIds;

/// A directory of partitions, owned by one process at a time. Cloning is cheap; every method may be called from any
/// thread.
///
/// Dropping the last handle neither blocks nor marks the directory clean: the next opening recovers, as after a crash.
/// [`close`](Self::close) leaves it nothing to do.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
/// dir.close()?;
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    options: LogDirOptions,
    environment: Arc<Environment>,
    /// Held while partitions are deleted; appends and reads do not come by here.
    partitions: RwLock<BTreeMap<TopicPartition, Log>>,
    /// One partition is created at a time.
    creating: Mutex<()>,
    /// The partitions that are gone, but of which the checkpoint files may still tell.
    gone: Mutex<BTreeSet<TopicPartition>>,
    /// The partitions that did not open, or whose deletion failed. None of them is among `partitions`; locked before those.
    failed: Mutex<BTreeMap<TopicPartition, Failed>>,
    producer_ids: Option<ProducerIds>,
    named_producers: Option<NamedProducers>,
    closed: AtomicBool,
    deletions: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl LogDir {
    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The partitions that are open, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.inner.partitions.read().keys().cloned().collect()
    }

    /// The partitions that did not open, and why, and those whose deletion failed. Their files are as they were, or, where only
    /// the last step of a deletion failed, under the name of what is deleted.
    pub fn failed(&self) -> Vec<(TopicPartition, Error)> {
        self.inner.failed.lock().iter().map(|(name, failed)| (name.clone(), failed.error.clone())).collect()
    }

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
    /// The disk's, when a new block of ids cannot be reserved; nothing is handed out. [`Error::ProducerIdsExhausted`] at the end
    /// of the range.
    pub fn new_producer_id(&self) -> Result<ProducerId> {
        self.check_open()?;
        self.inner.producer_ids.as_ref().ok_or_else(|| self.read_only())?.next()
    }

    /// The producer of a name: the same id every time, with a higher epoch at every call. From the moment this returns
    /// the one before is refused in every partition, also after a restart. After epoch 32,766 comes a new id. The name is kept for good; what
    /// the producer stored last is forgotten in a partition like that of every other
    /// ([`expiry_ms`](crate::ProducerPolicy)).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] for a name that is not 1 to 249 bytes long; [`Error::ProducerNamesExhausted`] for a new name where
    /// there are two million; the disk's. No epoch was used up then, or one that nobody has.
    pub fn producer(&self, name: &str) -> Result<Producer> {
        self.check_open()?;
        let named = self.inner.named_producers.as_ref().ok_or_else(|| self.read_only())?;
        let next = named.next_incarnation(name, || self.new_producer_id())?;
        // The directory's fences first: a partition that does not know the producer yet asks them, as does one that is made behind
        // the look at which there are.
        next.fences().for_each(|(id, epoch)| self.inner.environment.fences.raise(id, epoch));
        let partitions: Vec<Log> = self.inner.partitions.read().values().cloned().collect();
        for (id, epoch) in next.fences() {
            partitions.iter().for_each(|log| log.fence(id, epoch));
        }
        Ok(Producer::new(next.id, next.epoch))
    }

    fn read_only(&self) -> Error {
        Error::ReadOnly { path: self.inner.path.clone() }
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Works in the background until the directory is closed: prepares pages and segments, writes snapshots, and syncs
    /// for futures. For hosts that bring their own threads; each call takes one.
    pub fn run_background(&self) {
        self.inner.enlist().run();
    }

    /// Deletes the oldest segments of every partition, as far as its options want. Returns how many. Also happens on its
    /// own, every [`retention_interval_ms`](crate::LogOptions::retention_interval_ms) at the most while there are appends.
    ///
    /// # Errors
    ///
    /// The first partition's that failed; the others were looked at all the same.
    pub fn apply_retention(&self) -> Result<usize> {
        self.check_open()?;
        let partitions: Vec<Log> = self.inner.partitions.read().values().cloned().collect();
        let deleted: Vec<Result<usize>> = partitions.iter().map(Log::apply_retention).collect();
        deleted.into_iter().sum()
    }

    /// The sum of the counters of all partitions that are open. Those of one that is deleted, or opened again, leave the sum, which
    /// is then less than before: for rates over such a time take each partition's own. What did not open is in
    /// [`failed`](Self::failed).
    pub fn metrics(&self) -> LogMetrics {
        let mut sum = LogMetrics::default();
        self.inner.partitions.read().values().for_each(|log| sum.add(&log.metrics()));
        sum.pinned_bytes = self.inner.environment.removed.pinned_bytes();
        sum
    }
}

impl Inner {
    /// Counts a worker who will run the queue.
    fn enlist(&self) -> Arc<Queue> {
        let queue = &self.environment.queue;
        queue.enlist();
        self.partitions.read().values().for_each(Log::hand_over_chores);
        Arc::clone(queue)
    }
}

impl Drop for Inner {
    /// Lets the background threads go; nobody waits for them.
    fn drop(&mut self) {
        self.environment.queue.close();
    }
}

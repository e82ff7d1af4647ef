//! Many partitions in one directory: who owns it, what is in it, and what they share.

mod checkpoints;
mod closing;
mod creation;
mod deletion;
mod found;
pub(crate) mod look;
mod metrics;
mod opening;
mod options;
mod place;
mod producers;
mod progress;
mod reopening;
mod several;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};

pub use metrics::LogDirMetrics;
pub use options::LogDirOptions;
pub use place::Place;
pub use producers::{LastBatch, Producer};
pub use progress::Progress;

use crate::environment::{Environment, Queue};
use crate::error::{Error, Result};
use crate::fs::name::TopicPartition;
use crate::log::Log;
pub(crate) use checkpoints::{Checkpoints, OffsetsByPartition};
use closing::Closing;
use found::Failed;
pub(crate) use found::vanished;
pub(crate) use opening::take_lock;
use producers::{NamedProducers, ProducerIds};

/// A directory of partitions, owned by one process at a time. Cloning is cheap; every method may be called from any
/// thread.
///
/// Dropping the last handle neither blocks nor marks the directory clean: the next opening recovers, as after a crash.
/// [`close`](Self::close) leaves it nothing to do. A [`Log`] outlives the handles: it goes on, and keeps the directory locked, but
/// background threads leave, and a call that must write the directory's checkpoints is [`Error::Closed`].
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
    /// Held for a look, or to change the list, and for nothing that is slow; appends and reads do not come by here.
    partitions: RwLock<BTreeMap<TopicPartition, Log>>,
    /// One partition is created at a time.
    creating: Mutex<()>,
    /// The partitions that are gone, but of which the checkpoint files may still tell.
    gone: Mutex<BTreeSet<TopicPartition>>,
    /// The partitions that did not open, or whose deletion failed. None of them is among `partitions`; locked before those.
    failed: Mutex<BTreeMap<TopicPartition, Failed>>,
    producer_ids: Option<ProducerIds>,
    named_producers: Option<NamedProducers>,
    closing: Closing,
    deletions: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl LogDir {
    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The partitions that were opened or created, in order, also those closed or poisoned since. What did not open is in
    /// [`failed`](Self::failed).
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.inner.partitions.read().keys().cloned().collect()
    }

    /// The partitions that did not open, and why, those that are [missing](crate::CorruptionKind::MissingPartition), and those whose
    /// deletion failed. Their files are as they were, or, where only
    /// the last step of a deletion failed, under the name of what is deleted.
    pub fn failed(&self) -> Vec<(TopicPartition, Error)> {
        let failed = self.inner.failed.lock();
        let stay = failed.iter().filter(|(_, failed)| !failed.is_going);
        stay.map(|(name, failed)| (name.clone(), failed.error.clone())).collect()
    }

    fn read_only(&self) -> Error {
        Error::ReadOnly { path: self.inner.path.clone() }
    }

    fn check_open(&self) -> Result<()> {
        if self.inner.closing.has_begun() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Works in the background: prepares pages and segments, writes snapshots, and syncs for futures. For hosts that bring their
    /// own threads; each call takes one, and blocks until the directory is [closed](Self::close) and what was asked for is done.
    /// Where there are no other threads, awaiting a [`Pending`](crate::Pending) is [`Error::NoSyncer`] until one has come in here.
    ///
    /// The handle by which it is called keeps the directory open: only a close ends it, dropping all others does not.
    ///
    /// ```
    /// use std::thread;
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let for_thread = dir.clone();
    /// let background = thread::spawn(move || for_thread.run_background());
    ///
    /// let log = dir.partition("orders", 0)?;
    /// log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// dir.close()?;
    /// background.join().unwrap(); // the close has let it go
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn run_background(&self) {
        self.inner.enlist().run();
    }

    /// Deletes the oldest segments of every partition, as far as its options want. Returns how many. Also happens on its
    /// own, every [`retention_interval_ms`](crate::LogOptions::retention_interval_ms) at the most while there are appends. For many
    /// partitions this is faster than [`Log::apply_retention`] of each: the checkpoints are written once.
    ///
    /// A crash in the middle leaves each partition as [`Log::apply_retention`](crate::Log::apply_retention) says.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the directory is; else that of the first partition that failed, as of
    /// [`Log::apply_retention`](crate::Log::apply_retention), and one that is closed or poisoned fails, too. The others were looked
    /// at all the same.
    pub fn apply_retention(&self) -> Result<usize> {
        self.check_open()?;
        let partitions = self.inner.logs();
        // All of them first: then one write of the checkpoints does for all.
        let condemned: Vec<_> = partitions.iter().map(Log::condemn_due).collect();
        let delete = |(log, condemned): (&Log, Result<_>)| match condemned? {
            Some(condemned) => log.delete_condemned(condemned),
            None => Ok(0),
        };
        let deleted: Vec<Result<usize>> = partitions.iter().zip(condemned).map(delete).collect();
        deleted.into_iter().sum()
    }

    /// A [checkpoint](Log::checkpoint) of every partition, several at a time ([`recovery_threads`](LogDirOptions::recovery_threads)): a
    /// kill from here on has the next opening read only what is appended later.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// dir.checkpoint()?;
    /// assert_eq!(log.recovery_point(), Offset(1));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first partition's that failed; the others have got theirs all the same. Those that were [closed](Log::close) need none.
    /// [`Error::ReadOnly`]; [`Error::Closed`]; the disk's.
    pub fn checkpoint(&self) -> Result<()> {
        self.check_open()?;
        let inner = &self.inner;
        if inner.options.read_only {
            return Err(self.read_only());
        }
        let is_open = |log: &Log| !matches!(log.ended(), Some(Error::Closed | Error::Gone));
        let logs: Vec<Log> = inner.logs().into_iter().filter(is_open).collect();
        let moved = several::each(&logs, inner.options.closing_thread_count(), |log| {
            log.checkpoint_untold().or_else(|error| if is_open(log) { Err(error) } else { Ok(()) })
        });
        let written = inner.environment.checkpoints.settle();
        moved.and(written).and_then(|()| self.check_open())
    }
}

impl Inner {
    /// The logs of the partitions that are open, in order, for who takes longer than the list may be held.
    fn logs(&self) -> Vec<Log> {
        self.partitions.read().values().cloned().collect()
    }

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

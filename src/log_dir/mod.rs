//! Many partitions in one directory: who owns it, what is in it, and what they share.

mod checkpoints;
mod deletion;
mod found;
pub(crate) mod look;
mod named_producers;
mod options;
mod own_file;
mod place;
mod producer;
mod producer_ids;
mod reopening;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use parking_lot::{Mutex, RwLock};

pub use options::LogDirOptions;
pub use place::Place;
pub use producer::{LastBatch, Producer};

use crate::environment::{Checkpointer, Environment, Fences, Queue, Reserve};
use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::name::{TopicPartition, directory_file};
use crate::fs::{DirectoryLock, Disk, EntryKind, atomic};
use crate::log::{CheckpointedState, Log, LogMetrics};
use crate::types::{ProducerId, TopicId};
use checkpoints::state_of;
pub(crate) use checkpoints::{Checkpoints, OffsetsByPartition};
use found::{Failed, Found, open_request};
use named_producers::NamedProducers;
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
    /// Opens the directory, which is created if missing, and recovers every partition in it, several at a time.
    ///
    /// A partition that cannot be opened does not keep the others from it: [`partition`](Self::partition) returns its
    /// error, and [`failed`](Self::failed) lists them.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if this or another process has it open, or a running Kafka; [`Error::Corrupt`] if a file that
    /// concerns all partitions is damaged; the disk's.
    pub fn open(path: impl AsRef<Path>, options: LogDirOptions) -> Result<Self> {
        options.validate()?;
        let path = path.as_ref();
        // The host may go elsewhere; the lock is on what the path means now.
        let path = std::path::absolute(path).at("find", path)?;
        let disk = Arc::clone(&options.disk);
        if !options.read_only {
            atomic::create_directory_durably(&*disk, &path)?;
        }
        let lock = if options.read_only { None } else { Some(take_lock(&*disk, &path)?) };
        let reserve =
            (!options.read_only).then(|| Reserve::new(Arc::clone(&disk), path.join(directory_file::RESERVE)));
        let environment = Arc::new(options.environment(lock, reserve));
        let found = Found::in_directory(&*disk, &path)?;
        let named_producers = open_named_producers(&path, &options, &environment.fences)?;
        if !options.read_only {
            found.begin(&*disk, &path)?;
        }
        let gone = found.gone();
        let (partitions, failed) = found.open_partitions(&path, &options, &environment)?;
        let named = named_producers.as_ref();
        let producer_ids =
            named.map(|named| open_producer_ids(&path, &options, &partitions, named)).transpose()?;
        let inner = Arc::new(Inner {
            path,
            environment,
            partitions: RwLock::new(partitions),
            creating: Mutex::default(),
            gone: Mutex::new(gone),
            failed: Mutex::new(failed),
            producer_ids,
            named_producers,
            closed: AtomicBool::new(false),
            deletions: AtomicUsize::new(0),
            threads: Mutex::default(),
            options,
        });
        let dir = Self { inner };
        dir.start()?;
        Ok(dir)
    }

    /// Corrects the recovery points and log starts in the checkpoint files, and starts the threads that were asked for.
    fn start(&self) -> Result<()> {
        let inner = &self.inner;
        let checkpointer: Weak<dyn Checkpointer> = Arc::<Inner>::downgrade(inner) as Weak<dyn Checkpointer>;
        inner.environment.checkpoints.write_by(checkpointer);
        if !inner.options.read_only {
            // By the old one, what is appended behind a cut would be taken for durable, and its loss for damage.
            inner.environment.with_reserve(|| inner.environment.checkpoints.write_if_stale())?;
            // Where there is no room, appends see to it.
            let _ = inner.environment.keep_reserve();
        }
        for number in 0..inner.options.background_threads {
            let queue = inner.enlist();
            let thread = thread::Builder::new()
                .name(format!("idemlog-{number}"))
                .spawn(move || queue.run())
                .at("start a thread for", &inner.path)?;
            inner.threads.lock().push(thread);
        }
        Ok(())
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The log of a partition, which is created if missing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTopic`] for a name that Kafka would refuse; [`Error::InvalidPartition`] for a number below 0;
    /// [`Error::InvalidOption`] for options of [`log_for`](LogDirOptions::log_for) that cannot work; what kept the partition from
    /// opening, or its deletion from ending; the disk's.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<Log> {
        let name = TopicPartition::new(topic, partition)?;
        if let Some(log) = self.existing(&name)? {
            return Ok(log);
        }
        let _turn = self.inner.creating.lock();
        match self.existing(&name)? {
            Some(log) => Ok(log),
            None => self.create(name),
        }
    }

    /// Creates a partition that must not be there yet. One that a call before a crash, or one that failed, has begun may be
    /// there after the next opening.
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

    /// [`partition`](Self::partition) of the topic with this id, which is noted in the partition, durably, if it has none.
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
    /// nothing is made: who does not know the id calls [`partition`](Self::partition). Else as there.
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
    /// from ending.
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
        inner.partitions.write().insert(name, log.clone());
        Ok(log)
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

    /// Closes every partition, several at a time ([`recovery_threads`](LogDirOptions::recovery_threads)), and marks the directory
    /// clean if all of them closed well, so that the next opening reads next to nothing. Other handles get [`Error::Closed`] afterwards.
    ///
    /// # Errors
    ///
    /// The first partition's that did not close well; the directory is closed all the same, not marked clean, and the next
    /// opening recovers.
    pub fn close(&self) -> Result<()> {
        let inner = &self.inner;
        if inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Whoever creates or deletes a partition finishes first, and nobody begins any more.
        drop(inner.creating.lock());
        let partitions: Vec<Log> = inner.partitions.read().values().cloned().collect();
        let closed = close_all(&partitions, inner.options.closing_thread_count());
        inner.environment.queue.close();
        // A waker may close on one of the threads themselves. In a log that is closed it has nothing more to do.
        let this = thread::current().id();
        let threads = std::mem::take(&mut *inner.threads.lock());
        for thread in threads.into_iter().filter(|other| other.thread().id() != this) {
            // A thread that panicked has said so; there is nothing left to do for it.
            let _ = thread.join();
        }
        let marked = closed.and_then(|()| inner.say_closed_well());
        inner.leave_to_the_next_owner();
        *inner.environment.lock.lock() = None;
        marked
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

    /// Counts a worker who will run the queue.
    fn enlist(&self) -> Arc<Queue> {
        let queue = &self.environment.queue;
        queue.enlist();
        self.partitions.read().values().for_each(Log::hand_over_chores);
        Arc::clone(queue)
    }

    /// Every partition closed well: says so on the disk.
    fn say_closed_well(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        self.environment.checkpoints.write()?;
        if self.failed.lock().is_empty() { self.mark_clean() } else { Ok(()) }
    }

    /// Waits for whoever writes a file of the directory's. From here on nobody does: they may be another owner's soon.
    fn leave_to_the_next_owner(&self) {
        self.environment.checkpoints.leave();
        self.environment.reserve.iter().for_each(Reserve::leave);
        self.named_producers.iter().for_each(NamedProducers::leave);
        self.producer_ids.iter().for_each(ProducerIds::leave);
    }

    /// What the checkpoints are to say. Of the partitions that failed it stays: damage below a recovery point that was
    /// forgotten would be taken for an unfinished end, and cut.
    fn checkpoints(&self) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        let (failed, partitions) = (self.failed.lock(), self.partitions.read());
        for (name, failed) in failed.iter() {
            checkpoints.add(name, failed.state);
        }
        for (name, log) in partitions.iter() {
            checkpoints.add(name, state_of(log));
        }
        checkpoints
    }

    fn mark_clean(&self) -> Result<()> {
        let path = self.path.join(directory_file::CLEAN_SHUTDOWN);
        atomic::replace_file(&*self.options.disk, &path, checkpoints::clean_shutdown(-1).as_bytes())
    }
}

impl Checkpointer for Inner {
    fn write_checkpoints(&self) -> Result<()> {
        let gone = self.gone.lock().clone();
        self.checkpoints().write(&*self.options.disk, &self.path)?;
        self.gone.lock().retain(|name| !gone.contains(name));
        Ok(())
    }
}

impl Drop for Inner {
    /// Lets the background threads go; nobody waits for them.
    fn drop(&mut self) {
        self.environment.queue.close();
    }
}

/// Closes the partitions, so many at a time. The first error, in their order.
fn close_all(partitions: &[Log], threads: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(BTreeMap::new());
    let close = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(log) = partitions.get(at)
        {
            if let Err(error) = log.close() {
                failed.lock().insert(at, error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(partitions.len()) {
            // Without it the others do its work.
            let _ = thread::Builder::new().spawn_scoped(scope, close);
        }
        close();
    });
    failed.into_inner().pop_first().map_or(Ok(()), |(_, error)| Err(error))
}

/// The name of a partition that somebody looks for; `None` below 0, where none can be.
fn sought(topic: &str, partition: i32) -> Result<Option<TopicPartition>> {
    match TopicPartition::new(topic, partition) {
        Err(Error::InvalidPartition { .. }) => Ok(None),
        name => name.map(Some),
    }
}

pub(crate) fn take_lock(disk: &dyn Disk, directory: &Path) -> Result<DirectoryLock> {
    let path = directory.join(directory_file::LOCK);
    disk.lock(&path).at("lock", &path)?.ok_or_else(|| Error::Locked { path: directory.to_owned() })
}

/// Reads who has come under a name, and fences all others, before any partition is opened: each raises the epochs of those
/// whom it knows. `None` for those who only read.
fn open_named_producers(
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
fn open_producer_ids(
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

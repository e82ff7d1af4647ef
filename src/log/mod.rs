//! One partition: batches in, offsets out, and everything that keeps the promise about them.
//!
//! Lock order: the right to sync (a leader's, or a pause's), then `sealing`, then `rolling`, then `appender`, then the
//! commit's state. Nothing slow happens under `appender` and the commit's: no sync, no file created or renamed, no
//! snapshot; except by a truncation, which holds appends up. The slow things are done under `rolling`, or under `sealing`
//! if a roll need not wait for them. Neither is needed to append or read.

mod append;
mod backlog;
mod change;
mod checkpointing;
mod chores;
mod commit;
mod ending;
mod identity;
mod latencies;
mod leader_epochs;
mod metadata;
mod metrics;
mod options;
mod producers;
mod read;
mod recovery;
mod removal;
mod retention;
mod rolling;
mod sealing;
mod transactions;
mod truncate;
mod watermark;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;

use append::Need;
pub use append::{AppendOptions, AppendOutcome, Origin};
pub use commit::pending::Pending;
pub use commit::replicated::Replicated;
pub(crate) use identity::LogId;
pub use latencies::Latencies;
pub(crate) use metadata::read as read_topic_id;
pub use metrics::{FailedChore, LogMetrics};
pub use options::{CorruptionPolicy, Durability, LogOptions};
pub use producers::ProducerStates;
pub(crate) use producers::snapshots::{list as list_snapshots, read_file as read_snapshot};
pub use read::Fetched;
pub use read::reader::Reader;
pub use read::timestamps::OffsetAndTimestamp;
pub use read::waiting::TailWait;
pub use recovery::{BelowStart, Cut, CutReason, RecoveryReport};
pub(crate) use recovery::{
    CheckpointedState, OpenRequest, Recovered, is_unsupported, last_valid_batch, read_leader_epochs, recover,
    segment_length,
};

use crate::environment::{Chores, Environment, Urgency, Worked};
use crate::epoch::LeaderEpochs;
use crate::error::{Error, Result};
use crate::fs::name::{SegmentFile, TopicPartition};
use crate::producer::{ProducerTable, Verifications};
use crate::segment::{Segment, SegmentWriter};
use crate::sync::{Mutex, MutexGuard};
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};
use append::admission::Admission;
use append::pace::{Ahead, Pace};
use backlog::Backlog;
use commit::{Commit, End};
use metrics::Counters;
use read::tail::Tail;
use rolling::Prepared;
use transactions::UnstableTransactions;
use watermark::Watermarks;

/// The log of one partition. Cloning is cheap; every method may be called from any thread.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
///
/// let stored = log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
/// for batch in log.reader(stored.base_offset())? {
///     for record in batch?.records() {
///         assert_eq!(record?.value().unwrap(), "value");
///     }
/// }
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

/// What all handles of one partition share.
#[derive(Debug)]
struct Shared {
    name: TopicPartition,
    directory: PathBuf,
    environment: Arc<Environment>,
    /// Replaced as a whole by `set_options`.
    options: ArcSwap<LogOptions>,
    admission: Admission,
    mode: crate::fs::IoMode,
    topic_id: OnceLock<TopicId>,
    /// The append lock: one batch at a time gets its offset.
    appender: Mutex<Appender>,
    /// All segments in order of their offsets, the active one last. Replaced as a whole, under the append lock.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    watermarks: Watermarks,
    commit: Commit,
    tail: Tail,
    transactions: UnstableTransactions,
    /// Held while index files and snapshots are written and the recovery point moves, and while anything leaves the log.
    sealing: Mutex<()>,
    /// Held while segments are created, named, or synced as a whole.
    rolling: Mutex<()>,
    /// Whether the files are as a clean opening found them, so that a close has nothing to write.
    untouched: AtomicBool,
    /// Why the closing did not leave everything on the disk.
    badly_closed: OnceLock<Box<Error>>,
    /// Whether an event has told of the poison.
    poison_reported: AtomicBool,
    chores: Chores,
    /// What an append found missing last that did not wait for it.
    needed: Mutex<Option<Need>>,
    /// What is to be populated. Behind a lock that nothing is done under.
    ahead: Mutex<Option<Ahead>>,
    counters: Counters,
    backlog: Backlog,
    /// Everything below is durable, with its indexes, leader epochs and a snapshot.
    recovery_point: AtomicI64,
    report: RecoveryReport,
    /// The size of what was taken out of the log, and kept, at the opening.
    kept_bytes: u64,
    itself: Weak<Shared>,
}

/// What the append lock guards.
#[derive(Debug)]
struct Appender {
    /// The same as all handles share.
    options: Arc<LogOptions>,
    /// `None` until the first append, and where the last segment takes nothing more.
    writer: Option<SegmentWriter>,
    /// The next segment, if it is ready.
    prepared: Option<Prepared>,
    producers: ProducerTable,
    leader_epochs: LeaderEpochs,
    /// Whether the file of leader epochs must be written before anything else would.
    epochs_untold: bool,
    /// What batches are stamped with, and which begins at the log end where it is above those of all batches.
    leader_epoch: LeaderEpoch,
    verifications: Verifications,
    pace: Pace,
    /// Whether there is a gap in front of the writer's segment, or in it, and the segment had no name yet at the last look.
    behind_gap: bool,
    /// Bytes appended since the last snapshot.
    since_snapshot: u64,
    /// Bytes appended since the space budget was told: all partitions count in it, so it is told in steps.
    filled: u64,
    /// When idle producers were last looked for.
    expired_at: Timestamp,
    /// When segments to delete were last looked for.
    retained_at: Timestamp,
    /// Nothing more is taken, because the log is being closed.
    closing: bool,
}

impl Appender {
    /// That of a log that was just opened: whatever it needs for an append is made by the first one.
    fn new(
        options: Arc<LogOptions>,
        producers: ProducerTable,
        leader_epochs: LeaderEpochs,
        now: Timestamp,
    ) -> Self {
        Self {
            options,
            writer: None,
            prepared: None,
            producers,
            leader_epoch: leader_epochs.latest().map_or(LeaderEpoch(0), |(epoch, _)| epoch),
            leader_epochs,
            epochs_untold: false,
            verifications: Verifications::default(),
            pace: Pace::default(),
            behind_gap: false,
            since_snapshot: 0,
            filled: 0,
            expired_at: now,
            retained_at: now,
            closing: false,
        }
    }
}

/// `sealing` and `rolling`.
#[derive(Debug)]
struct HeldFiles<'a> {
    sealing: MutexGuard<'a, ()>,
    rolling: MutexGuard<'a, ()>,
}

impl HeldFiles<'_> {
    /// Lets go of them to those who wait, who come before a caller that takes them again at once.
    fn hand_on(self) {
        MutexGuard::unlock_fair(self.rolling);
        MutexGuard::unlock_fair(self.sealing);
    }
}

impl Shared {
    fn options(&self) -> arc_swap::Guard<Arc<LogOptions>> {
        self.options.load()
    }

    /// The time for what is counted in seconds, or in segments.
    fn now(&self) -> Timestamp {
        self.environment.clock.recently()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The name of a segment's file in this partition.
    fn segment_path(&self, file: SegmentFile, base: Offset) -> PathBuf {
        self.directory.join(file.name(base))
    }

    fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    /// Keeps everybody else from the files, but for the appender and readers.
    fn hold_files(&self) -> HeldFiles<'_> {
        let held = HeldFiles { sealing: self.sealing.lock(), rolling: self.rolling.lock() };
        self.touch();
        held
    }

    /// Says that files are about to change. The caller holds `rolling`, under which a close looks.
    fn touch(&self) {
        self.untouched.store(false, Ordering::Release);
    }

    fn log_is_empty(&self) -> bool {
        self.watermarks.log_start() == self.watermarks.log_end()
    }
}

impl Log {
    /// Opens the partition in `request.directory`, recovering it.
    pub(crate) fn open(request: OpenRequest) -> Result<Self> {
        let recovered = recovery::recover(&request)?;
        let told = request.checkpointed;
        // A new recovery point beside a start that was never taken would be taken for records that are missing.
        let is_elsewhere = told.log_start.is_some_and(|start| start != recovered.log_start);
        // Nor may it tell of offsets that the log has lost, when others have come in their place.
        let is_beyond = told.high_watermark.is_some_and(|watermark| watermark > recovered.log_end);
        if is_elsewhere || is_beyond || recovered.recovery_point != told.durable_below() {
            request.environment.checkpoints.set_stale();
        }
        Ok(Self::assemble(request, recovered))
    }

    fn assemble(request: OpenRequest, recovered: Recovered) -> Self {
        let OpenRequest { name, directory, environment, options, mode, checkpointed, .. } = request;
        let Recovered {
            segments,
            producers,
            leader_epochs,
            log_start,
            log_end,
            durable,
            recovery_point,
            topic_id,
            kept_bytes,
            report,
        } = recovered;
        let transactions = UnstableTransactions::of(&producers);
        let options = Arc::new(options);
        let now = environment.clock.recently();
        let mut appender = Appender::new(Arc::clone(&options), producers, leader_epochs, now);
        appender.since_snapshot = checkpointing::bytes_behind(&report, &options);
        let is_in_snapshot = report.snapshot == Some(log_end);
        let untouched = report.found_all_in_place() && recovery_point == log_end && is_in_snapshot;
        let watermarks = Watermarks::new(log_start, durable, log_end, options.durability);
        watermarks.keep_checkpointed(checkpointed.high_watermark);
        let shared = Arc::new_cyclic(|itself: &Weak<Shared>| Shared {
            name,
            directory,
            environment,
            admission: Admission::by(&options),
            options: ArcSwap::new(options),
            mode,
            topic_id: topic_id.map(OnceLock::from).unwrap_or_default(),
            appender: Mutex::new(appender),
            segments: ArcSwap::from_pointee(segments),
            watermarks,
            commit: Commit::default(),
            tail: Tail::new(),
            transactions,
            sealing: Mutex::default(),
            rolling: Mutex::default(),
            untouched: AtomicBool::new(untouched),
            badly_closed: OnceLock::new(),
            poison_reported: AtomicBool::new(false),
            chores: Chores::default(),
            needed: Mutex::default(),
            ahead: Mutex::default(),
            counters: Counters::default(),
            backlog: Backlog::default(),
            recovery_point: AtomicI64::new(recovery_point.0),
            report,
            kept_bytes,
            itself: itself.clone(),
        });
        shared.count_all_open();
        shared.request_due_snapshot();
        let log = Self { shared };
        log.raise_fences();
        log
    }

    /// Which partition this is.
    pub fn name(&self) -> &TopicPartition {
        &self.shared.name
    }

    /// How this log works at the moment.
    pub fn options(&self) -> Arc<LogOptions> {
        self.shared.options.load_full()
    }

    /// Works by other options from now on: retention, sizes, durability, what is checked, who is forgotten. A segment that
    /// is there keeps its index sizes; appends under way may still follow the old ones. Not written anywhere: the next
    /// opening has those of its [`LogDirOptions`](crate::LogDirOptions), for all partitions or
    /// [for each](crate::LogDirOptions::log_for).
    ///
    /// A log that becomes synced takes nothing back from its readers: what they could see until then they still see.
    /// Background threads are asked to sync it; without any, [`sync`](Self::sync) does.
    ///
    /// ```
    /// use idemlog::{Durability, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.set_options((*log.options()).clone().durability(Durability::Buffered))?;
    /// assert_eq!(log.options().durability, Durability::Buffered);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) for a value that cannot work, and for another window,
    /// sequence rule or I/O mode than the log was opened with. Nothing is changed.
    pub fn set_options(&self, options: LogOptions) -> Result<()> {
        let shared = &self.shared;
        let mut appender = shared.appender.lock();
        shared.options().check_change(&options)?;
        appender.producers.set_policy(options.producers.clone());
        shared.watermarks.set_durability(options.durability);
        shared.admission.set(&options);
        appender.options = Arc::new(options);
        if let Some(writer) = &mut appender.writer {
            writer.end_leeway();
        }
        shared.options.store(Arc::clone(&appender.options));
        drop(appender);
        // Readers may see what is not durable now, or have seen it.
        shared.notify_tail();
        if shared.admission.durability() == Durability::Synced {
            shared.request_sync();
        }
        Ok(())
    }

    /// The partition's directory.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// What opening this log found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.watermarks.log_start()
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.shared.watermarks.log_end()
    }

    /// Below this offset everything survives the loss of power.
    pub fn durable_offset(&self) -> Offset {
        self.shared.watermarks.durable()
    }

    /// An opening after a crash reads from here on: everything below is durable, indexed and in a snapshot.
    pub fn recovery_point(&self) -> Offset {
        self.shared.recovery_point()
    }

    /// The log start offset for the checkpoint.
    pub(crate) fn checkpointed_start(&self) -> Offset {
        self.shared.watermarks.checkpointed_start()
    }

    /// The recovery point for the checkpoint, of a log that begins at `start` there: 0 if no batch ends as high, as after a truncation
    /// inside of the only batch above. All that is left is deleted, as where a log is emptied.
    pub(crate) fn checkpointed_recovery_point(&self, start: Offset) -> Offset {
        let point = self.shared.recovery_point();
        if point < start { Offset::ZERO } else { point }
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.shared.segments.load_full()
    }

    /// Closes the log: everything durable, indexes and a snapshot written, so that the next opening has nothing to do.
    /// Handles and readers get [`Error::Closed`](crate::Error::Closed) afterwards, for good; slices stay. The directory goes on
    /// answering with such a handle. [`LogDir::reopen_partition`](crate::LogDir::reopen_partition) opens the partition again, as
    /// does the next opening of the directory. A call for a log that is closed answers as the first one did.
    ///
    /// A crash before it returns takes nothing that was durable: the next opening recovers.
    ///
    /// # Errors
    ///
    /// The disk's; [`Error::Poisoned`](crate::Error::Poisoned) for a log that is. The log is closed all the same, and the next
    /// opening recovers what was not finished.
    pub fn close(&self) -> Result<()> {
        self.shared.close()
    }

    /// Why the log takes nothing any more, if it does not.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.shared.commit.check().err()
    }

    /// Workers have come: they get what was asked for before.
    pub(crate) fn hand_over_chores(&self) {
        self.shared.hand_over_chores();
    }

    /// Ends the log because its partition is being deleted. Whoever waits is told by [`tell`](Self::tell).
    pub(crate) fn abandon(&self) {
        self.shared.abandon();
    }

    /// Has everybody who waits look whether the log has ended. Not under a lock.
    pub(crate) fn tell(&self) {
        self.shared.tell();
    }
}

impl Worked for Shared {
    fn work(&self, urgency: Urgency) {
        match urgency {
            Urgency::Quick => self.whole(|| self.do_quick()),
            Urgency::Slow => self.whole(|| self.do_slow()),
        }
    }
}

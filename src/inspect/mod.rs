//! The state that opening a partition would come to, without opening it: nothing is written.

mod directory;

use std::path::Path;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::environment::Environment;
use crate::error::Result;
use crate::fs::name::{PartitionDirectory, TopicPartition};
use crate::fs::{Disk, IoMode, RealDisk};
use crate::log::{
    CheckpointedState, CorruptionPolicy, Log, LogOptions, OpenRequest, RecoveryReport, list_snapshots,
};
use crate::log_dir::LogDirOptions;
use crate::log_dir::look::{self, Around};
use crate::producer::{ExpiryClock, ProducerInfo, ProducerPolicy};
use crate::segment::Segment;
use crate::transaction::AbortedTransaction;
use crate::types::{LeaderEpoch, Offset, Timestamp};

pub use crate::log_dir::Place;
pub use directory::{DirectoryInspection, inspect_directory};

/// As what [`inspect`] opens a partition: what its log directory's checkpoints say, or would.
///
/// ```
/// use idemlog::Offset;
/// use idemlog::inspect::InspectOptions;
///
/// let crashed = InspectOptions::default().clean(false).recovery_point(Offset(40));
/// assert!(!crashed.clean);
/// assert_eq!(crashed.log_start, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectOptions {
    /// Whether the log was closed well. Default: yes.
    pub clean: bool,
    /// Below this, all is durable. Default: 0.
    pub recovery_point: Offset,
    /// The log start offset. Default: that of the first segment.
    pub log_start: Option<Offset>,
    /// The high watermark. Default: none is known.
    pub high_watermark: Option<Offset>,
    /// The time. Default: the host's.
    pub now: Option<Timestamp>,
    /// After how many ms by the records' timestamps a producer is forgotten, 1 and up. Default: never, as by default the time
    /// during which a partition is not open does not count for an opening.
    pub producer_expiry_ms: i64,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self {
            clean: true,
            recovery_point: Offset::ZERO,
            log_start: None,
            high_watermark: None,
            now: None,
            producer_expiry_ms: i64::MAX,
        }
    }
}

impl InspectOptions {
    /// What an opening would go by: the marker of a clean end and the checkpoints in the log directory around the partition
    /// at `path`. The default for a partition that lies in none. Those files are as long as there are partitions: who asks for all
    /// of a directory reads them once with [`inspect_directory`].
    ///
    /// ```
    /// use idemlog::inspect::{InspectOptions, inspect};
    /// use idemlog::{LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// dir.partition("orders", 0)?;
    /// drop(dir); // not closed: as after a crash
    ///
    /// let partition = data.path().join("orders-0");
    /// let state = inspect(&partition, &InspectOptions::of_partition(&partition)?)?;
    /// assert!(!state.recovery.marked_clean);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) for a checkpoint that is damaged, which no directory opens with; the disk's.
    pub fn of_partition(path: impl AsRef<Path>) -> Result<Self> {
        let Some(around) = Around::of_partition(path.as_ref())? else { return Ok(Self::default()) };
        let state = around.state()?;
        Ok(Self::default()
            .clean(state.clean)
            .recovery_point(state.recovery_point.unwrap_or(Offset::ZERO))
            .log_start(state.log_start)
            .high_watermark(state.high_watermark))
    }
}

/// Whether somebody has the log directory at `path` open, or the one around the partition there: this process, another one, or
/// a running Kafka. Takes no lock and makes no file. Where the lock cannot be looked at: no.
///
/// ```
/// use idemlog::inspect::is_in_use;
/// use idemlog::{LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// dir.partition("orders", 0)?;
/// assert!(is_in_use(data.path()) && is_in_use(data.path().join("orders-0")));
/// dir.close()?;
/// assert!(!is_in_use(data.path()));
/// # Ok::<(), idemlog::Error>(())
/// ```
pub fn is_in_use(path: impl AsRef<Path>) -> bool {
    look::in_use(path.as_ref()).is_some()
}

setters! { InspectOptions:
    clean: bool,
    recovery_point: Offset,
    log_start: Option<Offset>,
    high_watermark: Option<Offset>,
    now: Option<Timestamp>,
    producer_expiry_ms: i64,
}

/// What the directory at `path` is, as [`verify`](crate::verify::verify()) takes it; `None` if it is neither a log directory nor a
/// partition. Changes nothing.
///
/// ```
/// use idemlog::inspect::{Place, place};
/// use idemlog::{LogDir, LogDirOptions, TopicPartition};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// dir.partition("orders", 0)?;
///
/// let partitions = vec![TopicPartition::new("orders", 0)?];
/// assert_eq!(place(data.path())?, Some(Place::LogDirectory { partitions }));
/// assert_eq!(place(data.path().join("orders-0"))?, Some(Place::Partition));
/// # let elsewhere = tempfile::tempdir().unwrap();
/// assert_eq!(place(elsewhere.path())?, None);
/// # Ok::<(), idemlog::Error>(())
/// ```
///
/// # Errors
///
/// The disk's, as for a path where no directory is.
pub fn place(path: impl AsRef<Path>) -> Result<Option<Place>> {
    Place::of(&RealDisk, path.as_ref())
}

/// The state of a partition.
///
/// ```
/// use idemlog::inspect::{InspectOptions, inspect};
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// dir.partition("orders", 0)?.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
/// dir.close()?;
///
/// let state = inspect(data.path().join("orders-0"), &InspectOptions::default())?;
/// assert_eq!((state.log_start, state.log_end), (Offset(0), Offset(1)));
/// assert_eq!(state.segments[0].next_offset, Offset(1));
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The first offset that can be read.
    pub log_start: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
    /// Below this offset readers see everything.
    pub high_watermark: Offset,
    /// What the checkpoint says of the high watermark, as far as the log reaches: for a host that sets it.
    pub checkpointed_high_watermark: Option<Offset>,
    /// Below this offset every transaction is decided.
    pub last_stable: Offset,
    /// Where the oldest open transaction begins.
    pub first_undecided: Option<Offset>,
    /// An opening after a crash reads from here on: everything below is durable, indexed and in a snapshot.
    pub recovery_point: Offset,
    /// The segments, oldest first.
    pub segments: Vec<SegmentState>,
    /// The offsets of the snapshots in the directory.
    pub snapshots: Vec<Offset>,
    /// Where each leader epoch began, oldest first.
    pub leader_epochs: Vec<(LeaderEpoch, Offset)>,
    /// The producers, by id.
    pub producers: Vec<ProducerInfo>,
    /// What opening found, and would do about it.
    pub recovery: RecoveryReport,
}

/// A segment of an [`Inspection`].
///
/// ```
/// use idemlog::inspect::{InspectOptions, inspect};
/// # use idemlog::{BatchBuilder, LogDir, LogDirOptions, Timestamp};
/// # let data = tempfile::tempdir().unwrap();
/// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// # let batch = BatchBuilder::new().timestamp(Timestamp(7)).record(b"k", b"v").build()?;
/// # dir.partition("orders", 0)?.append(&batch)?;
/// # dir.close()?;
/// let state = inspect(data.path().join("orders-0"), &InspectOptions::default())?;
/// assert_eq!(state.segments[0].largest_timestamp, Timestamp(7));
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentState {
    /// The first offset it may hold.
    pub base_offset: Offset,
    /// The bytes of its batches.
    pub bytes: u64,
    /// The offset behind its last batch.
    pub next_offset: Offset,
    /// The largest timestamp of a batch.
    pub largest_timestamp: Timestamp,
    /// How many entries its offset index has.
    pub offset_index_entries: usize,
    /// How many entries its time index has.
    pub time_index_entries: usize,
    /// The aborted transactions whose markers lie here, in the order of the markers.
    pub aborted: Vec<AbortedTransaction>,
}

/// Opens the partition in the directory `path` as the engine does, but for reading only, with damage cut off instead of
/// refused, and tells what it comes to. No file is changed, and no lock is taken: where somebody has the log directory open
/// ([`is_in_use`]), what looks like an unfinished end may be an append under way.
///
/// An opening under [`CorruptionPolicy::Refuse`], the default, refuses the partition where
/// [`lacks_durable`](RecoveryReport::lacks_durable) says so.
///
/// ```
/// use idemlog::inspect::{InspectOptions, inspect};
/// # use idemlog::{LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # LogDir::open(data.path(), LogDirOptions::default())?.partition("orders", 0)?;
/// let crashed = InspectOptions::default().clean(false);
/// let state = inspect(data.path().join("orders-0"), &crashed)?;
/// println!("{}", state.recovery);
/// assert!(state.producers.is_empty());
/// # Ok::<(), idemlog::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Corrupt`](crate::Error::Corrupt) for what opening refuses under any policy; the disk's.
pub fn inspect(path: impl AsRef<Path>, options: &InspectOptions) -> Result<Inspection> {
    let path = path.as_ref();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut snapshots = list_snapshots(&*disk, path)?;
    snapshots.reverse();
    let shared = LogDirOptions::default().read_only(true).disk(disk).clock(clock(options.now));
    let environment = Arc::new(shared.environment(None, None));
    let checkpointed = checkpointed(path, options)?;
    let log = Log::open(request(path, environment, options.producer_expiry_ms, checkpointed)?)?;
    log.expire_producers();
    Ok(Inspection {
        log_start: log.log_start_offset(),
        log_end: log.log_end_offset(),
        high_watermark: log.high_watermark(),
        checkpointed_high_watermark: log.checkpointed_high_watermark(),
        last_stable: log.last_stable_offset(),
        first_undecided: log.first_undecided_offset(),
        recovery_point: log.recovery_point(),
        segments: segments(&log)?,
        snapshots,
        leader_epochs: log.leader_epochs(),
        producers: log.producers(),
        recovery: log.recovery().clone(),
    })
}

fn request(
    path: &Path,
    environment: Arc<Environment>,
    producer_expiry_ms: i64,
    checkpointed: CheckpointedState,
) -> Result<OpenRequest> {
    let producers =
        ProducerPolicy::default().expiry_clock(ExpiryClock::RecordTimestamp).expiry_ms(producer_expiry_ms);
    producers.validate()?;
    Ok(OpenRequest {
        name: name(path)?,
        directory: path.to_owned(),
        environment,
        options: LogOptions::default().corruption(CorruptionPolicy::CutAndKeep).producers(producers),
        // Read, not mapped: an owner may be cutting the file.
        mode: IoMode::Write,
        checkpointed,
        for_repair: false,
    })
}

/// What the host says, as if the checkpoints around the partition said it. Only they themselves tell of a log that is being
/// emptied, by a recovery point of 0 beside its start: the host's 0 says that nothing is known.
fn checkpointed(path: &Path, options: &InspectOptions) -> Result<CheckpointedState> {
    let around = Around::of_partition(path)?;
    let found = around.and_then(|around| around.state().ok()).unwrap_or_default();
    let is_told = options.log_start == found.log_start && options.recovery_point == found.durable_below();
    let said = Some(options.recovery_point).filter(|&point| point > Offset::ZERO);
    Ok(CheckpointedState {
        recovery_point: if is_told { found.recovery_point } else { said },
        log_start: options.log_start,
        high_watermark: options.high_watermark,
        clean: options.clean,
        is_ours: found.is_ours,
    })
}

/// The partition's name by that of its directory, which may be a copy under any name.
fn name(path: &Path) -> Result<TopicPartition> {
    match path.file_name().map(PartitionDirectory::parse) {
        Some(PartitionDirectory::Live(name)) => Ok(name),
        _ => TopicPartition::new("inspected", 0),
    }
}

fn segments(log: &Log) -> Result<Vec<SegmentState>> {
    let state = |segment: &Arc<Segment>| {
        let (summary, indexes) = (segment.summary()?, segment.indexes()?);
        Ok(SegmentState {
            base_offset: segment.base_offset(),
            bytes: segment.file().end(),
            next_offset: summary.next_offset,
            largest_timestamp: summary.largest.timestamp,
            offset_index_entries: indexes.offset.len(),
            time_index_entries: indexes.time.len(),
            aborted: log.aborted_in(segment)?,
        })
    };
    log.segments().iter().map(state).collect()
}

fn clock(now: Option<Timestamp>) -> Arc<dyn Clock> {
    match now {
        Some(now) => Arc::new(StandingClock(now)),
        None => Arc::new(SystemClock),
    }
}

/// A clock that stands.
#[derive(Debug)]
struct StandingClock(Timestamp);

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_checkpoints_tell_of_a_log_that_is_being_emptied() {
        let data = tempfile::tempdir().unwrap();
        let partition = data.path().join("orders-0");
        std::fs::create_dir(&partition).unwrap();
        let write = |file: &str, offset: i64| {
            std::fs::write(data.path().join(file), format!("0\n1\norders 0 {offset}\n")).unwrap();
        };
        write("log-start-offset-checkpoint", 7);
        for (point, is_emptied) in [(0, true), (9, false)] {
            write("recovery-point-offset-checkpoint", point);
            let told = InspectOptions::of_partition(&partition).unwrap();
            let as_what = |options: InspectOptions| {
                let state = checkpointed(&partition, &options).unwrap();
                assert_eq!(state.durable_below(), options.recovery_point);
                state.is_emptied()
            };
            assert_eq!(as_what(told.clone()), is_emptied);
            assert!(!as_what(told.clone().log_start(Some(Offset(8)))));
            assert!(!as_what(told.clone().log_start(None)));
            assert_eq!(as_what(told.recovery_point(Offset::ZERO)), is_emptied);
        }
    }
}

//! Looks at everything in a partition or a log directory, and changes nothing.
//!
//! Opening trusts what was durable and reads only the end of the log. [`verify`] trusts nothing: every batch is walked
//! record by record, every index entry and every snapshot is held against the batches.

mod display;
mod epochs;
mod indexes;
mod kind;
mod partition;
mod producers;
mod sealed;
mod unfinished;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::fs::name::{PartitionDirectory, TopicPartition};
use crate::fs::{Disk, RealDisk};
use crate::log::CheckpointedState;
use crate::log_dir::Place;
use crate::log_dir::look::{self, Around};
use crate::log_dir::{Checkpoints, OffsetsByPartition};
use crate::types::Offset;
pub use kind::{ProblemKind, ProducerDifference};

/// Is told how many bytes of batches were walked.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(u64);

/// What [`verify`] takes for right.
///
/// ```
/// use idemlog::verify::VerifyOptions;
///
/// assert!(!VerifyOptions::default().allow_gaps);
/// assert!(VerifyOptions::default().allow_gaps(true).allow_gaps);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Whether offsets may be missing, as in a log that was compacted, replicated or truncated inside of a batch: gaps
    /// are notes then, but where an index is left of a segment that is gone. Default: no, a gap is an error.
    pub allow_gaps: bool,
    /// Whether to look at no more than what lies below the recovery point in the checkpoint, in partitions that somebody may have
    /// open: without the lock, and without the files that concern all partitions. Of a log directory the checkpoint is taken as it
    /// is at the beginning. Of a partition that no checkpoint tells of, at all segments but the last. What retention, a truncation
    /// or a deletion takes away meanwhile is no finding: everything that is wrong is looked at twice. Default: no, everything is
    /// read, and nobody may have it open.
    pub sealed: bool,
}

impl VerifyOptions {
    /// Sets [`allow_gaps`](Self#structfield.allow_gaps).
    #[must_use]
    pub fn allow_gaps(mut self, allow_gaps: bool) -> Self {
        self.allow_gaps = allow_gaps;
        self
    }

    /// Sets [`sealed`](Self#structfield.sealed).
    ///
    /// ```
    /// use idemlog::verify::{VerifyOptions, verify};
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// # log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// # dir.close()?;
    /// # drop((dir, log));
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// // While it is open:
    /// let report = verify(data.path(), &VerifyOptions::default().sealed(true))?;
    /// assert_eq!(report.looked_below, [(data.path().join("orders-0"), Offset(1))]);
    /// assert_eq!((report.batches, report.has_errors()), (1, false));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    #[must_use]
    pub fn sealed(mut self, sealed: bool) -> Self {
        self.sealed = sealed;
        self
    }
}

/// What [`verify`] found.
///
/// ```
/// use idemlog::verify::{VerifyOptions, verify};
/// # use idemlog::{LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// # dir.partition("orders", 0)?;
/// # dir.close()?;
/// let report = verify(data.path(), &VerifyOptions::default())?;
/// println!("{} batches, {} bytes", report.batches, report.bytes);
/// assert_eq!(report.partitions, [data.path().join("orders-0")]);
/// assert!(!report.has_errors());
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The directories of the partitions that were looked at, in order.
    pub partitions: Vec<PathBuf>,
    /// Everything out of the ordinary, in the order in which it was met.
    pub problems: Vec<Problem>,
    /// How many batches were walked.
    pub batches: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The offset below which each partition was looked at; where only [`sealed`](VerifyOptions::sealed) batches were.
    pub looked_below: Vec<(PathBuf, Offset)>,
}

impl VerifyReport {
    /// Whether anything is wrong, or could not be read, rather than only worth a note.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity > Severity::Note)
    }

    fn error(&mut self, path: &Path, position: u64, kind: impl Into<ProblemKind>) {
        self.add(Severity::Error, path, position, kind.into());
    }

    fn note(&mut self, path: &Path, position: u64, kind: ProblemKind) {
        self.add(Severity::Note, path, position, kind);
    }

    fn add(&mut self, severity: Severity, path: &Path, position: u64, kind: ProblemKind) {
        let loses_data = severity == Severity::Error && kind.loses_data();
        self.problems.push(Problem { path: path.to_owned(), position, severity, kind, loses_data });
    }

    /// Turns what an operation found wrong with a file into an error of the report; other failures stay failures.
    fn take<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupt(found)) => {
                self.error(&found.path, found.position, found.kind);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Something that is wrong, or worth a note.
///
/// ```
/// use idemlog::verify::{ProblemKind, Severity, VerifyOptions, verify};
/// # use idemlog::{LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # LogDir::open(data.path(), LogDirOptions::default())?.partition("orders", 0)?;
/// let partition = data.path().join("orders-0");
/// std::fs::write(partition.join("leader-epoch-checkpoint.tmp"), b"half a file").unwrap();
///
/// let report = verify(&partition, &VerifyOptions::default())?;
/// let leftover = &report.problems[0];
/// assert_eq!((&leftover.kind, leftover.severity), (&ProblemKind::Leftover, Severity::Note));
/// assert!(leftover.path.ends_with("leader-epoch-checkpoint.tmp"));
/// println!("{leftover}");
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The byte in it.
    pub position: u64,
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: ProblemKind,
    /// Whether it says that data is missing which was durable: these come first for whoever has little time.
    pub loses_data: bool,
}

/// How bad a [`Problem`] is.
///
/// ```
/// use idemlog::verify::Severity;
///
/// assert!(Severity::Note < Severity::Error);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// What a crash, a running owner or earlier work leaves; the next opening deals with it.
    Note,
    /// What no sound log has.
    Error,
    /// What the disk does not let us read: whether it is sound is not known.
    Unread,
}

/// Reads everything in `path`, a log directory or the directory of one partition, and holds it against the rest.
/// Changes nothing and takes no lock, but refuses a log that somebody has open: its end would look torn. Of such a one,
/// [`VerifyOptions::sealed`] looks at what is durable.
///
/// ```
/// use idemlog::verify::{VerifyOptions, verify};
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// dir.partition("orders", 0)?.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
/// dir.close()?;
///
/// let report = verify(data.path(), &VerifyOptions::default())?;
/// assert_eq!((report.batches, report.has_errors()), (1, false));
/// # Ok::<(), idemlog::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Locked`] if somebody has the log directory open: this process, another one, or a running Kafka. Where the lock
/// cannot be looked at, nobody is taken to have. The disk's. Whatever is wrong with the files' bytes is in the report, and which
/// segments could not be read ([`Severity::Unread`]).
pub fn verify(path: impl AsRef<Path>, options: &VerifyOptions) -> Result<VerifyReport> {
    verify_with_progress(path, options, |_| {})
}

/// As [`verify`], and tells `progress` behind every batch how many bytes of batches it has come through.
///
/// ```
/// use idemlog::verify::{VerifyOptions, verify_with_progress};
/// # use idemlog::{BatchBuilder, LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// # dir.partition("orders", 0)?.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
/// # dir.close()?;
/// let mut walked = 0;
/// let report = verify_with_progress(data.path(), &VerifyOptions::default(), |bytes| walked = bytes)?;
/// assert_eq!(walked, report.bytes);
/// # Ok::<(), idemlog::Error>(())
/// ```
///
/// # Errors
///
/// As [`verify`].
pub fn verify_with_progress(
    path: impl AsRef<Path>,
    options: &VerifyOptions,
    mut progress: impl FnMut(u64),
) -> Result<VerifyReport> {
    let path = path.as_ref();
    if options.sealed {
        return sealed::verify(path, options, &mut progress);
    }
    expect_closed(path)?;
    let report = look(path, options, &mut progress);
    // What looks wrong may be the work of somebody who has come meanwhile.
    expect_closed(path)?;
    report
}

fn expect_closed(path: &Path) -> Result<()> {
    match look::in_use(path) {
        Some(path) => Err(Error::Locked { path }),
        None => Ok(()),
    }
}

/// Verifies, whoever has it open.
pub(crate) fn look(path: &Path, options: &VerifyOptions, progress: Progress<'_>) -> Result<VerifyReport> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut report = VerifyReport::default();
    match Place::of(&*disk, path)? {
        Some(Place::LogDirectory { partitions }) => {
            log_directory(&disk, path, &partitions, options, &mut report, progress)?;
        }
        Some(Place::Partition) => {
            report.partitions.push(path.to_owned());
            let state = report.take(Around::of_partition(path).and_then(checkpointed_around))?;
            partition::verify(&disk, path, options, state.unwrap_or(COPY), &mut report, progress)?;
        }
        None => report.error(path, 0, ProblemKind::NotALog),
    }
    Ok(report)
}

/// A partition alone, which no opening puts right, must be as one that was closed well.
const COPY: CheckpointedState = CheckpointedState {
    recovery_point: None,
    log_start: None,
    high_watermark: None,
    clean: true,
    is_ours: false,
};

fn checkpointed_around(around: Option<Around>) -> Result<CheckpointedState> {
    around.map_or(Ok(COPY), |around| around.state())
}

/// Verifies the directory's own files and its partitions. A partition that cannot be read does not keep the others from it.
fn log_directory(
    disk: &Arc<dyn Disk>,
    path: &Path,
    partitions: &[TopicPartition],
    options: &VerifyOptions,
    report: &mut VerifyReport,
    progress: Progress<'_>,
) -> Result<()> {
    for own_file in look::check_own_files(disk, path) {
        report.take(own_file)?;
    }
    let judge = |file| Ok(report.take(file)?.unwrap_or_default());
    let checkpoints = Checkpoints::read_by(&**disk, path, judge)?;
    let clean = look::is_clean(&**disk, path)?;
    let is_copy = !look::is_log_dir(&**disk, path)?;
    check_missing(&**disk, path, partitions, checkpoints.recovery_points(), clean, report)?;
    for name in partitions {
        let directory = path.join(name.to_string());
        report.partitions.push(directory.clone());
        let state = checkpoints.state(name, clean || is_copy);
        if let Err(error) = partition::verify(disk, &directory, options, state, report, progress) {
            report.add(Severity::Unread, &directory, 0, ProblemKind::Unread { error: error.to_string() });
        }
    }
    Ok(())
}

/// Every partition that has a recovery point must be there. Kafka may be moving it here, under a longer name; and who crashed
/// behind a deletion may not have come to the checkpoint.
fn check_missing(
    disk: &dyn Disk,
    path: &Path,
    partitions: &[TopicPartition],
    recovery_points: &OffsetsByPartition,
    clean: bool,
    report: &mut VerifyReport,
) -> Result<()> {
    let names = disk.list(path).at("list", path)?.into_iter().map(|entry| entry.name);
    let others: Vec<_> = names
        .filter(|name| !matches!(PartitionDirectory::parse(name), PartitionDirectory::Live(_)))
        .collect();
    for (name, point) in recovery_points {
        if partitions.binary_search(name).is_ok() || PartitionDirectory::has_longer_name(name, &others) {
            continue;
        }
        let (directory, recovery_point) = (path.join(name.to_string()), *point);
        if clean {
            report.error(&directory, 0, ProblemKind::MissingPartition { recovery_point });
        } else {
            report.note(&directory, 0, ProblemKind::PartitionGone { recovery_point });
        }
    }
    Ok(())
}

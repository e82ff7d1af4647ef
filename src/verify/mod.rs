//! Looks at everything in a partition or a log directory, and changes nothing.
//!
//! Opening trusts what was durable and reads only the end of the log. [`verify`] trusts nothing: every batch is walked
//! record by record, every index entry and every snapshot is held against the batches.

mod epochs;
mod indexes;
mod partition;
mod producers;
mod walk;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::fs::name::{PartitionDirectory, TopicPartition};
use crate::fs::{Disk, EntryKind, RealDisk};
use crate::log_dir;
use partition::Checkpointed;

/// Is told how many bytes of batches were walked.
type Progress<'a> = &'a mut dyn FnMut(u64);

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
    /// are notes then. Default: no, a gap is an error.
    pub allow_gaps: bool,
}

impl VerifyOptions {
    /// Sets [`allow_gaps`](Self#structfield.allow_gaps).
    #[must_use]
    pub fn allow_gaps(mut self, allow_gaps: bool) -> Self {
        self.allow_gaps = allow_gaps;
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
/// assert!(!report.has_errors());
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Everything out of the ordinary, in the order in which it was met.
    pub problems: Vec<Problem>,
    /// How many batches were walked.
    pub batches: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

impl VerifyReport {
    /// Whether anything is wrong, rather than only worth a note.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn error(&mut self, path: &Path, position: u64, text: impl fmt::Display) {
        self.add(Severity::Error, path, position, text.to_string());
    }

    fn note(&mut self, path: &Path, position: u64, text: impl fmt::Display) {
        self.add(Severity::Note, path, position, text.to_string());
    }

    fn add(&mut self, severity: Severity, path: &Path, position: u64, text: String) {
        self.problems.push(Problem { path: path.to_owned(), position, severity, text });
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
/// use idemlog::verify::{Severity, VerifyOptions, verify};
/// # use idemlog::{LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # LogDir::open(data.path(), LogDirOptions::default())?.partition("orders", 0)?;
/// let partition = data.path().join("orders-0");
/// std::fs::write(partition.join("leader-epoch-checkpoint.tmp"), b"half a file").unwrap();
///
/// let report = verify(&partition, &VerifyOptions::default())?;
/// let leftover = &report.problems[0];
/// assert_eq!(leftover.severity, Severity::Note);
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
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Note => "note",
        };
        write!(f, "{severity}: {} at byte {}: {}", self.path.display(), self.position, self.text)
    }
}

/// How bad a [`Problem`] is.
///
/// ```
/// use idemlog::verify::Severity;
///
/// assert!(Severity::Note < Severity::Error);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// What a crash, a running owner or earlier work leaves; the next opening deals with it.
    Note,
    /// What no sound log has.
    Error,
}

/// Reads everything in `path`, a log directory or the directory of one partition, and holds it against the rest.
/// Changes nothing and takes no lock; of a log that is being written to, the end may look torn.
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
/// The disk's. Whatever is wrong with the files' bytes is in the report.
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
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut report = VerifyReport::default();
    let is_log_dir = log_dir::is_log_dir(&*disk, path)?;
    let mut partitions = partitions_in(&*disk, path)?;
    if !is_log_dir {
        retain_partitions(&*disk, path, &mut partitions)?;
    }
    if partitions.is_empty() && !is_log_dir {
        if is_partition(&*disk, path)? {
            let checkpointed = report.take(checkpointed_at_home(&*disk, path))?.unwrap_or_default();
            partition::verify(&disk, path, options, checkpointed, &mut report, &mut progress)?;
        } else {
            report.error(path, 0, "neither a log directory nor a partition: no file of either is here");
        }
        return Ok(report);
    }
    let own_files = log_dir::check_own_files(&disk, path);
    report.take(own_files)?;
    let checkpointed = log_dir::checkpointed(&*disk, path);
    let (recovery_points, log_starts) = report.take(checkpointed)?.unwrap_or_default();
    for name in partitions {
        let directory = path.join(name.to_string());
        let checkpointed = Checkpointed::of(&name, &recovery_points, &log_starts);
        partition::verify(&disk, &directory, options, checkpointed, &mut report, &mut progress)?;
    }
    Ok(report)
}

/// The partitions in a log directory, in order.
fn partitions_in(disk: &dyn Disk, path: &Path) -> Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for entry in disk.list(path).at("list", path)? {
        if entry.kind == EntryKind::Directory
            && let PartitionDirectory::Live(name) = PartitionDirectory::parse(&entry.name)
        {
            partitions.push(name);
        }
    }
    partitions.sort();
    Ok(partitions)
}

/// Leaves those that are partitions also by what is in them: other directories have such names, too.
fn retain_partitions(disk: &dyn Disk, path: &Path, partitions: &mut Vec<TopicPartition>) -> Result<()> {
    let mut holds = Vec::new();
    for name in partitions.iter() {
        holds.push(partition::holds_files(disk, &path.join(name.to_string()))?);
    }
    let mut holds = holds.into_iter();
    partitions.retain(|_| holds.next() == Some(true));
    Ok(())
}

/// Whether a directory is a partition: by its files, or, before the first append, by its name in a log directory.
fn is_partition(disk: &dyn Disk, path: &Path) -> Result<bool> {
    Ok(partition::holds_files(disk, path)? || log_dir::home_of(disk, path)?.is_some())
}

/// What the log directory that a partition lies in says of it, if it lies in one.
fn checkpointed_at_home(disk: &dyn Disk, path: &Path) -> Result<Checkpointed> {
    let Some((log_dir, name)) = log_dir::home_of(disk, path)? else { return Ok(Checkpointed::default()) };
    let (recovery_points, log_starts) = log_dir::checkpointed(disk, &log_dir)?;
    Ok(Checkpointed::of(&name, &recovery_points, &log_starts))
}

//! Puts a damaged partition right, as far as that is possible, and keeps everything that it takes away.
//!
//! [`plan`] says what would be done and changes nothing; [`repair`] does it. What they do that opening does not: they check
//! every batch, cut in front of damage without being told to by [`CorruptionPolicy`], and replace
//! damaged indexes, snapshots and leader epochs, setting the damaged ones aside.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{IoContext, Result};
use crate::fs::missing::first_free;
use crate::fs::name::{PartitionFile, SegmentFile, Stage, TopicPartition};
use crate::fs::{Disk, EntryKind, IoMode, RealDisk};
use crate::log::{self, CorruptionPolicy, Cut, CutReason, LogOptions, OpenRequest, RecoveryReport};
use crate::log_dir::look::{self, Around};
use crate::log_dir::{self, LogDirOptions};
use crate::producer::ProducerPolicy;
use crate::types::{Offset, OffsetRange};
use crate::verify::{self, Problem, ProblemKind, Severity, VerifyOptions, VerifyReport};

/// An opening takes gaps, as compaction, replication and truncation leave them.
const AS_AN_OPENING: VerifyOptions = VerifyOptions { allow_gaps: true, sealed: false };

/// What is to be done about a partition, or was.
///
/// ```
/// use idemlog::repair;
/// # use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// # dir.partition("orders", 0)?.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
/// # dir.close()?;
/// # drop(dir);
/// let partition = data.path().join("orders-0");
/// let log = partition.join("00000000000000000000.log");
/// let mut bytes = std::fs::read(&log).unwrap();
/// bytes[64] ^= 1;
/// std::fs::write(&log, bytes).unwrap();
///
/// let plan = repair::plan(&partition)?;
/// assert_eq!(plan.recovery.cut.as_ref().unwrap().offset.0, 0);
/// println!("{plan}");
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Repair {
    /// Where the log is cut, and where what is cut is kept.
    pub recovery: RecoveryReport,
    /// Files that are set aside under another name, and what is wrong with each. They are made again from the batches, but for
    /// a topic's id, which is unknown then.
    pub set_aside: Vec<SetAside>,
    /// Segments in the middle of the log that are gone, as `verify` tells of them: no repair brings them back.
    pub lost: Vec<Problem>,
    /// A log start offset above the end of the log, which is lowered to the first segment: an opening would take all that is there out
    /// of the log.
    pub lowered_start: Option<Offset>,
    /// Whether nothing was damaged: what is cut is an end that a crash left.
    was_sound: bool,
}

/// A file that is set aside.
///
/// ```
/// use idemlog::repair;
/// # use idemlog::{BatchBuilder, LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// # dir.partition("orders", 0)?.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
/// # dir.close()?;
/// # drop(dir);
/// let snapshot = data.path().join("orders-0/00000000000000000001.snapshot");
/// let mut bytes = std::fs::read(&snapshot).unwrap();
/// bytes[8] ^= 1;
/// std::fs::write(&snapshot, &bytes).unwrap();
///
/// let done = repair::repair(data.path().join("orders-0"))?;
/// assert_eq!(done.set_aside[0].from, snapshot);
/// assert_eq!(std::fs::read(&done.set_aside[0].to).unwrap(), bytes);
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetAside {
    /// The file.
    pub from: PathBuf,
    /// Its new name.
    pub to: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Repair {
    /// Whether there is nothing to do that an opening would not do by itself: the end that a crash left it cuts as well.
    pub fn is_needless(&self) -> bool {
        let leaves_to_opening = |cut: &Cut| self.was_sound && cut.reason == CutReason::Tail;
        self.recovery.cut.as_ref().is_none_or(leaves_to_opening)
            && self.recovery.missing_head.is_none()
            && self.lowered_start.is_none()
            && self.set_aside.is_empty()
    }
}

impl fmt::Display for Repair {
    /// A line for each thing that is done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for SetAside { from, to, problem } in &self.set_aside {
            writeln!(f, "set {} aside as {}: {problem}", from.display(), to.display())?;
        }
        for Problem { path, kind, .. } in &self.lost {
            writeln!(f, "go without {}: {kind}", path.display())?;
        }
        if let Some(start) = self.lowered_start {
            writeln!(
                f,
                "begin the log at offset {}, with its first segment: its start by the checkpoint, {start}, is above its end",
                self.recovery.log_start
            )?;
        }
        if let Some(OffsetRange { first, last }) = self.recovery.missing_head {
            writeln!(
                f,
                "let go of offsets {first} to {last}, which are missing in front of the first segment"
            )?;
        }
        if let Some(cut) = &self.recovery.cut {
            writeln!(f, "cut at offset {}: {}", cut.offset, cut.found)?;
            writeln!(f, "  {} bytes with {} valid batches lie behind it", cut.bytes, cut.batches)?;
            cut.kept.iter().try_for_each(|path| writeln!(f, "  kept in {}", path.display()))?;
        }
        let lost = self.recovery.durable_offsets_cut();
        if lost > 0 {
            let point = self.recovery.recovery_point;
            writeln!(f, "  the recovery point was {point}: {lost} offsets that were durable are gone")?;
        }
        write!(f, "offsets {} to {} are left", self.recovery.log_start, self.recovery.log_end)
    }
}

/// What [`repair`] would do to the partition in the directory `path`. Changes nothing and takes no lock: of a log that is in
/// use it is a guess.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::Error::Corrupt) for what no repair changes: a batch of an unsupported format, a snapshot that says
/// it is of a newer version, a name that is not a file, a segment that is longer than any can be; the disk's.
pub fn plan(path: impl AsRef<Path>) -> Result<Repair> {
    Partition::at(path.as_ref())?.plan()
}

/// Cuts the log in the directory `path` in front of the first damage, and keeps what it cuts, in files ending in `.corrupt`;
/// sets aside damaged indexes, snapshots and leader epochs, and makes them again. A topic's id that is damaged is set aside, too,
/// and nothing tells it then: [`LogDir::partition_of`](crate::LogDir::partition_of) notes the one it is given. The log directory
/// is locked meanwhile.
///
/// A crash in the middle leaves a partition that can be repaired. Snapshots are left to the next opening, which knows how the
/// host wants its producers remembered.
///
/// # Errors
///
/// [`Error::Locked`](crate::Error::Locked) if somebody has the log directory open; else as [`plan`].
pub fn repair(path: impl AsRef<Path>) -> Result<Repair> {
    let partition = Partition::at(path.as_ref())?;
    let disk = &*partition.disk;
    let _lock = match &partition.around {
        Some(around) => Some(log_dir::take_lock(disk, &around.directory)?),
        None => None,
    };
    let planned = partition.plan()?;
    for SetAside { from, to, .. } in &planned.set_aside {
        disk.rename(from, to).at("rename", from)?;
    }
    disk.sync_directory(&partition.directory).at("sync directory", &partition.directory)?;
    let recovered = log::recover(&partition.request(false, planned.lowered_start)?)?;
    if let Some(around) = &partition.around {
        if planned.lowered_start.is_some() {
            look::write_log_start(disk, around, recovered.log_start)?;
        }
        // After the cut: a crash in between leaves a log that ends too early, which is refused, and not one that is damaged
        // where damage is taken for an unfinished end.
        if recovered.report.below_start.is_none() {
            look::write_recovery_point(disk, around, recovered.recovery_point)?;
        }
        if recovered.report.missing_head.is_some() {
            look::write_log_start(disk, around, recovered.log_start)?;
        }
    }
    Ok(Repair { recovery: recovered.report, ..planned })
}

/// A partition, and the log directory that it lies in, if it does.
struct Partition {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    around: Option<Around>,
}

impl Partition {
    fn at(path: &Path) -> Result<Self> {
        let around = Around::of_partition(path)?;
        let directory = std::fs::canonicalize(path).at("find", path)?;
        Ok(Self { disk: Arc::new(RealDisk), directory, around })
    }

    fn plan(&self) -> Result<Repair> {
        let (recovery, lowered_start) = self.look()?;
        let found = verify::look(&self.directory, &AS_AN_OPENING, &mut |_| {})?;
        let set_aside = self.to_set_aside(&recovery, &found)?;
        let log_end = recovery.log_end;
        let is_lost = |problem: &&Problem| {
            matches!(problem.kind, ProblemKind::LostSegment { .. }) && !lies_behind(&problem.path, log_end)
        };
        let lost = found.problems.iter().filter(is_lost).cloned().collect();
        Ok(Repair { recovery, set_aside, lost, lowered_start, was_sound: !found.has_errors() })
    }

    /// What an opening would find, and the log start offset that is to be lowered first.
    fn look(&self) -> Result<(RecoveryReport, Option<Offset>)> {
        let request = self.request(true, None)?;
        let report = log::recover(&request)?.report;
        // Where all that was durable is deleted, or about to be, it is well that nothing is left.
        let told = request.checkpointed;
        let is_deleted = told.is_emptied() || told.log_start == Some(told.durable_below());
        match report.below_start {
            Some(_) if !is_deleted => {
                let lowered = told.log_start;
                Ok((log::recover(&self.request(true, lowered)?)?.report, lowered))
            }
            _ => Ok((report, None)),
        }
    }

    /// As an opening has it, but that every batch is checked, and damage cut off; and that the log begins with its first segment, if
    /// its start is `lowered`.
    fn request(&self, read_only: bool, lowered: Option<Offset>) -> Result<OpenRequest> {
        let (name, mut checkpointed) = match &self.around {
            Some(around) => (around.name.clone(), around.state()?),
            None => (TopicPartition::new("copy", 0)?, Default::default()),
        };
        checkpointed.log_start = checkpointed.log_start.filter(|_| lowered.is_none());
        let options = LogDirOptions::default().read_only(read_only).disk(Arc::clone(&self.disk));
        Ok(OpenRequest {
            name,
            directory: self.directory.clone(),
            environment: Arc::new(options.environment(None, None)),
            options: LogOptions::default()
                .corruption(CorruptionPolicy::CutAndKeep)
                .producers(ProducerPolicy::remembering_all()),
            mode: IoMode::Write,
            checkpointed,
            for_repair: true,
        })
    }

    /// The damaged files that the log can do without: those that `verify` complains of, and the snapshots that recovery would
    /// remove, but for those of batches that a crash took away.
    fn to_set_aside(&self, recovery: &RecoveryReport, found: &VerifyReport) -> Result<Vec<SetAside>> {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        let errors = found.problems.iter().filter(is_error);
        let wrong = errors.map(|problem| (problem.path.clone(), problem.kind.to_string()));
        let is_left = |(path, _): &&(PathBuf, String)| lies_behind(path, recovery.log_end);
        let skipped = recovery.snapshots_skipped.iter().filter(|skipped| !is_left(skipped)).cloned();
        let mut set_aside: Vec<SetAside> = Vec::new();
        for (from, problem) in wrong.chain(skipped) {
            let is_known = set_aside.iter().any(|known| known.from == from);
            if !is_known && is_dispensable(&from) && self.is_file(&from)? {
                let to = self.free_name(&from)?;
                let lost = if is_metadata(&from) { "; the topic's id is unknown then" } else { "" };
                set_aside.push(SetAside { from, to, problem: format!("{problem}{lost}") });
            }
        }
        Ok(set_aside)
    }

    fn is_file(&self, path: &Path) -> Result<bool> {
        Ok(self.disk.kind(path).at("look up", path)? == Some(EntryKind::File))
    }

    /// A name for a file that nothing has yet: what an earlier repair kept stays.
    fn free_name(&self, from: &Path) -> Result<PathBuf> {
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let numbered = |before| self.directory.join(format!("{name}.{}.corrupt", before + 1));
        first_free(&*self.disk, numbered, |_| false)
    }
}

/// Whether a log opens without the file.
fn is_dispensable(path: &Path) -> bool {
    match path.file_name().map(PartitionFile::parse) {
        Some(PartitionFile::Segment { file, stage: Stage::Live, .. }) => file != SegmentFile::Log,
        Some(PartitionFile::LeaderEpochs | PartitionFile::Metadata) => true,
        _ => false,
    }
}

/// Whether a file of a segment begins behind `log_end`.
fn lies_behind(path: &Path, log_end: Offset) -> bool {
    let file = path.file_name().map(PartitionFile::parse);
    matches!(file, Some(PartitionFile::Segment { base, .. }) if base > log_end)
}

fn is_metadata(path: &Path) -> bool {
    path.file_name().map(PartitionFile::parse) == Some(PartitionFile::Metadata)
}

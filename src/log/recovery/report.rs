//! What opening a partition found and did.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Corruption;
use crate::types::{Offset, OffsetRange};

/// What opening a partition found, what it did about it, and how long it took.
///
/// ```
/// use idemlog::{LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// assert!(log.recovery().cut.is_none());
/// println!("{}", log.recovery());
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the directory was marked as closed cleanly.
    pub marked_clean: bool,
    /// Where the recovery began: everything below was durable, indexed and in a snapshot.
    pub recovery_point: Offset,
    /// The log start offset found.
    pub log_start: Offset,
    /// The log end offset found.
    pub log_end: Offset,
    /// How many segments the log has.
    pub segments: usize,
    /// How many bytes of batches were read.
    pub bytes_read: u64,
    /// How many batches had their CRC checked.
    pub batches_checked: u64,
    /// How many batches were applied to the producers.
    pub batches_replayed: u64,
    /// The offset of the snapshot that the producers began with.
    pub snapshot: Option<Offset>,
    /// Snapshots that were passed over, and why.
    pub snapshots_skipped: Vec<(PathBuf, String)>,
    /// How many producers are known.
    pub producers: usize,
    /// Durable records that are missing in front of the first segment, and were not deleted; let go of by
    /// [`CorruptionPolicy::CutAndKeep`](crate::CorruptionPolicy::CutAndKeep).
    pub missing_head: Option<OffsetRange>,
    /// Where and why the log was cut.
    pub cut: Option<Cut>,
    /// Set where the last batch lay below the log start offset, so that the log begins there, empty.
    pub below_start: Option<BelowStart>,
    /// Empty bytes behind the last batch that were given back.
    pub trimmed_bytes: u64,
    /// Whether a segment that a crash left without its name was taken in.
    pub adopted_prepared: bool,
    /// The base offsets of the segments whose indexes were missing or wrong and were built again.
    pub indexes_rebuilt: Vec<Offset>,
    /// Leftovers of earlier work that were removed.
    pub removed: Vec<PathBuf>,
    /// What could not be written, and stays in memory: the disk is full or read-only.
    pub not_written: Vec<String>,
    /// How long all of it took.
    pub elapsed: Duration,
}

/// The log's end as recovery found it, and what lay behind it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cut {
    /// Why.
    pub reason: CutReason,
    /// The first thing that was wrong, and where.
    pub found: Corruption,
    /// The offset at which the log ends now.
    pub offset: Offset,
    /// How many bytes were cut that were not empty.
    pub bytes: u64,
    /// How many valid batches were among them. Those were never acknowledged as durable, unless the reason is
    /// [`CutReason::Corruption`].
    pub batches: u64,
    /// The files in which what was cut is kept: where something durable was cut, and by [`repair`](mod@crate::repair), all of it. Of
    /// a tail, the bytes of its segment from the cut on if a valid batch is among them, and every segment behind. Who opens for
    /// reading only is told the names, and no file is made.
    pub kept: Vec<PathBuf>,
}

/// A log whose last batch lay below the log start offset of the checkpoint: all that its segments hold is deleted, or the checkpoint
/// is not of these segments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BelowStart {
    /// Where the last batch ended.
    pub log_end: Offset,
    /// The files in which its segments are kept. None where somebody died who was emptying the log.
    pub kept: Vec<PathBuf>,
}

/// Why a log was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutReason {
    /// The end of the log, as a crash may leave it: at or above the recovery point.
    Tail,
    /// Damage below the recovery point, which no crash explains; cut by
    /// [`CorruptionPolicy::CutAndKeep`](crate::CorruptionPolicy::CutAndKeep).
    Corruption,
}

impl RecoveryReport {
    /// Whether something was cut or is missing that was durable: an opening under
    /// [`CorruptionPolicy::Refuse`](crate::CorruptionPolicy::Refuse) refuses the log.
    pub fn lacks_durable(&self) -> bool {
        self.missing_head.is_some()
            || self.cut.as_ref().is_some_and(|cut| cut.reason == CutReason::Corruption)
    }

    /// How many offsets below the recovery point were cut, or are missing: they were durable. Of a log that was cut by
    /// [`CorruptionPolicy::CutAndKeep`](crate::CorruptionPolicy::CutAndKeep) or by [`repair`](mod@crate::repair).
    pub fn durable_offsets_cut(&self) -> u64 {
        let end = |cut: &Cut| cut.offset.max(self.log_start);
        let cut = self.cut.as_ref().map_or(0, |cut| self.recovery_point - end(cut));
        let head = self.missing_head.map_or(0, OffsetRange::count);
        u64::try_from(cut.max(0).saturating_add(head)).unwrap_or(0)
    }

    /// Whether the log was closed well, and nothing of what that leaves was missing or too much.
    pub(crate) fn found_all_in_place(&self) -> bool {
        let Self { snapshots_skipped, indexes_rebuilt, removed, not_written, .. } = self;
        let is_whole = self.cut.is_none()
            && self.missing_head.is_none()
            && self.below_start.is_none()
            && self.trimmed_bytes == 0
            && !self.adopted_prepared;
        let nothing_made = indexes_rebuilt.is_empty() && removed.is_empty() && not_written.is_empty();
        self.marked_clean && is_whole && nothing_made && snapshots_skipped.is_empty()
    }
}

impl fmt::Display for RecoveryReport {
    /// One line, and one more for each thing out of the ordinary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} from offset {}: offsets {} to {} in {} segments, {} bytes read, {} batches checked, {} replayed, \
             {} producers, {:.1?}",
            if self.marked_clean { "opened" } else { "recovered" },
            self.recovery_point,
            self.log_start,
            self.log_end,
            self.segments,
            self.bytes_read,
            self.batches_checked,
            self.batches_replayed,
            self.producers,
            self.elapsed,
        )?;
        if let Some(OffsetRange { first, last }) = self.missing_head {
            write!(f, "\n  offsets {first} to {last} are missing in front of the first segment")?;
        }
        if let Some(cut) = &self.cut {
            write!(f, "\n  {cut}")?;
        }
        if let Some(below) = &self.below_start {
            write!(f, "\n  {below}; it begins anew at {}", self.log_start)?;
        }
        if self.trimmed_bytes > 0 {
            write!(f, "\n  gave back {} empty bytes behind the last batch", self.trimmed_bytes)?;
        }
        if self.adopted_prepared {
            write!(f, "\n  took in a segment that had no name yet")?;
        }
        for (path, reason) in &self.snapshots_skipped {
            write!(f, "\n  passed over {}: {reason}", path.display())?;
        }
        for base in &self.indexes_rebuilt {
            write!(f, "\n  built the indexes of the segment at {base} again")?;
        }
        for path in &self.removed {
            write!(f, "\n  removed {}", path.display())?;
        }
        for problem in &self.not_written {
            write!(f, "\n  could not write: {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for BelowStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the last batch ended at offset {}, below the log start", self.log_end)?;
        self.kept.iter().try_for_each(|path| write!(f, ", kept in {}", path.display()))
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            CutReason::Tail => "cut an unfinished end",
            CutReason::Corruption => "cut in front of damage",
        };
        write!(f, "{reason} at offset {}: {}; {} bytes", self.offset, self.found, self.bytes)?;
        if self.batches > 0 {
            write!(f, " with {} valid batches", self.batches)?;
        }
        for path in &self.kept {
            write!(f, ", kept in {}", path.display())?;
        }
        Ok(())
    }
}

//! One partition: what lies in its directory, each part held against the batches.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::epochs::Epochs;
use super::indexes::{self, Wrong};
use super::producers::Producers;
use super::sealed::is_gone;
use super::walk::{Seen, Walk};
use super::{Problem, ProblemKind, Progress, Severity, VerifyOptions, VerifyReport};
use crate::error::{Error, IoContext, Result};
use crate::fs::missing::read_if_present;
use crate::fs::name::{PartitionFile, SegmentFile, Stage, partition_file};
use crate::fs::{DirectoryEntry, Disk, EntryKind, IoMode};
use crate::log::{CheckpointedState, read_topic_id, segment_length};
use crate::segment::{IndexOptions, LogFile, Segment};
use crate::transaction::AbortedTransaction;
use crate::types::Offset;

/// Nothing is written, so neither number matters.
const INDEXES: IndexOptions = IndexOptions { interval_bytes: 4096, max_bytes: 10 << 20 };

/// Verifies the partition in `directory`.
pub(super) fn verify(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &VerifyOptions,
    checkpointed: CheckpointedState,
    report: &mut VerifyReport,
    progress: Progress<'_>,
) -> Result<()> {
    let mut found = Found::default();
    for entry in disk.list(directory).at("list", directory)? {
        found.add(&**disk, directory, entry, report)?;
    }
    if found.has_impostor {
        // It does not open; and what the others are worth depends on this one.
        return Ok(());
    }
    let below = options.sealed.then(|| found.end_of_sealed(checkpointed.recovery_point));
    if let Some(below) = below {
        found.keep_below(below);
        report.looked_below.push((directory.to_owned(), below));
    }
    let segments: Vec<_> =
        found.logs.iter().map(|(&base, &len)| segment(disk, directory, base, len)).collect();
    let first = found.logs.first_key_value().map(|(&base, _)| base);
    let producers = Producers::new(disk, directory, &found.snapshots, first, segments.clone());
    let epochs = Epochs::read(&**disk, directory, report)?;
    // The topic's id, where one is noted, must be one.
    report.take(read_topic_id(&**disk, directory))?;
    let orphans = found.orphans().map(|(_, base)| base).collect();
    let mut walk = Walk::new(report, progress, options.allow_gaps, orphans, checkpointed, producers, epochs);
    for (at, segment) in segments.iter().enumerate() {
        let next_base = segments.get(at + 1).map(|next| next.base_offset());
        let checked = match below {
            Some(below) if segment.base_offset() == below => walk.begin(segment),
            Some(below) if next_base.is_none_or(|next| next > below) => walk.segment_below(segment, below),
            _ => check_segment(disk, directory, segment, next_base, checkpointed, &mut walk),
        };
        or_unread(checked, below.is_some(), &mut walk)?;
    }
    if let Some(len) = found.prepared {
        walk.prepared(&whole_file(disk, directory.join(partition_file::PREPARED), walk.log_end(), len))?;
    }
    let (end_of_batches, filled) = (walk.log_end(), walk.filled());
    let log_end = walk.finish()?;
    found.note_orphans(directory, report);
    let checkpointed =
        CheckpointedState { recovery_point: below.or(checkpointed.recovery_point), ..checkpointed };
    check_reach(directory, first, log_end, checkpointed, report);
    if filled > 0 && below.is_none() {
        check_start(directory, end_of_batches, filled, checkpointed, report);
    }
    Ok(())
}

/// A segment that cannot be read, or is shorter than it was, does not keep the others from it. One that its owner `may_remove` may be gone.
fn or_unread(checked: Result<()>, may_remove: bool, walk: &mut Walk<'_>) -> Result<()> {
    match checked {
        Err(error) if may_remove && is_gone(&error) => walk.lose(),
        Err(Error::Io(error)) => {
            let kind = ProblemKind::Unread { error: error.to_string() };
            walk.report.add(Severity::Unread, &error.path, 0, kind);
            walk.lose();
        }
        Err(Error::Corrupt(found)) => {
            walk.report.error(&found.path, found.position, found.kind);
            walk.lose();
        }
        checked => checked?,
    }
    Ok(())
}

/// The log, of which `filled` segments hold batches, must not end below its start: the next opening begins it there.
fn check_start(
    directory: &Path,
    log_end: Offset,
    filled: usize,
    checkpointed: CheckpointedState,
    report: &mut VerifyReport,
) {
    let point = checkpointed.durable_below();
    let Some(log_start) = checkpointed.log_start.filter(|&start| log_end < start) else { return };
    let below = |kept| ProblemKind::BelowStart { log_start, log_end, kept };
    if checkpointed.is_emptied() {
        report.note(directory, 0, below(0));
    } else if log_start == point {
        // All that was durable is deleted.
        report.note(directory, 0, below(filled));
    } else if log_start > point {
        report.error(directory, 0, below(filled));
    }
}

/// The log must reach from the log start offset to the recovery point.
fn check_reach(
    directory: &Path,
    first: Option<Offset>,
    log_end: Offset,
    checkpointed: CheckpointedState,
    report: &mut VerifyReport,
) {
    let point = checkpointed.durable_below();
    if let Some(first) = first
        && let Some(missing) = checkpointed.missing_head(first)
    {
        report.error(directory, 0, ProblemKind::MissingHead { expected: missing.first, got: first });
    }
    if log_end < point {
        report.error(directory, 0, ProblemKind::MissingEnd { expected: point, got: log_end });
    }
}

/// Walks a segment, and holds its indexes against what is found.
fn check_segment(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    segment: &Arc<Segment>,
    next_base: Option<Offset>,
    checkpointed: CheckpointedState,
    walk: &mut Walk<'_>,
) -> Result<()> {
    if walk.has_ended() {
        walk.report.note(&segment.file().path(), 0, ProblemKind::BehindUnfinishedEnd);
        return Ok(());
    }
    let batches = walk.segment(segment, next_base)?;
    let unfinished = walk.unfinished;
    let is_believed = |offset| !unfinished.has(offset, next_base);
    check_indexes(disk, directory, segment, &batches, next_base.is_none(), is_believed, walk.report)?;
    // What a crash kept from the file is above the recovery point.
    let is_unfinished =
        next_base.is_none() || checkpointed.recovery_point.is_some_and(|point| point < walk.log_end());
    let aborted = walk.aborted();
    let wrong = check_transactions(disk, directory, segment, &batches, aborted, is_believed, is_unfinished)?;
    walk.report.problems.extend(wrong);
    Ok(())
}

/// The files of a partition, by what they are.
#[derive(Debug, Default)]
struct Found {
    logs: BTreeMap<Offset, u64>,
    snapshots: Vec<Offset>,
    /// Other files of segments.
    indexes: Vec<(SegmentFile, Offset)>,
    prepared: Option<u64>,
    /// Whether something that is no file has the name of one, or one is longer than any.
    has_impostor: bool,
}

impl Found {
    fn add(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        entry: DirectoryEntry,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let DirectoryEntry { name, kind } = entry;
        let file = PartitionFile::parse(&name);
        let path = directory.join::<OsString>(name);
        if file != PartitionFile::Other && kind != EntryKind::File {
            self.has_impostor = true;
            report.error(&path, 0, ProblemKind::NotAFile);
            return Ok(());
        }
        match file {
            PartitionFile::Segment { file: SegmentFile::Log, base, stage: Stage::Live } => {
                let len = self.length(disk, &path, report)?;
                self.logs.extend(len.map(|len| (base, len)));
            }
            PartitionFile::Segment { file: SegmentFile::Snapshot, base, stage: Stage::Live } => {
                self.snapshots.push(base);
            }
            PartitionFile::Segment { file, base, stage: Stage::Live } => self.indexes.push((file, base)),
            PartitionFile::Segment { stage: Stage::Swap, .. } => {
                report.error(&path, 0, ProblemKind::UnfinishedCompaction);
            }
            PartitionFile::Segment { stage: Stage::Deleted | Stage::Cleaned, .. }
            | PartitionFile::Temporary => {
                report.note(&path, 0, ProblemKind::Leftover);
            }
            PartitionFile::Quarantined { .. } => {
                report.note(&path, 0, ProblemKind::KeptAside);
            }
            PartitionFile::Prepared => self.prepared = self.length(disk, &path, report)?,
            PartitionFile::LeaderEpochs | PartitionFile::Metadata | PartitionFile::Other => {}
        }
        Ok(())
    }

    /// Below which offset nothing is under way: what is durable, or without a recovery point, all segments but the last.
    fn end_of_sealed(&self, recovery_point: Option<Offset>) -> Offset {
        recovery_point.or(self.logs.last_key_value().map(|(&base, _)| base)).unwrap_or(Offset::ZERO)
    }

    /// Leaves what lies below an offset, and the segment that begins there.
    fn keep_below(&mut self, below: Offset) {
        self.logs.retain(|&base, _| base <= below);
        self.snapshots.retain(|&offset| offset <= below);
        self.indexes.retain(|&(_, base)| base < below);
        self.prepared = None;
    }

    /// The length of a segment, unless it is longer than any, or gone since it was listed.
    fn length(&mut self, disk: &dyn Disk, path: &Path, report: &mut VerifyReport) -> Result<Option<u64>> {
        let len = match segment_length(disk, path) {
            Err(error) if is_gone(&error) => return Ok(None),
            len => report.take(len)?,
        };
        self.has_impostor |= len.is_none();
        Ok(len)
    }

    /// The indexes of segments that are not there.
    fn orphans(&self) -> impl Iterator<Item = (SegmentFile, Offset)> {
        self.indexes.iter().copied().filter(|(_, base)| !self.logs.contains_key(base))
    }

    fn note_orphans(&self, directory: &Path, report: &mut VerifyReport) {
        for (file, base) in self.orphans() {
            report.note(&directory.join(file.name(base)), 0, ProblemKind::OrphanIndex);
        }
    }
}

fn segment(disk: &Arc<dyn Disk>, directory: &Path, base: Offset, len: u64) -> Arc<Segment> {
    whole_file(disk, directory.join(SegmentFile::Log.name(base)), base, len)
}

/// A file of batches that is read, not mapped: its owner may be cutting it.
fn whole_file(disk: &Arc<dyn Disk>, path: PathBuf, base: Offset, len: u64) -> Arc<Segment> {
    let file = LogFile::new(Arc::clone(disk), IoMode::Write, path, len, len);
    Arc::new(Segment::sealed(base, file, INDEXES))
}

/// Holds the index files of a segment against its batches.
fn check_indexes(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    segment: &Segment,
    batches: &[Seen],
    is_last: bool,
    is_believed: impl Fn(Offset) -> bool,
    report: &mut VerifyReport,
) -> Result<()> {
    let checks = [
        (SegmentFile::OffsetIndex, indexes::check_offsets as indexes::Check),
        (SegmentFile::TimeIndex, indexes::check_times),
    ];
    for (file, check) in checks {
        let path = directory.join(file.name(segment.base_offset()));
        match report.take(read_if_present(&**disk, &path, indexes::MAX_BYTES))? {
            Some(Some(bytes)) => {
                report_wrong(report, &path, check(segment, &bytes, batches), &is_believed);
            }
            None => {}
            Some(None) if is_last => {}
            Some(None) => report.note(&path, 0, ProblemKind::MissingIndex),
        }
    }
    Ok(())
}

/// Holds the transaction index of a segment against the transactions that were aborted there, as far as they are known.
/// A segment without one is fine: it is built from the batches.
fn check_transactions(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    segment: &Segment,
    batches: &[Seen],
    aborted: Option<&[AbortedTransaction]>,
    is_believed: impl Fn(Offset) -> bool,
    is_unfinished: bool,
) -> Result<Vec<Problem>> {
    let path = directory.join(SegmentFile::TransactionIndex.name(segment.base_offset()));
    let mut report = VerifyReport::default();
    let read = read_if_present(&**disk, &path, indexes::MAX_BYTES);
    let Some(Some(bytes)) = report.take(read)? else { return Ok(report.problems) };
    let wrong = indexes::check_transactions(&bytes, aborted, batches);
    report_wrong(&mut report, &path, wrong, is_believed);
    let count = indexes::lacking_transactions(&bytes, aborted.unwrap_or_default());
    let lacking = ProblemKind::MissingTransactions { count };
    match count {
        0 => {}
        _ if is_unfinished => report.note(&path, bytes.len() as u64, lacking),
        _ => report.error(&path, bytes.len() as u64, lacking),
    }
    Ok(report.problems)
}

/// What an index says of batches that a crash may have taken away is worth a note.
fn report_wrong(
    report: &mut VerifyReport,
    path: &Path,
    wrong: Vec<Wrong>,
    is_believed: impl Fn(Offset) -> bool,
) {
    for Wrong { position, offset, kind } in wrong {
        if offset.is_none_or(&is_believed) {
            report.error(path, position, kind);
        } else {
            report.note(path, position, ProblemKind::Outlived { found: Box::new(kind) });
        }
    }
}

//! What recovery changes on the disk, in an order that a crash may interrupt anywhere: the next opening finds the same.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::behind::PIECE;
use super::{OpenRequest, RecoveryReport};
use crate::epoch::LeaderEpochs;
use crate::error::{IoContext, Result};
use crate::fs::name::{SegmentFile, partition_file};
use crate::fs::{Disk, atomic};
use crate::producer::{ProducerTable, snapshot};
use crate::segment::Segment;
use crate::types::Offset;

/// One change.
#[derive(Debug)]
pub(super) enum Change {
    /// Copies the end of a segment to a file of its own, before it is cut.
    KeepAside { segment: Arc<Segment>, from: u64, bytes: u64, to: PathBuf },
    /// Takes a segment behind a cut out of the log, keeping its bytes.
    MoveAside { segment: Arc<Segment>, to: PathBuf },
    /// The same of a segment below the log start, when its producers are written.
    KeepBelowStart { segment: Arc<Segment>, to: PathBuf },
    /// Writes the producers of segments that are removed, or kept below the log start.
    KeepProducers { path: PathBuf, bytes: Vec<u8> },
    /// Ends a segment's file. It is synced when all changes are made: nothing behind comes back to life under later appends.
    Cut { segment: Arc<Segment>, end: u64 },
    /// Removes a segment with its indexes.
    RemoveSegment(Arc<Segment>),
    /// Gives a prepared segment its name, when the files before it are durable.
    Name { from: PathBuf, base: Offset, before: Vec<Arc<Segment>> },
    /// Removes a leftover.
    Remove(PathBuf),
    /// Writes indexes that were missing.
    WriteIndexes(Arc<Segment>),
}

impl Change {
    /// When it is its turn, whoever asked for it first. Those of one kind keep their order.
    fn turn(&self) -> u8 {
        match self {
            // What is kept must be safe before anything is cut.
            Self::KeepAside { .. } => 0,
            Self::MoveAside { .. } => 1,
            // Snapshots of what is cut go before it: they would be believed where something else comes in its place.
            Self::Remove(_) => 2,
            // One that could not be used may have had the same name.
            Self::KeepProducers { .. } => 3,
            Self::Cut { .. }
            | Self::KeepBelowStart { .. }
            | Self::RemoveSegment(_)
            | Self::WriteIndexes(_) => 4,
            // The prepared file is cut under its old name.
            Self::Name { .. } => 5,
        }
    }

    pub(super) fn keep_producers(request: &OpenRequest, offset: Offset, producers: &ProducerTable) -> Self {
        let (path, bytes) = snapshot_file(request, offset, producers);
        Self::KeepProducers { path, bytes }
    }
}

/// Makes the changes, each in its turn; in a log that is open for reading only, none. Also a killed process may have
/// removed files or given them names without a sync of the directory: only a log that was closed well does without.
pub(super) fn apply(
    request: &OpenRequest,
    mut changes: Vec<Change>,
    report: &mut RecoveryReport,
) -> Result<()> {
    if request.environment.read_only || (request.checkpointed.clean && changes.is_empty()) {
        return Ok(());
    }
    changes.sort_by_key(Change::turn);
    for change in changes {
        apply_one(request, change, report)?;
    }
    request.environment.disk.sync_directory(&request.directory).at("sync directory", &request.directory)
}

fn apply_one(request: &OpenRequest, change: Change, report: &mut RecoveryReport) -> Result<()> {
    let disk = &*request.environment.disk;
    let directory = &request.directory;
    match change {
        Change::KeepAside { segment, from, bytes, to } => keep_aside(disk, &segment, from, from + bytes, &to),
        Change::MoveAside { segment, to } | Change::KeepBelowStart { segment, to } => {
            segment.remove_indexes()?;
            segment.file().rename(&to)?;
            disk.sync_directory(directory).at("sync directory", directory)
        }
        Change::KeepProducers { path, bytes } => atomic::replace_file(disk, &path, &bytes),
        Change::Cut { segment, end } => segment.file().shorten(end),
        Change::RemoveSegment(segment) => {
            segment.remove_indexes()?;
            segment.file().remove()
        }
        Change::Name { from, base, before } => {
            before.iter().try_for_each(|segment| segment.file().sync_found(0))?;
            let to = directory.join(SegmentFile::Log.name(base));
            disk.rename(&from, &to).at("rename", &from)?;
            disk.sync_directory(directory).at("sync directory", directory)
        }
        Change::Remove(path) => {
            let removed = disk.remove_file(&path).at("remove", &path);
            match removed {
                Ok(()) => report.removed.push(path),
                Err(error) => report.not_written.push(error.to_string()),
            }
            Ok(())
        }
        Change::WriteIndexes(segment) => {
            write_indexes(request, &segment, report);
            Ok(())
        }
    }
}

/// Copies the bytes in [`from`, `end`) of a segment to a file of their own, in pieces.
fn keep_aside(disk: &dyn Disk, segment: &Segment, from: u64, end: u64, to: &Path) -> Result<()> {
    // An error of the segment's comes with its own place.
    let mut read = Ok(());
    let copied = atomic::replace_file_by(disk, to, |copy| {
        for start in (from..end).step_by(PIECE as usize) {
            match segment.file().bytes(start, end.min(start + PIECE)) {
                Ok(piece) => copy.write_at(&piece, start - from)?,
                Err(error) => {
                    read = Err(error);
                    return Err(io::ErrorKind::Other.into());
                }
            }
        }
        Ok(())
    });
    read.and(copied)
}

/// Writes a segment's index files. Where that is impossible they stay in memory.
pub(super) fn write_indexes(request: &OpenRequest, segment: &Arc<Segment>, report: &mut RecoveryReport) {
    write(request, report, || segment.write_indexes());
}

/// Writes the producers as they are at `offset`.
pub(super) fn write_snapshot(
    request: &OpenRequest,
    offset: Offset,
    producers: &ProducerTable,
    report: &mut RecoveryReport,
) {
    let (path, bytes) = snapshot_file(request, offset, producers);
    write(request, report, || atomic::replace_file(&*request.environment.disk, &path, &bytes));
}

/// The producers of a log without records, at `offset`: there is no batch that the snapshot could name.
fn snapshot_file(request: &OpenRequest, offset: Offset, producers: &ProducerTable) -> (PathBuf, Vec<u8>) {
    (request.directory.join(SegmentFile::Snapshot.name(offset)), snapshot::encode(producers, None))
}

/// Writes the leader epochs.
pub(super) fn write_leader_epochs(request: &OpenRequest, epochs: &LeaderEpochs, report: &mut RecoveryReport) {
    let path = request.directory.join(partition_file::LEADER_EPOCHS);
    write(request, report, || {
        atomic::replace_file(&*request.environment.disk, &path, epochs.encode().as_bytes())
    });
}

/// Writes what can also stay in memory: on a disk that is full or read-only, the report says so.
fn write(request: &OpenRequest, report: &mut RecoveryReport, write: impl FnOnce() -> Result<()>) {
    if request.environment.read_only {
        return;
    }
    if let Err(error) = write() {
        report.not_written.push(error.to_string());
    }
}

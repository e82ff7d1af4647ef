//! Names for what recovery takes out of the log. What was kept before stays under its own.

use std::path::{Path, PathBuf};

use super::OpenRequest;
use super::behind::PIECE;
use crate::error::{IoContext, Result};
use crate::fs::missing::first_free;
use crate::fs::name::{is_quarantined, partition_file};
use crate::fs::{Access, Disk, EntryKind};
use crate::segment::Segment;
use crate::types::Offset;

/// The name for what is moved aside, as a whole, of the segment that begins at `base`.
pub(super) fn of_file(request: &OpenRequest, base: Offset, position: u64) -> Result<PathBuf> {
    first_name(request, base, position, |_| false)
}

/// The name for a copy of `bytes` bytes of a segment. An opening that came no further may have made it already.
pub(super) fn of_copy(request: &OpenRequest, segment: &Segment, from: u64, bytes: u64) -> Result<PathBuf> {
    let disk = &*request.environment.disk;
    first_name(request, segment.base_offset(), from, |path| {
        holds(disk, path, segment, from, bytes).unwrap_or(false)
    })
}

/// The size of all that was ever kept in the directory and is there, as far as it can be told: no log is refused for it.
pub(super) fn size(disk: &dyn Disk, directory: &Path) -> u64 {
    let entries = disk.list(directory).unwrap_or_default();
    let kept = entries.iter().filter(|entry| entry.kind == EntryKind::File && is_quarantined(&entry.name));
    kept.filter_map(|entry| disk.len(&directory.join(&entry.name)).ok()).sum()
}

/// The first of the names for bytes from there that no file has, or one that will do.
fn first_name(
    request: &OpenRequest,
    base: Offset,
    position: u64,
    will_do: impl Fn(&Path) -> bool,
) -> Result<PathBuf> {
    let path = |before| request.directory.join(partition_file::quarantined(base, position, before));
    first_free(&*request.environment.disk, path, will_do)
}

/// Whether a file has these bytes of a segment, and no others. One that cannot be read is left alone as well.
fn holds(disk: &dyn Disk, path: &Path, segment: &Segment, from: u64, bytes: u64) -> Result<bool> {
    let file = disk.open(path, Access::Read).at("open", path)?;
    if file.len().at("read", path)? != bytes {
        return Ok(false);
    }
    let mut there = vec![0; PIECE.min(bytes) as usize];
    for start in (0..bytes).step_by(PIECE as usize) {
        let end = bytes.min(start + PIECE);
        let there = &mut there[..(end - start) as usize];
        let got = file.read_at(there, start).at("read", path)?;
        if got < there.len() || *there != *segment.file().bytes(from + start, from + end)? {
            return Ok(false);
        }
    }
    Ok(true)
}

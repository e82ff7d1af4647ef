//! What truncation and retention share: files that leave the log while readers may still hold them.

use super::Shared;
use super::producers::snapshots;
use crate::error::{IoContext, Result};
use crate::fs::name::SegmentFile;
use crate::segment::Segment;
use crate::types::Offset;

impl Shared {
    pub(super) fn sync_names(&self) -> Result<()> {
        self.environment.disk.sync_directory(&self.directory).at("sync directory", &self.directory)
    }

    /// Takes a segment out of the log whose file is about to go: from here on nobody opens or extends what has its name.
    pub(super) fn let_go_of(&self, segment: &Segment) {
        segment.file().let_go();
        self.note_removed(segment);
    }

    /// Counts what readers keep of a retired segment, and gives its empty blocks back to the budget.
    pub(super) fn note_removed(&self, segment: &Segment) {
        let file = segment.file();
        self.environment.removed.note(file.held_maps().into_iter());
        self.environment.space.give_back(file.give_up_ahead());
    }

    /// Removes the snapshots whose offsets are `doomed`, the highest first, durably.
    pub(super) fn remove_snapshots(&self, doomed: impl Fn(Offset) -> bool) -> Result<()> {
        let disk = &*self.environment.disk;
        let doomed: Vec<_> =
            snapshots::list(disk, &self.directory)?.into_iter().filter(|&offset| doomed(offset)).collect();
        for &offset in &doomed {
            let path = self.segment_path(SegmentFile::Snapshot, offset);
            disk.remove_file(&path).at("remove", &path)?;
        }
        if doomed.is_empty() { Ok(()) } else { self.sync_names() }
    }
}

//! What was appended made durable, named, and sealed with its indexes, leader epochs and a snapshot, behind which the recovery
//! point follows: what is done under `sealing`, and the sync, under the right to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::{End, is_failed_sync};
use super::{Log, Shared};
use crate::error::{Error, Result};
use crate::segment::{Segment, first_behind, segment_at};
use crate::types::Offset;

impl Log {
    /// Makes everything appended so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`](crate::Error::Poisoned) when the sync fails: what the disk has is unknown, the log takes
    /// nothing more, and opening it again recovers. [`Error::Io`](crate::Error::Io) where only the way to the sync
    /// failed (a file that cannot be opened or named): the log goes on, and the next sync tries again.
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Gone`](crate::Error::Gone).
    pub fn sync(&self) -> Result<()> {
        self.shared.sync()
    }
}

impl Shared {
    pub(super) fn sync(&self) -> Result<()> {
        let synced = self.commit.sync(&self.watermarks, || self.sync_appended());
        self.notify_behind_sync();
        synced
    }

    /// Makes everything appended so far durable, names included, and returns how far that is. Called by the one leader
    /// of the commit.
    pub(super) fn sync_appended(&self) -> Result<Offset> {
        self.check_not_read_only()?;
        self.whole(|| self.try_sync_appended())
    }

    fn try_sync_appended(&self) -> Result<Offset> {
        let running = self.counters.sync_begins();
        let end = self.watermarks.log_end();
        // Behind the end: an append between the two is given back early, where it would else be given back never, if it
        // is the last one.
        let (bytes, batches) = (self.counters.appended_bytes.get(), self.counters.appended_batches.get());
        // Loaded after the end, so the last of these, whatever is rolled meanwhile, is where the end lies.
        let segments = self.segments.load_full();
        if let Some(active) = segments.last() {
            if !active.is_named() {
                let _rolling = self.rolling.lock();
                // Behind a deletion the names may be those of another partition.
                self.commit.check()?;
                self.name_rolled()?;
            }
            active.file().sync()?;
        }
        self.backlog.raise(bytes, batches);
        running.succeeded();
        Ok(end)
    }

    /// Gives every segment its name, in order, each only when all before it is durable: a crash then never leaves a
    /// hole in front of a segment with a name. The caller holds `rolling`.
    pub(super) fn name_rolled(&self) -> Result<()> {
        self.poison_unless(self.try_name_rolled())
    }

    /// A sync that failed outside of the commit must not be taken back by one that succeeds later. Nobody is told yet: locks
    /// are held.
    pub(super) fn poison_unless(&self, synced: Result<()>) -> Result<()> {
        if let Err(error @ Error::Io(cause)) = &synced
            && is_failed_sync(error)
        {
            self.end_quietly(End::Poisoned(cause.clone()));
        }
        synced
    }

    fn try_name_rolled(&self) -> Result<()> {
        let segments = self.segments.load_full();
        let first = segments.iter().position(|segment| !segment.is_named()).unwrap_or(segments.len());
        for at in first..segments.len() {
            if let Some(before) = at.checked_sub(1).map(|before| &segments[before]) {
                before.file().sync()?;
                before.file().trim(|ahead| self.environment.space.give_back(ahead))?;
            }
            segments[at].give_name()?;
        }
        Ok(())
    }

    /// What a roll leaves to do: names, the index files and the snapshot of what was sealed, and the recovery point.
    pub(super) fn seal_rolled(&self) -> Result<()> {
        self.sync()?;
        let _sealing = self.sealing.lock();
        {
            let _rolling = self.rolling.lock();
            self.commit.check()?;
            // With nothing to sync, nobody has named the new segment yet.
            self.name_rolled()?;
        }
        // Before the segments: what was rolled since is not durable as a whole.
        let durable = self.watermarks.durable();
        let Some(last) = self.write_final_indexes(durable)? else { return Ok(()) };
        self.advance_recovery_point(last.base_offset())
    }

    /// Writes the index files of the segments that are full in front of the one that holds `durable`, which is returned. The
    /// caller holds `sealing`.
    fn write_final_indexes(&self, durable: Offset) -> Result<Option<Arc<Segment>>> {
        let segments = self.segments.load_full();
        let begun = &segments[..first_behind(&segments, durable)];
        let Some((last, sealed)) = begun.split_last() else { return Ok(None) };
        let floor = self.recovery_floor();
        for segment in sealed.iter().rev().take_while(|segment| segment.base_offset() >= floor) {
            segment.write_indexes()?;
            self.environment.held.count(segment);
        }
        Ok(Some(Arc::clone(last)))
    }

    /// The base offset of the segment that holds the recovery point: those from here on have no final index files.
    fn recovery_floor(&self) -> Offset {
        let point = self.recovery_point();
        segment_at(&self.segments.load(), point).map_or(Offset::ZERO, |segment| segment.base_offset())
    }

    /// A snapshot and a recovery point in the middle of a segment, so that opening never has much to read.
    pub(super) fn take_snapshot(&self) -> Result<()> {
        self.seal_rolled()?;
        let _sealing = self.sealing.lock();
        self.commit.check()?;
        let durable = self.watermarks.durable();
        // Also those of what was rolled since: the point moves beyond it, and nobody would write them afterwards.
        if let Some(last) = self.write_final_indexes(durable)? {
            last.write_indexes()?;
        }
        self.advance_recovery_point(durable)
    }

    /// Everything below `point` is durable, with its indexes: writes what else must be there, and moves the point.
    fn advance_recovery_point(&self, point: Offset) -> Result<()> {
        let point = self.watermarks.batch_end_at(point);
        if point < self.recovery_point() || self.log_is_empty() {
            return Ok(());
        }
        if point == self.recovery_point() {
            // That of an earlier opening may have been damaged, and removed.
            return self.write_snapshot(point);
        }
        self.write_leader_epochs()?;
        self.write_snapshot(point)?;
        self.recovery_point.store(point.0, Ordering::Release);
        self.environment.checkpoints.set_stale();
        Ok(())
    }
}

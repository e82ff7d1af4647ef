//! Segments made, given blocks, opened for appending and rolled: what is done under `rolling`.

use std::path::Path;
use std::sync::Arc;

use super::append::pace::POPULATE_MAX;
use super::{Appender, Log, Shared};
use crate::environment::{Chore, Reserve};
use crate::error::{Error, Result};
use crate::fs::missing::remove_if_present;
use crate::fs::name::partition_file;
use crate::segment::{
    ALLOCATION_STEP_MIN, BatchCursor, Indexes, LogFile, Segment, SegmentWriter, Sink, Summary,
};
use crate::types::{Offset, Timestamp};

/// The blocks that the next segment of a busy partition begins with.
const PREPARED_BLOCKS: u64 = 16 << 20;

/// An empty segment file that has blocks and no name yet.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) file: LogFile,
    pub(super) sink: Sink,
}

impl Log {
    /// Starts a new segment at the log end offset, unless the active one is empty, and seals the one before: syncs it, and writes
    /// its indexes and a snapshot of the producers, behind which the [recovery point](Self::recovery_point) follows.
    ///
    /// A crash before it returns takes nothing that was durable; the new segment is there or not.
    ///
    /// # Errors
    ///
    /// The disk's: where the new segment's file could not be made, nothing is changed; else the new segment is begun, appends go
    /// on in it, and the one before is sealed later. But where a sync failed, in this call or before, the log is poisoned
    /// ([`Error::Poisoned`]) and takes nothing more. [`Error::Closed`], [`Error::Gone`], [`Error::ReadOnly`].
    pub fn roll(&self) -> Result<()> {
        self.shared.change(|| self.shared.roll())
    }
}

impl Shared {
    /// Gives a file blocks up to `end` at least, and counts them.
    pub(super) fn allocate_in(&self, file: &LogFile, end: u64) -> Result<()> {
        self.environment.keep_reserve()?;
        let (space, capacity) = (&self.environment.space, u64::from(self.options().segment_bytes));
        space.take(file.allocate(end, capacity, space.room())?);
        Ok(())
    }

    /// Opens the last segment for appending, up to `end` at least, once. A roll that comes first makes another one the last.
    pub(super) fn open_writer(&self, end: u64) -> Result<()> {
        let _rolling = self.rolling.lock();
        self.commit.check()?;
        self.touch();
        if self.appender.lock().writer.is_some() {
            return Ok(());
        }
        let Some(segment) = self.segments.load().last().cloned() else { return Ok(()) };
        let summary = segment.summary()?;
        let indexes = segment.indexes()?;
        // Loaded before a marker comes to it.
        drop(self.transaction_index(&segment)?);
        let first_timestamp = first_timestamp(&segment)?;
        self.environment.space.give_back(segment.file().cut_unpublished()?);
        let sink = segment.file().open_sink(u64::from(self.options().segment_bytes).max(end))?;
        let writer = SegmentWriter::new(segment, indexes, sink, &summary, first_timestamp, self.now());
        let mut appender = self.appender.lock();
        if self.segments.load().last().is_some_and(|last| Arc::ptr_eq(last, writer.segment())) {
            appender.writer = Some(writer);
        }
        Ok(())
    }

    /// Makes the next segment, unless it is there.
    pub(super) fn prepare(&self) -> Result<()> {
        let _rolling = self.rolling.lock();
        self.commit.check()?;
        self.touch();
        let appender = self.appender.lock();
        if appender.prepared.is_some() {
            return Ok(());
        }
        let (is_fast, pages) = (appender.pace.is_fast(), appender.pace.pages(self.admission.durability()));
        drop(appender);
        // The name of a prepared file is free only when the one before has got its own.
        self.name_rolled()?;
        let path = self.path(partition_file::PREPARED);
        remove_if_present(&*self.environment.disk, &path)?;
        let blocks = self.blocks_of_next(is_fast);
        let made = match self.make_prepared(&path, blocks) {
            Err(error) if error.is_full_disk() && blocks > ALLOCATION_STEP_MIN => {
                self.make_prepared(&path, ALLOCATION_STEP_MIN)
            }
            made => made,
        };
        let (file, sink) = made?;
        let blocks = file.allocated();
        self.environment.space.take(blocks);
        file.populate(0, blocks.min(POPULATE_MAX), pages);
        self.appender.lock().prepared = Some(Prepared { file, sink });
        Ok(())
    }

    fn make_prepared(&self, path: &Path, blocks: u64) -> Result<(LogFile, Sink)> {
        self.environment.keep_reserve()?;
        let (disk, capacity) = (&self.environment.disk, u64::from(self.options().segment_bytes));
        let made = LogFile::create(Arc::clone(disk), self.mode, path.to_path_buf(), capacity, blocks);
        if made.is_err() {
            // Of a file without blocks nothing remains, not even its name.
            let _ = remove_if_present(&**disk, path);
        }
        made
    }

    /// Gives the next segment blocks for `bytes`, before it becomes the active one: if there are none, no empty segment is
    /// left that may begin above the log end.
    pub(super) fn extend_prepared(&self, bytes: u64) -> Result<()> {
        let _rolling = self.rolling.lock();
        // Under its name there may be another owner's.
        self.commit.check()?;
        // Nobody makes another one meanwhile: that takes `rolling`.
        let Some(prepared) = self.appender.lock().prepared.take() else { return Ok(()) };
        let extended = self.allocate_in(&prepared.file, bytes);
        self.appender.lock().prepared = Some(prepared);
        extended
    }

    /// As much as the active segment's next step, within the budget; little for a partition's first segment, and all that
    /// a fast appender will need: it would come to the end of each step while the disk is busy with what is synced.
    fn blocks_of_next(&self, is_fast: bool) -> u64 {
        if self.environment.reserve.as_ref().is_some_and(Reserve::is_lent) {
            return ALLOCATION_STEP_MIN;
        }
        let (capacity, room) = (u64::from(self.options().segment_bytes), self.environment.space.room());
        let active = self.segments.load().last().map_or(0, |segment| segment.file().allocated());
        let step = active.clamp(ALLOCATION_STEP_MIN, PREPARED_BLOCKS).min(room);
        let blocks = if is_fast { step.max(capacity.min(room / 2)) } else { step };
        blocks.max(ALLOCATION_STEP_MIN).min(capacity)
    }

    /// Makes the prepared segment the active one, for offsets from `base` on. Under the append lock; no file is touched.
    pub(super) fn activate(&self, appender: &mut Appender, prepared: Prepared, base: Offset) {
        let (options, summary) = (self.options().indexes(), Summary::empty(base));
        let segment = Arc::new(Segment::empty(base, prepared.file, options, false));
        let indexes = Arc::new(Indexes::new(base, options));
        let (added, sink) = (Arc::clone(&segment), prepared.sink);
        let writer = SegmentWriter::new(added, indexes, sink, &summary, None, self.now());
        let mut segments = self.segments.load().to_vec();
        if let Some(active) = appender.writer.take() {
            self.environment.held.count(&active.seal());
        }
        let is_first = segments.is_empty();
        segments.push(segment);
        self.segments.store(Arc::new(segments));
        // What was missing in the segment before.
        *self.needed.lock() = None;
        // Behind that: a worker that is at once at it would find nothing to seal.
        if !is_first {
            self.request(Chore::Seal);
            self.request_retention();
        }
        appender.writer = Some(writer);
        self.restart_pace(appender);
        appender.since_snapshot = 0;
    }

    pub(super) fn roll(&self) -> Result<()> {
        self.check_writable()?;
        let is_empty = || self.segments.load().last().is_none_or(|last| last.file().end() == 0);
        if is_empty() {
            return Ok(());
        }
        let (base, rolled) = loop {
            // What is rolled ends with what its writer has published: a write that failed, and took the writer along, may have
            // left something behind that.
            self.open_writer(0)?;
            self.prepare()?;
            let mut appender = self.appender.lock();
            if appender.closing {
                return Err(Error::Closed);
            }
            if appender.writer.is_none() && !is_empty() {
                continue;
            }
            let base = self.watermarks.log_end();
            let prepared = appender.prepared.take_if(|_| !is_empty());
            break (base, prepared.map(|prepared| self.activate(&mut appender, prepared, base)));
        };
        if rolled.is_some() {
            self.report_roll(base);
        }
        self.seal_rolled()
    }

    /// Not under the append lock: a subscriber is the host's, and may be slow.
    pub(super) fn report_roll(&self, _base: Offset) {
        event!(info, partition = %self.name, base_offset = _base.0, "rolled");
    }
}

/// The timestamp that a segment's age counts from.
fn first_timestamp(segment: &Arc<Segment>) -> Result<Option<Timestamp>> {
    let mut cursor = BatchCursor::new(Arc::clone(segment), 0);
    Ok(cursor.peek()?.map(|batch| batch.header.max_timestamp))
}

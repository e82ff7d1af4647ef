//! The head of the log: records that are deleted, and segments that are too old or too many.
//!
//! Deleting records moves the log start offset and touches no segment. Retention deletes whole segments below it, the
//! oldest first. Before their files go everything is on the disk that must outlive them: a snapshot of the producers that
//! covers them, and the log start offset, below which nothing is looked for.
//!
//! So it has two steps: segments are condemned, in memory, and then deleted. Of many partitions all are condemned first, and
//! one write of the checkpoints does for all of them.

use std::sync::Arc;

use super::{HeldFiles, Log, Shared};
use crate::environment::{Asked, Chore};
use crate::error::{Error, Result};
use crate::fs::missing::remove_if_present;
use crate::fs::name::SegmentFile;
use crate::segment::Segment;
use crate::types::{Offset, Timestamp};

impl Log {
    /// Deletes the records below `before`: the log start offset is `before` at least when this returns, also after a crash.
    /// Returns the log start offset. No file is deleted; [`apply_retention`](Self::apply_retention) deletes the segments
    /// that have no other records. What is known of producers stays, so duplicates of deleted batches are still answered.
    ///
    /// Where Kafka's protocol has -1, everything below the [high watermark](Self::high_watermark), a broker passes that.
    ///
    /// A crash before it returns leaves the log start offset as it was, or at `before`.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] above the high watermark, and for a negative offset; [`Error::Poisoned`], [`Error::Gone`],
    /// [`Error::ReadOnly`]; nothing is changed. [`Error::Closed`], also when the [`LogDir`](crate::LogDir) has no handle any more,
    /// and the disk's: the records may be gone for readers and come back after a crash.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// for _ in 0..3 {
    ///     log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// }
    /// assert_eq!(log.delete_records(Offset(2))?, Offset(2));
    /// assert!(log.read(Offset(1), 100).is_err());
    /// assert_eq!(log.log_end_offset(), Offset(3));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn delete_records(&self, before: Offset) -> Result<Offset> {
        let shared = &self.shared;
        let deleted = shared.change(|| shared.environment.with_reserve(|| shared.delete_records(before)));
        // An open transaction may have begun below the new start, which was the last stable offset.
        shared.notify_tail();
        deleted
    }

    /// Deletes the oldest segments, as far as the log start offset and the log's options
    /// ([`retention_bytes`](crate::LogOptions::retention_bytes), [`retention_ms`](crate::LogOptions::retention_ms)) want.
    /// Returns how many. Only sealed ones, below the high watermark; if the active one is due as well, it is sealed first.
    /// Slices stay; readers that have not come far enough get [`Error::OffsetOutOfRange`].
    ///
    /// Also happens on its own, every [`retention_interval_ms`](crate::LogOptions::retention_interval_ms) at the most while
    /// there are appends, and after a roll. Appends and syncs go on meanwhile, and rolls have their turn.
    ///
    /// A crash before it returns leaves the log start offset as it was, or above what was to be deleted, of which then no record is
    /// there to readers; what is left of the files is deleted the next time.
    ///
    /// # Errors
    ///
    /// The disk's; [`Error::Closed`], also when the [`LogDir`](crate::LogDir) has no handle any more. The log is sound: what could
    /// not be removed is removed by a later call or after an opening. [`Error::Poisoned`], [`Error::Gone`], [`Error::ReadOnly`].
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, LogOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let options = LogOptions::default().retention_bytes(Some(100));
    /// let dir = LogDir::open(data.path(), LogDirOptions::default().log(options))?;
    /// let log = dir.partition("orders", 0)?;
    /// for _ in 0..3 {
    ///     log.append(&BatchBuilder::new().record(b"key", [b'x'; 100]).build()?)?;
    ///     log.roll()?;
    /// }
    /// log.apply_retention()?;
    /// assert_eq!(log.log_start_offset(), idemlog::Offset(2));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn apply_retention(&self) -> Result<usize> {
        self.shared.change(|| self.shared.apply_retention())
    }

    /// The first step of [`apply_retention`](Self::apply_retention): `None` where nothing is due.
    pub(crate) fn condemn_due(&self) -> Result<Option<Condemned>> {
        let shared = &self.shared;
        let condemned = shared.change(|| shared.environment.with_reserve(|| shared.condemn_due()));
        shared.notify_tail();
        condemned
    }

    /// The second step.
    pub(crate) fn delete_condemned(&self, condemned: Condemned) -> Result<usize> {
        let shared = &self.shared;
        shared.change(|| shared.environment.with_reserve(|| shared.delete_condemned(condemned)))
    }
}

/// How many segments are deleted before those who wait for the files have their turn: each takes syncs of the directory, and who
/// waits may be an appender with its roll, or a sync that has a segment to name.
const AT_ONCE: usize = 8;

/// Segments that are to be deleted: the log start is above them, in memory. Their producers are in a snapshot that stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condemned {
    below: Offset,
    /// A truncation makes another log of it.
    generation: u64,
    /// The write of the log start.
    start_written: Asked,
}

/// Which segments are to go, at one look.
struct Retention {
    log_start: Offset,
    high_watermark: Offset,
    log_end: Offset,
    bytes: Option<u64>,
    ms: Option<i64>,
    now: Timestamp,
}

impl Retention {
    /// How many segments, from the oldest on, are due, the active one included.
    fn due(&self, segments: &[Arc<Segment>]) -> Result<usize> {
        let mut size: u64 = segments.iter().map(|segment| segment.file().end()).sum();
        for (at, segment) in segments.iter().enumerate() {
            let next_base = segments.get(at + 1).map(|next| next.base_offset());
            if next_base.unwrap_or(self.log_end) > self.high_watermark {
                return Ok(at);
            }
            size = size.saturating_sub(segment.file().end());
            let is_below_start = next_base.is_some_and(|next_base| next_base <= self.log_start);
            if !is_below_start && !self.is_surplus(size) && !self.is_old(segment)? {
                return Ok(at);
            }
        }
        Ok(segments.len())
    }

    /// Whether what is `left` of the log is enough.
    fn is_surplus(&self, left: u64) -> bool {
        self.bytes.is_some_and(|bytes| left >= bytes)
    }

    fn is_old(&self, segment: &Arc<Segment>) -> Result<bool> {
        let Some(limit) = self.ms else { return Ok(false) };
        let newest = segment.summary()?.largest.timestamp;
        Ok(newest >= Timestamp(0) && self.now.0.saturating_sub(newest.0) > limit)
    }
}

impl Shared {
    fn delete_records(&self, before: Offset) -> Result<Offset> {
        self.check_writable()?;
        self.check_deletion(before)?;
        if before > self.recovery_point().max(self.watermarks.log_start()) {
            // The log may not come to end below its start.
            self.take_snapshot()?;
        }
        let _files = self.hold_files();
        self.check_not_closing()?;
        // A truncation may have come first.
        self.check_deletion(before)?;
        if before > self.watermarks.log_start() {
            self.raise_log_start(before)?;
        } else {
            // Whoever moved it may have failed to say so on the disk, and another may be about to.
            self.environment.checkpoints.settle()?;
        }
        Ok(self.watermarks.log_start())
    }

    fn check_deletion(&self, got: Offset) -> Result<()> {
        let (start, end) = (self.watermarks.log_start(), self.watermarks.high_watermark());
        if got < Offset::ZERO {
            Err(Error::OffsetOutOfRange { got, start: Offset::ZERO, end })
        } else if got > end {
            Err(Error::OffsetOutOfRange { got, start, end })
        } else {
            Ok(())
        }
    }

    /// Moves the log start offset up, durably. The caller holds the files.
    fn raise_log_start(&self, offset: Offset) -> Result<()> {
        self.move_log_start(offset);
        self.environment.checkpoints.write()?;
        self.drop_leader_epochs_below(offset)
    }

    /// Leaves out the leader epochs that end at `start` or below it, when the checkpoints tell of that log start: those that begin above
    /// the start that an opening finds would be taken for forgotten ones. The caller holds the files.
    fn drop_leader_epochs_below(&self, start: Offset) -> Result<()> {
        let is_other = {
            let mut appender = self.appender.lock();
            let before = appender.leader_epochs.clone();
            appender.leader_epochs.truncate_from_start(start);
            appender.leader_epochs != before
        };
        if is_other { self.write_leader_epochs() } else { Ok(()) }
    }

    /// Moves it up in memory.
    fn move_log_start(&self, offset: Offset) {
        // Under the append lock, so that the log's bounds stay meanwhile.
        let _appender = self.appender.lock();
        self.watermarks.raise_log_start(offset);
    }

    /// Whether there is a limit to what the log keeps.
    fn is_limited(&self) -> bool {
        let options = self.options();
        options.retention_bytes.is_some() || options.retention_ms.is_some()
    }

    pub(super) fn request_retention(&self) {
        if self.is_limited() {
            self.request(Chore::Retain);
        }
    }

    /// Asks for retention if anything may have to go. `true` if it did.
    #[cold]
    pub(super) fn request_due_retention(&self) -> bool {
        let second = self.segments.load().get(1).map(|second| second.base_offset());
        let is_due = self.is_limited() || second.is_some_and(|second| second <= self.watermarks.log_start());
        if is_due {
            self.request(Chore::Retain);
        }
        is_due
    }

    fn retention(&self) -> Retention {
        let (options, now) = (self.options(), self.now());
        let steps = &self.environment.clock_steps;
        Retention {
            log_start: self.watermarks.log_start(),
            high_watermark: self.watermarks.high_watermark(),
            log_end: self.watermarks.log_end(),
            bytes: options.retention_bytes,
            ms: options.retention_ms.filter(|_| steps.is_believed(now)),
            now,
        }
    }

    /// How many segments are due, and how many there are.
    fn look_for_due(&self) -> Result<(usize, usize)> {
        let _sealing = self.sealing.lock();
        let segments = self.segments.load_full();
        let due = self.retention().due(&segments);
        self.count_all_open();
        Ok((due?, segments.len()))
    }

    pub(super) fn apply_retention(&self) -> Result<usize> {
        let applied = self.environment.with_reserve(|| match self.condemn_due()? {
            Some(condemned) => self.delete_condemned(condemned),
            None => Ok(0),
        });
        // As after a deletion of records.
        self.notify_tail();
        applied
    }

    /// Raises the log start above the segments that are due, in memory, and sees that what must outlive them is on the disk.
    fn condemn_due(&self) -> Result<Option<Condemned>> {
        self.check_writable()?;
        let (due, count) = self.look_for_due()?;
        if due == 0 {
            return Ok(None);
        }
        if due == count {
            self.roll()?;
        }
        self.seal_rolled()?;
        let HeldFiles { sealing: _sealing, rolling } = self.hold_files();
        self.check_not_closing()?;
        drop(rolling);
        let segments = self.segments.load_full();
        // Also of what was just rolled, the active one stays.
        let due = self.retention().due(&segments)?.min(segments.len().saturating_sub(1));
        if due > 0 { self.condemn(&segments, segments[due].base_offset()).map(Some) } else { Ok(None) }
    }

    /// The caller holds `sealing`.
    fn condemn(&self, segments: &[Arc<Segment>], below: Offset) -> Result<Condemned> {
        // This may take long, and no roll need wait for it.
        self.ensure_snapshot(below, segments)?;
        let _rolling = self.rolling.lock();
        self.check_not_closing()?;
        // From here on it stays, see `remove_superseded`.
        self.move_log_start(below);
        // Also where nobody comes to delete them.
        self.environment.checkpoints.set_stale();
        let start_written = self.environment.checkpoints.ask();
        Ok(Condemned { below, generation: self.commit.generation(), start_written })
    }

    /// Deletes what was condemned, a few at a time. Returns how many. What a failure, a crash or a truncation leaves of them is due
    /// the next time.
    fn delete_condemned(&self, condemned: Condemned) -> Result<usize> {
        self.environment.checkpoints.write_asked(condemned.start_written)?;
        let mut deleted = 0;
        loop {
            let files = self.hold_files();
            let few = self.delete_few(&condemned)?;
            files.hand_on();
            deleted += few;
            if few < AT_ONCE {
                break;
            }
        }
        event!(info, partition = %self.name, segments = deleted, log_start = condemned.below.0, "deleted");
        Ok(deleted)
    }

    /// The caller holds the files.
    fn delete_few(&self, condemned: &Condemned) -> Result<usize> {
        self.check_not_closing()?;
        if self.commit.generation() != condemned.generation {
            return Ok(0);
        }
        self.drop_leader_epochs_below(condemned.below)?;
        let segments = self.segments.load_full();
        let left = segments.partition_point(|segment| segment.base_offset() < condemned.below);
        let count = left.min(AT_ONCE).min(segments.len().saturating_sub(1));
        if count > 0 {
            self.delete_head(&segments, count)?;
        }
        Ok(count)
    }

    /// Deletes the first `count` segments, which are condemned; there are more. The caller holds the files. What cannot be removed
    /// stays in the log, below its start, and is the first to go at the next try: behind it there must be no hole.
    fn delete_head(&self, segments: &[Arc<Segment>], count: usize) -> Result<()> {
        let (head, first) = (&segments[..count], segments[count].base_offset());
        self.replace_head(count, &[]);
        for (at, segment) in head.iter().enumerate() {
            self.remove_deleted(segment).inspect_err(|_| self.replace_head(0, &head[at..]))?;
            // Names survive a crash independently of each other: of the segments below the start none may lack alone.
            self.sync_names().inspect_err(|_| self.replace_head(0, &head[at + 1..]))?;
        }
        self.remove_snapshots(|offset| offset < first)
    }

    /// Puts others in the place of the first `count` segments.
    fn replace_head(&self, count: usize, head: &[Arc<Segment>]) {
        let _appender = self.appender.lock();
        let segments = [head, &self.segments.load()[count..]].concat();
        self.segments.store(Arc::new(segments));
    }

    /// Removes the files of a segment below the log start offset, where a crash may leave any of them.
    fn remove_deleted(&self, segment: &Segment) -> Result<()> {
        segment.file().let_go();
        // The indexes first: those of no segment would be taken for those of a later one with the same base.
        segment
            .remove_indexes()
            .and_then(|()| remove_if_present(&*self.environment.disk, &segment.file().path()))
            .inspect_err(|_| segment.file().revive())?;
        self.note_removed(segment);
        Ok(())
    }

    /// Sees that there is a snapshot at `offset` that can be used: what it covers is about to go.
    fn ensure_snapshot(&self, offset: Offset, segments: &[Arc<Segment>]) -> Result<()> {
        if self.newest_snapshot(segments, offset, self.now())?.offset == offset {
            // Whoever wrote it may have failed to make its name durable.
            return self.sync_names();
        }
        let path = self.segment_path(SegmentFile::Snapshot, offset);
        remove_if_present(&*self.environment.disk, &path)?;
        self.write_snapshot(offset)
    }
}

//! Reading: whole batches, by reference into the map, never above the high watermark unless asked.

pub(super) mod bound;
pub(super) mod reader;
pub(super) mod tail;
pub(super) mod timestamps;
pub(super) mod waiting;

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Batches;
use crate::error::{CorruptionKind, Error, Result};
use crate::log::read::bound::Bound;
use crate::log::{Log, Reader, Shared};
use crate::segment::{BatchCursor, PlacedBatch, Segment, segments_from};
use crate::transaction::AbortedTransaction;
use crate::types::Offset;

/// What [`Log::read`] found: batches back to back, as they are stored.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
///
/// let fetched = log.read(Offset(0), 1 << 20)?;
/// assert_eq!(fetched.batches().count(), 1);
/// assert_eq!((fetched.next_offset, fetched.high_watermark), (Offset(1), Offset(1)));
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The batches' bytes; empty at the end of the log. The first batch may begin below the offset asked for.
    pub bytes: Bytes,
    /// Where to go on: the offset behind the last batch. Where there is none, the one asked for; or what the read went up to, if a
    /// [truncation](Log::truncate_to) inside of a batch has left no records before it. Below the high watermark (or what else the
    /// read went up to) there is more, which did not fit, lies in the next segment, or is a batch that ends above it.
    pub next_offset: Offset,
    /// The log start offset at the time.
    pub log_start: Offset,
    /// The high watermark at the time.
    pub high_watermark: Offset,
    /// The last stable offset at the time.
    pub last_stable: Offset,
    /// Of [`Log::read_committed`]: the aborted transactions among the batches, whose data the consumer leaves out. None where no
    /// batch belongs to a transaction.
    pub aborted: Vec<AbortedTransaction>,
    /// Whether any of the batches does.
    is_transactional: bool,
}

impl Fetched {
    /// The batches one by one.
    pub fn batches(&self) -> Batches {
        Batches::new(self.bytes.clone())
    }

    /// The same, lent: for those who look at many batches and keep none of them.
    pub fn lent_batches(&self) -> Batches<&[u8]> {
        Batches::lent(&self.bytes)
    }
}

impl Log {
    /// Whole batches from the one that holds `from` on: as many as fit into `max_bytes`, and the first one in any case. Ends at
    /// the end of a segment at the latest; go on at [`next_offset`](Fetched::next_offset). No CRC is looked at: who reads for
    /// somebody else hands it on, and who reads for himself has [`UncheckedBatch::check`](crate::UncheckedBatch::check).
    ///
    /// With a `max_bytes` of 0 no batch is read: the answer is the offsets alone, as for a partition of a fetch that has no room
    /// left.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] if `from` is below the log start offset or above the log end offset; between the high
    /// watermark and the log end there is only nothing to read yet. [`Error::Corrupt`] where the disk gives back what was not
    /// written; [`Error::Closed`], [`Error::Gone`]; [`Error::Poisoned`] where nothing is to be read, and nothing will come.
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Fetched> {
        self.shared.fetch(from, max_bytes, Bound::HighWatermark)
    }

    /// The same for a follower: whole batches up to the log end offset, whatever the high watermark is, which only moves when
    /// followers have fetched. Also what is not durable here yet, as Kafka's followers read it: a leader that loses it in a
    /// crash must not come back as the leader of the same epoch (see [`replication`](crate::manual::replication)).
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.set_high_watermark(Offset(0)); // no follower has anything
    /// log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    ///
    /// assert_eq!(log.read(Offset(0), 1 << 20)?.batches().count(), 0);
    /// let fetched = log.read_to_log_end(Offset(0), 1 << 20)?;
    /// assert_eq!((fetched.batches().count(), fetched.high_watermark), (1, Offset(0)));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_to_log_end(&self, from: Offset, max_bytes: usize) -> Result<Fetched> {
        self.shared.fetch(from, max_bytes, Bound::LogEnd)
    }

    /// The same for a consumer that wants only committed records: whole batches up to the last stable offset, with the
    /// aborted transactions that the consumer must leave out, as Kafka's clients do.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, ControlRecord, LogDir, LogDirOptions, Offset, ProducerEpoch, Sequence};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// let (id, epoch) = (dir.new_producer_id()?, ProducerEpoch(0));
    /// log.append(&BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v").build()?)?;
    /// assert!(log.read_committed(Offset(0), 1 << 20)?.bytes.is_empty());
    ///
    /// log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch: 0 })?;
    /// let fetched = log.read_committed(Offset(0), 1 << 20)?;
    /// assert_eq!((fetched.batches().count(), fetched.aborted.len()), (2, 1));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_committed(&self, from: Offset, max_bytes: usize) -> Result<Fetched> {
        let shared = &self.shared;
        loop {
            let generation = shared.commit.generation();
            let mut fetched = shared.fetch(from, max_bytes, Bound::LastStableOffset)?;
            if !fetched.is_transactional {
                // Nothing to look for, all through the rest of the log.
                return Ok(fetched);
            }
            let end = fetched.next_offset;
            fetched.aborted = shared.in_present_log(from, || shared.aborted(from, end))?;
            // Else the markers may have left the log behind the batches.
            if shared.is_still_decided(from, end, generation) {
                return Ok(fetched);
            }
        }
    }

    /// The batches from the one that holds `from` on. The iterator ends at the high watermark; after more was appended
    /// it goes on. `from` may lie above it, as for [`read`](Self::read). No CRC is looked at, either.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn reader(&self, from: Offset) -> Result<Reader> {
        self.shared.check_readable()?;
        self.shared.check_range(from)?;
        Ok(Reader::new(Arc::clone(&self.shared), from))
    }
}

/// A batch at a position and an offset where it cannot stand.
#[cold]
pub(in crate::log) fn misplaced(segment: &Segment, position: u64, got: Offset, expected: Offset) -> Error {
    Error::corrupt(&segment.file().path(), position, CorruptionKind::BaseOffset { expected, got })
}

/// What a read takes.
#[derive(Debug)]
struct Taken {
    bytes: Bytes,
    /// Where to go on.
    next_offset: Offset,
    /// Whether any of it belongs to a transaction.
    is_transactional: bool,
}

impl Taken {
    fn nothing(next_offset: Offset) -> Self {
        Self { bytes: Bytes::new(), next_offset, is_transactional: false }
    }
}

/// The batches at the cursor that lie below `limit` and fit into `max_bytes`, the first in any case.
fn take_batches(mut cursor: BatchCursor, limit: Offset, max_bytes: usize) -> Result<Taken> {
    let start = cursor.position();
    let (mut end, mut next_offset, mut is_transactional) = (start, Offset(-1), false);
    while let Some(batch) = cursor.peek()? {
        let behind = batch.end();
        let fits = behind - start <= max_bytes as u64 || end == start;
        if !fits || batch.header.next_offset() > limit {
            break;
        }
        if batch.header.base_offset < next_offset {
            return Err(misplaced(cursor.segment(), batch.position, batch.header.base_offset, next_offset));
        }
        (end, next_offset) = (behind, batch.header.next_offset());
        is_transactional |= batch.header.is_transactional();
        if end - start >= max_bytes as u64 {
            break;
        }
        cursor.skip(&batch);
    }
    Ok(Taken { bytes: cursor.into_bytes(start, end)?, next_offset, is_transactional })
}

impl Shared {
    /// Reads; again where a segment on the way left the log meanwhile, by truncation or retention. Those swap the list of
    /// segments under the append lock.
    pub(in crate::log) fn in_present_log<T>(&self, got: Offset, read: impl Fn() -> Result<T>) -> Result<T> {
        const ATTEMPTS: usize = 8;
        for _ in 0..ATTEMPTS {
            match read() {
                Err(error) if Segment::is_gone(&error) => drop(self.appender.lock()),
                outcome => return outcome,
            }
            // The end of the log takes its files away, too, and no offset is wrong then.
            self.check_readable()?;
        }
        let (start, end) = (self.watermarks.log_start(), self.watermarks.log_end());
        Err(Error::OffsetOutOfRange { got, start, end })
    }

    /// The same, again where the log was truncated meanwhile: a limit from before is not for what comes in the place of what was
    /// cut, which may not be durable.
    pub(in crate::log) fn in_one_generation<T>(
        &self,
        got: Offset,
        read: impl Fn(u64) -> Result<T>,
    ) -> Result<T> {
        loop {
            let generation = self.commit.generation();
            let outcome = self.in_present_log(got, || read(generation))?;
            if self.commit.generation() == generation {
                return Ok(outcome);
            }
        }
    }

    /// Whether nothing in [`from`, `to`) has left the log since `generation` was its generation. The log start offset
    /// rises before a segment is deleted, and the log end offset falls before one is cut.
    fn still_holds(&self, from: Offset, to: Offset, generation: u64) -> bool {
        self.watermarks.log_start() <= from
            && to <= self.watermarks.log_end()
            && self.commit.generation() == generation
    }

    /// The same, and whether the transactions below `to` are decided still: a truncation that took their markers says so
    /// before it shows the log without them.
    pub(in crate::log) fn is_still_decided(&self, from: Offset, to: Offset, generation: u64) -> bool {
        to <= self.last_stable_offset() && self.still_holds(from, to, generation)
    }

    /// Refuses reads of a log that is closed or gone. A poisoned one can be read up to its durable offset, and says so there.
    #[inline]
    pub(in crate::log) fn check_readable(&self) -> Result<()> {
        if self.commit.is_over() { self.refuse_unreadable() } else { Ok(()) }
    }

    #[cold]
    fn refuse_unreadable(&self) -> Result<()> {
        match self.commit.end() {
            Some(end @ (super::End::Closed | super::End::Gone)) => Err(end.error()),
            _ => Ok(()),
        }
    }

    /// Whole batches from `from` on, below the bound, and the offsets at the time.
    fn fetch(&self, from: Offset, max_bytes: usize, bound: Bound) -> Result<Fetched> {
        self.check_readable()?;
        self.in_one_generation(from, |generation| {
            // In this order, so that none is above the next.
            let log_start = self.watermarks.log_start();
            let high_watermark = self.watermarks.high_watermark();
            let last_stable = self.last_stable_offset().min(high_watermark);
            let limit = match bound {
                Bound::HighWatermark => high_watermark,
                Bound::LastStableOffset => last_stable,
                Bound::LogEnd => self.watermarks.readable_end(),
            };
            self.check_range(from)?;
            let Taken { bytes, next_offset, is_transactional } = match max_bytes {
                0 => Taken::nothing(from),
                _ => self.batches(from, limit, max_bytes, generation)?,
            };
            let aborted = Vec::new();
            Ok(Fetched {
                bytes,
                next_offset,
                log_start,
                high_watermark,
                last_stable,
                aborted,
                is_transactional,
            })
        })
    }

    /// The batches in [`from`, `limit`) that lie in one segment.
    fn batches(&self, from: Offset, limit: Offset, max_bytes: usize, generation: u64) -> Result<Taken> {
        let found = if from < limit { self.cursor(from)? } else { None };
        if let Some(cursor) = found {
            let taken = take_batches(cursor, limit, max_bytes)?;
            if !taken.bytes.is_empty() {
                return Ok(taken);
            }
        }
        Ok(Taken::nothing(self.end_at(from, limit, generation)?))
    }

    /// Where to go on who finds nothing in [`from`, `limit`): as long as it is below the limit, who waits for more would be told
    /// at once to wait no longer, again and again. Fails where nothing can come, or something should be there.
    pub(in crate::log) fn end_at(&self, from: Offset, limit: Offset, generation: u64) -> Result<Offset> {
        let is_behind_all = self.watermarks.batch_end_at(limit) <= from;
        if !is_behind_all {
            self.check_end(from, limit, generation)?;
        }
        self.commit.check()?;
        Ok(if is_behind_all { from.max(limit) } else { from })
    }

    /// Refuses an offset that the log does not reach to.
    pub(in crate::log) fn check_range(&self, got: Offset) -> Result<()> {
        let (start, end) = (self.watermarks.log_start(), self.watermarks.log_end());
        if start <= got && got <= end { Ok(()) } else { Err(Error::OffsetOutOfRange { got, start, end }) }
    }

    /// Refuses an offset that was deleted.
    pub(in crate::log) fn check_not_deleted(&self, got: Offset) -> Result<()> {
        let start = self.watermarks.log_start();
        if start <= got { Ok(()) } else { self.check_range(got) }
    }

    /// A cursor at the batch that holds `offset`, or the next one where it is in a gap. `None` at the end of the log;
    /// [`Error::OffsetOutOfRange`] where it was deleted.
    pub(in crate::log) fn cursor(&self, offset: Offset) -> Result<Option<BatchCursor>> {
        let segments = self.segments.load();
        // Behind that look: the log start offset rises before a segment goes, and the first one left is not the next one then.
        self.check_not_deleted(offset)?;
        for segment in segments_from(&segments, offset) {
            let mut cursor = self.cursor_in(&segments, segment, offset)?;
            // What a truncation left room for may come where there was no batch a moment ago.
            if cursor.peek()?.is_some_and(|batch| batch.header.last_offset() >= offset) {
                return Ok(Some(cursor));
            }
        }
        Ok(None)
    }

    /// Whether readers may find nothing in [`from`, `limit`), with nothing truncated since `generation`: the log may have
    /// a hole there, or the limit lie inside of a batch. The base offset of a batch is not covered by its CRC, so one that
    /// lies elsewhere than it says is known only by its neighbours.
    fn check_end(&self, from: Offset, limit: Offset, generation: u64) -> Result<()> {
        let next = self.cursor(from)?.map(|mut cursor| cursor.peek()).transpose()?.flatten();
        let log_end = self.watermarks.log_end();
        if next.is_some_and(|next| next.header.base_offset <= from && next.header.next_offset() <= log_end) {
            return Ok(());
        }
        match self.check_order(from) {
            Err(Error::Corrupt(_)) if !self.still_holds(from, limit, generation) => Ok(()),
            checked => checked,
        }
    }

    /// Fails if a batch from the segment of `from` on, up to one that ends behind `from`, cannot stand where it does.
    fn check_order(&self, from: Offset) -> Result<()> {
        let batches_end = self.watermarks.batch_end_at(self.watermarks.log_end());
        let segments = self.segments.load_full();
        let segments = segments_from(&segments, from);
        for (at, segment) in segments.iter().enumerate() {
            let next_base = segments.get(at + 1).map(|next| next.base_offset());
            let Some((last, expected)) = self.check_segment(segment, next_base)? else { continue };
            if next_base.is_none() && last.header.next_offset() < batches_end {
                return Err(misplaced(segment, last.position, last.header.base_offset, expected));
            }
            if last.header.next_offset() > from {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Fails if a batch of the segment does not begin behind the one before it, or ends behind the segment. Returns the
    /// last one, and the end of the one before.
    fn check_segment(
        &self,
        segment: &Arc<Segment>,
        next_base: Option<Offset>,
    ) -> Result<Option<(PlacedBatch, Offset)>> {
        // What is appended meanwhile is published before the log end offset, all under the append lock.
        let log_end = || {
            drop(self.appender.lock());
            self.watermarks.log_end()
        };
        let (mut end, mut last) = (next_base.unwrap_or_else(log_end), None);
        let mut expected = segment.base_offset();
        let mut cursor = BatchCursor::new(Arc::clone(segment), 0);
        while let Some(batch) = cursor.next()? {
            if next_base.is_none() && batch.header.next_offset() > end {
                end = log_end();
            }
            if batch.header.base_offset < expected || batch.header.next_offset() > end {
                return Err(misplaced(segment, batch.position, batch.header.base_offset, expected));
            }
            let begin = std::mem::replace(&mut expected, batch.header.next_offset());
            last = Some((batch, begin));
        }
        Ok(last)
    }

    /// A cursor in one segment, whose file may have been removed meanwhile.
    fn cursor_in(
        &self,
        segments: &[Arc<Segment>],
        segment: &Arc<Segment>,
        offset: Offset,
    ) -> Result<BatchCursor> {
        let cursor = segment.cursor_at(offset);
        if !self.is_appenders(segments, segment) {
            self.count_open(segment);
        }
        cursor
    }

    /// Whether what a segment holds open is its appender's: it is the active one, of a log that can have an appender.
    fn is_appenders(&self, segments: &[Arc<Segment>], segment: &Arc<Segment>) -> bool {
        !self.environment.read_only && segments.last().is_some_and(|active| Arc::ptr_eq(active, segment))
    }

    /// Counts a segment that was opened to be read, so that it is given back when there are too many.
    pub(in crate::log) fn count_open(&self, segment: &Arc<Segment>) {
        if !segment.is_counted() && !self.is_appenders(&self.segments.load(), segment) {
            self.environment.held.count(segment);
            self.counters.indexes_rebuilt.add(u64::from(segment.take_rebuilt()));
        }
    }

    /// Counts the segments that were opened beside the readers.
    pub(in crate::log) fn count_all_open(&self) {
        self.segments.load().iter().for_each(|segment| self.count_open(segment));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::error::Error;
    use crate::fs::IoMode;
    use crate::fs::sim::SimDisk;
    use crate::{BatchBuilder, LogDir, LogDirOptions, Offset};

    /// Retention came in between the look at the log start and the one at the segments: a read went on with the first batch that
    /// was left, as if there had been nothing before it, and so did a reader.
    #[test]
    fn who_is_overtaken_by_retention_is_told_so_and_does_not_go_on_behind_it() {
        let options = LogDirOptions::default().disk(Arc::new(SimDisk::new(IoMode::Mapped)));
        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        for _ in 0..3 {
            log.append(&BatchBuilder::new().record("k", "v").build().unwrap()).unwrap();
            log.roll().unwrap();
        }
        let (shared, generation) = (&log.shared, log.shared.commit.generation());
        shared.check_range(Offset(1)).unwrap();
        log.delete_records(Offset(2)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 2);
        let is_told =
            |error| matches!(error, Error::OffsetOutOfRange { got: Offset(1), start: Offset(2), .. });
        assert!(shared.batches(Offset(1), Offset(3), 1 << 20, generation).is_err_and(is_told));
        assert!(shared.cursor(Offset(1)).is_err_and(is_told));
        assert!(shared.cursor(Offset(2)).unwrap().is_some());
    }
}

//! One segment: a `.log` file with its indexes. The last one of a partition is active, the others are sealed.

mod cursor;
mod cut;
mod entries;
mod file;
mod indexes;
mod offset_index;
mod time_index;
mod transaction_index;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

pub(crate) use cursor::{BatchCursor, PlacedBatch};
pub(crate) use cut::Prefix;
pub(crate) use entries::IndexInterval;
pub(crate) use file::{ALLOCATION_STEP_MIN, LogFile, Sink, Stamps};
use indexes::IndexSlot;
pub(crate) use indexes::Indexes;
pub(crate) use offset_index::{IndexPosition, OffsetIndex};
pub(crate) use time_index::TimeIndex;
use time_index::TimePosition;
pub(crate) use transaction_index::TransactionIndex;
pub(crate) use writer::{Leeway, SegmentWriter};

use crate::batch::BatchHeader;
use crate::error::{Error, IoContext, Result};
use crate::fs::name::SegmentFile;
use crate::fs::{Disk, Pages, atomic};
use crate::sync::{Mutex, MutexGuard};
use crate::types::{Offset, Timestamp};

/// No transaction index is larger: room for thirty million aborted transactions in one segment.
const MAX_TRANSACTION_INDEX: u64 = 1 << 30;

/// A run of batches in one file. Cheap to hold: the bytes stay readable as long as somebody has it.
#[derive(Debug)]
pub(crate) struct Segment {
    base_offset: Offset,
    file: LogFile,
    /// Those of the active segment are made with it; those of a sealed one are loaded when needed, and let go when all
    /// segments' take too much memory.
    indexes: IndexSlot,
    /// The aborted transactions whose markers lie here; loaded, or built, when first needed.
    transactions: OnceLock<Mutex<TransactionIndex>>,
    index_options: IndexOptions,
    /// The offset behind the last published batch; of a sealed segment not yet looked at, -1.
    next_offset: AtomicI64,
    /// The largest timestamp of a batch, and the last offset of that batch.
    largest_timestamp: AtomicI64,
    largest_timestamp_offset: AtomicI64,
    /// Held by whoever says all three of a segment that has no writer.
    summarising: Mutex<()>,
    /// Whether the file has its final name, durably.
    named: AtomicBool,
}

/// How dense the indexes are and how large they may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexOptions {
    /// The bytes of batches between two entries.
    pub(crate) interval_bytes: u32,
    /// The size at which an index is full and the segment is rolled.
    pub(crate) max_bytes: u32,
}

impl Segment {
    /// A segment whose file is all published, its indexes not loaded.
    pub(crate) fn sealed(base_offset: Offset, file: LogFile, index_options: IndexOptions) -> Self {
        Self {
            base_offset,
            file,
            indexes: IndexSlot::empty(),
            transactions: OnceLock::new(),
            index_options,
            next_offset: AtomicI64::new(-1),
            largest_timestamp: AtomicI64::new(Timestamp::NONE.0),
            largest_timestamp_offset: AtomicI64::new(-1),
            summarising: Mutex::default(),
            named: AtomicBool::new(true),
        }
    }

    /// A new, empty segment. Its indexes come with its [`SegmentWriter`].
    pub(crate) fn empty(
        base_offset: Offset,
        file: LogFile,
        index_options: IndexOptions,
        named: bool,
    ) -> Self {
        let segment = Self::sealed(base_offset, file, index_options);
        let _ = segment.transactions.set(Mutex::default());
        segment.next_offset.store(base_offset.0, Ordering::Release);
        segment.named.store(named, Ordering::Release);
        segment
    }

    /// A segment that recovery has read. `transactions`: its aborted ones, where they are known.
    pub(crate) fn recovered(
        base_offset: Offset,
        file: LogFile,
        index_options: IndexOptions,
        indexes: Indexes,
        transactions: Option<TransactionIndex>,
        summary: Summary,
    ) -> Self {
        let indexes = IndexSlot::of(indexes);
        let segment = Self { indexes, ..Self::sealed(base_offset, file, index_options) };
        if let Some(transactions) = transactions {
            let _ = segment.transactions.set(Mutex::new(transactions));
        }
        segment.publish(&summary);
        segment
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn file(&self) -> &LogFile {
        &self.file
    }

    pub(crate) fn index_options(&self) -> IndexOptions {
        self.index_options
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    /// Gives a prepared file its name, durably. Everything in the segments before it must be durable: a crash then
    /// never leaves a hole in front of a segment with a name.
    pub(crate) fn give_name(&self, disk: &dyn Disk, directory: &Path) -> Result<()> {
        if !self.is_named() {
            self.file.rename(&directory.join(SegmentFile::Log.name(self.base_offset)))?;
            disk.sync_directory(directory).at("sync directory", directory)?;
            self.named.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// What the segment holds. Reads the end of a sealed segment once.
    pub(crate) fn summary(self: &Arc<Self>) -> Result<Summary> {
        if self.next_offset.load(Ordering::Acquire) < 0 {
            self.settle_for(&self.summarise()?);
        }
        Ok(Summary {
            next_offset: Offset(self.next_offset.load(Ordering::Acquire)),
            largest_timestamp: Timestamp(self.largest_timestamp.load(Ordering::Acquire)),
            largest_timestamp_offset: Offset(self.largest_timestamp_offset.load(Ordering::Acquire)),
        })
    }

    fn summarise(self: &Arc<Self>) -> Result<Summary> {
        let indexes = self.indexes()?;
        let mut summary = Summary::of_entries(self.base_offset, &indexes);
        let from = indexes.last_position();
        let mut cursor = BatchCursor::new(Arc::clone(self), from);
        while let Some(batch) = cursor.next()? {
            summary.add(&batch);
        }
        Ok(summary)
    }

    /// Takes over what was read, unless somebody was first: a truncation may have said since where the next batch begins.
    fn settle_for(&self, summary: &Summary) {
        let _summarising = self.summarising.lock();
        if self.next_offset.load(Ordering::Acquire) < 0 {
            self.publish(summary);
        }
    }

    /// Says what the segment holds, whatever was said of it before. It has no writer.
    pub(crate) fn set_summary(&self, summary: &Summary) {
        let _summarising = self.summarising.lock();
        self.publish(summary);
    }

    fn publish(&self, summary: &Summary) {
        self.largest_timestamp.store(summary.largest_timestamp.0, Ordering::Release);
        self.largest_timestamp_offset.store(summary.largest_timestamp_offset.0, Ordering::Release);
        self.next_offset.store(summary.next_offset.0, Ordering::Release);
    }

    /// Has memory ready where batches will be written, and for their entries in the indexes. Only ever a matter of speed.
    pub(crate) fn populate(&self, from: u64, to: u64, pages: Pages) {
        if let Some(indexes) = &*self.indexes.load() {
            indexes.prepare(self.file.end(), to.min(self.file.allocated()));
        }
        self.file.populate(from, to, pages);
    }

    /// The indexes: in memory, or loaded, or built from the log where the files are missing or do not fit it.
    pub(crate) fn indexes(self: &Arc<Self>) -> Result<Arc<Indexes>> {
        match &*self.indexes.load() {
            Some(indexes) => Ok(Arc::clone(indexes)),
            None => self.fetch_indexes(),
        }
    }

    /// As [`indexes`](Self::indexes), to look something up: where they are in memory nobody else is told.
    #[inline]
    fn look_up<T>(self: &Arc<Self>, look: impl FnOnce(&Indexes) -> T) -> Result<T> {
        if let Some(indexes) = &*self.indexes.load() {
            return Ok(look(indexes));
        }
        Ok(look(&*self.fetch_indexes()?))
    }

    #[cold]
    fn fetch_indexes(self: &Arc<Self>) -> Result<Arc<Indexes>> {
        Ok(match self.load_indexes() {
            Some(loaded) => self.indexes.keep(loaded, true),
            None => self.indexes.keep_rebuilt(self.build_indexes()?),
        })
    }

    /// Keeps the indexes in memory, because the files are about to be replaced.
    pub(crate) fn hold_indexes(self: &Arc<Self>) -> Result<()> {
        self.indexes.hold(&self.indexes()?);
        Ok(())
    }

    /// Notes that the index files are complete, and can be loaded again.
    pub(crate) fn set_indexes_saved(&self) {
        if let Some(indexes) = &*self.indexes.load() {
            self.indexes.set_saved(indexes, indexes.len());
        }
    }

    /// The memory of the indexes.
    pub(crate) fn index_memory(&self) -> usize {
        self.indexes.load().as_ref().map_or(0, |indexes| indexes.memory())
    }

    /// Whether the budgets of open files and of indexes know what is in memory.
    #[inline]
    pub(crate) fn is_counted(&self) -> bool {
        self.file.is_counted() && !self.indexes.has_news()
    }

    /// Whether the indexes were built from the log since this was asked last.
    pub(crate) fn take_rebuilt(&self) -> bool {
        self.indexes.take_rebuilt()
    }

    /// The memory of indexes that can be loaded again and were not counted yet; from now on they are.
    pub(crate) fn count_indexes(&self) -> Option<usize> {
        self.indexes.count()
    }

    /// Gives the memory of the indexes back, unless there is a writer. Who looks something up meanwhile keeps them that long.
    pub(crate) fn release_indexes(&self) {
        self.indexes.release();
    }

    /// The index files, if both are there and could belong to this log.
    pub(crate) fn load_indexes(&self) -> Option<Indexes> {
        let path = self.file.path();
        let directory = path.parent()?;
        let limit = u64::from(self.index_options.max_bytes).max(64 << 20);
        let read = |file: String| self.file.disk().read(&directory.join(file), limit).ok();
        let offset = read(SegmentFile::OffsetIndex.name(self.base_offset))?;
        let time = read(SegmentFile::TimeIndex.name(self.base_offset))?;
        let max = self.index_options.max_bytes as usize;
        let offset = OffsetIndex::decode(self.base_offset, &offset, self.file.end(), max).ok()?;
        let time = TimeIndex::decode(self.base_offset, &time, max, offset.iter()).ok()?;
        let indexes = Indexes { offset, time };
        (self.last_entry_fits(&indexes) && agree(&indexes)).then_some(indexes)
    }

    /// Whether the last entry points at the batch that it names.
    fn last_entry_fits(&self, indexes: &Indexes) -> bool {
        let Some(last) = indexes.offset.last() else { return true };
        let position = u64::from(last.position);
        self.file
            .bytes(position, position + BatchHeader::SIZE as u64)
            .ok()
            .and_then(|bytes| BatchHeader::decode(&bytes).ok())
            .is_some_and(|header| header.last_offset() == last.offset)
    }

    /// Builds the indexes by reading every header.
    pub(crate) fn build_indexes(self: &Arc<Self>) -> Result<Indexes> {
        let indexes = Indexes::new(self.base_offset, self.index_options);
        let mut filler = IndexFiller::new(self.index_options);
        let mut cursor = BatchCursor::new(Arc::clone(self), 0);
        while let Some(batch) = cursor.next()? {
            filler.add(&indexes, &batch);
        }
        filler.seal(&indexes);
        Ok(indexes)
    }

    /// The aborted transactions, where they are in memory.
    pub(crate) fn transactions(&self) -> Option<MutexGuard<'_, TransactionIndex>> {
        self.transactions.get().map(Mutex::lock)
    }

    /// Keeps the aborted transactions in memory, unless somebody else did.
    pub(crate) fn set_transactions(&self, index: TransactionIndex) -> MutexGuard<'_, TransactionIndex> {
        self.transactions.get_or_init(|| Mutex::new(index)).lock()
    }

    /// The transaction index file, if it is there and its last marker is in this log. A segment of ours has one also if
    /// it is empty; Kafka makes one at the first aborted transaction.
    pub(crate) fn load_transactions(self: &Arc<Self>) -> Option<TransactionIndex> {
        let path = self.file.path();
        let path = path.parent()?.join(SegmentFile::TransactionIndex.name(self.base_offset));
        let bytes = self.file.disk().read(&path, MAX_TRANSACTION_INDEX).ok()?;
        let index = TransactionIndex::decode(self.base_offset, &bytes).ok()?;
        self.last_marker_fits(&index).then_some(index)
    }

    fn last_marker_fits(self: &Arc<Self>, index: &TransactionIndex) -> bool {
        let Some(last) = index.entries().last() else { return true };
        let Ok(mut cursor) = self.cursor_at(last.last_offset) else { return false };
        matches!(cursor.peek(), Ok(Some(batch)) if batch.header.base_offset == last.last_offset
            && batch.header.is_control()
            && batch.header.producer_id == last.producer_id)
    }

    /// Writes the index files, replacing what is there. One of aborted transactions that are not in memory is as it was.
    pub(crate) fn write_indexes(self: &Arc<Self>, disk: &dyn Disk, directory: &Path) -> Result<()> {
        let transactions = self.transactions().map(|index| index.encode());
        if let Some(encoded) = transactions {
            let path = directory.join(SegmentFile::TransactionIndex.name(self.base_offset));
            atomic::replace_file(disk, &path, &encoded)?;
        }
        let indexes = self.indexes()?;
        let len = indexes.len();
        // Recovery resumes at the last entry of offsets with the last one of times: it must not be the older one, or a
        // larger timestamp in between is forgotten.
        let time = directory.join(SegmentFile::TimeIndex.name(self.base_offset));
        atomic::replace_file(disk, &time, &indexes.time.encode(0))?;
        let offset = directory.join(SegmentFile::OffsetIndex.name(self.base_offset));
        atomic::replace_file(disk, &offset, &indexes.offset.encode(0))?;
        self.indexes.set_saved(&indexes, len);
        Ok(())
    }

    /// A cursor at the first batch whose last offset is `target` or higher; at the end if there is none.
    pub(crate) fn cursor_at(self: &Arc<Self>, target: Offset) -> Result<BatchCursor> {
        let mut cursor = BatchCursor::new(Arc::clone(self), 0);
        let entry = self.look_up(|indexes| indexes.offset.lookup(target, |likely| cursor.expect(likely)))?;
        self.cursor_from(cursor, entry, target)
    }

    /// A cursor at the batch that holds `start`, or at a later one before which nothing is as late as `timestamp`.
    pub(crate) fn cursor_at_time(
        self: &Arc<Self>,
        timestamp: Timestamp,
        start: Offset,
    ) -> Result<BatchCursor> {
        let mut cursor = BatchCursor::new(Arc::clone(self), 0);
        let expect = |likely| cursor.expect(likely);
        let TimePosition { offset, position } =
            self.look_up(|indexes| indexes.time.lookup(timestamp, expect))?;
        match position.filter(|_| offset >= start) {
            Some(position) => self.cursor_from(cursor, IndexPosition { offset, position }, offset),
            None => self.cursor_at(offset.max(start)),
        }
    }

    /// An offset in a batch that ends below `end`, and before which all timestamps are smaller than its own; the base offset
    /// where the index knows of none.
    pub(crate) fn latest_before(self: &Arc<Self>, end: Offset) -> Result<Offset> {
        let last = self.look_up(|indexes| indexes.time.last_before(end))?;
        Ok(last.map_or(self.base_offset, |(_, offset)| offset))
    }

    /// A cursor as [`cursor_at`](Self::cursor_at) gives it, by an index entry, which is believed only if a batch that
    /// begins at or below `target` lies where it points; else the segment is walked from its beginning.
    fn cursor_from(
        self: &Arc<Self>,
        mut cursor: BatchCursor,
        entry: IndexPosition,
        target: Offset,
    ) -> Result<BatchCursor> {
        cursor.go_to(u64::from(entry.position));
        let first = cursor.peek().ok().flatten();
        if let Some(first) = &first {
            cursor.fetch_ahead(first);
        }
        let possible = self.base_offset..=target;
        let believed = first.is_some_and(|first| possible.contains(&first.header.base_offset));
        if entry.position > 0 && !believed {
            cursor = BatchCursor::new(Arc::clone(self), 0);
        }
        cursor.seek(|header| header.last_offset() >= target)?;
        Ok(cursor)
    }

    /// Whether `error` says that the file is gone: retention or deletion removed it.
    pub(crate) fn is_gone(error: &Error) -> bool {
        matches!(error, Error::Io(io) if io.source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Whether two indexes can be those of one segment: they get their entries together, so a time index that was emptied or
/// cut short is told by the offsets that it lacks. (A segment in which no timestamp is above -1 has no time entries.)
fn agree(indexes: &Indexes) -> bool {
    indexes.offset.last().is_none() || indexes.time.last().is_some()
}

/// What a segment holds, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The offset behind the last batch.
    pub(crate) next_offset: Offset,
    /// The largest timestamp of a batch.
    pub(crate) largest_timestamp: Timestamp,
    /// The last offset of the batch that has it.
    pub(crate) largest_timestamp_offset: Offset,
}

impl Summary {
    pub(crate) fn empty(base_offset: Offset) -> Self {
        Self {
            next_offset: base_offset,
            largest_timestamp: Timestamp::NONE,
            largest_timestamp_offset: Offset(-1),
        }
    }

    /// What the entries tell: the largest timestamp. The batches from their [`last_position`](Indexes::last_position) on
    /// are to be added.
    pub(crate) fn of_entries(base_offset: Offset, indexes: &Indexes) -> Self {
        let none = Self::empty(base_offset);
        let last = indexes.time.last();
        last.map_or(none, |(largest_timestamp, largest_timestamp_offset)| Self {
            largest_timestamp,
            largest_timestamp_offset,
            ..none
        })
    }

    pub(crate) fn add(&mut self, batch: &PlacedBatch) {
        self.next_offset = batch.header.next_offset();
        if batch.header.max_timestamp > self.largest_timestamp {
            self.largest_timestamp = batch.header.max_timestamp;
            self.largest_timestamp_offset = batch.header.last_offset();
        }
    }
}

/// Fills the indexes of a segment batch by batch, by Kafka's rule: an entry pair for the first batch behind each
/// interval of bytes (`LogSegment.append`).
#[derive(Debug)]
pub(crate) struct IndexFiller {
    interval: IndexInterval,
    largest_timestamp: Timestamp,
    largest_timestamp_offset: Offset,
}

impl IndexFiller {
    pub(crate) fn new(options: IndexOptions) -> Self {
        Self {
            interval: IndexInterval::new(options.interval_bytes),
            largest_timestamp: Timestamp::NONE,
            largest_timestamp_offset: Offset(-1),
        }
    }

    /// Goes on behind what `summary` tells, as if `since_last` bytes had come since the last entry.
    pub(crate) fn resume(options: IndexOptions, summary: &Summary) -> Self {
        Self {
            largest_timestamp: summary.largest_timestamp,
            largest_timestamp_offset: summary.largest_timestamp_offset,
            ..Self::new(options)
        }
    }

    /// Adds the batch that comes next in the log.
    #[inline]
    pub(crate) fn add(&mut self, indexes: &Indexes, batch: &PlacedBatch) {
        self.add_at(indexes, &batch.header, batch.header.base_offset, batch.position);
    }

    /// The same for a batch that is stored at another offset than its header says.
    #[inline]
    pub(crate) fn add_at(
        &mut self,
        indexes: &Indexes,
        header: &BatchHeader,
        base_offset: Offset,
        position: u64,
    ) {
        let last_offset = header.last_offset_at(base_offset);
        if header.max_timestamp > self.largest_timestamp {
            self.largest_timestamp = header.max_timestamp;
            self.largest_timestamp_offset = last_offset;
        }
        if self.interval.take(header.size()) {
            self.append(indexes, last_offset, position);
        }
    }

    /// Adds an entry pair.
    #[inline(never)]
    fn append(&self, indexes: &Indexes, last_offset: Offset, position: u64) {
        let (position, offset) = (position as u32, self.largest_timestamp_offset);
        indexes.offset.append(last_offset, position);
        indexes.time.append(self.largest_timestamp, offset, (offset == last_offset).then_some(position));
    }

    /// The entry that a sealed segment's time index ends with: its largest timestamp.
    pub(crate) fn seal(&self, indexes: &Indexes) {
        if self.largest_timestamp_offset.0 >= 0 {
            indexes.time.append_last(self.largest_timestamp, self.largest_timestamp_offset, None);
        }
    }

    pub(crate) fn summary(&self, next_offset: Offset) -> Summary {
        Summary {
            next_offset,
            largest_timestamp: self.largest_timestamp,
            largest_timestamp_offset: self.largest_timestamp_offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::fs::{IoMode, RealDisk};

    /// Memory was taken once for an index as dense as the interval allows, whatever the batches are like: of 64 KiB each, in
    /// 10,000 segments of 1 GiB, that was 30 GB for entries that never came.
    #[test]
    fn memory_is_taken_for_as_many_entries_as_will_come_and_hardly_more() {
        const BYTES: u64 = 512 << 20;
        let options = IndexOptions { interval_bytes: 4096, max_bytes: 10 << 20 };
        for (batch, is_one_time) in [(64 << 10, false), (64 << 10, true), (8 << 10, false), (BYTES, false)] {
            let indexes = Indexes::new(Offset(0), options);
            for number in 1..BYTES / batch {
                assert!(indexes.offset.append(Offset(number as i64), (number * batch) as u32));
                let timestamp = Timestamp(if is_one_time { 7 } else { number as i64 });
                let offset = Offset(number as i64);
                assert!(indexes.time.append(timestamp, offset, None) || is_one_time && number > 1);
            }
            indexes.prepare(BYTES, BYTES + (64 << 20));
            for (room, len) in
                [(indexes.offset.room(), indexes.offset.len()), (indexes.time.room(), indexes.time.len())]
            {
                let expected = len + len / 8 + 1;
                assert!(
                    (expected..=expected + 512).contains(&room),
                    "{room} for {expected} of {batch} bytes"
                );
            }
        }
    }

    /// A position that is not that of the entry's batch is not believed: then a whole segment would be walked, and nobody
    /// would see more of it than the time.
    #[test]
    fn a_time_entry_knows_the_position_of_its_batch_filled_read_or_cut() {
        let options = IndexOptions { interval_bytes: 200, max_bytes: 4096 };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SegmentFile::Log.name(Offset(0)));
        let (mut bytes, mut begins) = (Vec::new(), Vec::new());
        for number in 0..60 {
            let batch = BatchBuilder::new().timestamp(Timestamp(1_000 + number / 7 * 10 - number % 3));
            let batch = batch
                .base_offset(Offset(number))
                .record(b"key", vec![7; 40 + number as usize])
                .build()
                .unwrap();
            begins.push(bytes.len() as u32);
            bytes.extend_from_slice(batch.bytes());
        }
        std::fs::write(&path, &bytes).unwrap();
        let len = bytes.len() as u64;
        let file = LogFile::new(Arc::new(RealDisk), IoMode::Mapped, path, len, len);
        let segment = Arc::new(Segment::sealed(Offset(0), file, options));
        segment.write_indexes(&RealDisk, directory.path()).unwrap();
        let (filled, read) = (segment.build_indexes().unwrap(), segment.load_indexes().unwrap());
        let cut = read.time.truncated(Offset(30));
        let mut known = 0;
        for timestamp in (990..1_100).map(Timestamp) {
            let found = filled.time.lookup(timestamp, |_| {});
            known += usize::from(found.position.is_some());
            assert!(found.position.is_none_or(|position| position == begins[found.offset.0 as usize]));
            assert_eq!(read.time.lookup(timestamp, |_| {}), found);
            assert!(found.offset >= Offset(30) || cut.lookup(timestamp, |_| {}) == found);
        }
        assert!(known > 20, "{known}");
    }

    /// A truncation into the gap behind a segment said where its next batch begins while a reader was still looking at what it
    /// holds, and took that back. What was appended then lay below the durable offset, and was acknowledged without a sync.
    #[test]
    fn what_a_truncation_says_of_a_segment_is_not_taken_back_by_a_reader() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SegmentFile::Log.name(Offset(0)));
        let batch = BatchBuilder::new().timestamp(Timestamp(7)).record(b"key", b"value").build().unwrap();
        std::fs::write(&path, batch.bytes()).unwrap();
        let len = batch.bytes().len() as u64;
        let file = LogFile::new(Arc::new(RealDisk), IoMode::Mapped, path, len, len);
        let options = IndexOptions { interval_bytes: 200, max_bytes: 4096 };
        let segment = Arc::new(Segment::sealed(Offset(0), file, options));

        let read = segment.summarise().unwrap();
        let truncated = segment.prefix(Offset(50)).unwrap().summary_until(Offset(50));
        segment.set_summary(&truncated);
        segment.settle_for(&read);
        let expected = Summary {
            next_offset: Offset(50),
            largest_timestamp: Timestamp(7),
            largest_timestamp_offset: Offset(0),
        };
        assert_eq!(segment.summary().unwrap(), expected);
    }
}

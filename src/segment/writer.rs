//! The append end of the active segment. Its owner holds the partition's append lock.

use std::io;
use std::sync::Arc;

use super::file::{LogFile, Sink, Stamps};
use super::{IndexFiller, Indexes, PlacedBatch, Segment, Summary};
use crate::batch::BatchHeader;
use crate::error::{IoContext, Result};
use crate::types::{Offset, Timestamp};

/// Behind every other time, and before.
const LAST: Timestamp = Timestamp(i64::MAX);
const FIRST: Timestamp = Timestamp(i64::MIN);

/// Up to where a segment's owner need look at nothing but the batch that it appends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leeway {
    /// The batch may end here.
    pub(crate) position: u64,
    /// Its last offset may be this.
    pub(crate) offset: Offset,
    /// It may be as late as this.
    pub(crate) timestamp: Timestamp,
    /// It must come earlier than this.
    pub(crate) now: Timestamp,
}

impl Leeway {
    const NONE: Self = Self { position: 0, offset: Offset(-1), timestamp: FIRST, now: FIRST };
}

/// Appends to one segment: [`write`](Self::write) any number of batches, then [`publish`](Self::publish) them at once; or
/// [`append`](Self::append) one.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    sink: Sink,
    /// The segment's.
    indexes: Arc<Indexes>,
    filler: IndexFiller,
    /// The timestamp of the first batch, for rolling by time.
    first_timestamp: Option<Timestamp>,
    created: Timestamp,
    /// Where the batches written so far end. Equals the published end between calls.
    position: u64,
    next_offset: Offset,
    /// Behind the last batch that is published.
    published_offset: Offset,
    /// The batches of the [`publish`](Self::publish) that is under way, or of the last one.
    placed: Vec<PlacedBatch>,
    leeway: Leeway,
}

impl SegmentWriter {
    /// A writer behind what is published in `segment`. `indexes`: the segment's.
    pub(crate) fn new(
        segment: Arc<Segment>,
        indexes: Arc<Indexes>,
        sink: Sink,
        summary: &Summary,
        first_timestamp: Option<Timestamp>,
        created: Timestamp,
    ) -> Self {
        segment.indexes.begin_writing(&indexes);
        Self {
            filler: IndexFiller::resume(segment.index_options(), summary),
            position: segment.file().end(),
            next_offset: summary.next_offset,
            published_offset: summary.next_offset,
            segment,
            indexes,
            sink,
            first_timestamp,
            created,
            placed: Vec::new(),
            leeway: Leeway::NONE,
        }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Where the bytes that it can take end.
    #[inline]
    pub(crate) fn capacity(&self) -> u64 {
        self.sink.capacity()
    }

    fn file(&self) -> &LogFile {
        self.segment.file()
    }

    /// What the owner said last; none for a new writer, whose segment may be another.
    #[inline]
    pub(crate) fn leeway(&self) -> Leeway {
        self.leeway
    }

    pub(crate) fn set_leeway(&mut self, leeway: Leeway) {
        self.leeway = leeway;
    }

    /// Has the owner look at everything again.
    pub(crate) fn end_leeway(&mut self) {
        self.leeway = Leeway::NONE;
    }

    /// The largest timestamp of a batch that does not make the segment older than `age` in milliseconds, and a time before
    /// which the segment is not that by itself. See [`age`](Self::age).
    pub(crate) fn young_until(&self, age: i64) -> (Timestamp, Timestamp) {
        match self.first_timestamp {
            Some(first) if first >= Timestamp(0) => (Timestamp(first.0.saturating_add(age)), LAST),
            Some(_) => (LAST, Timestamp(self.created.0.saturating_add(age))),
            // The first batch decides.
            None => (FIRST, FIRST),
        }
    }

    /// How long the segment has been filled, seen from a batch of `timestamp` at `now`: from its first batch's
    /// timestamp, or from its creation where there is none (`LogSegment.timeWaitedForRoll`).
    pub(crate) fn age(&self, timestamp: Timestamp, now: Timestamp) -> i64 {
        match self.first_timestamp {
            Some(first) if first >= Timestamp(0) => timestamp.0.saturating_sub(first.0),
            _ => now.0.saturating_sub(self.created.0),
        }
    }

    /// Whether an index has no room for another entry.
    pub(crate) fn indexes_are_full(&self) -> bool {
        self.indexes.left() == 0
    }

    /// How many bytes of batches may come before an index can be full.
    pub(crate) fn index_room(&self) -> u64 {
        // There may be an entry at once, and then one behind each interval.
        let intervals = self.indexes.left() as u64;
        intervals.saturating_sub(2).saturating_mul(u64::from(self.segment.index_options().interval_bytes))
    }

    /// Copies a batch behind those before it. The file has blocks there (the caller looked).
    pub(crate) fn write(&mut self, header: &BatchHeader, stamps: &Stamps, batch: &[u8]) -> Result<()> {
        // Nothing is unpublished: it is the first batch of a call.
        if self.position == self.file().end() {
            self.placed.clear();
        }
        let position = self.place(header, stamps, batch)?;
        let Stamps { base_offset, leader_epoch } = *stamps;
        let header = BatchHeader { base_offset, leader_epoch, ..*header };
        self.placed.push(PlacedBatch { header, position });
        Ok(())
    }

    /// Returns the position at which it has copied the batch.
    #[inline(always)]
    fn place(&mut self, header: &BatchHeader, stamps: &Stamps, batch: &[u8]) -> Result<u64> {
        let position = self.position;
        if let Err(error) = self.sink.write(position, stamps, batch) {
            return self.failed(error);
        }
        self.position = position + header.size() as u64;
        self.next_offset = header.last_offset_at(stamps.base_offset) + 1;
        Ok(position)
    }

    /// Makes the written batches visible to readers of the segment: bytes first, then the indexes that point at them.
    ///
    /// # Errors
    ///
    /// The disk's, in [`IoMode::Write`](crate::IoMode); nothing is published and the batches are forgotten.
    pub(crate) fn publish(&mut self) -> Result<()> {
        self.show(self.file().end())?;
        for batch in &self.placed {
            self.first_timestamp.get_or_insert(batch.header.max_timestamp);
            self.filler.add(&self.indexes, batch);
        }
        self.conclude();
        Ok(())
    }

    /// Writes and publishes one batch where nothing is unpublished and there is [`leeway`](Self::leeway).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write) and [`publish`](Self::publish).
    #[inline(always)]
    pub(crate) fn append(&mut self, header: &BatchHeader, stamps: &Stamps, batch: &[u8]) -> Result<()> {
        let position = self.place(header, stamps, batch)?;
        self.show(position)?;
        self.filler.add_at(&self.indexes, header, stamps.base_offset, position);
        self.conclude();
        Ok(())
    }

    /// Makes the bytes written from `from` on visible.
    #[inline(always)]
    fn show(&mut self, from: u64) -> Result<()> {
        if let Err(error) = self.sink.flush(from) {
            return self.failed(error);
        }
        self.sink.publish(self.segment.file(), self.position);
        Ok(())
    }

    #[inline(always)]
    fn conclude(&mut self) {
        self.published_offset = self.next_offset;
        self.segment.publish(&self.filler.summary(self.next_offset));
    }

    /// The batches of the last [`publish`](Self::publish) with their final headers.
    pub(crate) fn published(&self) -> &[PlacedBatch] {
        &self.placed
    }

    /// Forgets what was written and not published, and fails with the error.
    #[cold]
    fn failed<T>(&mut self, error: io::Error) -> Result<T> {
        self.sink.discard();
        self.next_offset = self.published_offset;
        self.placed.clear();
        self.position = self.file().end();
        Err(error).at("write", &self.file().path())
    }

    /// Ends the segment: its time index gets its last entry. The file is trimmed later, off the lock.
    pub(crate) fn seal(self) -> Arc<Segment> {
        self.filler.seal(&self.indexes);
        Arc::clone(&self.segment)
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        self.segment.indexes.end_writing();
    }
}

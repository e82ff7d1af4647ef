//! The append end of the active segment. Its owner holds the partition's append lock.

use std::io;
use std::sync::Arc;

use super::file::{LogFile, Sink, Stamps};
use super::{IndexFiller, PlacedBatch, Segment, Summary};
use crate::batch::BatchHeader;
use crate::error::{IoContext, Result};
use crate::types::{Offset, Timestamp};

/// Appends to one segment: [`write`](Self::write) any number of batches, then [`publish`](Self::publish) them at once.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    sink: Sink,
    filler: IndexFiller,
    /// The timestamp of the first batch, for rolling by time.
    first_timestamp: Option<Timestamp>,
    created: Timestamp,
    /// Where the batches written so far end. Equals the published end between calls.
    position: u64,
    next_offset: Offset,
    /// Behind the last batch that is published.
    published_offset: Offset,
    /// The batches of the call that is under way, or of the last one.
    placed: Vec<PlacedBatch>,
}

impl SegmentWriter {
    /// A writer behind what is published in `segment`.
    pub(crate) fn new(
        segment: Arc<Segment>,
        sink: Sink,
        summary: &Summary,
        first_timestamp: Option<Timestamp>,
        created: Timestamp,
    ) -> Self {
        Self {
            filler: IndexFiller::resume(segment.index_options(), summary),
            position: segment.file().end(),
            next_offset: summary.next_offset,
            published_offset: summary.next_offset,
            segment,
            sink,
            first_timestamp,
            created,
            placed: Vec::new(),
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
        self.segment.indexes.get().is_some_and(|indexes| indexes.offset.is_full() || indexes.time.is_full())
    }

    /// Copies a batch behind those before it. The file has blocks there (the caller looked).
    #[inline(always)]
    pub(crate) fn write(&mut self, header: &BatchHeader, stamps: &Stamps, batch: &[u8]) -> Result<()> {
        if let Err(error) = self.sink.write(self.position, stamps, batch) {
            return self.failed(error);
        }
        // Nothing is unpublished: it is the first batch of a call.
        if self.position == self.file().end() {
            self.placed.clear();
        }
        let Stamps { base_offset, leader_epoch } = *stamps;
        let header = BatchHeader { base_offset, leader_epoch, ..*header };
        self.placed.push(PlacedBatch { header, position: self.position });
        self.position += header.size() as u64;
        self.next_offset = header.next_offset();
        Ok(())
    }

    /// Makes the written batches visible to readers of the segment: bytes first, then the indexes that point at them.
    ///
    /// # Errors
    ///
    /// The disk's, in [`IoMode::Write`](crate::IoMode); nothing is published and the batches are forgotten.
    #[inline(always)]
    pub(crate) fn publish(&mut self) -> Result<()> {
        let from = self.file().end();
        if let Err(error) = self.sink.flush(from) {
            return self.failed(error);
        }
        self.sink.publish(self.segment.file(), self.position);
        let indexes = self.segment.indexes.get();
        for batch in &self.placed {
            self.first_timestamp.get_or_insert(batch.header.max_timestamp);
            if let Some(indexes) = indexes {
                self.filler.add(indexes, batch);
            }
        }
        self.published_offset = self.next_offset;
        self.segment.publish(&self.filler.summary(self.next_offset));
        Ok(())
    }

    /// The batches of the last call with their final headers.
    pub(crate) fn published(&self) -> &[PlacedBatch] {
        &self.placed
    }

    /// Forgets what was written and not published, and fails with the error.
    #[cold]
    fn failed(&mut self, error: io::Error) -> Result<()> {
        self.sink.discard();
        self.next_offset = self.published_offset;
        self.placed.clear();
        self.position = self.file().end();
        Err(error).at("write", &self.file().path())
    }

    /// Ends the segment: its time index gets its last entry. The file is trimmed later, off the lock.
    pub(crate) fn seal(self) -> Arc<Segment> {
        if let Some(indexes) = self.segment.indexes.get() {
            self.filler.seal(indexes);
        }
        self.segment
    }
}

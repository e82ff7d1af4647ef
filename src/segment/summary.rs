//! What a segment holds, told without its bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{BatchCursor, Indexes, PlacedBatch, Segment};
use crate::error::Result;
use crate::types::{Offset, Timestamp};

/// What a segment holds, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The offset behind the last batch.
    pub(crate) next_offset: Offset,
    pub(crate) largest: LargestTimestamp,
}

/// The largest timestamp of a batch, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LargestTimestamp {
    pub(crate) timestamp: Timestamp,
    /// The last offset of the first batch that has it; -1 where none has a timestamp.
    pub(crate) offset: Offset,
}

impl LargestTimestamp {
    pub(super) const NONE: Self = Self { timestamp: Timestamp::NONE, offset: Offset(-1) };

    /// Takes in the batch that comes next, which ends with `last_offset`.
    #[inline]
    pub(super) fn add(&mut self, timestamp: Timestamp, last_offset: Offset) {
        if timestamp > self.timestamp {
            *self = Self { timestamp, offset: last_offset };
        }
    }
}

impl Summary {
    pub(crate) fn empty(base_offset: Offset) -> Self {
        Self { next_offset: base_offset, largest: LargestTimestamp::NONE }
    }

    /// What the entries tell: the largest timestamp. The batches from their [`last_position`](Indexes::last_position) on
    /// are to be added.
    pub(crate) fn of_entries(base_offset: Offset, indexes: &Indexes) -> Self {
        let last = indexes.time.last().map(|(timestamp, offset)| LargestTimestamp { timestamp, offset });
        Self { next_offset: base_offset, largest: last.unwrap_or(LargestTimestamp::NONE) }
    }

    pub(crate) fn add(&mut self, batch: &PlacedBatch) {
        self.next_offset = batch.header.next_offset();
        self.largest.add(batch.header.max_timestamp, batch.header.last_offset());
    }
}

impl Segment {
    /// What the segment holds. Reads the end of a sealed segment once.
    pub(crate) fn summary(self: &Arc<Self>) -> Result<Summary> {
        if self.next_offset.load(Ordering::Acquire) < 0 {
            self.settle_for(&self.summarise()?);
        }
        Ok(Summary {
            next_offset: Offset(self.next_offset.load(Ordering::Acquire)),
            largest: LargestTimestamp {
                timestamp: Timestamp(self.largest_timestamp.load(Ordering::Acquire)),
                offset: Offset(self.largest_timestamp_offset.load(Ordering::Acquire)),
            },
        })
    }

    /// By the last entries of the index files, where the indexes are not in memory; by all of them where those lead nowhere.
    fn summarise(self: &Arc<Self>) -> Result<Summary> {
        let ends = if self.indexes.load().is_none() { self.load_index_ends() } else { None };
        let told = ends.and_then(|ends| self.summarise_behind(&ends).ok());
        match told.filter(|told| told.largest.offset < told.next_offset) {
            Some(told) => Ok(told),
            None => self.summarise_behind(&*self.indexes()?),
        }
    }

    /// What the entries tell, and the batches from the last of them on.
    fn summarise_behind(self: &Arc<Self>, indexes: &Indexes) -> Result<Summary> {
        let mut summary = Summary::of_entries(self.base_offset, indexes);
        let mut cursor = BatchCursor::new(Arc::clone(self), indexes.last_position());
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

    pub(super) fn publish(&self, summary: &Summary) {
        self.largest_timestamp.store(summary.largest.timestamp.0, Ordering::Release);
        self.largest_timestamp_offset.store(summary.largest.offset.0, Ordering::Release);
        self.next_offset.store(summary.next_offset.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::fs::name::SegmentFile;
    use crate::fs::{IoMode, RealDisk};
    use crate::segment::{IndexOptions, LogFile};

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
            largest: LargestTimestamp { timestamp: Timestamp(7), offset: Offset(0) },
        };
        assert_eq!(segment.summary().unwrap(), expected);
    }
}

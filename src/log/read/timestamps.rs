//! Finding records by their timestamps, among those that readers see.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::{BatchHeader, DEFAULT_MAX_DECOMPRESSED, find_record};
use crate::error::Result;
use crate::log::{Log, Shared};
use crate::segment::{BatchCursor, PlacedBatch, Segment, Summary, segments_from};
use crate::types::{Offset, Timestamp};

/// An offset, and the timestamp of the record that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// The record's offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

impl Log {
    /// The first record whose timestamp is `timestamp` or later, among those that readers see. `None` if there is none.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset, RecordBuilder, Timestamp};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// let record = |timestamp| RecordBuilder::new().timestamp(Timestamp(timestamp)).value("v");
    /// log.append(&BatchBuilder::new().push(record(7)).push(record(9)).push(record(8)).build()?)?;
    ///
    /// let found = log.offset_for_timestamp(Timestamp(8))?.unwrap();
    /// assert_eq!((found.offset, found.timestamp), (Offset(1), Timestamp(9))); // by offset, not by time
    /// assert_eq!(log.offset_for_timestamp(Timestamp(10))?, None);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) where a batch on the way cannot be read;
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Gone`](crate::Error::Gone); the disk's.
    pub fn offset_for_timestamp(&self, timestamp: Timestamp) -> Result<Option<OffsetAndTimestamp>> {
        let shared = &self.shared;
        shared.check_readable()?;
        shared.in_one_generation(shared.watermarks.log_start(), |_| shared.first_from(timestamp))
    }

    /// The record with the largest timestamp among those that readers see, the first one where several have it: what is asked
    /// for with the timestamp -3 in Kafka's protocol (KIP-734). `None` if readers see none. (Where the largest timestamp of all
    /// lies above the high watermark Kafka finds none; here the largest below it is found.)
    ///
    /// Looks at what each segment is known to hold, and at the batches of one, which it decodes one of.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset, RecordBuilder, Timestamp};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// assert_eq!(log.offset_of_max_timestamp()?, None);
    /// let record = |timestamp| RecordBuilder::new().timestamp(Timestamp(timestamp)).value("v");
    /// log.append(&BatchBuilder::new().push(record(7)).push(record(9)).push(record(8)).build()?)?;
    ///
    /// let latest = log.offset_of_max_timestamp()?.unwrap();
    /// assert_eq!((latest.offset, latest.timestamp), (Offset(1), Timestamp(9)));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`offset_for_timestamp`](Self::offset_for_timestamp).
    pub fn offset_of_max_timestamp(&self) -> Result<Option<OffsetAndTimestamp>> {
        let shared = &self.shared;
        shared.check_readable()?;
        shared.in_one_generation(shared.watermarks.log_start(), |_| shared.latest())
    }
}

impl Shared {
    /// What readers see: offsets and, of compressed records, how many bytes. A smaller limit than the default is for what
    /// clients send from now on: what is in the log is there.
    fn seen(&self) -> Seen {
        Seen {
            offsets: self.watermarks.log_start()..self.watermarks.high_watermark(),
            max_decompressed: self.admission.max_decompressed_bytes().max(DEFAULT_MAX_DECOMPRESSED),
        }
    }

    /// The first record as late as `timestamp`, among those that readers see.
    fn first_from(&self, timestamp: Timestamp) -> Result<Option<OffsetAndTimestamp>> {
        let (seen, segments) = (self.seen(), self.segments.load_full());
        for segment in seen.of(&segments) {
            let summary = segment.summary()?;
            let is_late = summary.next_offset > seen.offsets.start && summary.largest.timestamp >= timestamp;
            let found = if is_late { seen.first_at(segment, timestamp)? } else { None };
            self.count_open(segment);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp, among those that readers see.
    fn latest(&self) -> Result<Option<OffsetAndTimestamp>> {
        let (seen, segments) = (self.seen(), self.segments.load_full());
        let mut latest: Option<(OffsetAndTimestamp, &Arc<Segment>)> = None;
        // Timestamps mostly rise: then the last segment has it, and no other one is opened. Of equal ones the first counts.
        for segment in seen.of(&segments).iter().rev() {
            let is_as_late = |timestamp| latest.is_none_or(|(latest, _)| timestamp >= latest.timestamp);
            let summary = segment.summary()?;
            let may_be = summary.next_offset > seen.offsets.start && is_as_late(summary.largest.timestamp);
            let found = if may_be { seen.latest_in(segment, &summary)? } else { None };
            self.count_open(segment);
            latest =
                found.filter(|found| is_as_late(found.timestamp)).map(|found| (found, segment)).or(latest);
        }
        let Some((OffsetAndTimestamp { offset, .. }, segment)) = latest else { return Ok(None) };
        let mut cursor = segment.cursor_at(offset)?;
        let batch = cursor.peek()?;
        batch.map_or(Ok(None), |batch| seen.latest_record(&cursor, &batch))
    }
}

/// What readers see.
struct Seen {
    offsets: Range<Offset>,
    max_decompressed: usize,
}

impl Seen {
    /// The segments that readers see something of. What was deleted may be damaged.
    fn of<'a>(&self, segments: &'a [Arc<Segment>]) -> &'a [Arc<Segment>] {
        let segments = segments_from(segments, self.offsets.start);
        &segments[..segments.partition_point(|segment| segment.base_offset() < self.offsets.end)]
    }

    /// The first record of `segment` that is as late as `timestamp`.
    fn first_at(&self, segment: &Arc<Segment>, timestamp: Timestamp) -> Result<Option<OffsetAndTimestamp>> {
        let Range { start, end } = self.offsets;
        let mut cursor = segment.cursor_at_time(timestamp, start)?;
        let is_wanted = |header: &BatchHeader| header.base_offset >= end || header.max_timestamp >= timestamp;
        while let Some(batch) = cursor.seek(is_wanted)?.filter(|batch| batch.header.next_offset() <= end) {
            cursor.pass(&batch);
            let found = self.find(&cursor, &batch, |found| found.timestamp >= timestamp)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The largest timestamp in `segment`, and an offset in the first batch that has it.
    fn latest_in(&self, segment: &Arc<Segment>, summary: &Summary) -> Result<Option<OffsetAndTimestamp>> {
        let named = self.latest_at(segment, summary.largest.offset)?;
        if named.is_some_and(|named| named.timestamp == summary.largest.timestamp) {
            return Ok(named);
        }
        // Readers do not see all of it. Before the batch of an index entry all timestamps are smaller.
        let indexed = segment.latest_before(self.offsets.end)?;
        let is_seen = self.latest_at(segment, indexed)?.is_some();
        self.latest_from(segment, if is_seen { indexed } else { self.offsets.start })
    }

    /// The same in the batches from the one that holds `from` on.
    fn latest_from(&self, segment: &Arc<Segment>, from: Offset) -> Result<Option<OffsetAndTimestamp>> {
        let mut cursor = segment.cursor_at(from)?;
        let mut latest: Option<OffsetAndTimestamp> = None;
        while let Some(batch) = cursor.next()?.filter(|batch| batch.header.next_offset() <= self.offsets.end)
        {
            let is_later =
                |found: &OffsetAndTimestamp| latest.is_none_or(|it| found.timestamp > it.timestamp);
            latest = self.latest_of(&cursor, &batch)?.filter(is_later).or(latest);
        }
        Ok(latest)
    }

    /// The same in the batch that holds `offset`, or comes behind it.
    fn latest_at(&self, segment: &Arc<Segment>, offset: Offset) -> Result<Option<OffsetAndTimestamp>> {
        let mut cursor = segment.cursor_at(offset)?;
        let batch = cursor.peek()?;
        batch.map_or(Ok(None), |batch| self.latest_of(&cursor, &batch))
    }

    /// The same in one batch. Its header tells, if readers see all of it.
    fn latest_of(&self, cursor: &BatchCursor, batch: &PlacedBatch) -> Result<Option<OffsetAndTimestamp>> {
        let BatchHeader { base_offset: offset, max_timestamp: timestamp, .. } = batch.header;
        if batch.header.record_count == 0 || batch.header.next_offset() > self.offsets.end {
            Ok(None)
        } else if offset >= self.offsets.start {
            Ok(Some(OffsetAndTimestamp { offset, timestamp }))
        } else {
            self.latest_record(cursor, batch)
        }
    }

    /// The first record of the batch with the largest timestamp.
    fn latest_record(&self, cursor: &BatchCursor, batch: &PlacedBatch) -> Result<Option<OffsetAndTimestamp>> {
        let latest = Cell::new(None::<OffsetAndTimestamp>);
        self.find(cursor, batch, |found| {
            if latest.get().is_none_or(|latest| found.timestamp > latest.timestamp) {
                latest.set(Some(found));
            }
            false
        })?;
        Ok(latest.get())
    }

    /// The first record of the batch that is seen and `wanted`.
    fn find(
        &self,
        cursor: &BatchCursor,
        batch: &PlacedBatch,
        wanted: impl Fn(OffsetAndTimestamp) -> bool,
    ) -> Result<Option<OffsetAndTimestamp>> {
        let is_wanted = |offset, timestamp| {
            offset >= self.offsets.start && wanted(OffsetAndTimestamp { offset, timestamp })
        };
        let (max, scratch) = (self.max_decompressed, &mut Vec::new());
        let found = find_record(&batch.header, cursor.slice(batch), max, scratch, is_wanted)
            .map_err(|error| cursor.invalid_at(batch.position, error))?;
        Ok(found.map(|(offset, timestamp)| OffsetAndTimestamp { offset, timestamp }))
    }
}

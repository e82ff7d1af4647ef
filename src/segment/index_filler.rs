//! Which batches get an entry in a segment's indexes, and what it says.

use super::summary::LargestTimestamp;
use super::{IndexOptions, Indexes, PlacedBatch, Summary};
use crate::batch::BatchHeader;
use crate::types::Offset;

/// Fills the indexes of a segment batch by batch, by Kafka's rule: an entry pair for the first batch behind each
/// interval of bytes (`LogSegment.append`).
#[derive(Debug)]
pub(crate) struct IndexFiller {
    interval: IndexInterval,
    largest: LargestTimestamp,
}

impl IndexFiller {
    pub(crate) fn new(options: IndexOptions) -> Self {
        Self { interval: IndexInterval::new(options.interval_bytes), largest: LargestTimestamp::NONE }
    }

    /// Goes on behind what `summary` tells, as if the last batch of that had got an entry.
    pub(crate) fn resume(options: IndexOptions, summary: &Summary) -> Self {
        Self { largest: summary.largest, ..Self::new(options) }
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
        self.largest.add(header.max_timestamp, last_offset);
        if self.interval.take(header.size()) {
            self.append(indexes, last_offset, position);
        }
    }

    /// Adds an entry pair.
    #[inline(never)]
    fn append(&self, indexes: &Indexes, last_offset: Offset, position: u64) {
        let (position, LargestTimestamp { timestamp, offset }) = (position as u32, self.largest);
        indexes.offset.append(last_offset, position);
        indexes.time.append(timestamp, offset, (offset == last_offset).then_some(position));
    }

    /// The entry that a sealed segment's time index ends with: its largest timestamp.
    pub(crate) fn seal(&self, indexes: &Indexes) {
        let LargestTimestamp { timestamp, offset } = self.largest;
        if offset.0 >= 0 {
            indexes.time.append_last(timestamp, offset, None);
        }
    }

    pub(crate) fn summary(&self, next_offset: Offset) -> Summary {
        Summary { next_offset, largest: self.largest }
    }
}

/// Which batches get an index entry: the first one behind each `interval` bytes of batches.
///
/// The bytes are counted after the question is answered, so the first batch of a segment never gets one: a look-up
/// that finds nothing begins there anyway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexInterval {
    interval: u64,
    bytes_since_last: u64,
}

impl IndexInterval {
    pub(crate) fn new(interval: u32) -> Self {
        Self { interval: u64::from(interval), bytes_since_last: 0 }
    }

    /// Whether the batch of `size` bytes that comes next gets an entry. Counts its bytes.
    #[inline]
    pub(crate) fn take(&mut self, size: usize) -> bool {
        let due = self.bytes_since_last > self.interval;
        if due {
            self.bytes_since_last = 0;
        }
        self.bytes_since_last += size as u64;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_batch_behind_more_than_an_interval_gets_an_entry() {
        let cases: [(u32, &[usize], &[bool]); 4] = [
            (100, &[1000, 10, 10], &[false, true, false]),
            (100, &[100, 1, 1], &[false, false, true]),
            (100, &[60, 60, 60, 60, 60], &[false, false, true, false, true]),
            (0, &[1, 1, 1], &[false, true, true]),
        ];
        for (interval, sizes, expected) in cases {
            let mut rule = IndexInterval::new(interval);
            let taken: Vec<_> = sizes.iter().map(|&size| rule.take(size)).collect();
            assert_eq!(taken, expected, "interval {interval}, sizes {sizes:?}");
        }
    }
}

//! The files of a segment's indexes: written, loaded where they fit the log, and else built from it.

use std::sync::Arc;

use super::{BatchCursor, IndexFiller, Indexes, OffsetIndex, Segment, TimeIndex, TransactionIndex};
use crate::batch::BatchHeader;
use crate::error::Result;
use crate::fs::missing::remove_if_present;
use crate::fs::name::SegmentFile;
use crate::fs::{Access, atomic};

/// No transaction index is larger: room for thirty million aborted transactions in one segment.
const MAX_TRANSACTION_INDEX: u64 = 1 << 30;

impl Segment {
    /// The index files, if both are there and could belong to this log.
    pub(crate) fn load_indexes(&self) -> Option<Indexes> {
        let limit = u64::from(self.index_options.max_bytes).max(64 << 20);
        let read = |file| self.file.disk().read(&self.path_of(file), limit).ok();
        self.decode_indexes(&read(SegmentFile::OffsetIndex)?, &read(SegmentFile::TimeIndex)?)
    }

    /// The last entries of the index files, on the same terms. They tell what the segment holds: the files of a thousand segments
    /// are gigabytes.
    pub(super) fn load_index_ends(&self) -> Option<Indexes> {
        let offset = self.read_end(SegmentFile::OffsetIndex, OffsetIndex::ENTRY_SIZE)?;
        let time = self.read_end(SegmentFile::TimeIndex, TimeIndex::ENTRY_SIZE)?;
        let ends = self.decode_indexes(&offset, &time)?;
        // Zeros at the end of a file are no entries: what is in front of them is not known.
        let (offsets, times) = ends.len();
        let is_whole = |bytes: &[u8], entries, size| bytes.len() == entries * size;
        (is_whole(&offset, offsets, OffsetIndex::ENTRY_SIZE) && is_whole(&time, times, TimeIndex::ENTRY_SIZE))
            .then_some(ends)
    }

    /// The last two entries of an index file, of which the one is held against the other; less where it has no more.
    fn read_end(&self, file: SegmentFile, entry_size: usize) -> Option<Vec<u8>> {
        let file = self.file.disk().open(&self.path_of(file), Access::Read).ok()?;
        let len = file.len().ok()?;
        let mut end = vec![0; len.min(2 * entry_size as u64) as usize];
        let begins = len - end.len() as u64;
        let read = file.read_at(&mut end, begins).ok()?;
        (len % entry_size as u64 == 0 && read == end.len()).then_some(end)
    }

    fn decode_indexes(&self, offset: &[u8], time: &[u8]) -> Option<Indexes> {
        let max = self.index_options.max_bytes as usize;
        let offset = OffsetIndex::decode(self.base_offset, offset, self.file.end(), max).ok()?;
        let time = TimeIndex::decode(self.base_offset, time, max, offset.iter()).ok()?;
        let indexes = Indexes { offset, time };
        (self.last_entry_fits(&indexes) && agree(&indexes)).then_some(indexes)
    }

    /// Whether the last entry points at the batch that it names.
    pub(super) fn last_entry_fits(&self, indexes: &Indexes) -> bool {
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

    /// The transaction index file, if it is there and its last marker is in this log. A segment of ours has one also if
    /// it is empty; Kafka makes one at the first aborted transaction.
    pub(crate) fn load_transactions(self: &Arc<Self>) -> Option<TransactionIndex> {
        let path = self.path_of(SegmentFile::TransactionIndex);
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
    pub(crate) fn write_indexes(self: &Arc<Self>) -> Result<()> {
        let transactions = self.transactions().map(|index| index.encode());
        if let Some(encoded) = transactions {
            self.replace(SegmentFile::TransactionIndex, &encoded)?;
        }
        let indexes = self.indexes()?;
        let len = indexes.len();
        // Recovery resumes at the last entry of offsets with the last one of times: it must not be the older one, or a
        // larger timestamp in between is forgotten.
        self.replace(SegmentFile::TimeIndex, &indexes.time.encode(0))?;
        self.replace(SegmentFile::OffsetIndex, &indexes.offset.encode(0))?;
        self.indexes.set_saved(&indexes, len);
        Ok(())
    }

    fn replace(&self, file: SegmentFile, bytes: &[u8]) -> Result<()> {
        atomic::replace_file(&**self.file.disk(), &self.path_of(file), bytes)
    }

    /// Removes the indexes of the segment, where there are any. The directory is not synced.
    pub(crate) fn remove_indexes(&self) -> Result<()> {
        for file in [SegmentFile::OffsetIndex, SegmentFile::TimeIndex, SegmentFile::TransactionIndex] {
            remove_if_present(&**self.file.disk(), &self.path_of(file))?;
        }
        Ok(())
    }
}

/// Whether two indexes can be those of one segment: they get their entries together, so a time index that was emptied or
/// cut short is told by the offsets that it lacks. (A segment in which no timestamp is above -1 has no time entries.)
fn agree(indexes: &Indexes) -> bool {
    indexes.offset.last().is_none() || indexes.time.last().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::fs::{IoMode, RealDisk};
    use crate::segment::{IndexOptions, LogFile};
    use crate::types::{Offset, Timestamp};

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
        segment.write_indexes().unwrap();
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
}

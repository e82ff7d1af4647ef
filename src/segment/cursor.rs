//! Walks the batches of a `.log` file from header to header.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::Segment;
use super::file::LogFile;
use crate::batch::{
    BatchHeader, ControlRecord, DEFAULT_MAX_DECOMPRESSED, UncheckedBatch, check_crc, check_records, layout,
    read_control,
};
use crate::error::{BatchError, CorruptionKind, Error, Result};
use crate::fs::prefetch;

/// How much is fetched at once where bytes must be read instead of mapped.
const READ_AHEAD: u64 = 256 << 10;

/// How many headers a walk has fetched ahead of it: more are not faster where it was measured, and half as many slower,
const AHEAD: usize = 24;
/// and one that may be over soon, all at once at its beginning: most intervals of an index hold no more batches.
const AHEAD_OF_SHORT: usize = 4;

/// A position in a `.log` file that moves from batch to batch. Sees what is published when it looks.
#[derive(Clone, Debug)]
pub(crate) struct BatchCursor {
    segment: Arc<Segment>,
    /// The bytes from `chunk_start` on that were fetched last.
    chunk: Bytes,
    chunk_start: u64,
    position: u64,
    /// How much to fetch at once.
    read_ahead: u64,
}

/// A batch at its place: the header decoded, all of its bytes present. Nothing is said about its CRC.
#[derive(Clone, Debug)]
pub(crate) struct PlacedBatch {
    pub(crate) header: BatchHeader,
    pub(crate) position: u64,
}

impl PlacedBatch {
    /// The position behind its last byte.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

impl BatchCursor {
    pub(crate) fn new(segment: Arc<Segment>, position: u64) -> Self {
        let read_ahead = if segment.file().is_memory() { u64::MAX } else { READ_AHEAD };
        Self { segment, chunk: Bytes::new(), chunk_start: 0, position, read_ahead }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether something was published at the position, and is still in the log.
    #[inline(always)]
    pub(crate) fn has_next(&self) -> bool {
        self.position < self.file().end() && !self.file().is_retired()
    }

    /// The batch at the position, without moving. `None` at the published end.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the bytes are not a batch that ends inside the file; the disk's errors.
    // Always: a header that is returned through memory is waited for until all before it is done, a CRC for instance.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Result<Option<PlacedBatch>> {
        let end = self.file().end();
        if self.position >= end {
            return Ok(None);
        }
        if self.rest().len() < BatchHeader::SIZE {
            self.fetch(BatchHeader::SIZE as u64)?;
        }
        let header = match BatchHeader::decode(self.rest()) {
            Ok(header) => header,
            Err(error) => return Err(self.invalid(error)),
        };
        let size = header.size();
        if self.rest().len() < size {
            if self.position + size as u64 > end {
                let got = (end - self.position) as usize;
                return Err(self.invalid(BatchError::TooShort { expected: size, got }));
            }
            self.fetch(size as u64)?;
        }
        Ok(Some(PlacedBatch { header, position: self.position }))
    }

    /// Moves behind `batch`, which [`peek`](Self::peek) just returned, and all of which was read: the processor has seen by
    /// itself where this leads, and fetching from a page that is not mapped yet costs more than it saves.
    #[inline]
    pub(crate) fn pass(&mut self, batch: &PlacedBatch) {
        self.position = batch.end();
    }

    /// Moves behind `batch`, which [`peek`](Self::peek) just returned, and of which the header was read.
    ///
    /// Where the next header lies is known only once the one before it is there, so a walk over headers waits for memory
    /// at each. Most batches are about as large as the one before: the headers are fetched where they then will be.
    #[inline]
    pub(crate) fn skip(&mut self, batch: &PlacedBatch) {
        self.pass(batch);
        prefetch(self.rest(), AHEAD.wrapping_mul(batch.header.size()), BatchHeader::SIZE);
    }

    /// Has a header fetched that may be at `position`: that it is there is no more than a guess.
    #[inline]
    pub(crate) fn expect(&mut self, position: u32) {
        if self.file().is_memory() && self.fetch(0).is_ok() {
            let start = u64::from(position).saturating_sub(self.chunk_start);
            prefetch(&self.chunk, start as usize, BatchHeader::SIZE);
        }
    }

    /// Moves to `position`, which is not before where the cursor began.
    pub(crate) fn go_to(&mut self, position: u64) {
        self.position = position;
    }

    /// Has the headers behind `batch` fetched all at once: for a walk that begins anywhere, and is short.
    #[inline]
    pub(crate) fn fetch_ahead(&self, batch: &PlacedBatch) {
        for ahead in 1..=AHEAD_OF_SHORT {
            prefetch(self.rest(), ahead * batch.header.size(), BatchHeader::SIZE);
        }
    }

    /// Moves from anywhere in the file to the first place, less than `within` bytes on, that looks like the beginning of a
    /// batch: whether it is one only a walk from the file's own beginning can tell. `false` if there is none.
    pub(crate) fn find(&mut self, within: u64) -> Result<bool> {
        let places_end = (self.file().end() + 1).saturating_sub(BatchHeader::SIZE as u64);
        let end = places_end.min(self.position + within);
        while self.position < end {
            self.fetch(BatchHeader::SIZE as u64)?;
            let mut places = self.rest().windows(BatchHeader::SIZE).zip(self.position..end);
            if let Some((_, position)) = places.find(|&(bytes, position)| self.may_begin(bytes, position)) {
                self.position = position;
                return Ok(true);
            }
            // A header that was fetched in part is fetched again.
            self.position += (self.rest().len() as u64).saturating_sub(BatchHeader::SIZE as u64) + 1;
        }
        Ok(false)
    }

    /// Whether these bytes can be the header of a batch at `position`.
    #[inline]
    fn may_begin(&self, bytes: &[u8], position: u64) -> bool {
        let base = self.segment.base_offset();
        bytes[layout::MAGIC] as i8 == layout::MAGIC_V2
            && BatchHeader::decode(bytes).is_ok_and(|header| {
                header.base_offset >= base
                    && header.last_offset() - base <= i64::from(i32::MAX)
                    && header.size() as u64 <= self.file().end() - position
            })
    }

    /// The batch at the position, and moves behind it.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<PlacedBatch>> {
        let batch = self.peek()?;
        if let Some(batch) = &batch {
            self.skip(batch);
        }
        Ok(batch)
    }

    /// Moves to the first batch that is wanted, which should be near: headers are fetched ahead only once it is not.
    #[inline]
    pub(crate) fn seek(&mut self, is_wanted: impl Fn(&BatchHeader) -> bool) -> Result<Option<PlacedBatch>> {
        let mut steps = 0;
        while let Some(batch) = self.peek()? {
            if is_wanted(&batch.header) {
                return Ok(Some(batch));
            }
            if steps < AHEAD_OF_SHORT {
                self.pass(&batch);
            } else {
                self.skip(&batch);
            }
            steps += 1;
        }
        Ok(None)
    }

    /// The batch at `position` that the cursor has moved behind last, decoded anew: for those who would have to carry it
    /// through memory.
    #[inline(always)]
    pub(crate) fn batch_at(&self, position: u64) -> UncheckedBatch {
        UncheckedBatch::sound(&self.chunk, self.passed_from(position))
    }

    /// The same, lent for as long as the cursor stays.
    #[inline(always)]
    pub(crate) fn lent_at(&self, position: u64) -> UncheckedBatch<&[u8]> {
        UncheckedBatch::sound(&&*self.chunk, self.passed_from(position))
    }

    /// What lies between `position` and the cursor, in the chunk.
    #[inline(always)]
    fn passed_from(&self, position: u64) -> Range<usize> {
        (position - self.chunk_start) as usize..(self.position - self.chunk_start) as usize
    }

    /// The header of that batch.
    #[inline]
    pub(crate) fn header_at(&self, position: u64) -> BatchHeader {
        BatchHeader::read(&self.chunk[(position - self.chunk_start) as usize..])
    }

    /// The bytes in [`from`, `to`): with the cursor's hold on them where they are mapped, else read into memory of their own.
    pub(crate) fn into_bytes(self, from: u64, to: u64) -> Result<Bytes> {
        let Self { segment, mut chunk, chunk_start, .. } = self;
        if from < chunk_start || to > chunk_start + chunk.len() as u64 || !segment.file().is_memory() {
            return segment.file().bytes(from, to);
        }
        chunk.advance((from - chunk_start) as usize);
        chunk.truncate((to - from) as usize);
        Ok(chunk)
    }

    /// The bytes of `batch`, which lies in the chunk that was fetched last.
    #[inline]
    pub(crate) fn slice(&self, batch: &PlacedBatch) -> &[u8] {
        let start = (batch.position - self.chunk_start) as usize;
        &self.chunk[start..start + batch.header.size()]
    }

    /// Checks the CRC of `batch`, and that a control batch, whose contents matter, is well formed and can be understood: it
    /// must not depend on what is replayed whether a batch counts as sound.
    #[inline]
    pub(crate) fn check(&self, batch: &PlacedBatch, scratch: &mut Vec<u8>) -> Result<()> {
        if let Err(error) = check_crc(&batch.header, self.slice(batch)) {
            return Err(self.invalid_at(batch.position, error));
        }
        if batch.header.is_control() { self.check_control(batch, scratch) } else { Ok(()) }
    }

    /// Checks what a control batch holds.
    #[inline(never)]
    fn check_control(&self, batch: &PlacedBatch, scratch: &mut Vec<u8>) -> Result<()> {
        check_records(&batch.header, self.slice(batch), DEFAULT_MAX_DECOMPRESSED, scratch)
            .map_err(|error| self.invalid_at(batch.position, error))?;
        self.control(batch).map(|_| ())
    }

    /// What `batch` says, if it is one that may end a transaction.
    pub(crate) fn control(&self, batch: &PlacedBatch) -> Result<Option<ControlRecord>> {
        if !batch.header.is_control() || !batch.header.is_idempotent() {
            return Ok(None);
        }
        read_control(&batch.header, self.slice(batch), DEFAULT_MAX_DECOMPRESSED, &mut Vec::new())
            .map_err(|error| self.invalid_at(batch.position, error))
    }

    fn file(&self) -> &LogFile {
        self.segment.file()
    }

    /// The fetched bytes from the position on, which never moves back behind the first of them.
    #[inline]
    fn rest(&self) -> &[u8] {
        let start = self.position - self.chunk_start;
        self.chunk.get(start as usize..).unwrap_or_default()
    }

    #[inline(never)]
    fn fetch(&mut self, len: u64) -> Result<()> {
        let to = self.position.saturating_add(len.max(self.read_ahead));
        self.chunk = self.file().bytes(self.position, to)?;
        self.chunk_start = self.position;
        Ok(())
    }

    #[cold]
    fn invalid(&self, error: BatchError) -> Error {
        self.invalid_at(self.position, error)
    }

    #[cold]
    pub(crate) fn invalid_at(&self, position: u64, error: BatchError) -> Error {
        Error::corrupt(&self.file().path(), position, CorruptionKind::Batch(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::fs::{IoMode, RealDisk};
    use crate::segment::IndexOptions;
    use crate::types::Offset;

    /// Where bytes are read in chunks, a header can lie in two of them.
    #[test]
    fn a_batch_is_found_wherever_its_header_lies() {
        let batch = BatchBuilder::new().record(b"key", b"value").build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment");
        for mode in [IoMode::Mapped, IoMode::Write] {
            for position in
                [0, 1, READ_AHEAD - 62, READ_AHEAD - 30, READ_AHEAD, READ_AHEAD + 1, 3 * READ_AHEAD]
            {
                let bytes = [vec![0; position as usize], batch.bytes().to_vec()].concat();
                std::fs::write(&path, &bytes).unwrap();
                let len = bytes.len() as u64;
                let file = LogFile::new(Arc::new(RealDisk), mode, path.clone(), len, len);
                let options = IndexOptions { interval_bytes: 4096, max_bytes: 4096 };
                let segment = Arc::new(Segment::sealed(Offset(0), file, options));

                let mut cursor = BatchCursor::new(Arc::clone(&segment), 0);
                assert!(!cursor.find(position).unwrap(), "{mode:?}, {position}");
                let mut cursor = BatchCursor::new(segment, 0);
                assert!(cursor.find(position + 1).unwrap(), "{mode:?}, {position}");
                let found = cursor.peek().unwrap().unwrap();
                assert_eq!((found.position, found.header), (position, *batch.header()), "{mode:?}");
            }
        }
    }
}

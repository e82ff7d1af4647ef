//! Batches of which only the header was looked at, one by one or back to back.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::DEFAULT_MAX_DECOMPRESSED;
use super::checked::{Batch, RecordCheck, describe};
use super::control::ControlRecord;
use super::header::BatchHeader;
use super::record::{Records, read_control};
use crate::error::BatchError;

/// A batch that has all its bytes and a sound header, and whose CRC was not looked at.
///
/// ```
/// use idemlog::{BatchBuilder, Batches, RecordCheck, DEFAULT_MAX_DECOMPRESSED};
///
/// let batch = BatchBuilder::new().record(b"key", b"value").build()?;
/// let response = [batch.bytes().as_ref(), batch.bytes()].concat();
/// for batch in Batches::new(response.into()) {
///     let batch = batch?.check(RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED)?;
///     assert_eq!(batch.header().record_count, 1);
/// }
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone)]
pub struct UncheckedBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl UncheckedBatch {
    /// Takes the batch at the beginning of `bytes`, which may be longer. Copies nothing.
    ///
    /// # Errors
    ///
    /// [`BatchError::TooShort`] if bytes are missing, and what [`BatchHeader::decode`] refuses.
    #[inline]
    pub fn decode(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::decode(bytes)?;
        if header.size() > bytes.len() {
            return Err(BatchError::TooShort { expected: header.size(), got: bytes.len() });
        }
        Ok(Self { header, bytes: bytes.slice(..header.size()) })
    }

    /// The batch in exactly this range of `bytes`, from which a header was decoded before.
    #[inline(always)]
    pub(crate) fn sound(bytes: &Bytes, range: Range<usize>) -> Self {
        debug_assert_eq!(BatchHeader::read(&bytes[range.clone()]).size(), range.len());
        Self { header: BatchHeader::read(&bytes[range.clone()]), bytes: bytes.slice(range) }
    }

    /// Compares the CRC and checks the records as far as `check` says. Compressed records may have `max_decompressed`
    /// bytes.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: the CRC does not match, or a record is malformed.
    pub fn check(self, check: RecordCheck, max_decompressed: usize) -> Result<Batch, BatchError> {
        Batch::check(self.header, self.bytes, check, max_decompressed)
    }

    /// The header.
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as bytes.
    #[inline]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch as bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records. Compressed ones may have [`DEFAULT_MAX_DECOMPRESSED`] bytes.
    #[inline]
    pub fn records(&self) -> Records {
        self.records_within(DEFAULT_MAX_DECOMPRESSED)
    }

    /// The same for the last user of the batch, which is a little faster: the records take over its memory.
    ///
    /// ```
    /// # use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// # log.append(&BatchBuilder::new().record(b"k1", b"v").record(b"k2", b"v").build()?)?;
    /// let mut count = 0;
    /// for batch in log.reader(Offset(0))? {
    ///     for record in batch?.into_records() {
    ///         count += record?.value_slice().map_or(0, <[u8]>::len);
    ///     }
    /// }
    /// assert_eq!(count, 2);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    #[inline]
    pub fn into_records(self) -> Records {
        Records::new(&self.header, self.bytes, DEFAULT_MAX_DECOMPRESSED)
    }

    /// The records, with a bound of your own for compressed ones.
    #[inline]
    pub fn records_within(&self, max_decompressed: usize) -> Records {
        Records::new(&self.header, self.bytes.clone(), max_decompressed)
    }

    /// What a control batch says. `None` for a batch of data, and for one whose record compaction has removed.
    ///
    /// # Errors
    ///
    /// [`BatchError`] if the control record is malformed.
    pub fn control(&self) -> Result<Option<ControlRecord>, BatchError> {
        read_control(&self.header, &self.bytes, DEFAULT_MAX_DECOMPRESSED, &mut Vec::new())
    }
}

impl fmt::Debug for UncheckedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe("UncheckedBatch", &self.header, f)
    }
}

/// Iterator over batches that lie back to back, as in a produce request, a fetch response or a `.log` file. Ends behind
/// the first error.
///
/// ```
/// use idemlog::{BatchBuilder, Batches};
///
/// let batch = BatchBuilder::new().record(b"key", b"value").build()?;
/// let mut response = [batch.bytes().as_ref(), batch.bytes()].concat();
/// response.truncate(response.len() - 1); // a fetch response ends where its size limit lies
///
/// assert!(Batches::new(response.clone().into()).last().unwrap().is_err());
/// assert_eq!(Batches::new(response.into()).ignore_incomplete().count(), 1);
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    ignore_incomplete: bool,
}

impl Batches {
    /// Walks the batches in `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, ignore_incomplete: false }
    }

    /// Ends without an error before a last batch that is cut short.
    #[must_use]
    pub fn ignore_incomplete(mut self) -> Self {
        self.ignore_incomplete = true;
        self
    }
}

impl Iterator for Batches {
    type Item = Result<UncheckedBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = UncheckedBatch::decode(&self.rest);
        match &batch {
            Ok(batch) => self.rest = self.rest.slice(batch.bytes.len()..),
            Err(_) => self.rest = Bytes::new(),
        }
        match batch {
            Err(BatchError::TooShort { .. }) if self.ignore_incomplete => None,
            batch => Some(batch),
        }
    }
}

impl std::iter::FusedIterator for Batches {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;

    fn two_batches() -> (Bytes, usize) {
        let batch = BatchBuilder::new().record(b"key", b"value").build().unwrap();
        let size = batch.bytes().len();
        (Bytes::from([batch.bytes().as_ref(), batch.bytes()].concat()), size)
    }

    #[test]
    fn a_batch_is_a_slice_of_the_bytes_it_came_from() {
        let (bytes, size) = two_batches();
        let second = Batches::new(bytes.clone()).nth(1).unwrap().unwrap();
        assert_eq!(second.bytes().as_ptr(), bytes[size..].as_ptr());
    }

    #[test]
    fn the_walk_ends_behind_the_first_error() {
        let (bytes, size) = two_batches();
        let mut damaged = bytes.to_vec();
        damaged[size + 16] = 1;
        let mut batches = Batches::new(damaged.into());
        assert!(batches.next().unwrap().is_ok());
        assert_eq!(batches.next().unwrap().unwrap_err(), BatchError::UnsupportedMagic { got: 1 });
        assert!(batches.next().is_none());
    }

    #[test]
    fn an_incomplete_last_batch_is_an_error_unless_ignored() {
        let (bytes, size) = two_batches();
        for length in 0..bytes.len() {
            let cut = bytes.slice(..length);
            let whole = length / size;
            assert_eq!(Batches::new(cut.clone()).ignore_incomplete().count(), whole, "cut to {length}");
            let error = Batches::new(cut).find_map(Result::err);
            assert_eq!(error.is_some(), length % size != 0, "cut to {length}");
            assert!(
                error.is_none_or(|error| matches!(error, BatchError::TooShort { .. })),
                "cut to {length}"
            );
        }
    }
}

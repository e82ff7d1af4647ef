//! Batches of which only the header was looked at, one by one or back to back.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::DEFAULT_MAX_DECOMPRESSED;
use super::checked::{Batch, RecordCheck, describe};
use super::control::ControlRecord;
use super::header::BatchHeader;
use super::held::BatchBytes;
use super::record::{Records, read_control};
use crate::error::BatchError;

/// A batch that has all its bytes and a sound header, and whose CRC was not looked at. It holds its bytes, or borrows them
/// where it is lent: see [`BatchBytes`].
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
pub struct UncheckedBatch<B = Bytes> {
    header: BatchHeader,
    bytes: B,
}

impl UncheckedBatch {
    /// Takes the batch at the beginning of `bytes`, which may be longer. Copies nothing.
    ///
    /// # Errors
    ///
    /// [`BatchError::TooShort`] if bytes are missing, and what [`BatchHeader::decode`] refuses.
    #[inline]
    pub fn decode(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::decode_whole(bytes)?;
        Ok(Self { header, bytes: bytes.slice(..header.size()) })
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
}

impl<'a> UncheckedBatch<&'a [u8]> {
    /// The records, lent for as long as `scratch` is borrowed: compressed ones, which may have [`DEFAULT_MAX_DECOMPRESSED`]
    /// bytes, are decompressed into it. It can be used again for the next batch.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, Batches};
    ///
    /// let batch = BatchBuilder::new().record(b"a", b"1").record(b"b", b"2").build()?;
    /// let (mut scratch, mut values) = (Vec::new(), Vec::new());
    /// for batch in Batches::lent(batch.bytes()) {
    ///     for record in batch?.records_in(&mut scratch) {
    ///         values.extend_from_slice(record?.value().unwrap_or_default());
    ///     }
    /// }
    /// assert_eq!(values, b"12");
    /// # Ok::<(), idemlog::BatchError>(())
    /// ```
    #[inline]
    pub fn records_in<'s>(&self, scratch: &'s mut Vec<u8>) -> Records<&'s [u8]>
    where
        'a: 's,
    {
        self.records_in_within(DEFAULT_MAX_DECOMPRESSED, scratch)
    }

    /// The same with a bound of your own for compressed ones.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, BatchError, Batches, Compression};
    ///
    /// let batch = BatchBuilder::new().compression(Compression::Zstd).record(b"a", vec![0; 1000]).build()?;
    /// let mut scratch = Vec::new();
    /// for batch in Batches::lent(batch.bytes()) {
    ///     let batch = batch?;
    ///     assert_eq!(batch.records_in_within(2000, &mut scratch).count(), 1);
    ///     let refused = batch.records_in_within(500, &mut scratch).next().unwrap();
    ///     assert!(matches!(refused, Err(BatchError::DecompressedTooLarge { limit: 500 })));
    /// }
    /// # Ok::<(), idemlog::BatchError>(())
    /// ```
    #[inline]
    pub fn records_in_within<'s>(
        &self,
        max_decompressed: usize,
        scratch: &'s mut Vec<u8>,
    ) -> Records<&'s [u8]>
    where
        'a: 's,
    {
        Records::lent(&self.header, self.bytes, max_decompressed, scratch)
    }

    /// The batch with a copy of its bytes, to keep.
    pub fn into_owned(self) -> UncheckedBatch {
        UncheckedBatch { header: self.header, bytes: Bytes::copy_from_slice(self.bytes) }
    }
}

impl<B: BatchBytes> UncheckedBatch<B> {
    /// The batch in exactly this range of `bytes`, from which a header was decoded before.
    #[inline(always)]
    pub(crate) fn sound(bytes: &B, range: Range<usize>) -> Self {
        debug_assert_eq!(BatchHeader::read(&bytes[range.clone()]).size(), range.len());
        Self { header: BatchHeader::read(&bytes[range.clone()]), bytes: bytes.part(range) }
    }

    /// The header.
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as bytes.
    #[inline]
    pub fn bytes(&self) -> &B {
        &self.bytes
    }

    /// The whole batch as bytes.
    #[inline]
    pub fn into_bytes(self) -> B {
        self.bytes
    }

    /// Compares the CRC and checks the records as far as `check` says. Compressed records may have `max_decompressed`
    /// bytes, also where they are not looked at before they are read.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: the CRC does not match, or a record is malformed.
    pub fn check(self, check: RecordCheck, max_decompressed: usize) -> Result<Batch<B>, BatchError> {
        Batch::check(self.header, self.bytes, check, max_decompressed)
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

impl<B> fmt::Debug for UncheckedBatch<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe("UncheckedBatch", &self.header, f)
    }
}

/// Iterator over batches that lie back to back, as in a produce request, a fetch response or a `.log` file: of bytes that the
/// batches hold, too ([`new`](Self::new)), or borrow ([`lent`](Self::lent)). Ends behind the first error.
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
pub struct Batches<B = Bytes> {
    rest: B,
    ignore_incomplete: bool,
}

impl Batches {
    /// Walks the batches in `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, ignore_incomplete: false }
    }
}

impl<'a> Batches<&'a [u8]> {
    /// Walks the batches in borrowed `bytes`: the faster, as nothing that is handed out holds them.
    pub fn lent(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, ignore_incomplete: false }
    }
}

impl<B: BatchBytes> Batches<B> {
    /// Ends without an error before a last batch that is cut short.
    #[must_use]
    pub fn ignore_incomplete(mut self) -> Self {
        self.ignore_incomplete = true;
        self
    }
}

impl<B: BatchBytes> Iterator for Batches<B> {
    type Item = Result<UncheckedBatch<B>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchHeader::decode_whole(&self.rest) {
            Ok(header) => Some(Ok(UncheckedBatch { header, bytes: self.rest.take_first(header.size()) })),
            Err(error) => {
                self.rest = B::default();
                let is_cut = matches!(error, BatchError::TooShort { .. });
                (!is_cut || !self.ignore_incomplete).then_some(Err(error))
            }
        }
    }
}

impl<B: BatchBytes> std::iter::FusedIterator for Batches<B> {}

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
    fn a_lent_batch_lies_where_it_lay_and_one_that_is_kept_does_not() {
        let (bytes, size) = two_batches();
        let second = Batches::lent(&bytes).nth(1).unwrap().unwrap();
        assert_eq!(second.bytes().as_ptr(), bytes[size..].as_ptr());
        let kept = second.clone().into_owned();
        assert_eq!((kept.header(), &kept.bytes()[..]), (second.header(), *second.bytes()));
        assert_ne!(kept.bytes().as_ptr(), second.bytes().as_ptr());
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

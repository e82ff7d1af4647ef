//! Batches that were checked.

use std::fmt;

use bytes::Bytes;

use super::DEFAULT_MAX_DECOMPRESSED;
use super::control::ControlRecord;
use super::header::{BatchHeader, Compression};
use super::held::BatchBytes;
use super::layout::{ATTRIBUTES, LOG_APPEND_TIME};
use super::record::{Records, check_records, read_control};
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::types::Timestamp;

/// How far the inside of a batch is checked. The CRC and the header always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordCheck {
    /// Every record is walked; compressed ones are decompressed, within a bound.
    #[default]
    Full,
    /// The records are not looked at. What the producer wrote reaches the consumer as it is.
    Header,
}

/// A batch whose CRC matches, and whose records were checked as [`checked`](Self::checked) says. It holds its bytes, which
/// clones share, or borrows them where it is lent: see [`BatchBytes`].
///
/// ```
/// use idemlog::{Batch, BatchBuilder, BatchError};
///
/// let batch = BatchBuilder::new().record(b"key", b"value").build()?;
/// assert_eq!(Batch::decode(batch.bytes().clone())?.header(), batch.header());
///
/// let mut damaged = batch.bytes().to_vec();
/// *damaged.last_mut().unwrap() ^= 1;
/// assert!(matches!(Batch::decode(damaged.into()), Err(BatchError::Crc { .. })));
/// # Ok::<(), BatchError>(())
/// ```
#[derive(Clone)]
pub struct Batch<B = Bytes> {
    header: BatchHeader,
    bytes: B,
    checked: RecordCheck,
    /// How many bytes compressed records may have; of those that were checked, how many they have.
    max_decompressed: usize,
}

impl Batch {
    /// Takes exactly one batch and checks all of it, with [`DEFAULT_MAX_DECOMPRESSED`].
    ///
    /// # Errors
    ///
    /// [`BatchError`]: what is wrong first, in the order size, header, CRC, records.
    #[inline(always)]
    pub fn decode(bytes: Bytes) -> Result<Self, BatchError> {
        Self::decode_with(bytes, RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED)
    }

    /// A batch that was just built and sealed from checked records, of `plain_size` bytes.
    pub(super) fn built(header: BatchHeader, bytes: Bytes, plain_size: usize) -> Self {
        let max_decompressed = if header.compression() == Ok(Compression::None) { 0 } else { plain_size };
        Self { header, bytes, checked: RecordCheck::Full, max_decompressed }
    }

    /// The records. Compressed ones may have as many bytes as the check allowed.
    ///
    /// ```
    /// use idemlog::BatchBuilder;
    ///
    /// for record in BatchBuilder::new().record(b"key", b"value").build()?.records() {
    ///     assert_eq!(record?.key().unwrap(), "key");
    /// }
    /// # Ok::<(), idemlog::BatchError>(())
    /// ```
    #[inline]
    pub fn records(&self) -> Records {
        Records::new(&self.header, self.bytes.clone(), self.max_decompressed)
    }

    /// The same for the last user of the batch, which is a little faster: the records take over its memory.
    #[inline]
    pub fn into_records(self) -> Records {
        Records::new(&self.header, self.bytes, self.max_decompressed)
    }
}

impl<'a> Batch<&'a [u8]> {
    /// Takes exactly one batch, borrowed, and checks all of it as [`decode`](Batch::decode) does: for a host that has batches
    /// in a buffer of its own.
    ///
    /// ```
    /// use idemlog::{Batch, BatchBuilder, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// let request: Vec<u8> = BatchBuilder::new().record(b"key", b"value").build()?.bytes().to_vec();
    /// let outcome = log.append(&Batch::decode_lent(&request)?)?;
    /// assert_eq!(outcome.base_offset().0, 0);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`decode`](Batch::decode).
    #[inline(always)]
    pub fn decode_lent(bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::decode_with(bytes, RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED)
    }

    /// The records, lent for as long as `scratch` is borrowed, as those of an unchecked batch are
    /// ([`records_in`](super::UncheckedBatch::records_in)). Compressed ones may have as many bytes as the check allowed.
    #[inline]
    pub fn records_in<'s>(&self, scratch: &'s mut Vec<u8>) -> Records<&'s [u8]>
    where
        'a: 's,
    {
        Records::lent(&self.header, self.bytes, self.max_decompressed, scratch)
    }

    /// The batch with a copy of its bytes, to keep.
    pub fn into_owned(self) -> Batch {
        let Self { header, bytes, checked, max_decompressed } = self;
        Batch { header, bytes: Bytes::copy_from_slice(bytes), checked, max_decompressed }
    }
}

impl<B: BatchBytes> Batch<B> {
    /// Takes exactly one batch, [`Bytes`] or `&[u8]`, and checks it as far as `check` says. Compressed records may have
    /// `max_decompressed` bytes, also where they are not looked at before they are read.
    ///
    /// # Errors
    ///
    /// As [`decode`](Batch::decode).
    #[inline(always)]
    pub fn decode_with(bytes: B, check: RecordCheck, max_decompressed: usize) -> Result<Self, BatchError> {
        let header = BatchHeader::decode_whole(&bytes)?;
        let (expected, got) = (header.size(), bytes.len());
        if got > expected {
            return Err(BatchError::TrailingBytes { expected, got });
        }
        Self::check(header, bytes, check, max_decompressed)
    }

    /// Checks a batch that has its header decoded and exactly its bytes.
    #[inline(always)]
    pub(super) fn check(
        header: BatchHeader,
        bytes: B,
        check: RecordCheck,
        max_decompressed: usize,
    ) -> Result<Self, BatchError> {
        check_crc(&header, &bytes)?;
        let mut batch = Self { header, bytes, checked: check, max_decompressed };
        if check == RecordCheck::Full {
            batch.max_decompressed = batch.check_records(max_decompressed)?;
        }
        Ok(batch)
    }

    /// The same batch with its bytes borrowed.
    #[inline(always)]
    pub(crate) fn lend(&self) -> Batch<&[u8]> {
        let Self { header, checked, max_decompressed, .. } = *self;
        Batch { header, bytes: &self.bytes, checked, max_decompressed }
    }

    /// Makes up for a check that the batch has not been through, or not within this bound.
    #[inline(always)]
    pub(crate) fn ensure_checked(
        &self,
        check: RecordCheck,
        max_decompressed: usize,
    ) -> Result<(), BatchError> {
        let was_checked = self.checked == RecordCheck::Full && self.max_decompressed <= max_decompressed;
        if check == RecordCheck::Header || was_checked {
            return Ok(());
        }
        self.recheck(max_decompressed)
    }

    #[inline(never)]
    fn recheck(&self, max_decompressed: usize) -> Result<(), BatchError> {
        self.check_records(max_decompressed).map(|_| ())
    }

    /// How many bytes were decompressed for it.
    #[inline(always)]
    fn check_records(&self, max_decompressed: usize) -> Result<usize, BatchError> {
        let mut plain = Vec::new();
        check_records(&self.header, &self.bytes, max_decompressed, &mut plain)?;
        Ok(plain.len())
    }

    /// What a batch must be that gets its offsets from the log, so that none is stored that nobody can read. With the
    /// records checked, their offsets are 0, 1, 2, ...
    #[inline]
    pub(crate) fn check_offsets(&self) -> Result<(), BatchError> {
        let header = &self.header;
        let rule = |expected, got| Err(BatchError::ClientRule { expected, got });
        if header.base_offset.0 != 0 {
            return rule("the base offset must be 0", header.base_offset.0);
        }
        if header.record_count == 0 {
            return rule("a batch must hold records", 0);
        }
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return rule(
                "the last offset delta must be the record count less 1",
                i64::from(header.last_offset_delta),
            );
        }
        header.compression().map(|_| ())
    }

    /// The rules that only batches from clients must follow.
    #[inline]
    pub(crate) fn check_client_rules(&self) -> Result<(), BatchError> {
        self.check_offsets()?;
        let header = &self.header;
        let rule = |expected, got| Err(BatchError::ClientRule { expected, got });
        if header.is_control() {
            return rule("a batch must not be a control batch", i64::from(header.attributes));
        }
        if header.is_idempotent() && header.base_sequence.0 < 0 {
            return rule(
                "a batch with a producer id must have a base sequence",
                i64::from(header.base_sequence.0),
            );
        }
        if header.is_idempotent() && header.producer_epoch.0 < 0 {
            return rule(
                "a batch with a producer id must have a producer epoch",
                i64::from(header.producer_epoch.0),
            );
        }
        Ok(())
    }

    /// The batch with `timestamp` as that of its append, copied under a new CRC.
    pub(crate) fn with_append_time(&self, timestamp: Timestamp) -> Batch {
        let attributes = self.header.attributes | LOG_APPEND_TIME;
        let mut header = BatchHeader { attributes, max_timestamp: timestamp, ..self.header };
        let mut bytes = self.bytes.to_vec();
        header.seal(&mut bytes);
        let Self { checked, max_decompressed, .. } = *self;
        Batch { header, bytes: bytes.into(), checked, max_decompressed }
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
    pub fn into_bytes(self) -> B {
        self.bytes
    }

    /// How far the records were checked.
    pub fn checked(&self) -> RecordCheck {
        self.checked
    }

    /// What a control batch says. `None` for a batch of data, and for one whose record compaction has removed.
    ///
    /// # Errors
    ///
    /// [`BatchError`] if the control record is malformed.
    pub fn control(&self) -> Result<Option<ControlRecord>, BatchError> {
        read_control(&self.header, &self.bytes, self.max_decompressed, &mut Vec::new())
    }
}

impl<B> fmt::Debug for Batch<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe("Batch", &self.header, f)
    }
}

/// The few numbers by which a batch is recognised.
pub(super) fn describe(name: &str, header: &BatchHeader, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("offsets", &format_args!("{}", header.offsets()))
        .field("size", &header.size())
        .field("record_count", &header.record_count)
        .field("attributes", &format_args!("{:#06b}", header.attributes))
        .field("producer_id", &header.producer_id.0)
        .field("producer_epoch", &header.producer_epoch.0)
        .field("base_sequence", &header.base_sequence.0)
        .finish_non_exhaustive()
}

/// Compares the CRC in the header with that of `batch`, which has at least the size that the header says.
#[inline]
pub(crate) fn check_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let got = crc32c(&batch[ATTRIBUTES..header.size()]);
    if got == header.crc { Ok(()) } else { Err(BatchError::Crc { expected: header.crc, got }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, RecordBuilder, TimestampType};
    use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence};

    fn idempotent() -> BatchBuilder {
        let producer = BatchBuilder::new().producer(ProducerId(7), ProducerEpoch(0), Sequence(0));
        producer.timestamp(Timestamp(1_000)).record(b"k", b"v")
    }

    #[test]
    fn a_batch_that_breaks_a_client_rule_is_refused() {
        let producer = |id, epoch, sequence| {
            idempotent().producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence))
        };
        let cases = [
            ("base offset", idempotent().base_offset(Offset(1)), 1),
            ("no records", BatchBuilder::new().compacted(0), 0),
            ("a hole at the end", idempotent().compacted(5), 5),
            ("a hole", idempotent().push(RecordBuilder::new().offset_delta(2)), 2),
            (
                "control batch",
                BatchBuilder::new().control(ControlRecord::Commit { coordinator_epoch: 0 }),
                0x30,
            ),
            ("no sequence", producer(7, 0, -1), -1),
            ("no producer epoch", producer(7, -1, 0), -1),
        ];
        for (name, batch, got) in cases {
            let error = batch.build().unwrap().check_client_rules().unwrap_err();
            assert!(
                matches!(error, BatchError::ClientRule { got: value, .. } if value == got),
                "{name}: {error}"
            );
        }
        assert_eq!(idempotent().build().unwrap().check_client_rules(), Ok(()));
        assert_eq!(producer(-1, -1, -1).build().unwrap().check_client_rules(), Ok(()));
    }

    #[test]
    fn the_append_time_replaces_every_timestamp_under_a_right_crc() {
        let created = idempotent().record(b"k", b"v").build().unwrap();
        let appended = Batch::decode(created.with_append_time(Timestamp(5_000)).into_bytes()).unwrap();
        assert_eq!(appended.header().timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(appended.header().max_timestamp, Timestamp(5_000));
        assert!(appended.records().all(|record| record.unwrap().timestamp() == Timestamp(5_000)));
        assert!(created.records().all(|record| record.unwrap().timestamp() == Timestamp(1_000)));
    }

    #[test]
    fn a_check_that_was_skipped_can_be_made_up_for() {
        let mut bytes = idempotent().build().unwrap().bytes().to_vec();
        *bytes.last_mut().unwrap() = 2; // one header, of which nothing is there
        let mut header = BatchHeader::decode(&bytes).unwrap();
        header.seal(&mut bytes);
        let batch = Batch::decode_with(&*bytes, RecordCheck::Header, DEFAULT_MAX_DECOMPRESSED).unwrap();
        assert_eq!(batch.checked(), RecordCheck::Header);
        assert_eq!(batch.ensure_checked(RecordCheck::Header, 0), Ok(()));
        let error = batch.ensure_checked(RecordCheck::Full, 0).unwrap_err();
        assert!(matches!(error, BatchError::Record { index: 0, .. }), "{error}");
    }

    #[test]
    fn a_batch_shows_the_numbers_it_is_known_by() {
        let shown = format!("{:?}", idempotent().base_offset(Offset(5)).build().unwrap());
        assert_eq!(
            shown,
            "Batch { offsets: 5..=5, size: 70, record_count: 1, attributes: 0b0000, producer_id: 7, \
             producer_epoch: 0, base_sequence: 0, .. }"
        );
    }
}

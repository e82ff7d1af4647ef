//! The records of a batch: one walk that checks them, and an iterator that hands them out.
//!
//! ```text
//! varint    length of what follows
//! i8        attributes, unused
//! varlong   timestamp, from the batch's base timestamp
//! varint    offset, from the batch's base offset
//! varint    key length, -1 for null        key
//! varint    value length, -1 for null      value
//! varint    number of headers
//!           each: varint name length       name
//!                 varint value length, -1 for null   value
//! ```

use std::fmt;
use std::ops::Range;

use bytes::{Buf, Bytes};

use super::compression;
use super::control::ControlRecord;
use super::header::{BatchHeader, Compression, TimestampType};
use super::held::BatchBytes;
use super::layout::HEADER_SIZE;
use super::varint::{read_varint, read_varlong};
use crate::error::BatchError;
use crate::types::{Offset, Sequence, Timestamp};

/// Walks all records of a batch: their number and lengths are exact, their offsets rise within the batch's.
///
/// `batch` is the whole batch. `scratch` is the memory that compressed records are decompressed into.
#[inline]
pub(crate) fn check_records(
    header: &BatchHeader,
    batch: &[u8],
    max_decompressed: usize,
    scratch: &mut Vec<u8>,
) -> Result<(), BatchError> {
    check_plain(header, plain_records(header, batch, max_decompressed, scratch)?)
}

/// Walks records that are not compressed, or not any more.
#[inline]
pub(super) fn check_plain(header: &BatchHeader, records: &[u8]) -> Result<(), BatchError> {
    let mut walk = Walk::new(header);
    while walk.step(records).map_err(|problem| walk.error(problem))?.is_some() {}
    Ok(())
}

/// The offset and the timestamp of the first record that is `wanted`, those before it checked as by a walk over
/// [`Records`]. Compressed ones may have `max_decompressed` bytes.
pub(crate) fn find_record(
    header: &BatchHeader,
    batch: &[u8],
    max_decompressed: usize,
    scratch: &mut Vec<u8>,
    wanted: impl Fn(Offset, Timestamp) -> bool,
) -> Result<Option<(Offset, Timestamp)>, BatchError> {
    let records = plain_records(header, batch, max_decompressed, scratch)?;
    let (base, mut walk) = (Base::of(header), Walk::new(header));
    while let Some((_, parts)) = walk.step(records).map_err(|problem| walk.error(problem))? {
        let (offset, timestamp) = (base.offset_of(&parts), base.timestamp_of(&parts));
        if wanted(offset, timestamp) {
            return Ok(Some((offset, timestamp)));
        }
    }
    Ok(None)
}

/// What a control batch says: `None` for a batch of data, and for one whose record compaction has removed.
pub(crate) fn read_control(
    header: &BatchHeader,
    batch: &[u8],
    max_decompressed: usize,
    scratch: &mut Vec<u8>,
) -> Result<Option<ControlRecord>, BatchError> {
    if !header.is_control() {
        return Ok(None);
    }
    let records = plain_records(header, batch, max_decompressed, scratch)?;
    let mut walk = Walk::new(header);
    let step = walk.step(records).map_err(|problem| walk.error(problem))?;
    let Some((body, parts)) = step else { return Ok(None) };
    let record = ControlRecord::decode(parts.key.of(&records[body.clone()]), parts.value.of(&records[body]));
    record.map(Some).map_err(|problem| BatchError::Record { index: 0, position: 0, problem })
}

/// The records' bytes, decompressed into `scratch` if need be.
#[inline]
fn plain_records<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    max_decompressed: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], BatchError> {
    let records = &batch[HEADER_SIZE..header.size()];
    match header.compression()? {
        Compression::None => Ok(records),
        _ if is_empty(header, records) => Ok(records),
        codec => {
            compression::decompress(codec, records, max_decompressed, scratch)?;
            Ok(scratch)
        }
    }
}

/// Compaction leaves batches without records, whatever their attributes say of a codec.
fn is_empty(header: &BatchHeader, records: &[u8]) -> bool {
    header.record_count == 0 && records.is_empty()
}

/// The state of a walk over the records of one batch.
#[derive(Clone)]
struct Walk {
    record_count: i32,
    last_offset_delta: i32,
    index: i32,
    position: usize,
    previous_offset_delta: i32,
}

impl Walk {
    #[inline]
    fn new(header: &BatchHeader) -> Self {
        Self {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            index: 0,
            position: 0,
            previous_offset_delta: -1,
        }
    }

    /// The next record: where its body lies in `records`, and its parts within the body. `None` behind the last one.
    #[inline(always)]
    fn step(&mut self, records: &[u8]) -> Result<Option<(Range<usize>, Parts)>, &'static str> {
        if self.index == self.record_count {
            return if self.has_ended(records) { Ok(None) } else { Err("bytes behind the last record") };
        }
        let (body, parts) = self.read(records)?;
        self.index += 1;
        self.position = body.end;
        self.previous_offset_delta = parts.offset_delta;
        Ok(Some((body, parts)))
    }

    /// Whether the record it came to is the last one, with nothing behind it.
    #[inline]
    fn has_ended(&self, records: &[u8]) -> bool {
        self.index == self.record_count && self.position == records.len()
    }

    /// Finds nothing more, in no records.
    #[inline]
    fn end(&mut self) {
        (self.index, self.position) = (self.record_count, 0);
    }

    #[inline(always)]
    fn read(&self, records: &[u8]) -> Result<(Range<usize>, Parts), &'static str> {
        let mut start = self.position;
        let length = read_varint(records, &mut start).ok_or("the length is cut short")?;
        let length = usize::try_from(length).map_err(|_| "the length is negative")?;
        let body =
            records.get(start..).and_then(|rest| rest.get(..length)).ok_or("it ends behind the batch")?;
        let parts = Parts::read(body)?;
        if parts.offset_delta <= self.previous_offset_delta {
            return Err("its offset is not above the one before");
        }
        if parts.offset_delta > self.last_offset_delta {
            return Err("its offset is above the batch's last");
        }
        Ok((start..start + length, parts))
    }

    #[cold]
    fn error(&self, problem: &'static str) -> BatchError {
        BatchError::Record { index: self.index, position: self.position, problem }
    }
}

/// Where a part of a record lies within its body. A body is shorter than 2^31 bytes, as its length is written.
#[derive(Clone, Copy)]
struct Part {
    start: u32,
    /// -1 for null.
    length: i32,
}

impl Part {
    #[inline(always)]
    fn range(self) -> Option<Range<usize>> {
        (self.length >= 0).then(|| self.start as usize..self.end())
    }

    #[inline(always)]
    fn of(self, body: &[u8]) -> Option<&[u8]> {
        self.range().map(|range| &body[range])
    }

    #[inline(always)]
    fn held_of<B: BatchBytes>(self, body: &B) -> Option<B> {
        self.range().map(|range| body.part(range))
    }

    /// Where the next part begins.
    #[inline(always)]
    fn end(self) -> usize {
        self.start as usize + self.length.max(0) as usize
    }
}

/// The parts of one record. Its headers follow the value.
struct Parts {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Part,
    value: Part,
}

impl Parts {
    #[inline(always)]
    fn read(body: &[u8]) -> Result<Self, &'static str> {
        let mut at = size_of::<u8>();
        let parts = Self {
            timestamp_delta: read_varlong(body, &mut at).ok_or("its timestamp is cut short")?,
            offset_delta: read_varint(body, &mut at).ok_or("its offset is cut short")?,
            key: read_nullable(body, &mut at).ok_or("its key has a wrong length")?,
            value: read_nullable(body, &mut at).ok_or("its value has a wrong length")?,
        };
        let headers = read_varint(body, &mut at).ok_or("its number of headers is cut short")?;
        if headers != 0 {
            at = skip_headers(body, at, headers)?;
        }
        if at == body.len() { Ok(parts) } else { Err("it is longer than its parts") }
    }
}

/// What the numbers of a batch's records count from.
#[derive(Clone, Copy)]
struct Base {
    offset: Offset,
    timestamp: Timestamp,
    /// Whether all records have that timestamp.
    is_append_time: bool,
    sequence: Sequence,
}

impl Base {
    #[inline]
    fn of(header: &BatchHeader) -> Self {
        let is_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
        Self {
            offset: header.base_offset,
            timestamp: if is_append_time { header.max_timestamp } else { header.base_timestamp },
            is_append_time,
            sequence: header.base_sequence,
        }
    }

    #[inline]
    fn offset_of(&self, parts: &Parts) -> Offset {
        self.offset + i64::from(parts.offset_delta)
    }

    #[inline]
    fn timestamp_of(&self, parts: &Parts) -> Timestamp {
        let delta = if self.is_append_time { 0 } else { parts.timestamp_delta };
        Timestamp(self.timestamp.0.wrapping_add(delta))
    }

    #[inline]
    fn sequence_of(&self, parts: &Parts) -> Sequence {
        if self.sequence.0 < 0 { Sequence::NONE } else { self.sequence.plus(parts.offset_delta) }
    }
}

/// Reads a length and skips that many bytes.
#[inline(always)]
fn read_nullable(body: &[u8], at: &mut usize) -> Option<Part> {
    let length = read_varint(body, at)?;
    let part = Part { start: *at as u32, length };
    let end = part.end();
    if length < -1 || end > body.len() {
        return None;
    }
    *at = end;
    Some(part)
}

fn skip_headers(body: &[u8], mut at: usize, count: i32) -> Result<usize, &'static str> {
    if count < 0 {
        return Err("its number of headers is negative");
    }
    for _ in 0..count {
        read_header(body, &mut at).ok_or("a header has a wrong length")?;
    }
    Ok(at)
}

fn read_header(body: &[u8], at: &mut usize) -> Option<(Range<usize>, Part)> {
    let name = read_nullable(body, at)?.range()?;
    Some((name, read_nullable(body, at)?))
}

/// Iterator over the records of a batch, from [`Batch::records`](crate::Batch::records),
/// [`UncheckedBatch::records`](crate::UncheckedBatch::records) or, lent, from
/// [`Batch::records_in`](crate::Batch::records_in) and [`UncheckedBatch::records_in`](crate::UncheckedBatch::records_in). Ends
/// behind the first error.
///
/// ```
/// use idemlog::BatchBuilder;
///
/// let batch = BatchBuilder::new().record(b"a", b"1").record(b"b", b"2").build()?;
/// let values: Result<Vec<_>, _> = batch.records().map(|record| Ok(record?.value().unwrap())).collect();
/// assert_eq!(values?, ["1", "2"]);
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone)]
pub struct Records<B = Bytes> {
    base: Base,
    walk: Walk,
    /// The records, not compressed. Given away with the last one.
    records: B,
    /// Why there are none: the one item that comes.
    error: Option<Box<BatchError>>,
}

impl Records {
    /// Those of a whole batch.
    #[inline]
    pub(super) fn new(header: &BatchHeader, batch: Bytes, max_decompressed: usize) -> Self {
        Self::of(header, shared_records(header, batch, max_decompressed))
    }
}

impl<'a> Records<&'a [u8]> {
    /// Those of a whole batch, or of what is decompressed into `scratch`.
    #[inline]
    pub(super) fn lent(
        header: &BatchHeader,
        batch: &'a [u8],
        max_decompressed: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Self {
        Self::of(header, plain_records(header, batch, max_decompressed, scratch))
    }
}

impl<B: BatchBytes> Records<B> {
    #[inline]
    fn of(header: &BatchHeader, records: Result<B, BatchError>) -> Self {
        let (records, error) = match records {
            Ok(records) => (records, None),
            Err(error) => (B::default(), Some(Box::new(error))),
        };
        Self { base: Base::of(header), walk: Walk::new(header), records, error }
    }

    #[inline]
    fn step(&mut self) -> Result<Option<Record<B>>, BatchError> {
        if let Some(error) = self.error.take() {
            return Err(*error);
        }
        let step = self.walk.step(&self.records).map_err(|problem| self.walk.error(problem))?;
        let Some((body, parts)) = step else { return Ok(None) };
        let body = self.share(body);
        Ok(Some(Record::new(&self.base, body, &parts)))
    }

    /// The body of the record that the walk has come to. To count another holder of the memory is an atomic operation,
    /// which most batches, of one record, are spared.
    #[inline]
    fn share(&mut self, body: Range<usize>) -> B {
        if !self.walk.has_ended(&self.records) {
            return self.records.part(body);
        }
        let mut last = std::mem::take(&mut self.records);
        last.advance(body.start);
        self.walk.end();
        last
    }
}

/// The records' bytes: those of the batch, or decompressed.
#[inline]
fn shared_records(
    header: &BatchHeader,
    mut batch: Bytes,
    max_decompressed: usize,
) -> Result<Bytes, BatchError> {
    let codec = header.compression()?;
    batch.advance(HEADER_SIZE);
    if codec == Compression::None || is_empty(header, &batch) {
        return Ok(batch);
    }
    let mut plain = Vec::new();
    compression::decompress(codec, &batch, max_decompressed, &mut plain)?;
    Ok(plain.into())
}

impl<B: BatchBytes> Iterator for Records<B> {
    type Item = Result<Record<B>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(Some(record)) => Some(Ok(record)),
            Ok(None) => None,
            Err(error) => {
                self.records = B::default();
                self.walk.end();
                Some(Err(error))
            }
        }
    }
}

impl<B: BatchBytes> std::iter::FusedIterator for Records<B> {}

impl<B> fmt::Debug for Records<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("base_offset", &self.base.offset)
            .field("next", &self.walk.index)
            .field("record_count", &self.walk.record_count)
            .finish_non_exhaustive()
    }
}

/// One record. Holds or borrows, as its [`BatchBytes`] say, the memory that it lies in (the batch, a map of the log, or what
/// was decompressed), and copies nothing out of it.
///
/// ```
/// use idemlog::{BatchBuilder, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
///
/// let batch = BatchBuilder::new()
///     .producer(ProducerId(7), ProducerEpoch(0), Sequence(40))
///     .timestamp(Timestamp(1_700_000_000_000))
///     .record(b"first", b"1")
///     .record(b"second", b"2")
///     .build()?;
/// let record = batch.records().nth(1).unwrap()?;
/// assert_eq!(record.offset(), Offset(1));
/// assert_eq!(record.sequence(), Some(Sequence(41)));
/// assert_eq!(record.timestamp(), Timestamp(1_700_000_000_000));
/// assert_eq!(record.key_slice(), Some(&b"second"[..]));
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone)]
pub struct Record<B = Bytes> {
    body: B,
    offset: Offset,
    timestamp: Timestamp,
    /// [`Sequence::NONE`] in a batch without sequences.
    sequence: Sequence,
    key: Part,
    value: Part,
}

impl<B: BatchBytes> Record<B> {
    #[inline]
    fn new(base: &Base, body: B, parts: &Parts) -> Self {
        Self {
            body,
            offset: base.offset_of(parts),
            timestamp: base.timestamp_of(parts),
            sequence: base.sequence_of(parts),
            key: parts.key,
            value: parts.value,
        }
    }

    /// The record's offset.
    #[inline]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// When the record was created, or appended in a batch of [`TimestampType::LogAppendTime`].
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The record's sequence, `None` in a batch without sequences.
    #[inline]
    pub fn sequence(&self) -> Option<Sequence> {
        (self.sequence.0 >= 0).then_some(self.sequence)
    }

    /// The key, `None` if it is null.
    #[inline]
    pub fn key(&self) -> Option<B> {
        self.key.held_of(&self.body)
    }

    /// The value, `None` if it is null.
    #[inline]
    pub fn value(&self) -> Option<B> {
        self.value.held_of(&self.body)
    }

    /// The key, borrowed.
    #[inline]
    pub fn key_slice(&self) -> Option<&[u8]> {
        self.key.of(&self.body)
    }

    /// The value, borrowed.
    #[inline]
    pub fn value_slice(&self) -> Option<&[u8]> {
        self.value.of(&self.body)
    }

    /// The headers in their order: names, which may repeat, and values, which may be null.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, RecordBuilder};
    ///
    /// let record = RecordBuilder::new().value(b"paid").header("trace", b"8f3a").null_header("urgent");
    /// let batch = BatchBuilder::new().push(record).build()?;
    /// let record = batch.records().next().unwrap()?;
    /// let headers: Vec<_> = record.headers().collect();
    /// assert_eq!(headers, [("trace".into(), Some("8f3a".into())), ("urgent".into(), None)]);
    /// # Ok::<(), idemlog::BatchError>(())
    /// ```
    pub fn headers(&self) -> RecordHeaders<B> {
        let mut at = self.value.end();
        let left = read_varint(&self.body, &mut at).unwrap_or(0);
        RecordHeaders { body: self.body.clone(), at, left }
    }
}

impl<B: BatchBytes + fmt::Debug> fmt::Debug for Record<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("sequence", &self.sequence)
            .field("key", &self.key())
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}

/// Iterator over the headers of a [`Record`].
#[derive(Clone, Debug)]
pub struct RecordHeaders<B = Bytes> {
    body: B,
    at: usize,
    left: i32,
}

impl<B: BatchBytes> Iterator for RecordHeaders<B> {
    type Item = (B, Option<B>);

    /// The walk that made the record has checked the headers: the early end of a malformed one never happens.
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let (name, value) = read_header(&self.body, &mut self.at)?;
        self.left -= 1;
        Some((self.body.part(name), value.held_of(&self.body)))
    }
}

impl<B: BatchBytes> std::iter::FusedIterator for RecordHeaders<B> {}

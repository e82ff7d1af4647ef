//! Values to batches.

use std::time::{SystemTime, UNIX_EPOCH};

use super::checked::Batch;
use super::compression;
use super::control::ControlRecord;
use super::header::{BatchHeader, Compression, TimestampType};
use super::layout::{CONTROL, HEADER_SIZE, LENGTH_OVERHEAD, LOG_APPEND_TIME, TRANSACTIONAL};
use super::record::{Record, check_plain};
use super::varint::{size_of, write_varint, write_varlong};
use crate::error::BatchError;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Builds a batch from records: the bytes that Kafka's own client writes for the same content.
///
/// ```
/// use idemlog::{BatchBuilder, Compression, ProducerEpoch, ProducerId, Sequence};
///
/// let batch = BatchBuilder::new()
///     .producer(ProducerId(7), ProducerEpoch(0), Sequence(0))
///     .compression(Compression::None)
///     .record(b"k1", b"first")
///     .record(b"k2", b"second")
///     .build()?;
/// assert_eq!(batch.header().record_count, 2);
/// assert_eq!(batch.header().last_sequence(), Sequence(1));
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BatchBuilder {
    /// What the records do not decide; the rest is filled in when it is built.
    header: BatchHeader,
    compression: Compression,
    timestamp: Option<Timestamp>,
    last_offset_delta: Option<i32>,
    records: Vec<Entry>,
    /// What follows the offset in every record, one after the other: it depends on neither time nor offset.
    tails: Vec<u8>,
}

/// A record to write.
#[derive(Clone, Copy, Debug)]
struct Entry {
    timestamp: Option<Timestamp>,
    offset_delta: i32,
    tail_end: usize,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch without producer, not compressed, at base offset 0.
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            length: 0,
            leader_epoch: LeaderEpoch::UNKNOWN,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            record_count: 0,
        };
        Self {
            header,
            compression: Compression::None,
            timestamp: None,
            last_offset_delta: None,
            records: Vec::new(),
            tails: Vec::new(),
        }
    }

    /// Who writes the batch, in which epoch, and the sequence of its first record.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Adds a record of a key and a value.
    pub fn record(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.append(None, None, Some(key.as_ref()), Some(value.as_ref()), &[])
    }

    /// Adds a record that has more to say than key and value, or less.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, RecordBuilder};
    ///
    /// let tombstone = RecordBuilder::new().key(b"k1");
    /// let batch = BatchBuilder::new().record(b"k1", b"first").push(tombstone).build()?;
    /// assert_eq!(batch.records().nth(1).unwrap()?.value(), None);
    /// # Ok::<(), idemlog::BatchError>(())
    /// ```
    pub fn push(self, record: impl Into<RecordBuilder>) -> Self {
        let record = record.into();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        self.append(record.timestamp, record.offset_delta, key, value, &record.headers)
    }

    fn append(
        mut self,
        timestamp: Option<Timestamp>,
        offset_delta: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Self {
        write_nullable(&mut self.tails, key);
        write_nullable(&mut self.tails, value);
        write_varint(&mut self.tails, headers.len() as i32);
        for (name, value) in headers {
            write_nullable(&mut self.tails, Some(name));
            write_nullable(&mut self.tails, value.as_deref());
        }
        let next = self.records.last().map_or(0, |last| last.offset_delta.saturating_add(1));
        let offset_delta = offset_delta.unwrap_or(next);
        self.records.push(Entry { timestamp, offset_delta, tail_end: self.tails.len() });
        self
    }

    /// Makes it a control batch with this one record, which has no sequence. A marker is part of its transaction.
    pub fn control(mut self, record: ControlRecord) -> Self {
        self.header.attributes |= if record.is_marker() { CONTROL | TRANSACTIONAL } else { CONTROL };
        let (key, value) = record.encode();
        self.append(None, None, Some(&key), value.as_ref().map(|value| &value[..]), &[])
    }

    /// Makes the batch part of its producer's transaction.
    pub fn transactional(mut self) -> Self {
        self.header.attributes |= TRANSACTIONAL;
        self
    }

    /// The timestamp of all records without one of their own. The system's time when the batch is built, if not set.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// What the timestamps mean; creation if not set.
    pub fn timestamp_type(mut self, kind: TimestampType) -> Self {
        match kind {
            TimestampType::CreateTime => self.header.attributes &= !LOG_APPEND_TIME,
            TimestampType::LogAppendTime => self.header.attributes |= LOG_APPEND_TIME,
        }
        self
    }

    /// The codec; none if not set.
    pub fn compression(mut self, codec: Compression) -> Self {
        self.compression = codec;
        self
    }

    /// The offset of the first record, for a batch that was given its offset elsewhere. A client's batch has 0.
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// The leader epoch, for a batch that was given its offset elsewhere.
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header.leader_epoch = epoch;
        self
    }

    /// Makes it a batch that compaction has thinned out: it keeps its last offset, and may have lost the last record or
    /// all of them.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, Offset, RecordBuilder};
    ///
    /// let batch = BatchBuilder::new().push(RecordBuilder::new().offset_delta(3)).compacted(9).build()?;
    /// assert_eq!(batch.header().last_offset(), Offset(9));
    /// assert_eq!(batch.records().next().unwrap()?.offset(), Offset(3));
    /// # Ok::<(), idemlog::BatchError>(())
    /// ```
    pub fn compacted(mut self, last_offset_delta: i32) -> Self {
        self.last_offset_delta = Some(last_offset_delta);
        self
    }

    /// Builds the batch.
    ///
    /// # Errors
    ///
    /// [`BatchError`]: there is no record (unless [`compacted`](Self::compacted)), or not one in a control batch;
    /// offsets do not rise; a field is out of its range; the batch has 2 GiB or more; the codec is not compiled in.
    pub fn build(mut self) -> Result<Batch, BatchError> {
        self.check_count()?;
        check_size(self.tails.len())?;
        self.fill_header();
        let records = self.encode_records();
        check_size(records.len())?;
        check_plain(&self.header, &records)?;
        let mut bytes = vec![0; HEADER_SIZE];
        compression::compress(self.compression, &records, &mut bytes)?;
        check_size(bytes.len() - HEADER_SIZE)?;
        self.header.seal(&mut bytes);
        Ok(Batch::built(BatchHeader::decode(&bytes)?, bytes.into(), records.len()))
    }

    fn check_count(&self) -> Result<(), BatchError> {
        let got = self.records.len() as i64;
        let refuse = |expected| Err(BatchError::Field { field: "record count", expected, got });
        match got {
            0 if self.last_offset_delta.is_none() => refuse("1 or more"),
            2.. if self.header.is_control() => refuse("1 in a control batch"),
            _ => Ok(()),
        }
    }

    /// As Kafka does, the first record's timestamp is the base of the others.
    fn fill_header(&mut self) {
        let default = *self.timestamp.get_or_insert_with(system_time);
        let timestamps = || self.records.iter().map(|record| record.timestamp.unwrap_or(default));
        let header = &mut self.header;
        header.attributes |= self.compression.bits();
        header.base_timestamp = timestamps().next().unwrap_or(Timestamp::NONE);
        header.max_timestamp = timestamps().max().unwrap_or(default);
        header.record_count = self.records.len() as i32;
        let last = self.records.last().map_or(0, |last| last.offset_delta);
        header.last_offset_delta = self.last_offset_delta.unwrap_or(last);
        if header.is_control() {
            header.base_sequence = Sequence::NONE;
        }
    }

    fn encode_records(&self) -> Vec<u8> {
        const MAX_FRONT: usize = 21;
        let mut out = Vec::with_capacity(self.tails.len() + MAX_FRONT * self.records.len());
        let mut tail_start = 0;
        for record in &self.records {
            let tail = &self.tails[tail_start..record.tail_end];
            tail_start = record.tail_end;
            let timestamp = record.timestamp.or(self.timestamp).unwrap_or(Timestamp::NONE);
            let delta = timestamp.0.wrapping_sub(self.header.base_timestamp.0);
            let front = 1 + size_of(delta) + size_of(i64::from(record.offset_delta));
            write_varlong(&mut out, (front + tail.len()) as i64);
            out.push(0);
            write_varlong(&mut out, delta);
            write_varint(&mut out, record.offset_delta);
            out.extend_from_slice(tail);
        }
        out
    }
}

/// A record for [`BatchBuilder::push`]: key, value and headers, all absent at first.
///
/// ```
/// use idemlog::{BatchBuilder, RecordBuilder, Timestamp};
///
/// let record = RecordBuilder::new()
///     .value(b"paid")
///     .header("trace", b"8f3a")
///     .timestamp(Timestamp(1_700_000_000_000));
/// let batch = BatchBuilder::new().push(record).build()?;
/// assert_eq!(batch.header().max_timestamp, Timestamp(1_700_000_000_000));
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RecordBuilder {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
    timestamp: Option<Timestamp>,
    offset_delta: Option<i32>,
}

/// A name, and a value that may be null.
type Header = (Vec<u8>, Option<Vec<u8>>);

impl RecordBuilder {
    /// A record with a null key, a null value and no headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key; null if not set.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// The value; null if not set.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = Some(value.as_ref().to_vec());
        self
    }

    /// Adds a header. Names may repeat.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), None));
        self
    }

    /// The timestamp; the batch's default if not set.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// The offset less the batch's base offset; one more than the record before if not set. Holes are left by
    /// compaction, never by a client.
    pub fn offset_delta(mut self, delta: i32) -> Self {
        self.offset_delta = Some(delta);
        self
    }
}

/// Key, value, headers and timestamp of a record that was read. Its offset is not taken over.
impl From<&Record> for RecordBuilder {
    fn from(record: &Record) -> Self {
        Self {
            key: record.key_slice().map(<[u8]>::to_vec),
            value: record.value_slice().map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|(name, value)| (name.to_vec(), value.map(|value| value.to_vec())))
                .collect(),
            timestamp: Some(record.timestamp()),
            offset_delta: None,
        }
    }
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    write_varlong(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// The records must fit into the length field, and so must every length inside of them.
fn check_size(records: usize) -> Result<(), BatchError> {
    let limit = i32::MAX as usize;
    let got = records.saturating_add(HEADER_SIZE - LENGTH_OVERHEAD);
    if got > limit { Err(BatchError::TooLarge { limit, got, option: "the length field" }) } else { Ok(()) }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_cannot_be_is_refused() {
        let at = |delta| RecordBuilder::new().offset_delta(delta);
        let marker = ControlRecord::Abort { coordinator_epoch: 0 };
        let cases = [
            ("no record", BatchBuilder::new()),
            ("two control records", BatchBuilder::new().control(marker).control(marker)),
            ("data behind a control record", BatchBuilder::new().control(marker).record(b"k", b"v")),
            ("a negative offset", BatchBuilder::new().push(at(-1))),
            ("an offset that repeats", BatchBuilder::new().push(at(1)).push(at(1))),
            ("an offset above the last", BatchBuilder::new().push(at(3)).compacted(2)),
            ("a negative last offset", BatchBuilder::new().compacted(-1)),
            ("a negative base offset", BatchBuilder::new().base_offset(Offset(-1)).record(b"k", b"v")),
            ("offsets without end", BatchBuilder::new().push(at(i32::MAX)).record(b"k", b"v")),
        ];
        for (name, batch) in cases {
            assert!(batch.build().is_err(), "{name}");
        }
    }

    #[test]
    fn more_than_the_length_field_can_say_is_refused() {
        let limit = i32::MAX as usize;
        let overhead = HEADER_SIZE - LENGTH_OVERHEAD;
        assert_eq!(check_size(limit - overhead), Ok(()));
        assert!(
            matches!(check_size(limit - overhead + 1), Err(BatchError::TooLarge { got, .. }) if got == limit + 1)
        );
    }

    #[test]
    fn the_first_timestamp_is_the_base_and_the_largest_the_maximum() {
        let at = |timestamp| RecordBuilder::new().timestamp(Timestamp(timestamp));
        let batch = BatchBuilder::new().push(at(50)).push(at(90)).push(at(20)).build().unwrap();
        assert_eq!(batch.header().base_timestamp, Timestamp(50));
        assert_eq!(batch.header().max_timestamp, Timestamp(90));
        let timestamps: Vec<_> = batch.records().map(|record| record.unwrap().timestamp().0).collect();
        assert_eq!(timestamps, [50, 90, 20]);
    }

    #[test]
    fn without_a_timestamp_the_system_time_is_taken_once() {
        let before = system_time();
        let batch = BatchBuilder::new().record(b"a", b"1").record(b"b", b"2").build().unwrap();
        let header = batch.header();
        assert!(before <= header.base_timestamp && header.base_timestamp <= system_time());
        assert_eq!(header.base_timestamp, header.max_timestamp);
    }

    #[test]
    fn a_control_batch_has_no_sequence_and_a_marker_belongs_to_a_transaction() {
        let build = |record| {
            let producer = BatchBuilder::new().producer(ProducerId(7), ProducerEpoch(0), Sequence(3));
            *producer.control(record).build().unwrap().header()
        };
        let marker = build(ControlRecord::Commit { coordinator_epoch: 1 });
        assert!(marker.is_control() && marker.is_transactional());
        assert_eq!(marker.base_sequence, Sequence::NONE);
        let leader_change = build(ControlRecord::Other { kind: 2 });
        assert!(leader_change.is_control() && !leader_change.is_transactional());
    }
}

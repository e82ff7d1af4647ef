//! The fixed part of a record batch, decoded.

use super::layout as at;
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::types::{LeaderEpoch, Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Which codec a batch's records are compressed with.
///
/// ```
/// use idemlog::Compression;
///
/// assert_eq!(Compression::default(), Compression::None);
/// assert_eq!(Compression::Zstd.to_string(), "zstd");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// snappy in the framing of the Java library that Kafka uses.
    Snappy,
    /// lz4 frames.
    Lz4,
    /// zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// The codec's name, which is that of the cargo feature.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec's number in a batch's attributes.
    pub(super) fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a batch's timestamps mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Set by the producer.
    #[default]
    CreateTime,
    /// Set by the log when it took the batch.
    LogAppendTime,
}

/// The 61 bytes in front of a batch's records, as values. Says nothing about whether the CRC matches.
///
/// ```
/// use idemlog::{BatchBuilder, BatchHeader};
///
/// let batch = BatchBuilder::new().record(b"key", b"value").build()?;
/// let header = BatchHeader::decode(batch.bytes())?;
/// assert_eq!(header.record_count, 1);
/// assert_eq!(header.size(), batch.bytes().len());
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; 0 in a batch from a client.
    pub base_offset: Offset,
    /// The bytes behind the length field: the batch's size less 12.
    pub length: i32,
    /// The leader epoch that stamped the batch.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C over everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags, see the accessors.
    pub attributes: i16,
    /// The last offset less the base offset. Compaction keeps it when it removes records.
    pub last_offset_delta: i32,
    /// The timestamp that the records' deltas count from.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records, or the append time.
    pub max_timestamp: Timestamp,
    /// Who wrote it.
    pub producer_id: ProducerId,
    /// In which incarnation.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub base_sequence: Sequence,
    /// How many records the batch holds.
    pub record_count: i32,
}

impl BatchHeader {
    /// The size of an encoded header in bytes.
    pub const SIZE: usize = at::HEADER_SIZE;

    /// Decodes the header at the beginning of `bytes`, which may be longer.
    ///
    /// # Errors
    ///
    /// [`BatchError`] if there are fewer than 61 bytes, the magic is not 2, the length is less than a header's, or a
    /// field is out of its range: a last offset delta below 0, a negative record count, offsets beyond 2^63-1.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < at::HEADER_SIZE {
            return Err(Self::too_short(bytes));
        }
        let header = Self::read(bytes);
        header.check(bytes[at::MAGIC] as i8)?;
        Ok(header)
    }

    /// Decodes the header of a batch all of whose bytes are there, perhaps with others behind them.
    #[inline(always)]
    pub(super) fn decode_whole(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::decode(bytes)?;
        if header.size() > bytes.len() {
            return Err(BatchError::TooShort { expected: header.size(), got: bytes.len() });
        }
        Ok(header)
    }

    /// The values at the beginning of `bytes`, which are at least [`SIZE`](Self::SIZE), whatever they say.
    #[inline(always)]
    pub(crate) fn read(bytes: &[u8]) -> Self {
        // One look at the length for all fields.
        let bytes = &bytes[..Self::SIZE];
        Self {
            base_offset: Offset(at::read_i64(bytes, at::BASE_OFFSET)),
            length: at::read_i32(bytes, at::LENGTH),
            leader_epoch: LeaderEpoch(at::read_i32(bytes, at::LEADER_EPOCH)),
            crc: at::read_u32(bytes, at::CRC),
            attributes: at::read_i16(bytes, at::ATTRIBUTES),
            last_offset_delta: at::read_i32(bytes, at::LAST_OFFSET_DELTA),
            base_timestamp: Timestamp(at::read_i64(bytes, at::BASE_TIMESTAMP)),
            max_timestamp: Timestamp(at::read_i64(bytes, at::MAX_TIMESTAMP)),
            producer_id: ProducerId(at::read_i64(bytes, at::PRODUCER_ID)),
            producer_epoch: ProducerEpoch(at::read_i16(bytes, at::PRODUCER_EPOCH)),
            base_sequence: Sequence(at::read_i32(bytes, at::BASE_SEQUENCE)),
            record_count: at::read_i32(bytes, at::RECORD_COUNT),
        }
    }

    /// Writes the header over the first 61 bytes of `batch`, with the length and the CRC of the bytes that are there.
    ///
    /// The caller has made sure that the size fits into the length field.
    pub(super) fn seal(&mut self, batch: &mut [u8]) {
        self.length = (batch.len() - at::LENGTH_OVERHEAD) as i32;
        batch[..at::HEADER_SIZE].copy_from_slice(&self.encode());
        self.crc = crc32c(&batch[at::ATTRIBUTES..]);
        batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&self.crc.to_be_bytes());
    }

    fn encode(&self) -> [u8; at::HEADER_SIZE] {
        let mut bytes = [0; at::HEADER_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(at::BASE_OFFSET, &self.base_offset.0.to_be_bytes());
        put(at::LENGTH, &self.length.to_be_bytes());
        put(at::LEADER_EPOCH, &self.leader_epoch.0.to_be_bytes());
        put(at::MAGIC, &at::MAGIC_V2.to_be_bytes());
        put(at::CRC, &self.crc.to_be_bytes());
        put(at::ATTRIBUTES, &self.attributes.to_be_bytes());
        put(at::LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(at::BASE_TIMESTAMP, &self.base_timestamp.0.to_be_bytes());
        put(at::MAX_TIMESTAMP, &self.max_timestamp.0.to_be_bytes());
        put(at::PRODUCER_ID, &self.producer_id.0.to_be_bytes());
        put(at::PRODUCER_EPOCH, &self.producer_epoch.0.to_be_bytes());
        put(at::BASE_SEQUENCE, &self.base_sequence.0.to_be_bytes());
        put(at::RECORD_COUNT, &self.record_count.to_be_bytes());
        bytes
    }

    /// Tells an unsupported magic from a mere lack of bytes where the prefix allows it.
    #[cold]
    fn too_short(bytes: &[u8]) -> BatchError {
        match bytes.get(at::MAGIC) {
            Some(&magic) if magic as i8 != at::MAGIC_V2 => BatchError::UnsupportedMagic { got: magic as i8 },
            _ => BatchError::TooShort { expected: at::HEADER_SIZE, got: bytes.len() },
        }
    }

    #[inline]
    fn check(&self, magic: i8) -> Result<(), BatchError> {
        if magic != at::MAGIC_V2 {
            return Err(BatchError::UnsupportedMagic { got: magic });
        }
        if self.length < (at::HEADER_SIZE - at::LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::Length { got: self.length });
        }
        let field = |field, expected, got| Err(BatchError::Field { field, expected, got });
        if self.last_offset_delta < 0 {
            return field("last offset delta", "0 or more", i64::from(self.last_offset_delta));
        }
        if self.record_count < 0 {
            return field("record count", "0 or more", i64::from(self.record_count));
        }
        let room = i64::MAX - i64::from(self.last_offset_delta);
        if self.base_offset.0 < 0 || self.base_offset.0 >= room {
            return field("base offset", "0 or more, its last offset below 2^63-1", self.base_offset.0);
        }
        Ok(())
    }

    /// The size of the whole batch in bytes. Of a header that was not decoded, and has a length that none can have, it says nothing.
    #[inline]
    pub fn size(&self) -> usize {
        at::LENGTH_OVERHEAD.wrapping_add_signed(self.length as isize)
    }

    /// The offset of the last record (or of the last that was there before compaction).
    #[inline]
    pub fn last_offset(&self) -> Offset {
        self.last_offset_at(self.base_offset)
    }

    /// The same for a batch that is stored at `base_offset`, whatever it says itself.
    #[inline]
    pub(crate) fn last_offset_at(&self, base_offset: Offset) -> Offset {
        base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset behind the batch.
    #[inline]
    pub fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// The offsets of the batch.
    pub fn offsets(&self) -> OffsetRange {
        OffsetRange { first: self.base_offset, last: self.last_offset() }
    }

    /// The sequence of the last record, [`Sequence::NONE`] for a batch without sequences.
    #[inline]
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 {
            Sequence::NONE
        } else {
            self.base_sequence.plus(self.last_offset_delta)
        }
    }

    /// The codec.
    ///
    /// # Errors
    ///
    /// [`BatchError::UnknownCodec`] for the numbers 5 to 7.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Ok(match self.attributes & at::CODEC_MASK {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            got => return Err(BatchError::UnknownCodec { got: got as u8 }),
        })
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & at::LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the batch is part of a transaction.
    #[inline]
    pub fn is_transactional(&self) -> bool {
        self.attributes & at::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record: a transaction marker, no data.
    #[inline]
    pub fn is_control(&self) -> bool {
        self.attributes & at::CONTROL != 0
    }

    /// Whether the base timestamp field is a delete horizon, set by compaction.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & at::DELETE_HORIZON != 0
    }

    /// Whether a producer id is set.
    #[inline]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> Vec<u8> {
        let mut bytes = vec![0; at::HEADER_SIZE];
        bytes[at::LENGTH..at::LENGTH + 4].copy_from_slice(&49_i32.to_be_bytes());
        bytes[at::MAGIC] = 2;
        bytes
    }

    #[test]
    fn a_header_that_was_not_decoded_has_a_size_without_an_overflow() {
        let mut header = BatchHeader::decode(&encoded()).unwrap();
        for length in [-1, -12, -13, i32::MIN, i32::MAX] {
            header.length = length;
            let _ = header.size();
        }
        header.length = 49;
        assert_eq!(header.size(), BatchHeader::SIZE);
    }

    #[test]
    fn a_header_that_lies_about_a_field_is_refused() {
        type Damage = fn(&mut Vec<u8>);
        let cases: [(&str, Damage); 6] = [
            ("61 bytes", |b| b.truncate(60)),
            ("magic 1", |b| b[at::MAGIC] = 1),
            ("length 48", |b| b[at::LENGTH + 3] = 48),
            ("negative last offset delta", |b| b[at::LAST_OFFSET_DELTA] = 0x80),
            ("negative record count", |b| b[at::RECORD_COUNT] = 0x80),
            ("negative base offset", |b| b[at::BASE_OFFSET] = 0x80),
        ];
        assert!(BatchHeader::decode(&encoded()).is_ok());
        for (name, damage) in cases {
            let mut bytes = encoded();
            damage(&mut bytes);
            assert!(BatchHeader::decode(&bytes).is_err(), "{name}");
        }
    }

    #[test]
    fn a_batch_that_straddles_the_wrap_ends_behind_zero() {
        let mut bytes = encoded();
        bytes[at::BASE_SEQUENCE..at::BASE_SEQUENCE + 4].copy_from_slice(&(i32::MAX - 10).to_be_bytes());
        bytes[at::LAST_OFFSET_DELTA + 3] = 20;
        assert_eq!(BatchHeader::decode(&bytes).unwrap().last_sequence(), Sequence(9));
    }
}

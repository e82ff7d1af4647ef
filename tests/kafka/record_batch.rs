//! Record batches as bytes, written and read by the test's own hand.

use std::sync::Arc;

const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const COUNT: usize = 57;
const RECORDS: usize = 61;
/// What the length field does not count.
const LENGTH_OVERHEAD: usize = 12;
/// A reader needs these to know what follows.
const PREFIX: usize = 17;
/// The smallest length field a reader of files takes.
const SMALLEST_LENGTH: i32 = 14;

const COMPRESSION: u16 = 0x07;
const TRANSACTIONAL: u16 = 0x10;
const CONTROL: u16 = 0x20;

/// The marker that ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub abort: bool,
    pub coordinator_epoch: i32,
}

/// A batch: what its header says, and its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub leader_epoch: i32,
    pub crc: u32,
    /// Whether `crc` is that of the bytes.
    pub is_sound: bool,
    pub transactional: bool,
    pub marker: Option<Marker>,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub size: usize,
    pub bytes: Arc<[u8]>,
}

/// What a client or a coordinator sends.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
    pub timestamp: i64,
    pub records: Records,
}

#[derive(Clone, Copy, Debug)]
pub enum Records {
    /// `count` records with null keys; the value of number k is `value_size` bytes of `'a' + k % 26`.
    Data {
        count: i32,
        value_size: usize,
    },
    Marker(Marker),
}

impl Content {
    /// The batch, not yet placed in a log.
    pub fn encode(&self) -> Batch {
        let (records, count, mut attributes) = match self.records {
            Records::Data { count, value_size } => (data_records(count, value_size), count, 0),
            Records::Marker(marker) => (marker_record(marker), 1, CONTROL),
        };
        if self.transactional {
            attributes |= TRANSACTIONAL;
        }
        let mut bytes = vec![0; RECORDS];
        put(&mut bytes, LENGTH, ((RECORDS + records.len() - LENGTH_OVERHEAD) as i32).to_be_bytes());
        put(&mut bytes, LEADER_EPOCH, (-1_i32).to_be_bytes());
        bytes[MAGIC] = 2;
        put(&mut bytes, ATTRIBUTES, attributes.to_be_bytes());
        put(&mut bytes, LAST_OFFSET_DELTA, (count - 1).to_be_bytes());
        put(&mut bytes, BASE_TIMESTAMP, self.timestamp.to_be_bytes());
        put(&mut bytes, MAX_TIMESTAMP, self.timestamp.to_be_bytes());
        put(&mut bytes, PRODUCER_ID, self.producer_id.to_be_bytes());
        put(&mut bytes, PRODUCER_EPOCH, self.producer_epoch.to_be_bytes());
        put(&mut bytes, BASE_SEQUENCE, self.base_sequence.to_be_bytes());
        put(&mut bytes, COUNT, count.to_be_bytes());
        bytes.extend_from_slice(&records);
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
        put(&mut bytes, CRC, crc.to_be_bytes());
        Batch::decode(&bytes)
    }
}

fn data_records(count: i32, value_size: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for at in 0..count {
        let value = vec![b'a' + (at % 26) as u8; value_size];
        put_record(&mut records, at, None, &value);
    }
    records
}

fn marker_record(marker: Marker) -> Vec<u8> {
    let key = [0, 0, 0, u8::from(!marker.abort)];
    let mut value = vec![0, 0];
    value.extend_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mut record = Vec::new();
    put_record(&mut record, 0, Some(&key), &value);
    record
}

fn put_record(records: &mut Vec<u8>, offset_delta: i32, key: Option<&[u8]>, value: &[u8]) {
    let mut record = vec![0];
    put_varint(&mut record, 0);
    put_varint(&mut record, offset_delta);
    put_varint(&mut record, key.map_or(-1, |key| key.len() as i32));
    record.extend_from_slice(key.unwrap_or_default());
    put_varint(&mut record, value.len() as i32);
    record.extend_from_slice(value);
    put_varint(&mut record, 0);
    put_varint(records, record.len() as i32);
    records.extend_from_slice(&record);
}

fn put_varint(bytes: &mut Vec<u8>, value: i32) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

impl Batch {
    /// The batch in `bytes`, which are no more and no less than it.
    fn decode(bytes: &[u8]) -> Self {
        let attributes = u16::from_be_bytes(field(bytes, ATTRIBUTES));
        let base_offset = i64::from_be_bytes(field(bytes, BASE_OFFSET));
        let delta = i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA));
        let base_sequence = i32::from_be_bytes(field(bytes, BASE_SEQUENCE));
        let crc = u32::from_be_bytes(field(bytes, CRC));
        let is_marker = attributes & CONTROL != 0 && attributes & COMPRESSION == 0;
        Self {
            base_offset,
            last_offset: base_offset + i64::from(delta),
            leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH)),
            crc,
            is_sound: crc32c::crc32c(&bytes[ATTRIBUTES..]) == crc,
            transactional: attributes & TRANSACTIONAL != 0,
            marker: is_marker.then(|| decode_marker(&bytes[RECORDS..])),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH)),
            base_sequence,
            last_sequence: if base_sequence < 0 { -1 } else { wrapping_sum(base_sequence, delta) },
            size: bytes.len(),
            bytes: bytes.into(),
        }
    }

    pub fn next_offset(&self) -> i64 {
        self.last_offset + 1
    }

    /// The batch as it stands in the log.
    pub fn placed(&self, base_offset: i64, leader_epoch: i32) -> Self {
        let mut bytes = self.bytes.to_vec();
        if !bytes.is_empty() {
            put(&mut bytes, BASE_OFFSET, base_offset.to_be_bytes());
            put(&mut bytes, LEADER_EPOCH, leader_epoch.to_be_bytes());
        }
        let last_offset = base_offset + (self.last_offset - self.base_offset);
        Self { base_offset, last_offset, leader_epoch, bytes: bytes.into(), ..self.clone() }
    }

    /// The batch with one bit of its last value flipped, behind the back of its CRC.
    pub fn corrupted(&self) -> Self {
        let mut bytes = self.bytes.to_vec();
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        Self::decode(&bytes)
    }

    /// The batch in a size that only compression explains: its bytes are not known.
    pub fn compressed_to(&self, size: usize) -> Self {
        Self { size, bytes: Arc::new([]), ..self.clone() }
    }
}

/// The marker in the one record of a control batch: a length, three bytes, a key of 4 bytes, a length, a value of 6.
fn decode_marker(record: &[u8]) -> Marker {
    Marker { abort: record[8] == 0, coordinator_epoch: i32::from_be_bytes(field(record, 12)) }
}

/// Sequences go on at 0 behind 2^31 - 1.
pub fn wrapping_sum(sequence: i32, delta: i32) -> i32 {
    ((i64::from(sequence) + i64::from(delta)) % (1 << 31)) as i32
}

/// What stands behind the last whole batch of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    #[default]
    Nothing,
    /// The beginning of a batch: for a reader the end of the file.
    Torn { bytes: usize },
    /// What cannot be a batch, because its length field is too small: an error for a reader.
    Garbage { bytes: usize, length: i32 },
}

impl Tail {
    pub fn bytes(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Torn { bytes } | Self::Garbage { bytes, .. } => bytes,
        }
    }
}

/// The batches of a `.log` file.
pub fn split(mut bytes: &[u8]) -> (Vec<Batch>, Tail) {
    let mut batches = Vec::new();
    loop {
        if bytes.is_empty() {
            return (batches, Tail::Nothing);
        }
        if bytes.len() < PREFIX {
            return (batches, Tail::Torn { bytes: bytes.len() });
        }
        let length = i32::from_be_bytes(field(bytes, LENGTH));
        if length < SMALLEST_LENGTH {
            return (batches, Tail::Garbage { bytes: bytes.len(), length });
        }
        let size = LENGTH_OVERHEAD + length as usize;
        if size > bytes.len() {
            return (batches, Tail::Torn { bytes: bytes.len() });
        }
        batches.push(Batch::decode(&bytes[..size]));
        bytes = &bytes[size..];
    }
}

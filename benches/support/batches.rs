//! Batches to append, and the least that can be done to look into one.

use bytes::Bytes;
use idemlog::{Batch, BatchBuilder, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::Random;

/// The bytes in front of the records.
const HEADER: usize = 61;
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
/// From here on the CRC counts.
const ATTRIBUTES_AT: usize = 21;

/// What a batch holds.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) records: i32,
    pub(crate) value_size: usize,
}

/// A batch of 128 bytes in all.
pub(crate) const SMALL: Shape = Shape { name: "128B", records: 1, value_size: 59 };
pub(crate) const ONE_KIB: Shape = Shape { name: "1KiB", records: 1, value_size: 1 << 10 };
pub(crate) const SIXTEEN_KIB: Shape = Shape { name: "16KiB", records: 1, value_size: 16 << 10 };
pub(crate) const TEN_OF_ONE_KIB: Shape = Shape { name: "10x1KiB", records: 10, value_size: 1 << 10 };

/// The batches of one idempotent producer in the order of their sequences, all of one size and each with other values.
pub(crate) struct Batches {
    shape: Shape,
    noise: Vec<u8>,
    random: Random,
    sequence: i32,
}

impl Batches {
    pub(crate) fn new(shape: Shape) -> Self {
        let noise = Random(1).take(1 << 17).flat_map(u64::to_be_bytes).collect();
        Self { shape, noise, random: Random(2), sequence: 0 }
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let mut batch = BatchBuilder::new()
            .producer(ProducerId(7), ProducerEpoch(0), Sequence(self.sequence))
            .timestamp(Timestamp(1_700_000_000_000 + i64::from(self.sequence)));
        for start in self.random.by_ref().take(self.shape.records as usize) {
            let start = start as usize % (self.noise.len() - self.shape.value_size);
            batch = batch.record(b"", &self.noise[start..][..self.shape.value_size]);
        }
        self.sequence += self.shape.records;
        Some(batch.build().expect("a batch within every limit"))
    }
}

/// Batches back to back in memory, too many for any cache.
pub(crate) struct Pool {
    bytes: Bytes,
    batch_size: usize,
}

impl Pool {
    /// As many batches as fit into `bytes`.
    pub(crate) fn new(shape: Shape, bytes: usize) -> Self {
        let mut batches = Batches::new(shape).peekable();
        let batch_size = batches.peek().map_or(1, |batch| batch.bytes().len());
        let mut pool = Vec::with_capacity(bytes);
        batches.take(bytes / batch_size).for_each(|batch| pool.extend_from_slice(batch.bytes()));
        Self { bytes: pool.into(), batch_size }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.batch_size
    }

    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// A batch as a host has it: a part of what came over the network.
    #[inline]
    pub(crate) fn batch(&self, index: usize) -> Bytes {
        let start = index * self.batch_size;
        self.bytes.slice(start..start + self.batch_size)
    }

    #[inline]
    pub(crate) fn slice(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.batch_size..][..self.batch_size]
    }
}

/// The size of the batch at the beginning of `bytes`.
#[inline]
pub(crate) fn size(bytes: &[u8]) -> usize {
    number(bytes, LENGTH_AT) as usize + LENGTH_AT + 4
}

/// The offset of the first record of the batch at the beginning of `bytes`.
#[inline]
pub(crate) fn first_offset(bytes: &[u8]) -> u64 {
    u64::from(number(bytes, 0)) << 32 | u64::from(number(bytes, 4))
}

/// Whether the CRC of exactly one batch is right.
#[inline]
pub(crate) fn crc_matches(batch: &[u8]) -> bool {
    crc32c::crc32c(&batch[ATTRIBUTES_AT..]) == number(batch, CRC_AT)
}

#[inline]
fn number(bytes: &[u8], at: usize) -> u32 {
    let [a, b, c, d, ..] = bytes[at..] else { return 0 };
    u32::from_be_bytes([a, b, c, d])
}

/// A walk over the records of exactly one batch that checks nothing but bounds. Returns the sum of the sizes of the
/// values.
#[inline]
pub(crate) fn walk(batch: &[u8]) -> usize {
    let (mut at, mut values) = (HEADER, 0);
    while at < batch.len() {
        let length = varint(batch, &mut at);
        let end = at + length;
        at += 1; // attributes
        varint(batch, &mut at); // timestamp
        varint(batch, &mut at); // offset
        at += varint(batch, &mut at); // key
        values += varint(batch, &mut at);
        at = end;
    }
    values
}

#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = usize::from(bytes[*at]);
        *at += 1;
        number |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            return number >> 1;
        }
        shift += 7;
    }
}

//! Batches to append, and the least that can be done to look into one.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use idemlog::{Batch, BatchBuilder, Compression, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::Random;

/// The bytes in front of the records.
const HEADER: usize = 61;
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
/// From here on the CRC counts.
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const SEQUENCE_AT: usize = 53;

/// That of the first batch; each has one more than the one before for every record of that.
pub(crate) const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// What a batch holds.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) records: i32,
    pub(crate) value_size: usize,
    pub(crate) compression: Compression,
}

impl Shape {
    const fn plain(name: &'static str, records: i32, value_size: usize) -> Self {
        Self { name, records, value_size, compression: Compression::None }
    }
}

/// A batch of 128 bytes in all.
pub(crate) const SMALL: Shape = Shape::plain("128B", 1, 59);
pub(crate) const ONE_KIB: Shape = Shape::plain("1KiB", 1, 1 << 10);
pub(crate) const TEN_KIB: Shape = Shape::plain("10KiB", 1, 10 << 10);
pub(crate) const SIXTEEN_KIB: Shape = Shape::plain("16KiB", 1, 16 << 10);
pub(crate) const TEN_OF_ONE_KIB: Shape = Shape::plain("10x1KiB", 10, 1 << 10);
/// Of values that zstd makes about half as large.
pub(crate) const COMPRESSED: Shape =
    Shape { name: "zstd", records: 10, value_size: 1 << 10, compression: Compression::Zstd };

/// The batches of one idempotent producer in the order of their sequences, all of one size and each with other values.
pub(crate) struct Batches {
    shape: Shape,
    noise: Vec<u8>,
    random: Random,
    sequence: i32,
}

impl Batches {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut noise: Vec<u8> = Random(1).take(1 << 17).flat_map(u64::to_be_bytes).collect();
        if shape.compression != Compression::None {
            noise.iter_mut().for_each(|byte| *byte &= 0x0f);
        }
        Self { shape, noise, random: Random(2), sequence: 0 }
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let mut batch = BatchBuilder::new()
            .producer(ProducerId(7), ProducerEpoch(0), Sequence(self.sequence))
            .timestamp(Timestamp(FIRST_TIMESTAMP + i64::from(self.sequence)))
            .compression(self.shape.compression);
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
    /// Where each batch ends, behind a 0.
    ends: Vec<usize>,
}

impl Pool {
    /// As many batches as fit into `bytes`.
    pub(crate) fn new(shape: Shape, bytes: usize) -> Self {
        let mut pool = Vec::with_capacity(bytes);
        let mut ends = vec![0];
        for batch in Batches::new(shape) {
            if pool.len() + batch.bytes().len() > bytes {
                break;
            }
            pool.extend_from_slice(batch.bytes());
            ends.push(pool.len());
        }
        Self { bytes: pool.into(), ends }
    }

    /// The first batches of `producers` producers.
    pub(crate) fn of_producers(shape: Shape, producers: usize) -> Self {
        let mut pool = Self::new(shape, producers * (shape.value_size + 128) * shape.records as usize);
        pool.ends.truncate(producers + 1);
        pool.rewrite(|index| (index as i64, 0));
        pool
    }

    /// Makes it the pool number `round` of a row, in which `producers` take turns.
    pub(crate) fn advance(&mut self, producers: usize, round: i32) {
        self.go_on(producers, round * self.len().div_ceil(producers) as i32);
    }

    /// Has `producers` take turns, each from the sequence `first` on.
    pub(crate) fn go_on(&mut self, producers: usize, first: i32) {
        self.rewrite(|index| ((index % producers) as i64, first + (index / producers) as i32));
    }

    /// Makes all batches those of one producer.
    pub(crate) fn write_as(&mut self, producer: i64) {
        self.rewrite(|index| (producer, index as i32));
    }

    /// Gives every batch, which has one record, another producer id and sequence.
    fn rewrite(&mut self, producer: impl Fn(usize) -> (i64, i32)) {
        let mut bytes = BytesMut::from(std::mem::take(&mut self.bytes));
        for (index, range) in self.ends.windows(2).enumerate() {
            let batch = &mut bytes[range[0]..range[1]];
            let (id, sequence) = producer(index);
            batch[PRODUCER_ID_AT..][..8].copy_from_slice(&id.to_be_bytes());
            batch[SEQUENCE_AT..][..4].copy_from_slice(&sequence.to_be_bytes());
            let crc = crc32c(&batch[ATTRIBUTES_AT..]);
            batch[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
        }
        self.bytes = bytes.freeze();
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// The size of a batch, on average.
    pub(crate) fn batch_size(&self) -> usize {
        self.ends[self.len()].div_ceil(self.len())
    }

    pub(crate) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// A batch as a host has it: a part of what came over the network.
    #[inline]
    pub(crate) fn batch(&self, index: usize) -> Bytes {
        self.bytes.slice(self.ends[index]..self.ends[index + 1])
    }

    #[inline]
    pub(crate) fn slice(&self, index: usize) -> &[u8] {
        &self.bytes[self.ends[index]..self.ends[index + 1]]
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

/// The largest timestamp of the batch at the beginning of `bytes`.
#[inline]
pub(crate) fn largest_timestamp(bytes: &[u8]) -> u64 {
    first_offset(&bytes[MAX_TIMESTAMP_AT..])
}

/// The CRC-32C of `bytes`, by the faster of the two libraries here, as a limit should have it.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    static FASTER: LazyLock<fn(&[u8]) -> u32> = LazyLock::new(|| {
        let [by_instruction, by_multiplication]: [fn(&[u8]) -> u32; 2] =
            [crc32c::crc32c, crc_fast::crc32_iscsi];
        if time_of_crc(by_instruction) < time_of_crc(by_multiplication) {
            by_instruction
        } else {
            by_multiplication
        }
    });
    FASTER(bytes)
}

/// Of 1 KiB in the cache, many times: the shortest of some runs.
fn time_of_crc(crc: fn(&[u8]) -> u32) -> Duration {
    let bytes = [7; 1024];
    let run = |_| {
        let begin = Instant::now();
        (0..2000).for_each(|_| _ = black_box(crc(black_box(&bytes))));
        begin.elapsed()
    };
    (0..20).map(run).min().unwrap_or_default()
}

/// Whether the CRC of exactly one batch is right.
#[inline]
pub(crate) fn crc_matches(batch: &[u8]) -> bool {
    crc32c(&batch[ATTRIBUTES_AT..]) == number(batch, CRC_AT)
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

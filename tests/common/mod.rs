//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use idemlog::{
    AppendOptions, Batch, BatchBuilder, BatchBytes, Clock, Durability, Error, IoMode, Log, LogDir,
    LogDirOptions, LogOptions, Offset, Pending, ProducerEpoch, ProducerId, Result, Sequence, Timestamp,
};

/// Both ways to the disk; every test that touches it runs over both.
pub const MODES: [IoMode; 2] = [IoMode::Mapped, IoMode::Write];

/// A clock that stands still until it is told.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn at(now: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now)))
    }

    pub fn advance(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Small segments, so that rolls happen all the time.
pub fn small(mode: IoMode) -> LogOptions {
    LogOptions::default()
        .io_mode(Some(mode))
        .segment_bytes(4096)
        .index_interval_bytes(256)
        .max_batch_bytes(4096)
        .durability(Durability::Synced)
}

pub fn options(mode: IoMode) -> LogDirOptions {
    LogDirOptions::default().log(small(mode))
}

/// A batch of `count` records by an idempotent producer.
pub fn batch(id: i64, epoch: i16, sequence: i32, count: usize) -> Batch {
    let builder = BatchBuilder::new()
        .producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence))
        .timestamp(Timestamp(1_000 + i64::from(sequence)));
    (0..count)
        .fold(builder, |builder, at| builder.record(format!("{id}-{at}"), value(id, sequence, at)))
        .build()
        .unwrap()
}

pub fn value(id: i64, sequence: i32, at: usize) -> String {
    format!("producer {id} epoch sequence {} {}", i64::from(sequence) + at as i64, "x".repeat(50))
}

/// A batch without a producer.
pub fn plain(text: &str) -> Batch {
    BatchBuilder::new().record("k", text).timestamp(Timestamp(5)).build().unwrap()
}

/// As an async host does it: at once, or where the log has to make room first, by waiting for that.
pub fn try_submit<B: BatchBytes>(log: &Log, batch: &Batch<B>, options: AppendOptions) -> Result<Pending> {
    match log.try_submit(from_ref(batch), options) {
        Err(Error::WouldBlock { bound: "room" }) => log.submit(from_ref(batch), options),
        tried => tried,
    }
}

/// Everything a reader sees: base offset and CRC of each batch. Of a poisoned log, what is durable.
pub fn stored(log: &Log) -> Vec<(i64, u32)> {
    log.reader(log.log_start_offset())
        .unwrap()
        .take_while(|batch| !matches!(batch, Err(Error::Poisoned(_))))
        .map(|batch| {
            let batch = batch.unwrap();
            (batch.header().base_offset.0, batch.header().crc)
        })
        .collect()
}

pub fn open(path: &Path, mode: IoMode) -> LogDir {
    LogDir::open(path, options(mode)).unwrap()
}

/// A log that was truncated inside of its second batch: offsets 5 to 7 are missing from here on.
pub fn truncated_inside_a_batch(path: &Path) -> (LogDir, Log) {
    let dir = open(path, IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.append(&batch(7, 0, 0, 5)).unwrap();
    log.append(&batch(7, 0, 5, 5)).unwrap();
    log.truncate_to(Offset(8)).unwrap();
    (dir, log)
}

/// Changes the bytes of a file.
pub fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

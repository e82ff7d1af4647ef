//! A log directory on a simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use idemlog::sim::SimDisk;
use idemlog::{Batch, Clock, IoMode, Log, LogDir, LogDirOptions, LogOptions, Timestamp};

/// The log directory.
pub const DIRECTORY: &str = "/data";
/// The partition's directory in it.
pub const PARTITION: &str = "/data/t-0";

/// A clock that stands still until it is told.
#[derive(Debug)]
pub struct StillClock(AtomicI64);

impl StillClock {
    pub fn at(now: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now)))
    }

    pub fn advance(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

pub fn mode(mapped: bool) -> IoMode {
    if mapped { IoMode::Mapped } else { IoMode::Write }
}

/// Segments so small that rolls happen all the time.
pub fn small() -> LogOptions {
    LogOptions::default()
        .segment_bytes(2048)
        .index_interval_bytes(200)
        .segment_index_bytes(4096)
        .max_batch_bytes(2048)
        .max_decompressed_bytes(64 << 10)
        .snapshot_interval_bytes(1500)
}

/// A disk, and what the directory on it is opened with.
#[derive(Debug)]
pub struct Host {
    pub disk: SimDisk,
    pub clock: Arc<StillClock>,
    pub log: LogOptions,
}

impl Host {
    pub fn new(disk: SimDisk, log: LogOptions) -> Self {
        Self { disk, clock: StillClock::at(1_700_000_000_000), log }
    }

    pub fn open(&self) -> idemlog::Result<LogDir> {
        let options = LogDirOptions::default()
            .log(self.log.clone())
            .disk(Arc::new(self.disk.clone()))
            .clock(self.clock.clone())
            .recovery_threads(1);
        LogDir::open(Path::new(DIRECTORY), options)
    }

    pub fn open_log(&self) -> idemlog::Result<(LogDir, Log)> {
        let dir = self.open()?;
        let log = dir.partition("t", 0)?;
        Ok((dir, log))
    }
}

/// Base offset and CRC of every batch that `log` holds, in order, and the error at which reading ends.
pub fn stored(log: &Log) -> (Vec<(i64, u32)>, Option<String>) {
    let mut batches = Vec::new();
    let reader = match log.reader(log.log_start_offset()) {
        Ok(reader) => reader.to_log_end(),
        Err(error) => return (batches, Some(error.to_string())),
    };
    for batch in reader {
        match batch {
            Ok(batch) => batches.push((batch.header().base_offset.0, batch.header().crc)),
            Err(error) => return (batches, Some(error.to_string())),
        }
        assert!(batches.len() < 100_000, "reading does not end");
    }
    (batches, None)
}

/// Base offset and CRC of every batch that readers of `log` see, in order.
pub fn visible(log: &Log) -> Vec<(i64, u32)> {
    let identity = |batch: idemlog::Result<idemlog::UncheckedBatch>| {
        let header = *batch.unwrap().header();
        (header.base_offset.0, header.crc)
    };
    log.reader(log.log_start_offset()).unwrap().map(identity).collect()
}

/// A batch with a sound header and checksum, and no records behind it whatever it says. Only a log that checks headers
/// takes it.
pub fn hollow(producer: (i64, i16, i32), count: i32, timestamp: i64) -> Batch {
    let mut bytes = vec![0; 61];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(8, &49_i32.to_be_bytes());
    put(12, &(-1_i32).to_be_bytes());
    put(16, &[2]);
    put(23, &(count - 1).to_be_bytes());
    put(27, &timestamp.to_be_bytes());
    put(35, &timestamp.to_be_bytes());
    put(43, &producer.0.to_be_bytes());
    put(51, &producer.1.to_be_bytes());
    put(53, &producer.2.to_be_bytes());
    put(57, &count.to_be_bytes());
    crate::files::fix_batches(&mut bytes);
    Batch::decode_with(bytes.into(), idemlog::RecordCheck::Header, 0).expect("a sound header")
}

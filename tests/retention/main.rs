//! The head of the log: records deleted, segments deleted by size, age and log start, and what outlives them.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod ahead;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod many;
mod many_producers;
mod producers;
mod readers;
mod records;
mod segments;
#[path = "../common/watched.rs"]
mod watched;

use std::path::Path;
use std::sync::Arc;

use common::{TestClock, batch, small, stored};
use idemlog::sim::SimDisk;
use idemlog::{Batch, Disk, IoMode, Log, LogDir, LogDirOptions, LogOptions, Offset};

const DIRECTORY: &str = "/data";
const BATCHES: i32 = 120;

/// A disk, and how the log on it is opened.
struct Fixture {
    disk: SimDisk,
    clock: Arc<TestClock>,
    options: LogOptions,
}

impl Fixture {
    fn new(mode: IoMode) -> Self {
        let disk = SimDisk::new(mode);
        disk.set_sync_range_covers_length(true);
        Self { disk, clock: TestClock::at(1_000_000), options: small(mode) }
    }

    fn with(self, options: impl FnOnce(LogOptions) -> LogOptions) -> Self {
        Self { options: options(self.options), ..self }
    }

    fn image(&self, disk: SimDisk) -> Self {
        Self { disk, clock: Arc::clone(&self.clock), options: self.options.clone() }
    }

    fn open(&self) -> idemlog::Result<(LogDir, Log)> {
        let options = LogDirOptions::default()
            .log(self.options.clone())
            .clock(Arc::clone(&self.clock) as Arc<dyn idemlog::Clock>)
            .disk(Arc::new(self.disk.clone()))
            .recovery_threads(1);
        let dir = LogDir::open(Path::new(DIRECTORY), options)?;
        let log = dir.partition("t", 0)?;
        Ok((dir, log))
    }

    /// Closes the log, or dies, and opens it again; `None` does neither.
    fn restart(&self, (dir, log): (LogDir, Log), close: Option<bool>) -> (LogDir, Log) {
        let Some(close) = close else { return (dir, log) };
        if close {
            dir.close().unwrap();
        }
        drop((dir, log));
        self.open().unwrap()
    }

    /// Base offsets of the `.log` files.
    fn files(&self) -> Vec<i64> {
        self.bases(".log")
    }

    fn bases(&self, suffix: &str) -> Vec<i64> {
        let names = self.disk.list(Path::new(DIRECTORY).join("t-0").as_path()).unwrap();
        let mut bases: Vec<i64> = names
            .iter()
            .filter_map(|entry| entry.name.to_str()?.strip_suffix(suffix)?.parse().ok())
            .collect();
        bases.sort_unstable();
        bases
    }
}

/// One record each. Producer 9 appends the first one and is silent from then on.
fn numbered(number: i32) -> Batch {
    if number == 0 { batch(9, 0, 0, 1) } else { batch(1, 0, number - 1, 1) }
}

fn fill(log: &Log) -> Vec<(i64, u32)> {
    for number in 0..BATCHES {
        log.append(&numbered(number)).unwrap();
    }
    stored(log)
}

/// The producers' windows, whatever became of their records: duplicates are answered, the next batches taken.
fn check_windows(log: &Log, end: i32) {
    for number in [0].into_iter().chain(end - 5..end) {
        let again = log.append(&numbered(number)).unwrap();
        assert!(again.is_duplicate(), "batch {number}");
        assert_eq!(again.base_offset(), Offset(i64::from(number)));
    }
    assert_eq!(log.append(&numbered(end)).unwrap().base_offset(), Offset(i64::from(end)));
    assert_eq!(log.append(&batch(9, 0, 1, 1)).unwrap().base_offset(), Offset(i64::from(end) + 1));
}

/// A batch of a producer that appends no other.
fn only(number: i32) -> Batch {
    batch(100 + i64::from(number), 0, 0, 1)
}

/// A log of as many producers as batches.
fn fill_with_strangers(log: &Log) {
    for number in 0..BATCHES {
        log.append(&only(number)).unwrap();
    }
}

fn assert_all_known(log: &Log) {
    for number in 0..BATCHES {
        assert!(log.append(&only(number)).unwrap().is_duplicate(), "batch {number}");
    }
}

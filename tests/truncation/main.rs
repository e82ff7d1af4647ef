//! Truncation from outside: what stays, what goes, who notices, and what a crash or a failing disk makes of it.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

#[path = "../common/mod.rs"]
mod common;
mod concurrency;
mod ends;
mod failures;
#[path = "../common/gate.rs"]
mod gate;
mod holders;

use std::path::Path;
use std::sync::Arc;

use common::{batch, small, stored};
use idemlog::sim::SimDisk;
use idemlog::{Batch, IoMode, Log, LogDir, LogDirOptions};

const DIRECTORY: &str = "/data";
/// Of each batch.
const RECORDS: i32 = 3;
/// Enough for five segments.
const BATCHES: i32 = 40;

fn sim(mode: IoMode) -> SimDisk {
    let disk = SimDisk::new(mode);
    disk.set_sync_range_covers_length(true);
    disk
}

fn open(disk: &SimDisk, mode: IoMode) -> idemlog::Result<(LogDir, Log)> {
    let options = LogDirOptions::default().log(small(mode)).disk(Arc::new(disk.clone())).recovery_threads(1);
    let dir = LogDir::open(Path::new(DIRECTORY), options)?;
    let log = dir.partition("t", 0)?;
    Ok((dir, log))
}

/// The `number`th batch of the test's log, by one of two producers.
fn numbered(number: i32) -> Batch {
    batch(1 + i64::from(number % 2), 0, number / 2 * RECORDS, RECORDS as usize)
}

fn fill(log: &Log) -> Vec<(i64, u32)> {
    for number in 0..BATCHES {
        log.append(&numbered(number)).unwrap();
    }
    stored(log)
}

/// Those that end in front of `target`.
fn before(all: &[(i64, u32)], target: i64) -> Vec<(i64, u32)> {
    all.iter().copied().filter(|(base, _)| base + i64::from(RECORDS) <= target).collect()
}

/// Whatever is known of the producers is what the log says.
fn check_windows(log: &Log, kept: usize) {
    for number in kept.saturating_sub(4)..kept {
        let again = log.append(&numbered(number as i32)).unwrap();
        assert!(again.is_duplicate(), "batch {number} of {kept}");
        assert_eq!(again.base_offset().0, number as i64 * i64::from(RECORDS));
    }
    for number in kept..(kept + 3).min(BATCHES as usize) {
        let end = log.log_end_offset();
        let outcome = log.append(&numbered(number as i32)).unwrap();
        assert!(!outcome.is_duplicate(), "batch {number} was cut");
        assert_eq!(outcome.base_offset(), end);
    }
}

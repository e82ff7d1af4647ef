//! Opening a log of 1 GiB that was not closed, and of which nothing but the batches is left: no indexes, no snapshots,
//! no recovery point.
//!
//! Beside the engine stand
//! - `limit`: the CRC of every batch, one after the other, over a fresh mapping of the file.
//! - `pread`: the same over bytes that are read into a buffer.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use idemlog::{LogDir, Offset};
use support::amount;
use support::batches::{crc_matches, size};
use support::stored::{Stored, options};

const LOG_BYTES: usize = 1 << 30;
const READ_AHEAD: usize = 256 << 10;

/// Removes every file below `directory` that is not a `.log`.
fn strip(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            strip(&path);
        } else if path.extension().is_none_or(|extension| extension != "log") {
            fs::remove_file(&path).expect("a file less");
        }
    }
}

/// Opens the directory as after a crash.
fn recover(stored: &Stored) -> Duration {
    strip(stored.directory.path());
    let started = Instant::now();
    let dir = LogDir::open(stored.directory.path(), options()).expect("a log that was recovered");
    let took = started.elapsed();
    let log = dir.partition("bench", 0).expect("the partition");
    assert_eq!(log.log_end_offset(), Offset(stored.count() as i64));
    took
}

/// Whether the whole batches in `bytes` are sound; and how many bytes lie behind them.
fn scan(mut bytes: &[u8]) -> usize {
    while bytes.len() >= 61 && bytes.len() >= size(bytes) {
        let (batch, rest) = bytes.split_at(size(bytes));
        assert!(crc_matches(batch));
        bytes = rest;
    }
    bytes.len()
}

fn scan_mapping(stored: &Stored) {
    let map = stored.file().map_read(stored.bytes).expect("a mapping");
    assert_eq!(scan(&map.slice(0..stored.bytes).expect("all bytes")), 0);
}

fn scan_file(stored: &Stored) {
    let (file, mut buffer) = (stored.file(), vec![0; READ_AHEAD]);
    let (mut position, mut kept) = (0, 0);
    while position < stored.bytes {
        let room = buffer.len().min(stored.bytes - position + kept);
        position += file.read_at(&mut buffer[kept..room], position as u64).expect("bytes");
        kept = scan(&buffer[..room]);
        buffer.copy_within(room - kept..room, 0);
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let stored = Stored::new(amount(LOG_BYTES));
    stored.close();
    let mut group = criterion.benchmark_group("recovery/1GiB");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).warm_up_time(Duration::from_millis(500));
    group.throughput(Throughput::Bytes(stored.bytes as u64));
    group.bench_function("idemlog", |bench| {
        bench.iter_custom(|count| (0..count).map(|_| recover(&stored)).sum());
    });
    group.bench_function("limit", |bench| bench.iter(|| scan_mapping(&stored)));
    group.bench_function("pread", |bench| bench.iter(|| scan_file(&stored)));
    group.finish();
    criterion.final_summary();
}

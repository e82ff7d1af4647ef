//! Opening logs of 4 GiB that were not closed, and of which nothing but the batches is left: no indexes, no snapshots,
//! no recovery point. Beside the engine stands the limit: the CRC of every batch, one after the other, over fresh
//! mappings of the files, by one thread.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use criterion::{Criterion, Throughput};
use idemlog::{LogDir, Offset};
use support::batches::{ONE_KIB, TEN_KIB, crc_matches, size};
use support::in_turn::{each_of, group, in_turn, target, time_of};
use support::stored::{Stored, mapped_segments, options};
use support::{amount, directory};

const LOG_BYTES: usize = 4 << 30;

/// A partition's directory, and where its log ends.
struct Partition {
    path: PathBuf,
    number: i32,
    bytes: usize,
    log_end: Offset,
}

impl Partition {
    fn new(stored: &Stored, number: i32) -> Self {
        stored.close();
        let path = stored.directory().to_owned();
        Self { path, number, bytes: stored.bytes, log_end: Offset(stored.count() as i64) }
    }
}

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
fn recover(directory: &Path, partitions: &[&Partition]) -> f64 {
    strip(directory);
    let started = Instant::now();
    // Without threads, which would still write while the next one begins.
    let options = options().background_threads(0);
    let dir = LogDir::open(directory, options).expect("logs that were recovered");
    let took = each_of(started.elapsed(), 1);
    for partition in partitions {
        let log = dir.partition("bench", partition.number).expect("the partition");
        assert_eq!(log.log_end_offset(), partition.log_end);
    }
    took
}

/// The CRC of every batch.
fn scan(partition: &Path) {
    for map in mapped_segments(partition) {
        let bytes = map.slice(0..map.capacity()).expect("all bytes");
        let mut rest = bytes;
        // A segment that was not sealed has blocks behind its end.
        while rest.len() >= 61 && size(rest) > 61 {
            let (batch, behind) = rest.split_at(size(rest));
            assert!(crc_matches(batch));
            rest = behind;
        }
    }
}

/// Recovers `partitions` alone: the others are out of the way meanwhile.
fn recovery(criterion: &mut Criterion, name: &str, directory: &Path, partitions: &[&Partition]) {
    let mut group = group(criterion, &format!("recovery/{name}"), 10);
    let bytes = partitions.iter().map(|partition| partition.bytes as u64).sum();
    group.throughput(Throughput::Bytes(bytes));
    let scan = || time_of(|| partitions.iter().for_each(|partition| scan(&partition.path)));
    in_turn(group, vec![target("idemlog", || recover(directory, partitions)), target("limit", scan)]);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (directory, aside) = (directory(), directory());
    let bytes = amount(LOG_BYTES);
    let small = Partition::new(&Stored::new(directory.path(), 0, ONE_KIB, bytes), 0);
    recovery(&mut criterion, "4GiB of 1KiB", directory.path(), &[&small]);
    let away = aside.path().join("bench-0");
    fs::rename(&small.path, &away).expect("a partition less");
    let large = Partition::new(&Stored::new(directory.path(), 1, TEN_KIB, bytes), 1);
    recovery(&mut criterion, "4GiB of 10KiB", directory.path(), &[&large]);
    fs::rename(&away, &small.path).expect("two partitions");
    recovery(&mut criterion, "two partitions", directory.path(), &[&small, &large]);
    criterion.final_summary();
}

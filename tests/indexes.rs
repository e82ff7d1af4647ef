//! How much memory the indexes of sealed segments take, and that they are found again when they were let go.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;
#[path = "common/watched.rs"]
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use common::{MODES, change, small};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{
    Access, BatchBuilder, Disk, Durability, IoMode, Log, LogDir, LogDirOptions, Offset, Timestamp,
};
use watched::WatchedDisk;

const COUNT: i64 = 2_000;
const FIRST_TIMESTAMP: i64 = 1_000_000;
/// As much as the indexes of a few segments.
const BOUND: usize = 4 << 10;

fn bounded(mode: IoMode) -> LogDirOptions {
    let log = small(mode).index_interval_bytes(1).durability(Durability::Buffered);
    LogDirOptions::default().log(log).max_index_bytes(BOUND)
}

/// Each a millisecond later than the one before.
fn append(log: &Log, number: i64) {
    let batch = BatchBuilder::new().timestamp(Timestamp(FIRST_TIMESTAMP + number)).record("key", "value");
    log.append(&batch.build().unwrap()).unwrap();
}

/// Many segments, of which nearly each batch has an entry in the indexes.
fn fill(log: &Log, count: i64) {
    (0..count).for_each(|number| append(log, number));
    assert!(log.metrics().segments as i64 > count / 60, "{}", log.metrics().segments);
}

/// Looks a batch up by its offset and by its time.
fn find(log: &Log, number: i64) {
    let fetched = log.read(Offset(number), 1).unwrap();
    assert_eq!(fetched.batches().next().unwrap().unwrap().header().base_offset, Offset(number));
    let found = log.offset_for_timestamp(Timestamp(FIRST_TIMESTAMP + number)).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp.0), (Offset(number), FIRST_TIMESTAMP + number));
}

/// That of the active segment, and of one that is just being looked into, comes on top of the bound.
fn assert_bounded(log: &Log) {
    let bytes = log.metrics().index_bytes;
    assert!((1..=3 * BOUND as u64).contains(&bytes), "{bytes}");
}

fn files(log: &Log, suffix: &str) -> Vec<PathBuf> {
    let names = std::fs::read_dir(log.directory()).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|found| found == suffix)).collect()
}

/// Whatever was sealed, read or looked up by time left its entries in memory as long as the log was open: tens of gigabytes
/// for ten terabytes of log.
#[test]
fn the_indexes_of_many_segments_take_a_bounded_amount_of_memory() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), bounded(mode)).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        fill(&log, COUNT);
        assert_bounded(&log);
        (0..COUNT).step_by(7).for_each(|number| find(&log, number));
        assert_bounded(&log);
        assert_eq!(dir.metrics().sum.index_bytes, log.metrics().index_bytes);
        assert_eq!(log.metrics().indexes_rebuilt, 0);
        dir.close().unwrap();

        let dir = LogDir::open(data.path(), bounded(mode)).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        (0..COUNT).rev().step_by(7).for_each(|number| find(&log, number));
        assert_bounded(&log);
        log.append(&BatchBuilder::new().record("key", "more").build().unwrap()).unwrap();
        assert_eq!(log.read(Offset(COUNT), 1).unwrap().batches().count(), 1);
        assert_eq!(log.metrics().indexes_rebuilt, 0);
    }
}

#[test]
fn without_a_bound_in_its_way_what_was_looked_up_stays_in_memory() {
    let data = tempfile::tempdir().unwrap();
    let dir = LogDir::open(data.path(), bounded(IoMode::Mapped).max_index_bytes(usize::MAX)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    fill(&log, COUNT);
    let all = log.metrics().index_bytes;
    assert!(all > 10 * BOUND as u64, "{all}");
    (0..COUNT).step_by(7).for_each(|number| find(&log, number));
    assert_eq!(log.metrics().index_bytes, all);
}

#[test]
fn an_index_that_is_let_go_is_whole_for_those_who_are_just_looking() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), bounded(mode).max_index_bytes(0)).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        fill(&log, COUNT);
        thread::scope(|scope| {
            for reader in 0..4 {
                let log = &log;
                scope.spawn(move || (0..500).for_each(|step| find(log, (step * 37 + reader * 800) % COUNT)));
            }
        });
        assert_bounded(&log);
        assert_eq!(log.metrics().indexes_rebuilt, 0);
    }
}

/// A segment that was rolled after a write had failed, which takes the appender's place in it along, lacked the entry for its latest
/// batch, which Kafka looks for there.
#[test]
fn a_segment_that_is_rolled_after_a_failed_write_has_the_last_entry_of_its_time_index() {
    let disk = SimDisk::new(IoMode::Write);
    let dir = LogDir::open("/data", bounded(IoMode::Write).disk(Arc::new(disk.clone()))).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    append(&log, 0);
    disk.inject(Fault::nth(Operation::Write, 1));
    let lost =
        BatchBuilder::new().timestamp(Timestamp(FIRST_TIMESTAMP)).record("key", "lost").build().unwrap();
    log.append(&lost).unwrap_err();
    log.roll().unwrap();
    let path = log.directory().join("00000000000000000000.timeindex");
    assert_eq!(disk.open(&path, Access::Read).unwrap().len().unwrap(), 12);
}

/// What the files lack is built from the log again, once.
#[test]
fn an_index_whose_file_went_bad_after_it_was_let_go_is_built_again() {
    let damages: [fn(&Path); 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| change(path, |bytes| bytes.truncate(bytes.len() / 2 + 1)),
        |path| change(path, |bytes| bytes.fill(0xff)),
    ];
    for mode in MODES {
        for damage in damages {
            let data = tempfile::tempdir().unwrap();
            let dir = LogDir::open(data.path(), bounded(mode)).unwrap();
            let log = dir.partition("orders", 0).unwrap();
            fill(&log, COUNT);
            let damaged = [files(&log, "index"), files(&log, "timeindex")].concat();
            damaged.iter().filter(|path| path.metadata().unwrap().len() > 0).for_each(|path| damage(path));
            (0..COUNT).step_by(7).for_each(|number| find(&log, number));
            let rebuilt = log.metrics().indexes_rebuilt;
            assert!(rebuilt > 30, "{rebuilt}");
            (0..COUNT).step_by(7).for_each(|number| find(&log, number));
            assert_eq!(log.metrics().indexes_rebuilt, rebuilt);
        }
    }
}

/// Indexes that no file has cannot be loaded again.
#[test]
fn indexes_that_could_not_be_written_stay_in_memory_until_they_are() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let options = bounded(mode).max_index_bytes(0).disk(Arc::new(disk.clone()));
        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        (0..50).for_each(|number| append(&log, number));
        let before = log.metrics().index_bytes;
        // The roll itself works, of what comes behind it nothing does.
        disk.inject(Fault::nth(Operation::Rename, 2).forever());
        log.roll().unwrap_err();
        (50..60).for_each(|number| append(&log, number));
        assert!(log.metrics().index_bytes > before, "{} {before}", log.metrics().index_bytes);
        (0..60).for_each(|number| find(&log, number));
        assert_eq!(log.metrics().indexes_rebuilt, 0);

        disk.clear_faults();
        log.roll().unwrap();
        log.roll().unwrap();
        (60..70).for_each(|number| append(&log, number));
        log.roll().unwrap();
        (0..70).for_each(|number| find(&log, number));
        assert!(log.metrics().index_bytes < before, "{} {before}", log.metrics().index_bytes);
        assert_eq!(log.metrics().indexes_rebuilt, 0);
    }
}

/// A truncation writes the shorter indexes first. If it then fails, the log goes on with the longer ones, which no file has.
#[test]
fn the_indexes_of_a_segment_that_was_not_cut_after_all_are_written_again() {
    let mut held = 0;
    for mode in MODES {
        for nth in 1.. {
            let disk = SimDisk::new(mode);
            let options = bounded(mode).max_index_bytes(0).disk(Arc::new(disk.clone()));
            let dir = LogDir::open("/data", options).unwrap();
            let log = dir.partition("orders", 0).unwrap();
            fill(&log, 300);
            log.roll().unwrap();
            let index = |suffix| {
                let path = log.directory().join(format!("{:020}.{suffix}", 0));
                disk.read(&path, 1 << 20).unwrap()
            };
            let before = [index("index"), index("timeindex")];
            disk.inject(Fault::nth(Operation::Rename, nth));
            if log.truncate_to(Offset(20)).is_ok() {
                break;
            }
            disk.clear_faults();
            if log.log_end_offset() < Offset(300) {
                continue;
            }
            held += usize::from(before != [index("index"), index("timeindex")]);
            (0..300).for_each(|number| find(&log, number));
            append(&log, 300);
            log.roll().unwrap();
            assert_eq!([index("index"), index("timeindex")], before, "{mode:?} {nth}");
        }
    }
    assert!(held > 0, "no truncation failed between the indexes and the log");
}

/// Retention by age, and every search by time, loaded the index files of all segments on their way, gigabytes of a large log, and
/// drove those that were in use out of memory: which timestamp is the largest is in the last entry of each.
#[test]
fn of_segments_that_are_only_passed_the_last_entries_are_read() {
    let disk = WatchedDisk::new(&SimDisk::new(IoMode::Write));
    let options = bounded(IoMode::Write).disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let open = || LogDir::open("/data", options.clone()).unwrap();
    let dir = open();
    fill(&dir.partition("t", 0).unwrap(), COUNT);
    dir.close().unwrap();
    let read = || disk.take_read("index") + disk.take_read("timeindex");
    // Of the offset index two entries of 8 bytes, of the time index two of 12.
    let ends = |log: &Log| 40 * log.metrics().segments;
    let whole = {
        open().close().unwrap();
        read()
    };
    type Look = fn(&Log);
    let looks: [(&str, Look); 3] = [
        ("the latest", |log| {
            assert_eq!(log.offset_of_max_timestamp().unwrap().unwrap().offset, Offset(COUNT - 1));
        }),
        ("a search", |log| assert_eq!(log.offset_for_timestamp(Timestamp(i64::MAX)).unwrap(), None)),
        ("retention", |log| {
            log.set_options((*log.options()).clone().retention_ms(Some(1))).unwrap();
            assert!(log.apply_retention().unwrap() > 30);
        }),
    ];
    for (what, look) in looks {
        let dir = open();
        let log = dir.partition("t", 0).unwrap();
        let (segments, at_rest) = (ends(&log), log.metrics().index_bytes);
        read();
        look(&log);
        let bytes = read();
        assert!(bytes <= segments + whole, "{what}: {bytes} bytes, of which {segments} are the ends");
        assert!(what == "retention" || log.metrics().index_bytes <= at_rest, "{what}");
        drop(log);
        drop(dir);
    }
}

/// What the last entry says is believed as far as the log bears it out.
#[test]
fn an_index_whose_end_cannot_be_believed_is_read_as_a_whole_or_built_again() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("zeros behind, as of a file that was not cut", |bytes| bytes.extend([0; 24])),
        ("half an entry", |bytes| bytes.truncate(bytes.len() - 5)),
        ("an offset behind the end", |bytes| {
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&1_000_000_u32.to_be_bytes());
        }),
        ("a timestamp below the one before", |bytes| {
            let at = bytes.len() - 12;
            bytes[at..at + 8].copy_from_slice(&1_u64.to_be_bytes());
        }),
        ("the last entry before its time", |bytes| bytes.truncate(bytes.len() - 12)),
        ("nothing", |bytes| bytes.clear()),
    ];
    for mode in MODES {
        for (what, damage) in damages {
            let data = tempfile::tempdir().unwrap();
            let dir = LogDir::open(data.path(), bounded(mode)).unwrap();
            let log = dir.partition("t", 0).unwrap();
            fill(&log, 200);
            // The largest is in the middle of the log, and the last of its segment.
            let until = log.log_end_offset();
            log.append(
                &BatchBuilder::new().timestamp(Timestamp(5_000_000)).record("key", "late").build().unwrap(),
            )
            .unwrap();
            log.roll().unwrap();
            (0..200).for_each(|number| append(&log, number));
            dir.close().unwrap();
            let mut indexes = files(&log, "timeindex");
            indexes.sort();
            let base = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap();
            let holds = indexes.iter().rfind(|path| base(path) <= until.0).unwrap();
            change(holds, damage);
            let dir = LogDir::open(data.path(), bounded(mode)).unwrap();
            let log = dir.partition("t", 0).unwrap();
            let found = log.offset_of_max_timestamp().unwrap().unwrap();
            assert_eq!((found.offset, found.timestamp), (until, Timestamp(5_000_000)), "{mode:?}: {what}");
            let found = log.offset_for_timestamp(Timestamp(4_000_000)).unwrap().unwrap();
            assert_eq!(found.offset, until, "{mode:?}: {what}");
        }
    }
}

//! What an operator sees of a partition and of a directory.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::sync::Arc;

use common::{MODES, TestClock, options, plain, small};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{Error, IoMode, Log, LogDir, LogDirOptions, Timestamp};

fn append(log: &Log, text: &str) {
    log.append(&plain(text)).unwrap();
}

/// Only a host with a subscriber for events was told of it: retention failed for days, and the disk filled up.
#[test]
fn what_fails_beside_the_appends_is_counted_and_the_last_of_it_is_told() {
    for mode in MODES {
        let (disk, clock) = (SimDisk::new(mode), TestClock::at(1_000_000));
        let log = small(mode).retention_bytes(Some(10_000)).retention_interval_ms(1);
        let options = LogDirOptions::default().log(log).disk(Arc::new(disk.clone())).clock(clock.clone());
        let dir = LogDir::open("/data", options).unwrap();
        let (log, other) = (dir.partition("orders", 0).unwrap(), dir.partition("orders", 1).unwrap());
        let fill = || (0..100).for_each(|_| append(&log, &"x".repeat(1000)));
        fill();
        assert_eq!((log.metrics().failed_chores, log.metrics().last_failed_chore), (0, None));

        const EACCES: i32 = 13;
        disk.inject(Fault::nth(Operation::Remove, 1).forever().errno(EACCES).on(".log/"));
        clock.advance(5000);
        fill();
        let metrics = log.metrics();
        assert!(metrics.failed_chores > 3, "{metrics:?}");
        let failed = metrics.last_failed_chore.clone().unwrap();
        assert_eq!((failed.chore, failed.at), ("retention", Timestamp(1_005_000)));
        assert_eq!(&failed.partition, log.name());
        assert!(failed.error.contains("remove /data/orders-0/"), "{}", failed.error);
        assert!(failed.error.contains("Permission denied"), "{}", failed.error);
        assert_eq!(other.metrics().failed_chores, 0);
        let sum = dir.metrics();
        assert_eq!((sum.failed_chores, sum.last_failed_chore), (metrics.failed_chores, Some(failed.clone())));

        disk.clear_faults();
        clock.advance(5000);
        fill();
        assert_eq!(log.metrics().failed_chores, metrics.failed_chores);
        assert_eq!(log.metrics().last_failed_chore, Some(failed));
        assert_eq!((log.metrics().poisoned, log.metrics().poison), (0, None));
    }
}

#[test]
fn a_snapshot_that_cannot_be_written_by_a_background_thread_is_counted() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let options = options(mode).disk(Arc::new(disk.clone())).background_threads(1);
        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        log.append(&plain("one")).unwrap();
        disk.inject(Fault::nth(Operation::Rename, 1).forever().errno(Fault::ENOSPC).on(".snapshot/"));
        while log.metrics().last_failed_chore.is_none_or(|failed| failed.chore != "seal") {
            log.append(&plain(&"x".repeat(1000))).unwrap();
        }
        let failed = dir.metrics().last_failed_chore.unwrap();
        assert!(failed.error.starts_with("rename /data/orders-0/"), "{}", failed.error);
    }
}

/// It was called a checkpoint, which is a file of offsets: whoever looked for what was wrong looked at those.
#[test]
fn a_snapshot_that_fails_in_the_middle_of_a_segment_is_called_one() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let log = small(mode).snapshot_interval_bytes(100);
        let dir =
            LogDir::open("/data", LogDirOptions::default().log(log).disk(Arc::new(disk.clone()))).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        disk.inject(Fault::nth(Operation::Rename, 1).forever().errno(Fault::ENOSPC).on(".snapshot/"));
        append(&log, &"x".repeat(100));
        let failed = log.metrics().last_failed_chore.unwrap();
        assert_eq!(failed.chore, "snapshot");
        assert!(failed.error.starts_with("rename /data/orders-0/"), "{}", failed.error);
    }
}

/// `LogDir::failed` tells of partitions that did not open; of one that takes nothing any more nothing told but its appends.
#[test]
fn a_poisoned_log_says_so_and_why_and_its_directory_how_many_there_are() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let options = options(mode).disk(Arc::new(disk.clone()));
        let dir = LogDir::open("/data", options.clone()).unwrap();
        let (log, other) = (dir.partition("orders", 0).unwrap(), dir.partition("orders", 1).unwrap());
        log.append(&plain("one")).unwrap();
        other.append(&plain("one")).unwrap();
        assert_eq!((dir.metrics().poisoned, dir.metrics().poison), (0, None));

        disk.inject(Fault::nth(Operation::Sync, 1));
        assert!(matches!(log.append(&plain("two")), Err(Error::InDoubt)));
        let (metrics, sum) = (log.metrics(), dir.metrics());
        assert_eq!((metrics.poisoned, other.metrics().poisoned, sum.poisoned), (1, 0, 1));
        let poison = metrics.poison.unwrap();
        assert!(poison.starts_with("sync /data/orders-0/"), "{poison}");
        assert_eq!(sum.poison, Some(poison));
        other.append(&plain("two")).unwrap();
        dir.close().unwrap_err();

        let dir = LogDir::open("/data", options).unwrap();
        assert_eq!((dir.metrics().poisoned, dir.metrics().poison), (0, None));
    }
}

/// Those of the directory were the largest of its partitions' percentiles, of which no rate can be made.
#[test]
fn the_latencies_of_a_directory_are_those_of_all_its_partitions() {
    let data = tempfile::tempdir().unwrap();
    let dir = LogDir::open(data.path(), options(IoMode::Write)).unwrap();
    let logs = [dir.partition("orders", 0).unwrap(), dir.partition("orders", 1).unwrap()];
    (0..5).for_each(|_| append(&logs[0], "one"));
    (0..7).for_each(|_| append(&logs[1], "other"));
    let (metrics, sum) = (logs.each_ref().map(Log::metrics), dir.metrics());
    let syncs = metrics.each_ref().map(|metrics| metrics.syncs);
    assert!(syncs[0] >= 5 && syncs[1] >= 7 && sum.syncs == syncs[0] + syncs[1], "{syncs:?}");
    assert_eq!(sum.sync_latencies.count(), sum.syncs);
    assert_eq!(sum.sync_latencies.sum(), metrics[0].sync_latencies.sum() + metrics[1].sync_latencies.sum());
    let cumulative = metrics.each_ref().map(|metrics| metrics.sync_latencies.cumulative());
    let [one, other] = cumulative;
    let added = one.zip(other).map(|((bound, one), (_, other))| (bound, one + other));
    assert!(added.eq(sum.sync_latencies.cumulative()));
    assert_eq!(sum.sync_p99, metrics[0].sync_p99.max(metrics[1].sync_p99));
}

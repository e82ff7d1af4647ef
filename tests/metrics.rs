//! What an operator sees of a partition and of a directory.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;
#[path = "common/watched.rs"]
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{MODES, TestClock, options, plain, small};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{
    AppendOptions, CorruptionPolicy, Disk, Error, IoMode, Log, LogDir, LogDirOptions, Offset, Timestamp,
};
use watched::WatchedDisk;

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
        let sum = dir.metrics().sum;
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
        let failed = dir.metrics().sum.last_failed_chore.unwrap();
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
        assert_eq!((dir.metrics().sum.poisoned, dir.metrics().sum.poison), (0, None));

        disk.inject(Fault::nth(Operation::Sync, 1));
        assert!(matches!(log.append(&plain("two")), Err(Error::InDoubt)));
        let (metrics, sum) = (log.metrics(), dir.metrics().sum);
        assert_eq!((metrics.poisoned, other.metrics().poisoned, sum.poisoned), (1, 0, 1));
        let poison = metrics.poison.unwrap();
        assert!(poison.starts_with("sync /data/orders-0/"), "{poison}");
        assert_eq!(sum.poison, Some(poison));
        other.append(&plain("two")).unwrap();
        dir.close().unwrap_err();

        let dir = LogDir::open("/data", options).unwrap();
        assert_eq!((dir.metrics().sum.poisoned, dir.metrics().sum.poison), (0, None));
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
    let (metrics, sum) = (logs.each_ref().map(Log::metrics), dir.metrics().sum);
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

/// Longer than anything takes that does not hang.
const SOON: Duration = Duration::from_secs(30);

/// Waits until something is seen.
fn see(what: &str, seen: impl Fn() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < SOON, "{what}");
        std::thread::yield_now();
    }
}

/// The latencies tell of syncs that are over, and the lag stands still when nobody gets to append any more: where the disk
/// hung, everything looked well.
#[test]
fn a_sync_that_hangs_is_seen_while_it_does() {
    let disk = WatchedDisk::new(&SimDisk::new(IoMode::Write));
    let options = options(IoMode::Write).disk(Arc::clone(&disk) as Arc<dyn Disk>).background_threads(1);
    let dir = LogDir::open("/data", options).unwrap();
    let (log, other) = (dir.partition("orders", 0).unwrap(), dir.partition("orders", 1).unwrap());
    append(&log, "one");
    assert_eq!(log.metrics().sync_running_for, Duration::ZERO);
    let syncs = log.metrics().syncs;
    disk.hang(true);
    let pending = log.submit(&[plain("two")], AppendOptions::default()).unwrap();
    assert!(!pending.wait_for(Duration::ZERO).unwrap());
    see("the sync", || log.metrics().sync_running_for > Duration::from_millis(20));
    let waits = other.submit(&[plain("two")], AppendOptions::default()).unwrap();
    assert!(!waits.wait_for(Duration::ZERO).unwrap());
    let metrics = dir.metrics();
    assert!(metrics.sum.sync_running_for > Duration::from_millis(20));
    assert!(metrics.chores_waiting > 0, "the only worker hangs");
    assert_eq!((log.metrics().syncs, log.metrics().durable_lag), (syncs, 1));
    assert_eq!(other.metrics().sync_running_for, Duration::ZERO);
    disk.hang(false);
    assert!(pending.wait_for(SOON).unwrap() && waits.wait_for(SOON).unwrap());
    see("the end of it", || dir.metrics().sum.sync_running_for.is_zero());
    see("the end of the queue", || dir.metrics().chores_waiting == 0);
    assert!(log.metrics().syncs > syncs);
}

#[test]
fn a_sync_that_fails_or_cannot_begin_is_not_taken_for_one_that_hangs() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", options(mode).disk(Arc::new(disk.clone()))).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        append(&log, "one");
        disk.inject(Fault::nth(Operation::Sync, 1));
        assert!(log.append(&plain("two")).is_err());
        assert_eq!((log.metrics().sync_running_for, log.metrics().syncs), (Duration::ZERO, 1));
    }
}

/// Nothing told how long an opening would take before it was needed.
#[test]
fn the_recovery_lag_is_what_an_opening_reads_after_a_crash() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let log_options = small(mode).segment_bytes(1 << 20).index_interval_bytes(512);
        let options = LogDirOptions::default().log(log_options).disk(Arc::new(disk.clone()));
        let dir = LogDir::open("/data", options.clone()).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        assert_eq!(log.metrics().recovery_lag_bytes, 0);
        let fill = || (0..50).for_each(|_| append(&log, &"x".repeat(200)));
        fill();
        assert_eq!(log.metrics().recovery_lag_bytes, log.metrics().used_bytes);
        log.roll().unwrap();
        assert_eq!(log.metrics().recovery_lag_bytes, 0);
        let rolled = log.metrics().used_bytes;
        fill();
        let behind = log.metrics().used_bytes - rolled;
        assert_eq!(log.metrics().recovery_lag_bytes, behind);
        // Takes a snapshot in the middle of the segment.
        log.delete_records(log.log_end_offset()).unwrap();
        assert_eq!(log.metrics().recovery_lag_bytes, 0);
        fill();
        let lag = log.metrics().recovery_lag_bytes;
        assert!((behind..=behind + 512).contains(&lag), "{mode:?}: {lag} of {behind}");
        assert_eq!(dir.metrics().sum.recovery_lag_bytes, lag);

        drop((log, dir));
        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        let read = log.recovery().bytes_read;
        assert!((lag..=lag + 1024).contains(&read), "{mode:?}: {read} read, {lag} expected");
        assert_eq!(log.metrics().recovery_lag_bytes, lag, "an opening does not move the point");
        dir.close().unwrap();
    }
}

/// Neither retention nor anybody else counts or removes them.
#[test]
fn what_was_kept_of_damage_is_counted() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let options = LogDirOptions::default().log(small(mode).corruption(CorruptionPolicy::CutAndKeep));
        let open = || LogDir::open(data.path(), options.clone()).unwrap();
        let dir = open();
        let log = dir.partition("orders", 0).unwrap();
        (0..10).for_each(|_| append(&log, &"x".repeat(1000)));
        dir.close().unwrap();
        let path = log.directory().join("00000000000000000000.log");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[70] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
        std::fs::remove_file(data.path().join("recovery-point-offset-checkpoint")).unwrap();
        let kept_in = || {
            let names = std::fs::read_dir(log.directory()).unwrap().map(|entry| entry.unwrap());
            let kept = names.filter(|entry| entry.path().extension().is_some_and(|of| of == "corrupt"));
            kept.map(|entry| entry.metadata().unwrap().len()).sum::<u64>()
        };
        for _ in 0..2 {
            let dir = open();
            let kept = kept_in();
            assert!(kept > 0, "{mode:?}");
            assert_eq!(dir.partition("orders", 0).unwrap().metrics().kept_bytes, kept, "{mode:?}");
            assert_eq!(dir.metrics().sum.kept_bytes, kept, "{mode:?}");
            dir.close().unwrap();
        }
    }
}

#[test]
fn a_directory_tells_what_it_has_besides_its_partitions() {
    let data = tempfile::tempdir().unwrap();
    let open = || LogDir::open(data.path(), options(IoMode::Mapped)).unwrap();
    let dir = open();
    (0..3).for_each(|number| append(&dir.partition("orders", number).unwrap(), "one"));
    let metrics = dir.metrics();
    assert_eq!((metrics.partitions, metrics.failed_partitions), (3, 0));
    assert!(metrics.mapped_files >= 3, "{metrics:?}");
    dir.close().unwrap();
    std::fs::write(data.path().join("orders-1/partition.metadata"), "damaged").unwrap();
    let dir = open();
    assert_eq!((dir.metrics().partitions, dir.metrics().failed_partitions), (2, 1));
}

/// Where the checkpoints could not be written, an opening read more from day to day, and that was all that told.
#[test]
fn checkpoints_that_lack_something_say_for_how_long() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", options(mode).disk(Arc::new(disk.clone()))).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        append(&log, "one");
        assert_eq!(dir.metrics().checkpoints_behind_for, Duration::ZERO);
        disk.inject(Fault::nth(Operation::Rename, 1).forever().errno(Fault::ENOSPC).on("offset-checkpoint/"));
        log.roll().unwrap();
        let pause = Duration::from_millis(5);
        for at_least in 1..4 {
            std::thread::sleep(pause);
            assert!(log.delete_records(Offset(1)).is_err());
            assert!(dir.metrics().checkpoints_behind_for >= at_least * pause, "{mode:?}");
        }
        disk.clear_faults();
        log.delete_records(Offset(1)).unwrap();
        assert_eq!(dir.metrics().checkpoints_behind_for, Duration::ZERO);
    }
}

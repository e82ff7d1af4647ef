//! A partition that takes nothing any more is opened again, while the directory and the others stay open.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{MODES, batch, options, stored};
use idemlog::sim::{FailedSync, Fault, Oldest, Operation, SimDisk};
use idemlog::{CorruptionKind, Disk, Error, IoMode, Log, LogDir, LogDirOptions, Offset, ProducerEpoch};

const MARKER: &str = "/data/.kafka_cleanshutdown";

fn on(disk: &SimDisk, mode: IoMode) -> LogDirOptions {
    options(mode).disk(Arc::new(disk.clone())).recovery_threads(1)
}

fn disk(mode: IoMode) -> SimDisk {
    let disk = SimDisk::new(mode);
    disk.set_sync_range_covers_length(true);
    disk
}

/// Appends the producer's batch of this number, as often as a client would that got no answer.
fn append(log: &Log, at: i32) -> Result<bool, Error> {
    Ok(log.append(&batch(1, 0, at, 1))?.is_duplicate())
}

/// A directory of two partitions of ten batches each.
fn before(disk: &SimDisk, mode: IoMode) -> LogDir {
    let dir = LogDir::open("/data", on(disk, mode)).unwrap();
    for partition in [0, 1] {
        let log = dir.partition("t", partition).unwrap();
        (0..10).for_each(|at| assert!(!append(&log, at).unwrap()));
    }
    dir
}

/// Each batch is there once, in order.
fn assert_once(log: &Log, batches: i32) {
    let expected: Vec<_> = (0..batches).map(|at| (i64::from(at), batch(1, 0, at, 1).header().crc)).collect();
    assert_eq!(stored(log), expected);
}

/// A partition whose sync had failed could only be deleted: to have it back, all the others had to be closed as well.
#[test]
fn a_partition_whose_sync_failed_is_opened_again_and_takes_each_batch_once() {
    for mode in MODES {
        for pages in [FailedSync::Kept, FailedSync::Dropped, FailedSync::Reverted] {
            let disk = disk(mode);
            let dir = before(&disk, mode);
            let (old, other) = (dir.partition("t", 0).unwrap(), dir.partition("t", 1).unwrap());
            disk.inject(Fault::nth(Operation::Sync, 1).pages(pages));
            append(&old, 10).unwrap_err();
            assert!(matches!(append(&dir.partition("t", 0).unwrap(), 10), Err(Error::Poisoned(_))));

            let log = dir.reopen_partition("t", 0).unwrap();
            let _either = append(&log, 10).unwrap();
            assert!(append(&log, 10).unwrap());
            (11..60).for_each(|at| assert!(!append(&log, at).unwrap()));
            assert_once(&log, 60);
            assert!(matches!(append(&old, 60), Err(Error::Closed)), "{mode:?} {pages:?}");
            assert!(matches!(old.read(Offset(0), 100), Err(Error::Closed)), "{mode:?} {pages:?}");
            assert!(!append(&other, 10).unwrap());
            assert!(!append(&dir.partition("t", 0).unwrap(), 60).unwrap());

            let left = disk.crash(disk.crash_points() - 1, &mut Oldest);
            let found = LogDir::open("/data", on(&left, mode)).unwrap();
            assert_once(&found.partition("t", 0).unwrap(), 61);
            dir.close().unwrap();
            assert!(disk.exists(Path::new(MARKER)).unwrap(), "{mode:?} {pages:?}");
        }
    }
}

#[test]
fn a_crash_while_a_partition_is_opened_again_loses_nothing_that_was_acknowledged() {
    for mode in MODES {
        let disk = disk(mode);
        let dir = before(&disk, mode);
        disk.inject(Fault::nth(Operation::Sync, 1).pages(FailedSync::Dropped));
        append(&dir.partition("t", 0).unwrap(), 10).unwrap_err();
        let first = disk.crash_points();
        let log = dir.reopen_partition("t", 0).unwrap();
        let reopened = disk.crash_points();
        append(&log, 10).unwrap();
        for point in first..disk.crash_points() {
            for left in disk.images(point, 50, 0) {
                let dir = LogDir::open("/data", on(&left, mode)).unwrap();
                let log = dir.partition("t", 0).unwrap_or_else(|error| panic!("{mode:?} {point}: {error}"));
                let end = log.log_end_offset();
                assert!((Offset(10)..=Offset(11)).contains(&end), "{mode:?} {point}: {end}");
                assert_once(&log, end.0 as i32);
                assert_once(&dir.partition("t", 1).unwrap(), 10);
                assert!(point < reopened || append(&log, 10).is_ok());
            }
        }
    }
}

/// A file that there was no descriptor for, or options that could not work, kept a partition closed until all were.
#[test]
fn a_partition_that_did_not_open_comes_back_when_the_cause_is_mended() {
    for mode in MODES {
        let disk = disk(mode);
        before(&disk, mode).close().unwrap();
        let (is_mended, right, wrong) =
            (Arc::new(AtomicBool::new(false)), common::small(mode), common::small(mode).segment_bytes(0));
        let asked = Arc::clone(&is_mended);
        let answer = move |name: &idemlog::TopicPartition| {
            let is_wrong = name.partition() == 0 && !asked.load(Ordering::Relaxed);
            if is_wrong { wrong.clone() } else { right.clone() }
        };
        let dir = LogDir::open("/data", on(&disk, mode).log_for(answer)).unwrap();
        assert!(matches!(dir.reopen_partition("t", 0), Err(Error::InvalidOption { .. })));
        assert!(matches!(dir.partition("t", 0), Err(Error::InvalidOption { .. })));

        is_mended.store(true, Ordering::Relaxed);
        disk.inject(Fault::nth(Operation::List, 1).errno(Fault::EMFILE));
        assert!(matches!(dir.reopen_partition("t", 0), Err(Error::Io(_))));
        assert!(matches!(&dir.failed()[..], [(_, Error::Io(_))]));

        let log = dir.reopen_partition("t", 0).unwrap();
        assert_eq!(dir.failed().len(), 0);
        assert!(append(&log, 9).unwrap() && !append(&log, 10).unwrap());
        assert_once(&dir.partition("t", 0).unwrap(), 11);
        dir.close().unwrap();
        assert!(disk.exists(Path::new(MARKER)).unwrap(), "{mode:?}");
    }
}

/// What the directory refused, or gave out, while the partition was not there counts in it as well.
#[test]
fn a_partition_that_comes_back_knows_who_was_fenced_and_its_producers_ids_are_not_given_out() {
    for mode in MODES {
        let disk = disk(mode);
        let dir = before(&disk, mode);
        let named = dir.producer("a name").unwrap();
        let (id, epoch) = (named.id().0, named.epoch().0);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(id, epoch, 0, 1)).unwrap();
        log.append(&batch(5000, 0, 0, 1)).unwrap();
        dir.close().unwrap();
        disk.inject(Fault::nth(Operation::List, 2).errno(Fault::EMFILE));
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        assert_eq!(dir.failed().len(), 1, "{mode:?}");
        let fenced = dir.producer("a name").unwrap();
        assert_eq!((fenced.id().0, fenced.epoch()), (id, ProducerEpoch(epoch + 1)));

        let failed = dir.failed().remove(0).0;
        assert_eq!(failed.partition(), 0);
        let log = dir.reopen_partition("t", 0).unwrap();
        assert!(matches!(log.append(&batch(id, epoch, 1, 1)), Err(Error::Rejected(_))), "{mode:?}");
        assert!(dir.new_producer_id().unwrap().0 > 5000, "{mode:?}");
    }
}

#[test]
fn only_a_partition_that_takes_nothing_any_more_is_opened_again() {
    for mode in MODES {
        let disk = disk(mode);
        let dir = before(&disk, mode);
        assert!(matches!(dir.reopen_partition("t", 0), Err(Error::Exists { .. })));
        assert!(matches!(dir.reopen_partition("t", 2), Err(Error::Gone)));
        let log = dir.partition("t", 0).unwrap();
        assert!(!append(&log, 10).unwrap());

        log.close().unwrap();
        assert!(matches!(append(&dir.partition("t", 0).unwrap(), 11), Err(Error::Closed)));
        let again = dir.reopen_partition("t", 0).unwrap();
        assert!(!append(&again, 11).unwrap());
        assert!(matches!(append(&log, 12), Err(Error::Closed)));
        log.close().unwrap();
        assert!(!append(&again, 12).unwrap());

        disk.inject(Fault::nth(Operation::Rename, 1));
        dir.delete_partition("t", 0).unwrap_err();
        assert!(matches!(dir.reopen_partition("t", 0), Err(Error::Io(_))));
        assert!(dir.delete_partition("t", 0).unwrap());
        let looking = LogDir::open("/data", on(&disk, mode).read_only(true)).unwrap();
        assert!(matches!(looking.reopen_partition("t", 1), Err(Error::ReadOnly { .. })));
        dir.close().unwrap();
        assert!(matches!(dir.reopen_partition("t", 1), Err(Error::Closed)));
    }
}

/// Two who open it again at once, and one who deletes it: there is one log, or none.
#[test]
fn a_partition_is_opened_again_once_however_many_ask() {
    for mode in MODES {
        for _ in 0..20 {
            let disk = disk(mode);
            let dir = before(&disk, mode);
            dir.partition("t", 0).unwrap().close().unwrap();
            let reopened = std::thread::scope(|scope| {
                let threads = [0; 3].map(|_| scope.spawn(|| dir.reopen_partition("t", 0)));
                threads.map(|thread| thread.join().unwrap())
            });
            let refused = reopened.iter().filter(|log| matches!(log, Err(Error::Exists { .. }))).count();
            assert_eq!(refused, 2, "{reopened:?}");
            dir.partition("t", 0).unwrap().close().unwrap();
            std::thread::scope(|scope| {
                let reopening = scope.spawn(|| dir.reopen_partition("t", 0));
                assert!(dir.delete_partition("t", 0).unwrap());
                let reopened = reopening.join().unwrap();
                assert!(reopened.is_err() || matches!(append(&reopened.unwrap(), 10), Err(Error::Gone)));
            });
            assert!(dir.find("t", 0).unwrap().is_none());
        }
    }
}

/// A partition whose directory had vanished from a directory that was closed well, by a volume that was not there or by a hand,
/// came back empty, and nobody was told; its followers truncated what they had.
#[test]
fn a_partition_that_vanished_is_refused_until_it_is_back_or_deleted() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let [here, away] = ["t-0", "elsewhere"].map(|name| data.path().join("data").join(name));
        let open = || LogDir::open(data.path().join("data"), options(mode)).unwrap();
        let dir = open();
        dir.partition("empty", 0).unwrap();
        append(&dir.partition("t", 0).unwrap(), 0).unwrap();
        append(&dir.partition("u", 0).unwrap(), 0).unwrap();
        dir.close().unwrap();
        std::fs::rename(&here, &away).unwrap();
        std::fs::remove_dir_all(data.path().join("data/empty-0")).unwrap();
        // Also the opening behind it finds that, and the one behind a kill: a supervisor starts a host anew that refuses to run.
        for is_closed in [true, false, false, true] {
            let dir = open();
            let is_missing = |answer: Result<Log, Error>| {
                let Err(Error::Corrupt(found)) = answer else { panic!("{answer:?}") };
                let recovery_point = Offset(1);
                assert_eq!(found.kind, CorruptionKind::MissingPartition { recovery_point }, "{mode:?}");
                assert_eq!(found.path, here);
            };
            is_missing(dir.partition("t", 0));
            is_missing(dir.create_partition("t", 0));
            is_missing(dir.reopen_partition("t", 0));
            assert_eq!(dir.failed().len(), 1, "{mode:?}");
            assert_eq!(dir.partition("empty", 0).unwrap().log_end_offset(), Offset(0), "nothing was lost");
            dir.delete_partition("empty", 0).unwrap();
            if is_closed {
                dir.close().unwrap();
            }
        }
        let dir = open();
        std::fs::rename(&away, &here).unwrap();
        assert_once(&dir.reopen_partition("t", 0).unwrap(), 1);
        dir.close().unwrap();

        std::fs::rename(&here, &away).unwrap();
        let dir = open();
        assert!(dir.delete_partition("t", 0).unwrap());
        dir.close().unwrap();
        let dir = open();
        assert_eq!((dir.failed().len(), dir.find("t", 0).unwrap().is_none()), (0, true), "{mode:?}");
        assert_eq!(dir.partition("t", 0).unwrap().log_end_offset(), Offset(0));
        assert_once(&dir.partition("u", 0).unwrap(), 1);
    }
}

/// A deletion that a crash cuts short, behind the rename and in front of the checkpoint, is no loss, and neither is what Kafka is moving
/// here under a longer name.
#[test]
fn a_partition_that_was_being_deleted_or_moved_is_not_missed() {
    for mode in MODES {
        let disk = disk(mode);
        let dir = before(&disk, mode);
        dir.partition("t", 1).unwrap().close().unwrap();
        let begun = disk.crash_points();
        dir.delete_partition("t", 0).unwrap();
        for point in begun..disk.crash_points() {
            for image in disk.images(point, 4, 7) {
                let dir = LogDir::open("/data", on(&image, mode)).unwrap();
                assert!(dir.failed().is_empty(), "{mode:?} {point}: {:?}", dir.failed());
            }
        }
        dir.close().unwrap();
        let moved = format!("/data/t-1.{}-future", "0".repeat(32));
        disk.rename("/data/t-1".as_ref(), moved.as_ref()).unwrap();
        assert!(LogDir::open("/data", on(&disk, mode)).unwrap().failed().is_empty(), "{mode:?}");
    }
}

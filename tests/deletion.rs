//! Partitions that are deleted on a disk that fails: each is there or gone, and whoever asks is told which.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;
#[path = "common/gate.rs"]
mod gate;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{MODES, batch, change, open, options, stored};
use gate::GatedDisk;
use idemlog::sim::{Fault, Oldest, Operation, SimDisk};
use idemlog::{Disk, Error, IoMode, LogDir, Offset};

const MARKER: &str = "/data/.kafka_cleanshutdown";

fn on(disk: &SimDisk, mode: IoMode) -> LogDir {
    LogDir::open("/data", options(mode).disk(Arc::new(disk.clone()))).unwrap()
}

/// A directory with a partition of ten batches, the first five of which are deleted.
fn before(mode: IoMode) -> (SimDisk, LogDir) {
    let disk = SimDisk::new(mode);
    let dir = on(&disk, mode);
    let log = dir.partition("t", 0).unwrap();
    (0..10).for_each(|at| assert!(!log.append(&batch(1, 0, at, 1)).unwrap().is_duplicate()));
    log.delete_records(Offset(5)).unwrap();
    (disk, dir)
}

/// The second try was answered as if there were no partition, and the next opening had it again.
#[test]
fn a_deletion_that_failed_can_be_tried_again_and_is_durable_then() {
    for mode in MODES {
        for operation in [Operation::Rename, Operation::SyncDirectory] {
            let (disk, dir) = before(mode);
            disk.inject(Fault::nth(operation, 1));
            assert!(matches!(dir.delete_partition("t", 0), Err(Error::Io(_))), "{operation:?}");
            assert!(matches!(dir.find("t", 0), Err(Error::Io(_))), "{operation:?}");
            assert!(matches!(dir.partition("t", 0), Err(Error::Io(_))), "{operation:?}");
            assert_eq!(dir.failed().len(), 1, "{operation:?}");

            assert!(dir.delete_partition("t", 0).unwrap(), "{operation:?}");
            assert!(!dir.delete_partition("t", 0).unwrap(), "{operation:?}");
            assert_eq!(dir.failed().len(), 0, "{operation:?}");
            let left = disk.list(Path::new("/data")).unwrap();
            let is_deleted = |name: &OsString| name.to_string_lossy().ends_with("-delete");
            assert!(!left.iter().any(|entry| is_deleted(&entry.name)), "{operation:?}: {left:?}");
            let after_power_cut = disk.crash(disk.crash_points() - 1, &mut Oldest);
            assert!(on(&after_power_cut, mode).find("t", 0).unwrap().is_none(), "{operation:?}");
            assert_eq!(dir.partition("t", 0).unwrap().log_end_offset(), Offset(0), "{operation:?}");
        }
    }
}

/// A partition whose deletion failed was forgotten by the checkpoints, and the directory marked clean: its records came back
/// that had been deleted one by one.
#[test]
fn a_partition_whose_deletion_failed_comes_back_as_it_was() {
    for mode in MODES {
        let (disk, dir) = before(mode);
        disk.inject(Fault::nth(Operation::Rename, 1));
        assert!(dir.delete_partition("t", 0).is_err());
        dir.close().unwrap();
        assert!(!disk.exists(Path::new(MARKER)).unwrap());

        let log = on(&disk, mode).partition("t", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(5), Offset(10)), "{mode:?}");
    }
}

/// One file of a deleted partition that could not be removed kept all others from opening.
#[test]
fn a_deleted_partition_that_cannot_be_removed_keeps_no_other_from_opening() {
    for mode in MODES {
        let (disk, dir) = before(mode);
        dir.partition("other", 0).unwrap().append(&batch(1, 0, 0, 1)).unwrap();
        disk.inject(Fault::nth(Operation::Remove, 1));
        assert!(dir.delete_partition("t", 0).is_err());
        let leftovers = || {
            let entries = disk.list(Path::new("/data")).unwrap().into_iter();
            entries.filter(|entry| entry.name.to_string_lossy().ends_with("-delete")).count()
        };
        drop(dir);
        disk.inject(Fault::nth(Operation::Remove, 1).on("-delete").forever());
        let dir = on(&disk, mode);
        assert_eq!((dir.failed().len(), leftovers()), (0, 1), "{mode:?}");
        assert_eq!(stored(&dir.find("other", 0).unwrap().unwrap()).len(), 1);
        assert!(dir.find("t", 0).unwrap().is_none());
        drop(dir);
        disk.clear_faults();
        drop(on(&disk, mode));
        assert_eq!(leftovers(), 0, "the next one tries again");
    }
}

/// The checkpoints forget a deleted partition before its directory goes. Where they found no room to be written, its files stayed, and
/// with them a disk that was full.
#[test]
fn a_deletion_gives_room_back_before_it_needs_some() {
    for mode in MODES {
        let (disk, dir) = before(mode);
        disk.inject(Fault::nth(Operation::Create, 1).on("offset-checkpoint").errno(Fault::ENOSPC).forever());
        assert!(dir.delete_partition("t", 0).is_err());
        let left = || {
            let entries = disk.list(Path::new("/data")).unwrap().into_iter();
            let doomed =
                entries.map(|entry| entry.name).find(|name| name.to_string_lossy().ends_with("-delete"));
            doomed.map(|name| disk.list(&Path::new("/data").join(name)).unwrap().len())
        };
        assert_eq!((left(), dir.failed().len()), (Some(0), 0), "{mode:?}");
        drop(dir);
        disk.clear_faults();
        assert!(on(&disk, mode).failed().is_empty(), "it was no loss");
        assert_eq!(left(), None, "{mode:?}");
    }
}

/// It was answered as if there were none, and stayed on the disk.
#[test]
fn a_partition_that_did_not_open_can_be_deleted() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        dir.partition("t", 0).unwrap().append(&batch(1, 0, 0, 1)).unwrap();
        dir.close().unwrap();
        change(&data.path().join("t-0/00000000000000000000.log"), |bytes| bytes[30] ^= 1);

        let dir = open(data.path(), mode);
        assert!(matches!(dir.find("t", 0), Err(Error::Corrupt(_))));
        assert!(dir.delete_partition("t", 0).unwrap());
        assert!(!data.path().join("t-0").exists());
        let another = dir.partition("t", 0).unwrap();
        another.append(&batch(2, 0, 0, 1)).unwrap();
        dir.close().unwrap();
        assert_eq!(stored(&open(data.path(), mode).partition("t", 0).unwrap()).len(), 1);
    }
}

/// While the directory of a partition got its new name, which takes a slow disk seconds, nobody could look for any other.
#[test]
fn a_deletion_that_takes_long_holds_up_nobody_who_looks_for_another_partition() {
    const SOON: Duration = Duration::from_secs(30);
    for mode in MODES {
        let gated = GatedDisk::new(&SimDisk::new(mode));
        let dir = LogDir::open("/data", options(mode).disk(gated.clone())).unwrap();
        for topic in ["t", "other"] {
            dir.partition(topic, 0).unwrap().append(&batch(1, 0, 0, 1)).unwrap();
        }
        let gate = gated.close_before_for("t-0", SOON);
        std::thread::scope(|scope| {
            let deletion = scope.spawn(|| dir.delete_partition("t", 0));
            gate.wait();
            let (looks, has_looked) = channel();
            let looking = dir.clone();
            scope.spawn(move || {
                let other = looking.find("other", 0).unwrap().unwrap();
                other.append(&batch(1, 0, 1, 1)).unwrap();
                assert!(matches!(looking.find("t", 0), Err(Error::Gone)), "{mode:?}");
                assert_eq!((looking.failed().len(), looking.partitions().len()), (0, 1), "{mode:?}");
                assert_eq!(looking.metrics().sum.producers, 1, "{mode:?}");
                looks.send(()).unwrap();
            });
            let looked = has_looked.recv_timeout(SOON / 6);
            // Who wants to have it waits for the end of the deletion.
            let anew = scope.spawn(|| dir.partition("t", 0).unwrap().log_end_offset());
            gate.open();
            assert!(deletion.join().unwrap().unwrap());
            assert_eq!(anew.join().unwrap(), Offset(0), "{mode:?}");
            looked.unwrap();
        });
    }
}

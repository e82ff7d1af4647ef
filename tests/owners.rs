//! What a host may do in an unusual order: whoever does not own a directory any more, or never did, changes nothing in it. Each
//! test begins with the story of a bug that was found by reading.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

#[path = "common/alone.rs"]
mod alone;
mod common;
#[path = "common/gate.rs"]
mod gate;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alone::alone;
use common::{MODES, batch, open, options, plain, stored};
use gate::GatedDisk;
use idemlog::sim::{FailedSync, Fault, Oldest, Operation, SimDisk};
use idemlog::{
    AppendOptions, Batch, ControlRecord, Durability, Error, IoMode, Log, LogDir, LogDirOptions, LogOptions,
    Offset, Origin, Result,
};

/// A directory that was opened for reading only deleted its owner's partition, gave the owner's prepared segment another name,
/// and wrote a snapshot.
#[test]
fn whoever_only_reads_a_directory_changes_nothing_by_any_call() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        (0..20).for_each(|at| assert!(!log.append(&batch(1, 0, at, 1)).unwrap().is_duplicate()));
        let empty = dir.partition("empty", 0).unwrap();
        let names = || {
            let list = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            let mut names: Vec<_> =
                list(data.path()).chain(list(log.directory())).chain(list(empty.directory())).collect();
            names.sort();
            names
        };
        let before = names();
        let looking = LogDir::open(data.path(), options(mode).read_only(true)).unwrap();
        let seen = looking.partition("t", 0).unwrap();
        let refused = [
            looking.delete_partition("t", 0).map(drop),
            looking.partition("another", 0).map(drop),
            seen.roll(),
            seen.append(&plain("no")).map(drop),
            seen.truncate_to(Offset(1)).map(drop),
            seen.truncate_fully(Offset(1)),
            seen.delete_records(Offset(1)).map(drop),
            seen.apply_retention().map(drop),
            looking.partition("empty", 0).unwrap().import_producers(&empty.export_producers()),
            looking.new_producer_id().map(drop),
            looking.producer("a name").map(drop),
        ];
        for (call, answer) in refused.into_iter().enumerate() {
            assert!(matches!(answer, Err(Error::ReadOnly { .. })), "{mode:?}, call {call}: {answer:?}");
        }
        looking.close().unwrap();
        assert_eq!(names(), before);
        log.append(&batch(1, 0, 20, 1)).unwrap();
        assert_eq!(stored(&log).len(), 21);
    }
}

/// A path that was relative meant another directory once the host had gone elsewhere: a close there cut the files of its owner.
/// (In a process of its own, as all threads share where they are.)
#[test]
fn a_directory_is_the_one_that_it_was_when_the_host_goes_elsewhere() {
    alone("a_directory_is_the_one_that_it_was_when_the_host_goes_elsewhere", || {
        let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let dirs = places.each_ref().map(|place| {
            std::env::set_current_dir(place).unwrap();
            LogDir::open("data", LogDirOptions::default()).unwrap()
        });
        let [one, other] = dirs.each_ref().map(|dir| dir.partition("t", 0).unwrap());
        one.append(&batch(1, 0, 0, 1)).unwrap();
        (0..50).for_each(|at| assert!(!other.append(&batch(1, 0, at, 1)).unwrap().is_duplicate()));
        dirs[0].close().unwrap();
        assert_eq!(stored(&other).len(), 50);
        drop((one, other, dirs));
        for (place, count) in places.iter().zip([1, 50]) {
            let dir = LogDir::open(place.path().join("data"), LogDirOptions::default()).unwrap();
            assert_eq!(stored(&dir.partition("t", 0).unwrap()).len(), count);
        }
    });
}

fn on(disk: &SimDisk, mode: IoMode) -> (LogDir, Log) {
    let options =
        LogDirOptions::default().disk(Arc::new(disk.clone())).log(LogOptions::default().io_mode(Some(mode)));
    let dir = LogDir::open("/data", options).unwrap();
    let log = dir.partition("t", 0).unwrap();
    (dir, log)
}

/// A log that was poisoned when it was to store `last` behind another batch.
fn poisoned(mode: IoMode, pages: FailedSync, last: &Batch) -> (SimDisk, LogDir, Log) {
    let disk = SimDisk::new(mode);
    disk.set_sync_range_covers_length(true);
    let (dir, log) = on(&disk, mode);
    log.append(&batch(1, 0, 0, 1)).unwrap();
    disk.inject(Fault::nth(Operation::Sync, 1).pages(pages));
    log.append(last).unwrap_err();
    (disk, dir, log)
}

/// A log that was poisoned counted as closed well, and its directory was marked clean: the next opening believed what nobody
/// knew to be on the disk.
#[test]
fn a_directory_with_a_log_that_was_poisoned_or_closed_badly_is_not_marked_clean() {
    for close_first in [false, true] {
        let (disk, dir, log) = poisoned(MODES[0], FailedSync::Dropped, &batch(1, 0, 1, 1));
        assert!(matches!(log.append(&plain("no")), Err(Error::Poisoned(_))));
        if close_first {
            assert!(matches!(log.close(), Err(Error::Poisoned(_))));
        }
        assert!(matches!(dir.close(), Err(Error::Poisoned(_))));
        assert!(matches!(log.read(Offset(0), 1), Err(Error::Closed)));
        let marker = Path::new("/data/.kafka_cleanshutdown");
        assert!(!idemlog::Disk::exists(&disk, marker).unwrap());
    }
}

/// After a sync that failed, memory has what the disk has not, and counts as written. The next opening synced nothing, believed
/// what it read, and answered a batch that was sent again as a duplicate: a loss of power then took it.
#[test]
fn what_an_opening_believes_behind_a_failed_sync_survives_the_machine() {
    // Of several pages: that at the end of a file is written whenever the file is cut.
    let large = batch(1, 0, 1, 200);
    for mode in MODES {
        for failed in [FailedSync::Kept, FailedSync::Dropped, FailedSync::Reverted] {
            let (disk, dir, log) = poisoned(mode, failed, &large);
            drop((dir, log));
            let killed = disk.kill(disk.crash_points() - 1);
            let (dir, log) = on(&killed, mode);
            let acknowledged = log.append(&large).unwrap().offsets();
            drop((dir, log));
            let (_dir, log) = on(&killed.crash(killed.crash_points() - 1, &mut Oldest), mode);
            assert_eq!(stored(&log).len(), 2, "{mode:?}, {failed:?}");
            assert_eq!(log.append(&large).unwrap().offsets(), acknowledged, "{mode:?}, {failed:?}");
        }
    }
}

/// A handle of a partition that was poisoned and then deleted read the batches of the one that was made under its name.
#[test]
fn a_partition_that_was_poisoned_and_deleted_is_gone() {
    let (_disk, dir, log) = poisoned(MODES[0], FailedSync::Dropped, &batch(1, 0, 1, 1));
    dir.delete_partition("t", 0).unwrap();
    let another = dir.partition("t", 0).unwrap();
    another.append(&plain("another")).unwrap();
    assert!(matches!(log.read(Offset(0), 1), Err(Error::Gone)));
    assert!(matches!(log.aborted_transactions(Offset(0), Offset(1)), Err(Error::Gone)));
    assert_eq!(stored(&another).len(), 1);
}

/// A named producer that was fenced could append again where a marker or a replicated batch had made its id known.
#[test]
fn a_fenced_producer_stays_fenced_whatever_makes_its_id_known() {
    type Make = fn(&Log, &idemlog::Producer);
    let ways: [(&str, Make); 3] = [
        ("nothing", |_, _| {}),
        ("a marker", |log, old| {
            let abort = ControlRecord::Abort { coordinator_epoch: 0 };
            log.end_transaction(old.id(), old.epoch(), abort).unwrap();
        }),
        ("a replicated batch", |log, old| {
            let follower = AppendOptions::default().origin(Origin::Replication);
            log.submit(&[batch(old.id().0, old.epoch().0, 0, 1)], follower).unwrap().wait().unwrap();
        }),
    ];
    for mode in MODES {
        for (name, make_known) in ways {
            let data = tempfile::tempdir().unwrap();
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            let (old, new) = (dir.producer("x").unwrap(), dir.producer("x").unwrap());
            make_known(&log, &old);
            let refused = log.append(&batch(old.id().0, old.epoch().0, 1, 1));
            assert!(matches!(refused, Err(Error::Rejected(_))), "{name}: {refused:?}");
            assert!(!log.append(&batch(new.id().0, new.epoch().0, 0, 1)).unwrap().is_duplicate(), "{name}");
        }
    }
}

/// A call that was under way when the directory was closed still gave out what the next owner had read as free. Of two producers
/// with one id and epoch neither is fenced, and the records of one count as sent again by the other.
#[test]
fn what_is_given_out_while_a_directory_closes_the_next_owner_does_not_give_out_again() {
    type Draw = fn(&LogDir) -> Result<(i64, i16)>;
    let draws: [(&str, Draw); 2] = [
        ("idemlog-producer-ids.tmp", |dir| dir.new_producer_id().map(|id| (id.0, 0))),
        ("idemlog-named-producers.tmp", |dir| dir.producer("x").map(|x| (x.id().0, x.epoch().0))),
    ];
    for (file, draw) in draws {
        let disk = SimDisk::new(MODES[0]);
        let (before, _) = on(&disk, MODES[0]);
        before.producer("x").unwrap();
        before.close().unwrap();
        let gated = GatedDisk::new(&disk);
        let dir = LogDir::open("/data", options(MODES[0]).disk(gated.clone())).unwrap();
        let gate = gated.close_before(file);
        std::thread::scope(|scope| {
            let late = scope.spawn(|| draw(&dir));
            gate.wait();
            dir.close().unwrap();
            let next = draw(&on(&disk, MODES[0]).0).unwrap();
            gate.open();
            assert_ne!(late.join().unwrap().unwrap(), next);
        });
    }
}

/// The second call said that the records were deleted, although nothing could write that down any more.
#[test]
fn records_are_not_deleted_by_a_log_whose_directory_was_dropped() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    let log = dir.partition("t", 0).unwrap();
    (0..10).for_each(|at| assert!(!log.append(&batch(1, 0, at, 1)).unwrap().is_duplicate()));
    drop(dir);
    for _ in 0..3 {
        assert!(matches!(log.delete_records(Offset(5)), Err(Error::Closed)));
    }
}

/// What an append between two looks added was never given back, and with a bound of one batch everybody waited for ever.
#[test]
fn a_bound_of_one_batch_is_kept_by_many_threads() {
    let data = tempfile::tempdir().unwrap();
    let bounded = LogOptions::default().max_pending(1).durability(Durability::Buffered);
    let dir = LogDir::open(data.path(), LogDirOptions::default().log(bounded)).unwrap();
    let log = dir.partition("t", 0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for at in 0..200 {
                    log.append(&batch(thread, 0, at, 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(stored(&log).len(), 800);
}

/// What was asked for while nobody worked stood as asked for when somebody did, and was asked for no more: the segments that
/// were rolled from then on got no snapshot, and an opening had to read them all again.
#[test]
fn workers_that_come_late_find_what_was_asked_for_before() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&plain("before")).unwrap();
        log.roll().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| dir.run_background());
            let before = log.recovery_point();
            let deadline = Instant::now() + Duration::from_secs(30);
            while log.recovery_point() == before && Instant::now() < deadline {
                log.append(&plain(&"x".repeat(1000))).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            let after = log.recovery_point();
            dir.close().unwrap();
            assert!(after > before, "{mode:?}: nobody seals what is rolled");
        });
    }
}

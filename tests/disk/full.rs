//! A disk without room: a clear error, nothing lost, and on as soon as there is room.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Disk, Error, IoMode, Log, LogDir, LogDirOptions, LogOptions, Offset, RealDisk, TopicId};

use crate::alone::with_mounts;
use crate::history::History;
use crate::volume::{Kind, Volume};

/// Does `work` on a file system of each kind, in each mode that is safe on it.
fn on_each_volume(work: impl Fn(&Volume, IoMode)) {
    for volume in Kind::ALL.into_iter().filter_map(Volume::mount) {
        let default = RealDisk.io_mode(&volume.path()).unwrap();
        work(&volume, default);
        if default != IoMode::Write {
            work(&volume, IoMode::Write);
        }
    }
}

/// A directory on it that is not there yet, and all the room that there is.
fn fresh(volume: &Volume) -> PathBuf {
    let data = volume.path().join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).unwrap();
    }
    volume.empty();
    data
}

fn options(mode: IoMode) -> LogDirOptions {
    let log = LogOptions::default().io_mode(Some(mode)).segment_bytes(256 << 10).index_interval_bytes(1024);
    LogDirOptions::default().log(log)
}

/// Whether an error says that there is no room, and where.
fn is_full(error: &Error, volume: &Volume) -> bool {
    matches!(error, Error::Io(io)
        if io.source.kind() == std::io::ErrorKind::StorageFull && io.path.starts_with(volume.path()))
}

fn assert_sound(data: &Path) {
    let report = verify(data, &VerifyOptions::default()).unwrap();
    assert!(!report.has_errors(), "{:#?}", report.problems);
}

#[test]
fn appends_on_a_full_disk_are_errors_and_go_on_when_there_is_room() {
    with_mounts("full::appends_on_a_full_disk_are_errors_and_go_on_when_there_is_room", || {
        on_each_volume(|volume, mode| {
            [0, 1].into_iter().for_each(|threads| fill_with_appends(volume, mode, threads));
        });
    });
}

fn fill_with_appends(volume: &Volume, mode: IoMode, threads: usize) {
    let data = fresh(volume);
    let dir = LogDir::open(&data, options(mode).background_threads(threads)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let mut history = History::default();
    for room in [600 << 10, 64 << 10] {
        volume.leave(room);
        for _ in 0..3 {
            let error = history.append_until_error(&log, 20_000);
            assert!(is_full(&error, volume), "{:?} {mode:?}: {error:?}", volume.kind);
            history.check(&log);
        }
        log.sync().unwrap();
        volume.empty();
        history.write(&log, 100);
        history.check(&log);
    }
    dir.close().unwrap();
    assert_sound(&data);
    history.check_reopened(&LogDir::open(&data, options(mode)).unwrap());
}

/// Something that needs room, by name.
type Operation = (&'static str, fn(&LogDir, &Log, &mut History) -> Result<(), Error>);

const OPERATIONS: [Operation; 7] = [
    ("append", |_, log, history| (0..500).try_for_each(|_| history.append(log))),
    ("roll", |_, log, _| log.roll()),
    ("producer id", |dir, _, _| (0..1001).try_for_each(|_| dir.new_producer_id().map(drop))),
    ("named producer", |dir, _, _| (0..2000).try_for_each(|_| dir.producer("a name").map(drop))),
    ("partition", |dir, _, _| {
        let log = dir.partition("another", 0)?;
        log.append(&crate::common::plain("first")).map(drop)
    }),
    ("topic id", |dir, _, _| dir.partition_of(TopicId([1; 16]), "orders", 0).map(drop)),
    ("import", |dir, log, _| {
        let states = log.export_producers();
        let another = dir.partition("another", 0)?;
        another.truncate_fully(states.offset)?;
        another.import_producers(&states)
    }),
];

#[test]
fn whatever_needs_room_says_so_on_a_full_disk_and_works_when_there_is_some() {
    with_mounts("full::whatever_needs_room_says_so_on_a_full_disk_and_works_when_there_is_some", || {
        on_each_volume(|volume, mode| {
            OPERATIONS.into_iter().for_each(|operation| on_a_full_disk(volume, mode, operation));
        });
    });
}

fn on_a_full_disk(volume: &Volume, mode: IoMode, (name, operation): Operation) {
    let data = fresh(volume);
    let dir = LogDir::open(&data, options(mode)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let mut history = History::default();
    history.write(&log, 50);
    volume.fill();
    let what = format!("{:?} {mode:?} {name}", volume.kind);
    match operation(&dir, &log, &mut history) {
        Err(error) => assert!(is_full(&error, volume), "{what}: {error:?}"),
        // Btrfs keeps small files in what it has for names.
        Ok(()) => assert_eq!(volume.kind, Kind::Btrfs, "{what} needed no room"),
    }
    history.check(&log);
    volume.empty();
    operation(&dir, &log, &mut history).unwrap_or_else(|error| panic!("{what} with room: {error:?}"));
    history.append(&log).unwrap();
    history.check(&log);
    dir.close().unwrap();
    assert_sound(&data);
    history.check_reopened(&LogDir::open(&data, options(mode)).unwrap());
}

/// What is about to be deleted is written down before, and there was no room for that: nothing but the deletion of a whole
/// partition worked on a full disk.
#[test]
fn records_and_segments_can_be_deleted_on_a_full_disk() {
    with_mounts("full::records_and_segments_can_be_deleted_on_a_full_disk", || {
        on_each_volume(make_room);
    });
}

fn make_room(volume: &Volume, mode: IoMode) {
    let what = format!("{:?} {mode:?}", volume.kind);
    let data = fresh(volume);
    let dir = LogDir::open(&data, options(mode)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let mut history = History::default();
    // More than the room that is kept, which the directory takes back first.
    while log.metrics().segments < 16 {
        history.write(&log, 50);
    }
    volume.fill();
    let deleted = log.delete_records(Offset(30));
    assert_eq!(deleted.unwrap_or_else(|error| panic!("{what}: {error:?}")), Offset(30));
    log.set_options((*log.options()).clone().retention_bytes(Some(300 << 10))).unwrap();
    let segments = log.apply_retention().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(segments > 0, "{what}");
    history.deleted_below(log.log_start_offset());
    history.check(&log);
    drop((dir, log)); // killed
    let dir = LogDir::open(&data, options(mode)).unwrap();
    history.check_reopened(&dir);
    history.append(&dir.partition("orders", 0).unwrap()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    drop(dir);
    volume.empty();
}

/// The room that a deletion was given on a full disk went to whoever appended at that moment, and the deletion failed.
#[test]
fn the_room_that_is_kept_for_deletions_is_nobody_elses() {
    with_mounts("full::the_room_that_is_kept_for_deletions_is_nobody_elses", || {
        on_each_volume(delete_while_others_append);
    });
}

fn delete_while_others_append(volume: &Volume, mode: IoMode) {
    let what = format!("{:?} {mode:?}", volume.kind);
    let data = fresh(volume);
    let dir = LogDir::open(&data, options(mode)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let others: Vec<_> = (0..20).map(|number| dir.partition("another", number).unwrap()).collect();
    let mut history = History::default();
    while log.metrics().segments < 8 {
        history.write(&log, 50);
    }
    volume.fill();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for others in others.chunks(5) {
            scope.spawn(|| {
                let batch = crate::common::plain(&"wants room".repeat(5000));
                while !is_done.load(Ordering::Relaxed) {
                    others.iter().for_each(|other| drop(other.append(&batch)));
                }
            });
        }
        let made = panic::catch_unwind(AssertUnwindSafe(|| delete(&log, &mut history, &what)));
        is_done.store(true, Ordering::Relaxed);
        made.unwrap_or_else(|panic| panic::resume_unwind(panic));
    });
    history.check(&log);
    drop((dir, log, others)); // killed
    history.check_reopened(&LogDir::open(&data, options(mode)).unwrap());
    volume.empty();
}

/// Bit by bit, so that the room is given up and taken again.
fn delete(log: &Log, history: &mut History, what: &str) {
    for before in (30..300).step_by(30) {
        let start = log.delete_records(Offset(before)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        history.deleted_below(start);
    }
    for kept in (1..6).rev() {
        let options = (*log.options()).clone().retention_bytes(Some((kept * 256) << 10));
        log.set_options(options).unwrap();
        log.apply_retention().unwrap_or_else(|error| panic!("{what}: {error:?}"));
        history.deleted_below(log.log_start_offset());
    }
}

#[test]
fn a_directory_closes_and_opens_on_a_full_disk() {
    with_mounts("full::a_directory_closes_and_opens_on_a_full_disk", || {
        on_each_volume(|volume, mode| {
            [true, false].into_iter().for_each(|close| open_on_a_full_disk(volume, mode, close));
        });
    });
}

fn open_on_a_full_disk(volume: &Volume, mode: IoMode, close: bool) {
    let what = format!("{:?} {mode:?} {close}", volume.kind);
    let data = fresh(volume);
    let mut history = History::default();
    {
        let dir = LogDir::open(&data, options(mode)).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        history.write(&log, 50);
        volume.fill();
        if close && let Err(error) = dir.close() {
            assert!(is_full(&error, volume), "{what}: {error:?}");
        }
    }
    volume.fill();
    let dir = LogDir::open(&data, options(mode)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    history.check_reopened(&dir);
    let log = dir.partition("orders", 0).unwrap();
    let error = history.append_until_error(&log, 1000);
    assert!(is_full(&error, volume), "{what}: {error:?}");
    history.check(&log);
    volume.empty();
    history.append(&log).unwrap();
    dir.close().unwrap();
    assert_sound(&data);
    history.check_reopened(&LogDir::open(&data, options(mode)).unwrap());
}

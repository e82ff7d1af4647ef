//! A disk that dies under an open log, and files that somebody else truncates or removes.

use std::path::Path;
use std::process::Command;

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{CorruptionKind, CorruptionPolicy, Error, IoMode, Log, LogDir, Offset};

use crate::alone::{alone, ending, ending_with_mounts, with_mounts};
use crate::common::{MODES, options};
use crate::history::History;
use crate::volume::{Kind, Volume};

/// What the kernel ends a process with that touches a mapped page which it cannot have.
const SIGBUS: i32 = 7;

fn open(data: &Path, mode: IoMode) -> (LogDir, Log, History) {
    let dir = LogDir::open(data, options(mode)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let mut history = History::default();
    history.write(&log, 30);
    (dir, log, history)
}

/// Another process does something to the files of the partition.
fn another_process(log: &Log, script: &str) {
    let status = Command::new("sh").args(["-c", script]).current_dir(log.directory()).status().unwrap();
    assert!(status.success());
}

/// Whether an error says that a file below `data` is not there.
fn is_missing(error: &Error, data: &Path) -> bool {
    matches!(error, Error::Io(io)
        if io.source.kind() == std::io::ErrorKind::NotFound && io.path.starts_with(data))
}

/// Appends until the disk says no; from then on nothing is taken, and nothing is durable that may not be.
fn die(kind: Kind, mode: IoMode) {
    let Some(volume) = Volume::mount(kind) else { return };
    let (dir, log, mut history) = open(&volume.path().join("data"), mode);
    let durable = log.durable_offset();
    if !volume.die() {
        return;
    }
    let error = history.append_until_error(&log, 1);
    assert!(matches!(error, Error::InDoubt | Error::Poisoned(_) | Error::Io(_)), "{error:?}");
    history.append_until_error(&log, 1);
    assert_eq!(log.durable_offset(), durable);
    assert!(dir.close().is_err());
}

#[test]
fn a_disk_that_dies_is_an_error_in_write_mode() {
    with_mounts("dying::a_disk_that_dies_is_an_error_in_write_mode", || {
        [Kind::Ext4, Kind::Xfs].into_iter().for_each(|kind| die(kind, IoMode::Write));
    });
}

/// The price of memory maps: where the kernel has no page to give, it has no error to give either.
#[test]
fn a_disk_that_dies_under_a_mapping_is_an_error_or_ends_the_process() {
    let test = "dying::a_disk_that_dies_under_a_mapping_is_an_error_or_ends_the_process";
    let ended = ending_with_mounts(test, || {
        [Kind::Ext4, Kind::Xfs].into_iter().for_each(|kind| die(kind, IoMode::Mapped));
    });
    if let Some(ended) = ended {
        assert!(ended.success() || is_sigbus(ended), "{ended}");
    }
}

fn is_sigbus(ended: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    ended.signal() == Some(SIGBUS)
}

#[test]
fn a_file_truncated_by_another_process_is_an_error_to_readers_in_write_mode() {
    alone("dying::a_file_truncated_by_another_process_is_an_error_to_readers_in_write_mode", || {
        let data = tempfile::tempdir().unwrap();
        let (dir, log, _) = open(data.path(), IoMode::Write);
        another_process(&log, "for file in *.log; do : > $file; done");
        let error = log.reader(Offset(0)).unwrap().find_map(Result::err).unwrap();
        assert!(matches!(&error, Error::Corrupt(found) if found.path.starts_with(data.path())), "{error:?}");
        drop((dir, log));
        // Sealed segments are not read again by an opening; `verify` does.
        let report = verify(data.path(), &VerifyOptions::default()).unwrap();
        assert!(report.has_errors(), "{report:?}");
    });
}

#[test]
fn a_durable_end_that_another_process_cut_off_is_missed_by_the_next_opening() {
    alone("dying::a_durable_end_that_another_process_cut_off_is_missed_by_the_next_opening", || {
        for mode in MODES {
            let data = tempfile::tempdir().unwrap();
            let (dir, log, _) = open(data.path(), mode);
            dir.close().unwrap();
            another_process(&log, "truncate -s -1 $(ls *.log | tail -1)");
            drop((dir, log));
            let dir = LogDir::open(data.path(), options(mode)).unwrap();
            let error = dir.partition("orders", 0).unwrap_err();
            assert!(
                matches!(&error, Error::Corrupt(found) if found.path.starts_with(data.path())),
                "{error:?}"
            );
        }
    });
}

/// The price of memory maps, again: a page behind the end of its file cannot be had.
#[test]
fn a_file_truncated_by_another_process_ends_a_process_that_reads_it_through_a_mapping() {
    let test = "dying::a_file_truncated_by_another_process_ends_a_process_that_reads_it_through_a_mapping";
    let ended = ending(test, || {
        let data = tempfile::tempdir().unwrap();
        let (_dir, log, _) = open(data.path(), IoMode::Mapped);
        another_process(&log, "for file in *.log; do : > $file; done");
        std::hint::black_box(log.reader(Offset(0)).unwrap().map(Result::unwrap).count());
    });
    if let Some(ended) = ended {
        assert!(is_sigbus(ended), "{ended}");
    }
}

#[test]
fn a_sealed_segment_truncated_while_nobody_has_it_open_is_an_error_in_either_mode() {
    alone("dying::a_sealed_segment_truncated_while_nobody_has_it_open_is_an_error_in_either_mode", || {
        for mode in MODES {
            let data = tempfile::tempdir().unwrap();
            let dir = LogDir::open(data.path(), options(mode).max_open_segments(1)).unwrap();
            let log = dir.partition("orders", 0).unwrap();
            let mut history = History::default();
            history.write(&log, 30);
            another_process(&log, ": > 00000000000000000000.log");
            let error = log.reader(Offset(0)).unwrap().find_map(Result::err).unwrap();
            assert!(
                matches!(&error, Error::Corrupt(found) if found.path.ends_with("00000000000000000000.log")),
                "{error:?}"
            );
            // The rest goes on.
            (0..20).for_each(|_| history.append(&log).unwrap());
        }
    });
}

#[test]
fn a_file_removed_by_another_process_stays_for_those_who_have_it_and_is_missed_by_the_next_opening() {
    alone(
        "dying::a_file_removed_by_another_process_stays_for_those_who_have_it_and_is_missed_by_the_next_opening",
        || {
            for mode in MODES {
                let data = tempfile::tempdir().unwrap();
                let (dir, log, mut history) = open(data.path(), mode);
                history.check(&log);
                another_process(&log, "rm $(ls *.log | tail -1)");
                // The name is gone, the file is not: neither the log nor its readers notice.
                history.append(&log).unwrap();
                history.check(&log);
                let log_end = log.log_end_offset();
                // A close does.
                let error = dir.close().unwrap_err();
                assert!(is_missing(&error, data.path()), "{mode:?}: {error:?}");
                drop((dir, log));
                // All that was in the file is lost, which the checkpoints know to have been durable; what lies before it is there.
                let dir = LogDir::open(data.path(), options(mode)).unwrap();
                let Err(Error::Corrupt(found)) = dir.partition("orders", 0) else { panic!("{mode:?}") };
                let (expected, got) = (log_end, Offset(280));
                assert_eq!(found.kind, CorruptionKind::MissingEnd { expected, got }, "{mode:?}");
                drop(dir);
                let log_options = options(mode).log.corruption(CorruptionPolicy::CutAndKeep);
                let dir = LogDir::open(data.path(), options(mode).log(log_options)).unwrap();
                assert_eq!(dir.partition("orders", 0).unwrap().log_end_offset(), got);
            }
        },
    );
}

#[test]
fn a_partition_removed_by_another_process_is_an_error_as_soon_as_a_file_is_made() {
    alone("dying::a_partition_removed_by_another_process_is_an_error_as_soon_as_a_file_is_made", || {
        for mode in MODES {
            let data = tempfile::tempdir().unwrap();
            let (_dir, log, mut history) = open(data.path(), mode);
            another_process(&log, "rm -r $PWD");
            let error = history.append_until_error(&log, 100);
            assert!(
                is_missing(&error, data.path()) || matches!(error, Error::InDoubt),
                "{mode:?}: {error:?}"
            );
        }
    });
}

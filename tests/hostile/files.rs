//! A directory in which somebody put what does not belong there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Error, IoMode, LogDir, TopicPartition};
use tempfile::TempDir;

use crate::common::{MODES, batch, open, options, stored};

/// What stands where a file or a directory should be.
type Impostor = (&'static str, fn(&Path));

const IMPOSTORS: [Impostor; 5] = [
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a link to nowhere", |path| symlink("/nowhere/at/all", path).unwrap()),
    ("a link to a device", |path| symlink("/dev/zero", path).unwrap()),
    ("a pipe", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ("a link to itself", |path| symlink(path, path).unwrap()),
];

/// A closed log directory with one partition of several segments.
fn closed(mode: IoMode) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), mode);
    let log = dir.partition("orders", 0).unwrap();
    (0..20).for_each(|at| assert!(!log.append(&batch(7, 0, at * 10, 10)).unwrap().is_duplicate()));
    dir.new_producer_id().unwrap();
    dir.producer("name").unwrap();
    dir.close().unwrap();
    data
}

/// Puts an impostor in the place of `path`.
fn replace(path: &Path, (_, impostor): Impostor) {
    let _ = fs::remove_file(path);
    impostor(path);
}

fn is_about(error: &Error, path: &Path) -> bool {
    match error {
        Error::Io(io) => io.path == path,
        Error::Corrupt(found) => found.path == path,
        _ => false,
    }
}

/// A pipe under the name of a checkpoint was opened, and waited for somebody to write to it.
#[test]
fn what_is_no_file_under_the_name_of_a_directorys_file_is_an_error_that_names_it() {
    let files = [
        ".lock",
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
        "idemlog-producer-ids",
        "idemlog-named-producers",
    ];
    for (file, impostor) in files.into_iter().flat_map(|file| IMPOSTORS.map(|impostor| (file, impostor))) {
        let data = closed(IoMode::Write);
        let path = data.path().join(file);
        replace(&path, impostor);
        let error = LogDir::open(data.path(), options(IoMode::Write)).unwrap_err();
        assert!(is_about(&error, &path), "{} as {file}: {error:?}", impostor.0);
        // Whatever it says, it comes back.
        let _ = verify(data.path(), &VerifyOptions::default());
    }
}

#[test]
fn what_is_no_file_under_the_name_of_a_partitions_file_keeps_that_partition_from_opening() {
    let files = [
        "00000000000000000040.log",
        "00000000000000000040.index",
        "00000000000000000040.timeindex",
        "00000000000000000040.txnindex",
        "00000000000000000040.snapshot",
        "leader-epoch-checkpoint",
        "partition.metadata",
        "segment.prepared",
    ];
    for (file, impostor) in files.into_iter().flat_map(|file| IMPOSTORS.map(|impostor| (file, impostor))) {
        let data = closed(IoMode::Write);
        let path = data.path().join("orders-0").join(file);
        replace(&path, impostor);
        let dir = LogDir::open(data.path(), options(IoMode::Write)).unwrap();
        let error = dir.partition("orders", 0).unwrap_err();
        assert!(is_about(&error, &path), "{} as {file}: {error:?}", impostor.0);
        dir.partition("payments", 0).unwrap().append(&batch(1, 0, 0, 1)).unwrap();
        drop(dir);
        let report = verify(data.path(), &VerifyOptions::default()).unwrap();
        let is_found = report.problems.iter().any(|problem| problem.path == path);
        assert!(report.has_errors() && is_found, "{} as {file}: {report:?}", impostor.0);
    }
}

/// A link under the name of a partition was passed over when the directory was opened, and followed when the partition was
/// asked for: it wrote wherever the link led.
#[test]
fn what_is_no_directory_under_the_name_of_a_partition_is_an_error_and_not_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    for mode in MODES {
        let data = closed(mode);
        symlink(elsewhere.path(), data.path().join("linked-0")).unwrap();
        fs::write(data.path().join("file-0"), b"not a directory").unwrap();
        let dir = LogDir::open(data.path(), options(mode)).unwrap();
        for topic in ["linked", "file"] {
            let path = data.path().join(format!("{topic}-0"));
            let error = dir.partition(topic, 0).unwrap_err();
            assert!(is_about(&error, &path), "{error:?}");
        }
        assert_eq!(dir.partitions(), [TopicPartition::new("orders", 0).unwrap()]);
        dir.close().unwrap();
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}

/// Names that nobody should choose.
fn odd_names() -> Vec<PathBuf> {
    let long = vec![b'x'; 255];
    let names: [&[u8]; 14] = [
        b"\xff\xfe",
        b"\xff-0",
        b"orders\xc3-1",
        b"00000000000000000040\xff.log",
        b"-0",
        b"orders--1",
        b"orders-99999999999999999999",
        b"orders-0 ",
        b" orders-0",
        b"a\nb-0",
        b"000.log",
        b"99999999999999999999.log.bak",
        b".hidden",
        &long,
    ];
    names.into_iter().map(|name| PathBuf::from(OsStr::from_bytes(name))).collect()
}

#[test]
fn foreign_files_and_directories_of_any_name_are_left_alone() {
    for mode in MODES {
        let data = closed(mode);
        let partition = data.path().join("orders-0");
        for name in odd_names() {
            fs::create_dir(data.path().join(&name)).unwrap();
            fs::write(data.path().join(&name).join("file"), b"foreign").unwrap();
            fs::write(partition.join(&name), b"foreign").unwrap();
        }
        let dir = LogDir::open(data.path(), options(mode)).unwrap();
        assert!(dir.failed().is_empty(), "{:?}", dir.failed());
        let log = dir.partition("orders", 0).unwrap();
        assert_eq!(stored(&log).len(), 20);
        log.roll().unwrap();
        log.delete_records(idemlog::Offset(100)).unwrap();
        log.apply_retention().unwrap();
        log.truncate_to(idemlog::Offset(150)).unwrap();
        dir.close().unwrap();
        assert!(!verify(data.path(), &VerifyOptions::default()).unwrap().has_errors());
        for name in odd_names() {
            assert_eq!(fs::read(data.path().join(&name).join("file")).unwrap(), b"foreign", "{name:?}");
            assert_eq!(fs::read(partition.join(&name)).unwrap(), b"foreign", "{name:?}");
        }
        let dir = LogDir::open(data.path(), options(mode)).unwrap();
        assert!(dir.delete_partition("orders", 0).unwrap());
    }
}

//! The directory: its owner, and partitions that are deleted.

use idemlog::{Error, IoMode, LogDir, Offset};

use crate::common::{MODES, batch, open, options};

#[test]
fn a_second_owner_is_refused_and_the_first_stays() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    for _ in 0..2 {
        let Err(Error::Locked { path }) = LogDir::open(data.path(), options(MODES[0])) else { panic!() };
        assert_eq!(path, data.path());
    }
    dir.partition("t", 0).unwrap().append(&batch(1, 0, 0, 1)).unwrap();
    drop(dir);
    open(data.path(), MODES[0]);
}

#[test]
fn the_directory_stays_locked_as_long_as_a_handle_can_write_to_it() {
    // A log outlived its directory, and went on writing beside the next owner.
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        drop(dir);
        log.append(&batch(1, 0, 0, 1)).unwrap();
        assert!(matches!(LogDir::open(data.path(), options(mode)), Err(Error::Locked { .. })));
        drop(log);
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        dir.close().unwrap();
        open(data.path(), mode);
        assert!(matches!(log.append(&batch(1, 0, 1, 1)), Err(Error::Closed)));
    }
}

#[test]
fn slices_of_a_deleted_partition_show_as_pinned_until_they_are_dropped() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    let log = dir.partition("t", 0).unwrap();
    log.append(&batch(1, 0, 0, 1)).unwrap();
    let kept = log.read(Offset(0), 1 << 20).unwrap();
    dir.delete_partition("t", 0).unwrap();
    drop(log);
    assert_eq!(dir.metrics().pinned_bytes, kept.bytes.len() as u64);
    drop(kept);
    assert_eq!(dir.metrics().pinned_bytes, 0);
}

#[test]
fn a_deleted_partition_is_gone_for_its_handles_and_can_come_again() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        let kept = log.read(Offset(0), 1 << 20).unwrap();
        assert!(dir.delete_partition("t", 0).unwrap());
        assert!(!dir.delete_partition("t", 0).unwrap());
        assert!(matches!(log.append(&batch(1, 0, 1, 1)), Err(Error::Gone)));
        assert!(matches!(log.read(Offset(0), 1), Err(Error::Gone)));
        assert_eq!(kept.batches().count(), 1, "slices stay");
        let again = dir.partition("t", 0).unwrap();
        assert_eq!(again.log_end_offset(), Offset(0));
        again.append(&batch(1, 0, 0, 1)).unwrap();
        dir.close().unwrap();
        drop(dir);
        assert_eq!(open(data.path(), mode).partitions().len(), 1);
    }
}

/// A volume that was not mounted was an empty directory, which got a log directory without any partition.
#[test]
fn a_directory_that_must_exist_is_not_made() {
    let volume = tempfile::tempdir().unwrap();
    let known = || options(IoMode::Mapped).must_exist(true);
    for path in [volume.path().to_owned(), volume.path().join("data")] {
        for options in [known(), known().read_only(true)] {
            let refused = LogDir::open(&path, options).unwrap_err();
            assert!(matches!(&refused, Error::NotALogDir { path: named } if *named == path), "{refused}");
        }
    }
    assert_eq!(std::fs::read_dir(volume.path()).unwrap().count(), 0);

    drop(LogDir::open(volume.path(), options(IoMode::Mapped)).unwrap());
    LogDir::open(volume.path(), known()).unwrap().close().unwrap();
    LogDir::open(volume.path(), known()).unwrap();
}

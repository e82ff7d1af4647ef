//! The other files of a directory: what an opening makes of them, and what a closing leaves alone.

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Error, Offset};

use crate::common::{MODES, batch, open};
use crate::fill;

/// The recovery point of the deleted partition stayed in the checkpoint file, and the one that came after it under the
/// same name was measured by it: after a kill it ended too early, was taken for damaged, and did not open.
#[test]
fn a_partition_is_not_measured_by_the_checkpoints_of_a_deleted_one_of_its_name() {
    for (mode, reopened) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        dir.partition("t", 0).unwrap().append(&batch(1, 0, 0, 9)).unwrap();
        dir.close().unwrap();
        drop(dir);
        let mut dir = open(data.path(), mode);
        assert!(dir.delete_partition("t", 0).unwrap());
        if reopened {
            drop(dir);
            dir = open(data.path(), mode);
        }
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(2, 0, 0, 1)).unwrap();
        drop((dir, log));

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!(log.log_end_offset(), Offset(1), "{mode:?}, reopened: {reopened}");
    }
}

/// A `partition.metadata` as long as a segment was told as an error of the disk, as if another attempt might help.
#[test]
fn a_topic_id_that_is_too_long_is_corrupt() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        drop(open(data.path(), mode).partition("t", 0).unwrap());
        let path = data.path().join("t-0/partition.metadata");
        std::fs::write(&path, "version: 0\n".repeat(1000)).unwrap();
        let refused = open(data.path(), mode).partition("t", 0).unwrap_err();
        assert!(matches!(&refused, Error::Corrupt(found) if found.path == path), "{mode:?}: {refused}");
    }
}

/// Closing wrote the index files of the last segment of every partition anew, and synced each: of ten thousand that nobody
/// had touched, that took minutes.
#[test]
fn closing_a_log_that_nothing_was_done_to_writes_nothing() {
    use std::os::unix::fs::MetadataExt;

    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 30, &[10, 20]);
        let files = || {
            let entries = std::fs::read_dir(data.path().join("t-0")).unwrap().map(|entry| entry.unwrap());
            // A file that is replaced is another one.
            let mut files: Vec<_> =
                entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().ino())).collect();
            files.sort();
            files
        };
        let before = files();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert_eq!(log.reader(Offset(0)).unwrap().count(), 30);
        dir.close().unwrap();
        assert!(matches!(log.append(&batch(1, 0, 30, 1)), Err(Error::Closed)));
        assert_eq!(files(), before);

        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert!(log.recovery().marked_clean);
        log.append(&batch(1, 0, 30, 1)).unwrap();
        dir.close().unwrap();
        assert_ne!(files(), before, "else the check sees nothing");
        assert_eq!(open(data.path(), mode).partition("t", 0).unwrap().log_end_offset(), Offset(31));
    }
}

/// Every name that ends in `.tmp` was taken for half of a replacement: a host's own file was removed, and with a directory of such a
/// name the partition did not open.
#[test]
fn a_foreign_file_or_directory_that_ends_in_tmp_is_left_alone() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 3, &[]);
        let partition = data.path().join("t-0");
        std::fs::write(partition.join("notes.tmp"), "mine").unwrap();
        std::fs::create_dir(partition.join("backup.tmp")).unwrap();
        std::fs::write(partition.join("leader-epoch-checkpoint.tmp"), "half a file").unwrap();

        assert!(!verify(data.path(), &VerifyOptions::default()).unwrap().has_errors());
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!(log.recovery().removed, [partition.join("leader-epoch-checkpoint.tmp")], "{mode:?}");
        assert_eq!(std::fs::read(partition.join("notes.tmp")).unwrap(), b"mine");
        assert!(partition.join("backup.tmp").is_dir());
    }
}

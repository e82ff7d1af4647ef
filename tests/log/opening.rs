//! What an opening finds again, and what it refuses or keeps aside.

use idemlog::{CutReason, Error, Offset, RejectionReason};

use crate::common::{MODES, batch, change, open, plain, stored};
use crate::refusal;

#[test]
fn the_whole_window_survives_a_close_and_a_kill() {
    for mode in MODES {
        for close in [true, false] {
            let data = tempfile::tempdir().unwrap();
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            let first: Vec<_> = (0..60).map(|at| log.append(&batch(7, 3, at, 1)).unwrap()).collect();
            let before = stored(&log);
            if close {
                dir.close().unwrap();
            }
            drop((dir, log));
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            assert_eq!(log.recovery().marked_clean, close);
            assert!(log.recovery().cut.is_none(), "{}", log.recovery());
            assert_eq!(stored(&log), before);
            for at in 55..60 {
                let again = log.append(&batch(7, 3, at, 1)).unwrap();
                assert!(again.is_duplicate());
                assert_eq!(again.offsets(), first[at as usize].offsets());
            }
            assert_eq!(refusal(&log, &batch(7, 3, 54, 1)), RejectionReason::OlderThanWindow);
            assert_eq!(log.append(&batch(7, 3, 60, 1)).unwrap().base_offset(), Offset(60));
        }
    }
}

#[test]
fn a_clean_opening_reads_next_to_nothing_and_opening_twice_changes_nothing() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        (0..200).for_each(|at| {
            log.append(&batch(7, 3, at, 1)).unwrap();
        });
        dir.close().unwrap();
        drop((dir, log));
        let files = |()| {
            let mut files: Vec<_> = std::fs::read_dir(data.path().join("t-0"))
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
                .collect();
            files.sort();
            files
        };
        let before = files(());
        for _ in 0..2 {
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            assert!(log.recovery().bytes_read < 1000, "{}", log.recovery());
            assert_eq!(log.recovery().batches_replayed, 0);
            dir.close().unwrap();
            assert_eq!(files(()), before);
        }
    }
}

#[test]
fn a_partition_that_was_refused_is_refused_again_whatever_the_others_write_meanwhile() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("damaged", 0).unwrap();
        (0..2).for_each(|at| {
            log.append(&batch(1, 0, at, 1)).unwrap();
        });
        let path = log.directory().join("00000000000000000000.log");
        dir.partition("sound", 0).unwrap().append(&plain("sound")).unwrap();
        dir.close().unwrap();
        drop((log, dir));
        change(&path, |bytes| bytes[65] ^= 1);
        let bytes = std::fs::read(&path).unwrap();

        for _ in 0..3 {
            let dir = open(data.path(), mode);
            assert!(matches!(dir.partition("damaged", 0), Err(Error::Corrupt(_))), "{mode:?}");
            dir.partition("sound", 0).unwrap().append(&plain("sound")).unwrap();
            dir.close().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing is cut");
        }
    }
}

#[test]
fn a_valid_batch_behind_a_torn_one_is_kept_aside_whole() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let batches = [batch(1, 0, 0, 1), batch(1, 0, 1, 1)];
        batches.iter().for_each(|batch| {
            log.append(batch).unwrap();
        });
        let path = log.directory().join("00000000000000000000.log");
        drop((log, dir));
        change(&path, |bytes| bytes[65] ^= 1);
        let bytes = std::fs::read(&path).unwrap();

        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let cut = log.recovery().cut.clone().unwrap();
        let size: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
        assert_eq!((cut.reason, cut.batches, cut.bytes), (CutReason::Tail, 1, size as u64));
        assert_eq!(std::fs::read(&cut.kept[0]).unwrap(), bytes[..size], "its last zero, too");
    }
}

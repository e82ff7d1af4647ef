//! What snapshots say that the log does not, and producers without one.

use idemlog::{Durability, Error, LogDir, LogOptions, Offset};

use crate::common::{MODES, batch, change, open, options};
use crate::{cut_and_keep, file, fill};

/// A snapshot told of a batch that the log has not reached: sent again, it was a duplicate that waited without end for
/// its original.
#[test]
fn a_snapshot_that_tells_of_batches_to_come_is_passed_over() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 3, &[]);
        let snapshot = |offset| file(data.path(), offset, "snapshot");
        std::fs::rename(snapshot(3), snapshot(2)).unwrap();

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!(log.recovery().snapshots_skipped.len(), 1, "{mode:?}");
        let again = log.append(&batch(1, 0, 2, 1)).unwrap();
        assert!(again.is_duplicate() && again.base_offset() == Offset(2));
    }
}

/// One that is mapped, where maps are, instead of being read.
#[test]
fn a_large_snapshot_is_as_good_as_a_small_one_and_checked_as_well() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log = LogOptions::default().io_mode(Some(mode)).durability(Durability::Buffered);
        let buffered = || options(mode).log(log.clone());
        let dir = LogDir::open(data.path(), buffered()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        for id in 0..20_000 {
            log.append(&batch(id, 0, 0, 1)).unwrap();
        }
        dir.close().unwrap();
        let path = file(data.path(), 20_000, "snapshot");
        let mut bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 1 << 20, "else it is read");

        let dir = LogDir::open(data.path(), buffered()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        assert_eq!((log.metrics().producers, log.recovery().snapshots_skipped.len()), (20_000, 0));
        assert!(log.append(&batch(19_999, 0, 0, 1)).unwrap().is_duplicate());
        dir.close().unwrap();
        drop((dir, log));

        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let log = LogDir::open(data.path(), buffered()).unwrap().partition("t", 0).unwrap();
        assert_eq!((log.metrics().producers, log.recovery().snapshots_skipped.len()), (20_000, 1));
    }
}

/// The segments were gone, and the snapshot told of batches behind the checkpointed start, where the log now ended: one of
/// them, sent again, waited without end for its original.
#[test]
fn a_log_without_segments_remembers_no_batch_behind_its_end() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[]);
        std::fs::remove_file(file(data.path(), 0, "log")).unwrap();
        std::fs::write(data.path().join("log-start-offset-checkpoint"), "0\n1\nt 0 5\n").unwrap();

        let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
        assert_eq!((log.log_end_offset(), log.producers().len()), (Offset(5), 0), "{mode:?}");
        let again = log.append(&batch(1, 0, 8, 1)).unwrap();
        assert!(!again.is_duplicate() && again.base_offset() == Offset(5), "{mode:?}");
    }
}

/// The end of a log was damaged, and was moved aside; then the producers were to be read again from an older snapshot on,
/// other damage on the way refused the log, and the refusal had changed it.
#[test]
fn a_log_that_is_refused_for_its_producers_is_left_as_it_was() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 10, &[3, 6, 9]);
        change(&file(data.path(), 0, "log"), |bytes| bytes[8] = 0x80); // a length below zero
        change(&file(data.path(), 9, "log"), |bytes| bytes[70] = 0xff);
        for offset in [3, 6, 9] {
            std::fs::remove_file(file(data.path(), offset, "snapshot")).unwrap();
        }
        let files = || {
            let read = |entry: std::io::Result<std::fs::DirEntry>| {
                let path = entry.unwrap().path();
                (path.clone(), std::fs::read(path).unwrap())
            };
            std::fs::read_dir(data.path().join("t-0"))
                .unwrap()
                .map(read)
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let before = files();
        let refused = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0);
        assert!(matches!(refused, Err(Error::Corrupt(_))), "{mode:?}: {refused:?}");
        assert!(files() == before, "{mode:?}: a refusal changes nothing");
    }
}

/// A snapshot that a loss of power had left full of zeros, as Kafka's may be, counted as one of another version, which must not
/// be passed over: the partition did not open.
#[test]
fn a_snapshot_full_of_zeros_is_passed_over() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[]);
        change(&file(data.path(), 9, "snapshot"), |bytes| bytes.fill(0));
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!(log.recovery().snapshots_skipped.len(), 1, "{mode:?}");
        assert!(log.append(&batch(1, 0, 8, 1)).unwrap().is_duplicate());
    }
}

/// A snapshot of batches that a power cut took was removed twice, as one that was passed over and as one behind the end of the
/// log: the report complained of the second time.
#[test]
fn a_snapshot_behind_the_end_is_removed_once() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 3, &[]);
        change(&file(data.path(), 0, "log"), |bytes| bytes.truncate(bytes.len() - 3));
        let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
        let report = log.recovery();
        assert_eq!((report.log_end, &report.not_written[..]), (Offset(2), &[][..]), "{mode:?}");
        assert_eq!(report.removed, [file(data.path(), 3, "snapshot")], "{mode:?}");
    }
}

//! Who holds bytes that are cut keeps them as they were.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use idemlog::{
    BatchBuilder, ControlRecord, CorruptionPolicy, IoMode, Log, LogDir, LogDirOptions, LogOptions, Offset,
    ProducerEpoch, ProducerId, RecordCheck, Sequence,
};

use crate::common::{MODES, plain, small, stored};
use crate::{BATCHES, DIRECTORY, RECORDS, before, fill, numbered, open, sim};

#[test]
fn slices_and_readers_keep_what_they_hold() {
    for mode in MODES {
        for held in [false, true] {
            let disk = sim(mode);
            let (_dir, log) = open(&disk, mode).unwrap();
            let all = fill(&log);
            let mut reader = log.reader(Offset(0)).unwrap();
            let batches: Vec<_> = reader.by_ref().map(|batch| batch.unwrap()).collect();
            let copies: Vec<Vec<u8>> = batches.iter().map(|batch| batch.bytes().to_vec()).collect();
            let fetched = log.read(Offset(100), 1 << 20).unwrap();
            let copy = fetched.bytes.to_vec();
            if !held {
                drop((batches, fetched, reader));
                log.truncate_to(Offset(50)).unwrap();
                assert_eq!(stored(&log), before(&all, 50));
                continue;
            }
            log.truncate_to(Offset(50)).unwrap();
            for number in 0..20 {
                log.append(&plain(&format!("new {number}"))).unwrap();
            }
            for (batch, copy) in batches.iter().zip(&copies) {
                assert_eq!(batch.bytes(), copy);
            }
            assert_eq!(fetched.bytes, copy);
            assert_eq!(reader.position(), Offset(i64::from(BATCHES * RECORDS)));
            assert!(reader.next().is_none());
            assert_eq!(stored(&log).len(), before(&all, 50).len() + 20);
        }
    }
}

#[test]
fn a_slice_from_before_the_first_append_is_kept_as_well() {
    for mode in MODES {
        let disk = sim(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        let all = fill(&log);
        drop((dir, log));
        let (_dir, log) = open(&disk, mode).unwrap();
        let held = log.read(Offset(114), 1 << 20).unwrap();
        let copy = held.bytes.to_vec();
        assert!(!copy.is_empty());
        log.append(&numbered(BATCHES)).unwrap();
        log.truncate_to(Offset(117)).unwrap();
        log.append(&plain("in place of what is held")).unwrap();
        assert_eq!(held.bytes, copy);
        assert_eq!(stored(&log)[..39], all[..39]);
    }
}

/// Bytes that were read before a directory was closed went away under whoever still held them: the next opening knew of no
/// maps but its own, and cut the file in place.
#[test]
fn a_slice_from_before_the_log_was_opened_anew_is_kept_as_well() {
    for mode in MODES {
        let disk = sim(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        let all = fill(&log);
        let held = log.read(Offset(100), 1 << 20).unwrap();
        let copy = held.bytes.to_vec();
        dir.close().unwrap();
        drop((dir, log));
        let (_dir, log) = open(&disk, mode).unwrap();
        log.truncate_to(Offset(102)).unwrap();
        for number in 0..20 {
            log.append(&plain(&format!("new {number}"))).unwrap();
        }
        assert_eq!(held.bytes, copy);
        assert_eq!(stored(&log)[..34], all[..34]);
    }
}

const LARGE: usize = 200_000;

/// A new log of five batches with a value of [`LARGE`] bytes each.
fn open_with_large(data: &Path, options: &LogDirOptions) -> (LogDir, Log) {
    let dir = LogDir::open(data, options.clone()).unwrap();
    let log = dir.partition("t", 0).unwrap();
    for number in 0..5 {
        log.append(&BatchBuilder::new().record([number], vec![number; LARGE]).build().unwrap()).unwrap();
    }
    (dir, log)
}

/// The same on a real disk, where whoever touched them was killed; and where damage made an opening cut what was read before.
#[test]
fn a_slice_from_before_the_log_was_opened_anew_is_mapped_for_as_long_as_it_is_held() {
    for damaged in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let mapped =
            LogOptions::default().io_mode(Some(IoMode::Mapped)).corruption(CorruptionPolicy::CutAndKeep);
        let options = LogDirOptions::default().log(mapped);
        let (dir, log) = open_with_large(data.path(), &options);
        let held = log.read(Offset(0), 1 << 30).unwrap();
        let mut copy = held.bytes.to_vec();
        dir.close().unwrap();
        drop((dir, log));
        if damaged {
            let path = data.path().join("t-0/00000000000000000000.log");
            std::fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .write_all_at(b"?", LARGE as u64 * 2)
                .unwrap();
            copy[LARGE * 2] = b'?';
            // Then nothing says that the log was closed well.
            for file in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
                std::fs::remove_file(data.path().join(file)).unwrap();
            }
        }
        let dir = LogDir::open(data.path(), options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        log.truncate_to(Offset(1)).unwrap();
        log.append(&plain("in place of what is held")).unwrap();
        assert_eq!(held.bytes, copy);
        assert_eq!(stored(&log).len(), 2);
    }
}

/// Whoever reads without the lock cannot ask its holder to leave the bytes alone.
#[test]
fn what_was_read_by_somebody_without_the_lock_is_kept_as_well() {
    let data = tempfile::tempdir().unwrap();
    let options = LogDirOptions::default().log(LogOptions::default().io_mode(Some(IoMode::Mapped)));
    let (_dir, log) = open_with_large(data.path(), &options);
    let looking = LogDir::open(data.path(), options.read_only(true)).unwrap();
    let held = looking.partition("t", 0).unwrap().read(Offset(0), 1 << 30).unwrap();
    let copy = held.bytes.to_vec();
    log.truncate_to(Offset(1)).unwrap();
    log.append(&plain("in place of what is held")).unwrap();
    assert_eq!(held.bytes, copy);
}

#[test]
fn a_slice_whose_map_was_given_back_is_kept_as_well() {
    for mode in MODES {
        let disk = sim(mode);
        let options = LogDirOptions::default().log(small(mode)).disk(Arc::new(disk)).max_open_segments(1);
        let dir = LogDir::open(DIRECTORY, options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let all = fill(&log);
        let held = log.read(Offset(9), 1 << 20).unwrap();
        let copy = held.bytes.to_vec();
        (0..100).step_by(10).for_each(|from| drop(log.read(Offset(from), 1).unwrap()));
        log.truncate_to(Offset(10)).unwrap();
        assert_eq!(held.bytes, copy);
        assert_eq!(stored(&log), before(&all, 10));
    }
}

#[test]
fn a_large_prefix_is_copied_whole() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let options = LogDirOptions::default().log(LogOptions::default().io_mode(Some(mode)));
        let dir = LogDir::open(data.path(), options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let large = |number: u8| {
            let value = vec![number; 700_000];
            BatchBuilder::new().record([number], value).build().unwrap()
        };
        for number in 0..8 {
            log.append(&large(number)).unwrap();
        }
        let all = stored(&log);
        let held: Vec<_> = log.reader(Offset(0)).unwrap().map(Result::unwrap).collect();
        log.truncate_to(Offset(5)).unwrap();
        for number in 10..14 {
            log.append(&large(number)).unwrap();
        }
        for batch in held {
            batch.check(RecordCheck::Full, 1 << 20).unwrap();
        }
        assert_eq!(stored(&log)[..5], all[..5]);
        for batch in log.reader(Offset(0)).unwrap() {
            batch.unwrap().check(RecordCheck::Full, 1 << 20).unwrap();
        }
    }
}

/// A reader went by the transactions that it knew from before a truncation, and took what came in place of them for those: an aborted
/// batch was handed out as committed, and a committed one left out.
#[test]
fn a_reader_of_committed_records_learns_of_the_transactions_that_come_in_place_of_those_that_were_cut() {
    let (commit, abort) =
        (ControlRecord::Commit { coordinator_epoch: 0 }, ControlRecord::Abort { coordinator_epoch: 0 });
    for mode in MODES {
        for (before, after, expected) in [(commit, abort, &[][..]), (abort, commit, &[2])] {
            let (_dir, log) = open(&sim(mode), mode).unwrap();
            let (id, epoch) = (ProducerId(1), ProducerEpoch(0));
            let transaction = |sequence, value, end| {
                let batch = BatchBuilder::new().producer(id, epoch, Sequence(sequence)).transactional();
                log.append(&batch.record("k", value).build().unwrap()).unwrap();
                log.end_transaction(id, epoch, end).unwrap();
            };
            transaction(0, "stays", commit);
            transaction(1, "is cut", before);
            let mut reader = log.reader(Offset(0)).unwrap().committed();
            assert_eq!(reader.next().unwrap().unwrap().header().base_offset, Offset(0));
            log.truncate_to(Offset(2)).unwrap();
            transaction(1, "comes in its place", after);
            let rest: Vec<i64> = reader.map(|batch| batch.unwrap().header().base_offset.0).collect();
            assert_eq!(rest, expected, "{mode:?}, {before:?} and then {after:?}");
        }
    }
}

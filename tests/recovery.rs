//! Recovery and the limits of a log, from outside. Each test begins with the story of a bug that fuzzing found.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{MODES, batch, change, open, options, plain, small, stored};
use idemlog::inspect::{InspectOptions, inspect};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::verify::{ProblemKind, VerifyOptions, verify};
use idemlog::{
    Access, AppendOptions, Batch, BatchBuilder, BatchError, CorruptionPolicy, CutReason, Disk, Durability,
    Error, IoMode, LeaderEpoch, LogDir, LogDirOptions, LogOptions, Offset, Origin, RecordCheck, Timestamp,
    repair,
};

fn cut_and_keep(mode: IoMode) -> LogDirOptions {
    options(mode).log(small(mode).corruption(CorruptionPolicy::CutAndKeep))
}

/// Leaves the partition `t-0` closed, with `records` batches of one record each; at each of `bases` a segment begins.
fn fill(data: &Path, mode: IoMode, records: i32, bases: &[i32]) {
    let dir = open(data, mode);
    let log = dir.partition("t", 0).unwrap();
    for at in 0..records {
        if bases.contains(&at) {
            log.roll().unwrap();
        }
        log.append(&batch(1, 0, at, 1)).unwrap();
    }
    dir.close().unwrap();
}

/// The file of the partition `t-0` with the name of `base`.
fn file(data: &Path, base: i64, extension: &str) -> PathBuf {
    data.join(format!("t-0/{base:020}.{extension}"))
}

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

/// Three batches of 2^30 records went into one segment, which has no offsets for so many: the next opening took the last
/// of them for an unfinished end and cut it.
#[test]
fn a_call_with_more_records_than_a_segment_has_offsets_is_refused() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let headers = options(mode).log(small(mode).record_check(RecordCheck::Header));
        let dir = LogDir::open(data.path(), headers.clone()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let batches: Vec<_> = (1..4).map(|id| claiming(&batch(id, 0, 0, 1), 1 << 30)).collect();
        let refused = log.append_all(&batches);
        assert!(matches!(refused, Err(Error::InvalidBatch(BatchError::ClientRule { .. }))), "{refused:?}");
        assert_eq!(log.log_end_offset(), Offset(0));
        log.append_all(&batches[..2]).unwrap();
        log.append(&batches[2]).unwrap();
        drop((dir, log));

        let log = LogDir::open(data.path(), headers).unwrap().partition("t", 0).unwrap();
        assert_eq!((log.log_end_offset(), &log.recovery().cut), (Offset(3 << 30), &None), "{mode:?}");
    }
}

/// The batch with another record count in its header, which is all that a log with `RecordCheck::Header` looks at.
fn claiming(batch: &Batch, records: i32) -> Batch {
    const CRC: usize = 17;
    const ATTRIBUTES: usize = 21;
    const LAST_OFFSET_DELTA: usize = 23;
    const RECORD_COUNT: usize = 57;
    let mut bytes = batch.bytes().to_vec();
    bytes[LAST_OFFSET_DELTA..][..4].copy_from_slice(&(records - 1).to_be_bytes());
    bytes[RECORD_COUNT..][..4].copy_from_slice(&records.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
    bytes[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Batch::decode_with(bytes.into(), RecordCheck::Header, 0).unwrap()
}

/// A log that begins at the last offset there is took a batch, stored it, and had it nowhere.
#[test]
fn a_log_without_offsets_left_takes_nothing() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        open(data.path(), mode).partition("t", 0).unwrap();
        for room in 0..2 {
            let log_start = i64::MAX - room;
            let checkpoint = format!("0\n1\nt 0 {log_start}\n");
            std::fs::write(data.path().join("log-start-offset-checkpoint"), checkpoint).unwrap();
            let log = open(data.path(), mode).partition("t", 0).unwrap();
            assert_eq!(log.log_end_offset(), Offset(log_start));
            assert!(matches!(log.append(&batch(1, 0, 0, 2)), Err(Error::OffsetsExhausted)), "{mode:?}");
            assert_eq!(log.log_end_offset(), Offset(log_start));
            assert_eq!(log.append(&batch(1, 0, 0, 1)).is_ok(), room > 0);
        }
    }
}

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

/// A log was cut below its recovery point, and the checkpoint file kept that point: what was appended behind the cut was
/// measured by it, too, and when a power cut had torn it the log was refused as damaged.
#[test]
fn a_log_that_was_cut_below_its_recovery_point_is_measured_by_a_lower_one() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let size = batch(1, 0, 0, 1).bytes().len();
        let tear_last = || change(&file(data.path(), 0, "log"), |bytes| bytes[9 * size - 1] ^= 1);
        fill(data.path(), mode, 9, &[]);
        tear_last();

        let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
        assert_eq!((log.log_end_offset(), log.recovery().cut.is_some()), (Offset(8), true));
        log.append(&batch(1, 0, 8, 1)).unwrap();
        drop(log);
        tear_last();

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        let cut = log.recovery().cut.as_ref().unwrap();
        assert_eq!((cut.reason, log.log_end_offset()), (CutReason::Tail, Offset(8)), "{mode:?}");
    }
}

/// Recovery began at the last index entry, found the batch there torn, and let the log end where its segment begins: the
/// batches before it were lost to readers, and the next one was stored behind them with the first of their offsets.
#[test]
fn a_torn_batch_at_the_last_index_entry_takes_none_before_it_away() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[]);
        let before: Vec<_> = (0..9).map(|at| (i64::from(at), batch(1, 0, at, 1).header().crc)).collect();
        let index = std::fs::read(file(data.path(), 0, "index")).unwrap();
        let [.., o0, o1, o2, o3, p0, p1, p2, p3] = index[..] else { panic!("no entries") };
        let offset = u32::from_be_bytes([o0, o1, o2, o3]) as usize;
        let position = u32::from_be_bytes([p0, p1, p2, p3]) as usize;
        change(&file(data.path(), 0, "log"), |bytes| bytes[position + 30] ^= 1);

        let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
        assert!(offset > 0);
        assert_eq!(stored(&log), before[..offset], "{mode:?}: {}", log.recovery());
        assert_eq!(log.append(&batch(1, 0, offset as i32, 1)).unwrap().base_offset(), Offset(offset as i64));
    }
}

/// The clean marker was there, and no recovery point. The first opening believed the marker and looked at the end only;
/// after a kill the second checked every batch, took damage at the beginning for an unfinished end, and cut the rest.
#[test]
fn what_a_clean_marker_says_is_still_known_after_a_kill() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[]);
        std::fs::remove_file(data.path().join("recovery-point-offset-checkpoint")).unwrap();
        let path = file(data.path(), 0, "log");
        change(&path, |bytes| bytes[30] ^= 1);
        for _ in 0..2 {
            let log = open(data.path(), mode).partition("t", 0).unwrap();
            assert_eq!((log.log_end_offset(), &log.recovery().cut), (Offset(9), &None), "{mode:?}");
        }

        change(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
        std::fs::write(data.path().join(".kafka_cleanshutdown"), "").unwrap();
        let dir = open(data.path(), mode);
        assert!(matches!(dir.partition("t", 0), Err(Error::Corrupt(_))), "the end is looked at");
    }
}

/// A prepared segment was taken in, then the log was found to end below its start. All segments were removed, and opening
/// failed over naming the prepared one.
#[test]
fn a_log_that_starts_over_also_drops_the_prepared_segment() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        log.roll().unwrap();
        log.append(&batch(1, 0, 1, 1)).unwrap();
        let directory = log.directory().to_owned();
        drop((dir, log));
        std::fs::rename(directory.join(format!("{:020}.log", 1)), directory.join("segment.prepared"))
            .unwrap();
        std::fs::write(data.path().join("log-start-offset-checkpoint"), "0\n1\nt 0 50\n").unwrap();

        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(50), Offset(50)), "{mode:?}");
        assert!(!log.recovery().adopted_prepared && !directory.join("segment.prepared").exists());
        assert_eq!(log.append(&batch(1, 0, 2, 1)).unwrap().base_offset(), Offset(50));
    }
}

/// A log was cut in front of a damaged batch. The next opening looked farther back, since the index no longer fitted, found
/// another one, and cut again.
#[test]
fn a_damaged_log_is_cut_once_in_front_of_all_damage_in_its_last_segment() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[]);
        change(&file(data.path(), 0, "log"), |bytes| {
            let size = bytes.len() / 9;
            [3, 8].into_iter().for_each(|damaged| bytes[damaged * size + 30] ^= 1);
        });

        for is_cut in [true, false] {
            let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
            assert_eq!((log.log_end_offset(), log.recovery().cut.is_some()), (Offset(3), is_cut), "{mode:?}");
        }
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

/// What a log held behind its end was moved aside, and the segment in front of it became the last one, of which every
/// opening checks the end. Only the next opening did: it found a damaged batch there, and refused the log.
#[test]
fn a_log_that_opens_without_its_last_segment_opens_again() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 3, &[]);
        std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
        change(&file(data.path(), 0, "log"), |bytes| {
            bytes[100] ^= 1;
            bytes.extend([0; 7]);
        });
        std::fs::write(file(data.path(), 50, "log"), [1; 5]).unwrap();

        let dir = open(data.path(), mode);
        let opened: Vec<_> = (0..2).map(|_| dir.partition("t", 0).map(drop)).collect();
        assert!(opened.iter().all(|opened| matches!(opened, Err(Error::Corrupt(_)))), "{opened:?}");
        drop(dir);
        for is_cut in [true, false] {
            let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
            assert_eq!((log.log_end_offset(), log.recovery().cut.is_some()), (Offset(0), is_cut), "{mode:?}");
        }
    }
}

/// One byte of a base offset, which no checksum covers, was changed on the disk: readers took the batch for one above the
/// high watermark and ended in front of it, without an error and for good.
#[test]
fn a_batch_that_says_it_lies_elsewhere_is_told_to_readers() {
    for (mode, byte) in MODES.into_iter().flat_map(|mode| [(mode, 0), (mode, 6), (mode, 7)]) {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[5]);
        let path = file(data.path(), 0, "log");
        let size = std::fs::metadata(&path).unwrap().len() as usize / 5;
        change(&path, |bytes| bytes[2 * size + byte] += 1);

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        let is_told = |error: Error| {
            let Error::Corrupt(corruption) = error else { panic!("{error}") };
            let first = if byte == 7 { 3 } else { 2 };
            corruption.path == path && corruption.position == (first * size) as u64
        };
        assert!(is_told(log.read(Offset(2), 1 << 20).unwrap_err()), "{mode:?}, {byte}");
        let read = log.reader(Offset(0)).unwrap().find_map(Result::err);
        assert!(read.is_some_and(is_told), "{mode:?}, {byte}");
    }
}

/// A batch that said it had fifty more records than it has reached over the high watermark: readers took that for a limit
/// inside of a batch, and ended in front of it for good.
#[test]
fn a_batch_that_says_it_is_longer_than_the_log_is_told_to_readers() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[5]);
        let path = file(data.path(), 0, "log");
        let size = std::fs::metadata(&path).unwrap().len() as usize / 5;
        change(&path, |bytes| bytes[2 * size + 26] = 55); // the last byte of the last offset delta

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        let is_told = |error: Error| matches!(error, Error::Corrupt(found) if found.path == path);
        assert!(log.reader(Offset(0)).unwrap().any(|batch| batch.is_err_and(is_told)), "{mode:?}");
        assert!(log.read(Offset(2), 100).is_err_and(is_told), "{mode:?}");
    }
}

/// Readers that look for misplaced batches must not take for one what a truncation, a follower's gap or a high watermark
/// inside of a batch leaves.
#[test]
fn a_reader_ends_at_a_hole_without_an_error() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let ends = |from: i64, batches: usize| {
            let read = log.reader(Offset(from)).unwrap().map(Result::unwrap).count();
            let fetched = log.read(Offset(from), 1 << 20).unwrap().batches().count();
            assert_eq!((read, fetched), (batches, batches), "{mode:?}, from {from}");
        };
        log.append(&batch(1, 0, 0, 5)).unwrap();
        log.append(&batch(1, 0, 5, 5)).unwrap();
        log.set_high_watermark(Offset(8));
        ends(0, 1);
        ends(5, 0);
        log.truncate_to(Offset(7)).unwrap();
        ends(0, 1);
        ends(5, 0);
        log.roll().unwrap();
        let copied =
            BatchBuilder::new().base_offset(Offset(50)).leader_epoch(LeaderEpoch(0)).record("k", "v");
        let copied = copied.build().unwrap();
        let replicated = AppendOptions::default().origin(Origin::Replication);
        log.submit(&[copied], replicated).unwrap().wait().unwrap();
        for (high_watermark, batches) in [(7, 0), (20, 0), (50, 0), (51, 1)] {
            log.set_high_watermark(Offset(high_watermark));
            ends(6, batches);
        }
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

/// A control batch that says nothing was sound as long as a snapshot spared its replay. When the snapshot went, the same
/// log was cut in front of it: one opening showed batches that the next one did not.
#[test]
fn a_control_batch_that_says_nothing_is_cut_whether_it_is_replayed_or_not() {
    const ATTRIBUTES: usize = 21;
    const CONTROL: u8 = 1 << 5;
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 3, &[]);
        for file in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
            std::fs::remove_file(data.path().join(file)).unwrap();
        }
        change(&file(data.path(), 0, "log"), |bytes| {
            let second = batch(1, 0, 0, 1).bytes().len();
            bytes[second + ATTRIBUTES + 1] |= CONTROL;
            let end = second + batch(1, 0, 1, 1).bytes().len();
            let crc = crc32c::crc32c(&bytes[second + ATTRIBUTES..end]);
            bytes[second + ATTRIBUTES - 4..][..4].copy_from_slice(&crc.to_be_bytes());
        });
        let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
        let cut = log.recovery().cut.as_ref().expect("a snapshot spares the replay, not the check");
        assert_eq!((cut.offset, cut.batches, stored(&log).len()), (Offset(1), 2, 1), "{mode:?}: {cut:?}");
    }
}

/// Every batch of leader epoch 5 was deleted, and with them the epoch was forgotten, as in Kafka: the next opening stamped
/// batches with epoch 0, and the one after it refused the log, in whose file the epochs fell.
#[test]
fn behind_deleted_batches_a_log_may_go_on_with_a_lower_leader_epoch() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.set_leader_epoch(LeaderEpoch(5));
        (0..3).for_each(|at| {
            log.append(&batch(1, 0, at, 1)).unwrap();
        });
        log.delete_records(Offset(3)).unwrap();
        dir.close().unwrap();
        drop((dir, log));
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!(log.leader_epoch(), LeaderEpoch(0), "{mode:?}: what the story needs");
        log.append(&batch(1, 0, 3, 1)).unwrap();
        drop(log);
        std::fs::remove_file(data.path().join("t-0/leader-epoch-checkpoint")).unwrap();

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!((stored(&log).len(), log.recovery().cut.as_ref()), (1, None), "{mode:?}");
        assert_eq!(log.leader_epochs(), [(LeaderEpoch(0), Offset(3))], "{mode:?}");
        drop(log);
        let report =
            idemlog::verify::verify(data.path(), &idemlog::verify::VerifyOptions::default()).unwrap();
        assert!(!report.has_errors(), "{mode:?}: {:?}", report.problems);
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

/// Threads without a partition of their own check CRCs ahead of the one that reads a log: what they leave unsaid, it must find
/// itself, wherever it is.
#[test]
fn a_log_ends_at_the_same_place_however_many_threads_check_it() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 64, &[8, 16, 24, 32, 40, 48, 56]);
        leave_only_batches(data.path());
        let sound = [1, 4].map(|threads| read_by(data.path(), mode, threads));
        assert_eq!(sound[0], sound[1]);
        assert!(
            sound[0].starts_with("recovered from offset 0: offsets 0 to 64 in 8 segments"),
            "{}",
            sound[0]
        );
        for base in (0..64).step_by(8) {
            let path = file(data.path(), base, "log");
            let len = std::fs::metadata(&path).unwrap().len() as usize;
            for position in (17..len).step_by(41) {
                change(&path, |bytes| bytes[position] ^= 0x10);
                let damaged = [1, 4].map(|threads| read_by(data.path(), mode, threads));
                assert_eq!(damaged[0], damaged[1], "{mode:?}, segment {base}, position {position}");
                assert_ne!(damaged[0], sound[0], "{mode:?}, segment {base}, position {position}");
                change(&path, |bytes| bytes[position] ^= 0x10);
            }
        }
    }
}

/// Removes all that says how much of `t-0` is sound.
fn leave_only_batches(data: &Path) {
    for directory in [data.to_owned(), data.join("t-0")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.extension().is_none_or(|extension| extension != "log") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

/// What so many threads find in `t-0`, without a change.
fn read_by(data: &Path, mode: IoMode, threads: usize) -> String {
    let options = cut_and_keep(mode).read_only(true).recovery_threads(threads);
    let log = LogDir::open(data, options).unwrap().partition("t", 0).unwrap();
    let mut report = log.recovery().clone();
    report.elapsed = std::time::Duration::ZERO;
    format!("{report} {report:?}")
}

/// The log of which every segment was gone opened as an empty one, took appends from offset 0 on, and the snapshots that told of
/// its producers were removed. That of which the first one was gone opened behind it, and nobody was told.
#[test]
fn a_log_that_lacks_its_first_segments_or_all_is_refused_and_left_as_it_is() {
    let all = [0, 10, 20];
    for (gone, end) in [(&all[..1], 30), (&all[..2], 30), (&all[..], 0)] {
        for (mode, is_clean) in MODES.into_iter().flat_map(|mode| [(mode, true), (mode, false)]) {
            let data = tempfile::tempdir().unwrap();
            fill(data.path(), mode, 30, &all);
            gone.iter()
                .for_each(|&base| std::fs::remove_file(file(data.path(), base.into(), "log")).unwrap());
            if !is_clean {
                std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
            }
            let names = || {
                let entries = std::fs::read_dir(data.path().join("t-0")).unwrap();
                entries.map(|entry| entry.unwrap().file_name()).collect::<std::collections::BTreeSet<_>>()
            };
            let before = names();
            let what = format!("{mode:?} {gone:?}, clean: {is_clean}");

            let refused = open(data.path(), mode).partition("t", 0);
            assert!(matches!(refused, Err(Error::Corrupt(_))), "{what}: {refused:?}");
            assert_eq!(names(), before, "{what}");

            let dir = LogDir::open(data.path(), cut_and_keep(mode)).unwrap();
            let log = dir.partition("t", 0).unwrap();
            let (report, start) = (log.recovery(), i64::from(gone.len() as i32 * 10));
            assert_eq!(log.log_end_offset(), Offset(end), "{what}");
            match &report.cut {
                Some(cut) => assert!(end == 0 && cut.reason == CutReason::Corruption, "{what}: {report}"),
                None => assert_eq!(report.missing_head.unwrap().last, Offset(start - 1), "{what}: {report}"),
            }
            log.append(&batch(7, 0, 0, 1)).unwrap();
            dir.close().unwrap();
            drop((log, dir));
            let log = open(data.path(), mode).partition("t", 0).unwrap();
            assert_eq!(log.log_end_offset(), Offset(end + 1), "{what}");
        }
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

/// A batch of bytes of which each may begin a batch of 33 MB was torn, and as many bytes were looked at for each: an opening
/// took two seconds for a thousand, and would have taken half an hour for a million.
#[test]
fn a_torn_batch_that_looks_like_many_large_ones_is_cut_soon() {
    let data = tempfile::tempdir().unwrap();
    let options = LogDirOptions::default().log(LogOptions::default().durability(Durability::Buffered));
    let dir = LogDir::open(data.path(), options.clone()).unwrap();
    let log = dir.partition("t", 0).unwrap();
    let batch = |value: Vec<u8>| BatchBuilder::new().record("k", value).build().unwrap();
    (0..70).for_each(|_| assert!(log.append(&batch(vec![b'x'; 1_000_000])).is_ok()));
    log.sync().unwrap();
    let end = log.metrics().used_bytes as usize;
    assert_eq!(log.append(&batch(vec![2; 900_000])).unwrap().base_offset(), Offset(70));
    drop((dir, log)); // killed
    change(&file(data.path(), 0, "log"), |bytes| bytes[end + 61] ^= 1);
    let log = LogDir::open(data.path(), options).unwrap().partition("t", 0).unwrap();
    assert_eq!(log.log_end_offset(), Offset(70));
}

/// The error told of bytes in a file, and not that what they had been was acknowledged.
#[test]
fn a_partition_that_is_refused_says_that_what_is_damaged_was_durable() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 5, &[]);
        change(&file(data.path(), 0, "log"), |bytes| bytes.truncate(bytes.len() - 1));
        let refused = open(data.path(), mode).partition("t", 0).unwrap_err();
        let expected =
            "that is below the recovery point 5, so it was durable: `idemlog repair` says what can be done";
        assert!(refused.to_string().ends_with(expected), "{refused}");
    }
}

/// Nobody but an opening knew of a log that lacked its first segments: `repair` found nothing to do, where the error had sent whoever
/// could not open it.
#[test]
fn a_log_that_lacks_its_first_segments_opens_behind_a_repair() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 30, &[10, 20]);
        std::fs::remove_file(file(data.path(), 0, "log")).unwrap();
        let partition = data.path().join("t-0");
        assert!(open(data.path(), mode).partition("t", 0).is_err());
        let planned = repair::plan(&partition).unwrap();
        assert!(!planned.is_needless() && planned.to_string().contains("offsets 0 to 9"), "{planned}");
        let options = InspectOptions::of_partition(&partition).unwrap();
        assert!(inspect(&partition, &options).unwrap().recovery.lacks_durable());
        repair::repair(&partition).unwrap();
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(10), Offset(30)));
    }
}

/// Kafka says where a log begins behind the deletion of what lay in front, or never.
#[test]
fn a_log_of_kafka_may_begin_above_what_its_checkpoint_says() {
    let data = tempfile::tempdir().unwrap();
    fill(data.path(), IoMode::Mapped, 30, &[10, 20]);
    std::fs::remove_file(file(data.path(), 0, "log")).unwrap();
    let points = data.path().join("recovery-point-offset-checkpoint");
    std::fs::write(points, "0\n2\nt 0 30\nanother 0 0\n").unwrap();
    std::fs::create_dir(data.path().join("another-0")).unwrap();
    let report = verify(data.path(), &VerifyOptions::default()).unwrap();
    assert!(!report.has_errors(), "{report:?}");
    let log = open(data.path(), IoMode::Mapped).partition("t", 0).unwrap();
    assert_eq!(log.log_start_offset(), Offset(10));
}

/// What lies in the files that recovery kept.
fn kept(data: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(data.join("t-0")).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| path.extension().is_some_and(|extension| extension == "corrupt"));
    kept.map(|path| std::fs::read(path).unwrap()).collect()
}

/// A log was cut twice at the same place, and what was kept the second time took the names of what was kept the first time: the
/// only copy of those batches was gone.
#[test]
fn what_a_cut_keeps_stays_when_the_log_is_cut_there_again() {
    for (mode, repairs) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let data = tempfile::tempdir().unwrap();
        let (mut at, mut cut) = (0, Vec::new());
        for text in ["first", "other", "third"] {
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            for offset in at..5 {
                if offset == 3 {
                    log.roll().unwrap();
                }
                log.append(&plain(text)).unwrap();
            }
            dir.close().unwrap();
            drop((dir, log));
            // Else so much is not read.
            for file in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
                std::fs::remove_file(data.path().join(file)).unwrap();
            }
            change(&file(data.path(), 0, "log"), |bytes| {
                let size = bytes.len() / 3;
                bytes[2 * size - 1] ^= 1;
                cut.push(bytes[size..].to_vec());
            });
            cut.push(std::fs::read(file(data.path(), 3, "log")).unwrap());

            let report = if repairs {
                repair::repair(data.path().join("t-0")).unwrap().recovery
            } else {
                let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
                log.recovery().clone()
            };
            let files = report.cut.unwrap().kept;
            assert_eq!(files.len(), 2);
            assert!(files.iter().all(|path| cut.contains(&std::fs::read(path).unwrap())));
            at = report.log_end.0;
        }
        let kept = kept(data.path());
        assert_eq!((kept.len(), at), (cut.len(), 1), "{mode:?}, repairs: {repairs}");
        assert!(cut.iter().all(|bytes| kept.contains(bytes)), "{mode:?}, repairs: {repairs}");
        let notes = verify(data.path(), &VerifyOptions::default()).unwrap().problems;
        assert_eq!(notes.iter().filter(|note| note.kind == ProblemKind::KeptAside).count(), cut.len());
    }
}

/// Openings that fail behind the copy, and before the cut, would fill the disk with copies.
#[test]
fn a_cut_that_is_tried_again_keeps_one_copy() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let on_disk = |policy| {
            let options = options(mode).log(small(mode).corruption(policy)).disk(Arc::new(disk.clone()));
            LogDir::open("/data", options.recovery_threads(1)).unwrap()
        };
        let dir = on_disk(CorruptionPolicy::Refuse);
        let log = dir.partition("t", 0).unwrap();
        for text in ["first", "other"] {
            log.append(&plain(text)).unwrap();
        }
        dir.close().unwrap();
        drop((dir, log));
        let path = file(Path::new("/data"), 0, "log");
        let len = disk.len(&path).unwrap();
        disk.open(&path, Access::Write).unwrap().write_at(&[0xff], len - 1).unwrap();

        for _ in 0..3 {
            disk.inject(Fault::nth(Operation::SetLen, 1));
            assert!(on_disk(CorruptionPolicy::CutAndKeep).partition("t", 0).is_err(), "{mode:?}");
        }
        disk.clear_faults();
        let log = on_disk(CorruptionPolicy::CutAndKeep).partition("t", 0).unwrap();
        let names = disk.list(log.directory()).unwrap().into_iter().map(|entry| entry.name);
        let kept = names.filter(|name| name.to_string_lossy().ends_with(".corrupt"));
        assert_eq!((kept.count(), log.log_end_offset()), (1, Offset(1)), "{mode:?}");
    }
}

/// Base offsets of the `.log` files of the partition `t-0`.
fn bases(disk: &SimDisk) -> Vec<i64> {
    let entries = disk.list(Path::new("/data/t-0")).unwrap().into_iter();
    let base = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".log")?.parse().ok();
    let mut bases: Vec<i64> = entries.filter_map(|entry| base(entry.name)).collect();
    bases.sort_unstable();
    bases
}

/// Segments behind damage were moved aside from the first on: a crash in between left a hole in front of those that were still
/// there.
#[test]
fn a_crash_while_segments_are_moved_aside_leaves_no_hole() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let on = |disk: &SimDisk| {
            let options = cut_and_keep(mode).disk(Arc::new(disk.clone())).recovery_threads(1);
            LogDir::open("/data", options).unwrap()
        };
        let dir = on(&disk);
        let log = dir.partition("t", 0).unwrap();
        for at in 0..4 {
            log.append(&batch(1, 0, at, 1)).unwrap();
            log.roll().unwrap();
        }
        dir.close().unwrap();
        drop((dir, log));
        disk.remove_file(Path::new("/data/recovery-point-offset-checkpoint")).unwrap();
        disk.remove_file(Path::new("/data/.kafka_cleanshutdown")).unwrap();
        disk.open(&file(Path::new("/data"), 0, "log"), Access::Write).unwrap().write_at(&[0xff], 70).unwrap();
        disk.restart_journal();
        let all = bases(&disk);
        assert_eq!(on(&disk).partition("t", 0).unwrap().log_end_offset(), Offset(0));
        assert_eq!(bases(&disk), [0]);
        for point in 0..disk.crash_points() {
            for image in disk.images(point, 8, point as u64).chain([disk.kill(point)]) {
                let left = bases(&image);
                assert!(all.starts_with(&left), "{mode:?} {left:?} behind {}", disk.describe(point));
            }
        }
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

/// Has the second of three batches in the segment at `base` say that it is far longer than the log.
fn damage_header(data: &Path, base: i64) {
    change(&file(data, base, "log"), |bytes| {
        let second = bytes.len() / 3;
        bytes[second + 8] ^= 0x40;
    });
}

/// Says in the checkpoint that the log begins at `offset`.
fn begin_at(data: &Path, offset: i64) {
    std::fs::write(data.join("log-start-offset-checkpoint"), format!("0\n1\nt 0 {offset}\n")).unwrap();
}

/// An old segment had no index any more, and a damaged header: building the index failed, and the partition did not open, whatever
/// the host had chosen.
#[test]
fn damage_that_is_met_while_an_index_is_built_is_for_the_policy() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 12, &[3, 6, 9]);
        std::fs::remove_file(file(data.path(), 3, "index")).unwrap();
        damage_header(data.path(), 3);

        let refused = open(data.path(), mode).partition("t", 0).unwrap_err();
        let Error::Corrupt(found) = refused else { panic!("{refused}") };
        assert_eq!((found.path, found.below), (file(data.path(), 3, "log"), Some(Offset(12))), "{mode:?}");
        for is_cut in [true, false] {
            let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
            assert_eq!((log.log_end_offset(), log.recovery().cut.is_some()), (Offset(4), is_cut), "{mode:?}");
            assert!(!is_cut || log.recovery().cut.as_ref().unwrap().reason == CutReason::Corruption);
        }
        assert_eq!(kept(data.path()).len(), 3);
    }
}

/// It did not open either where the segment held nothing but deleted batches, which no repair touches.
#[test]
fn a_deleted_segment_may_be_damaged_and_lack_its_index() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 12, &[3, 6, 9]);
        std::fs::remove_file(file(data.path(), 0, "index")).unwrap();
        std::fs::remove_file(file(data.path(), 3, "index")).unwrap();
        damage_header(data.path(), 3);
        begin_at(data.path(), 6);

        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert_eq!((stored(&log).len(), &log.recovery().cut), (6, &None), "{mode:?}");
        assert_eq!(log.recovery().indexes_rebuilt, [Offset(0)]);
        assert_eq!(log.offset_for_timestamp(Timestamp(0)).unwrap().unwrap().offset, Offset(6));
        log.apply_retention().unwrap();
        assert!(!file(data.path(), 3, "log").exists(), "{mode:?}");
    }
}

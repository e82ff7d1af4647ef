//! Where a log ends that is damaged, and when it is refused instead.

use std::path::Path;

use idemlog::{
    BatchBuilder, CutReason, Durability, Error, IoMode, LeaderEpoch, LogDir, LogDirOptions, LogOptions,
    Offset, Timestamp,
};

use crate::common::{MODES, batch, change, open, stored};
use crate::{cut_and_keep, file, fill, kept};

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

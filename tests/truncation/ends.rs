//! Where a log ends that was truncated, in memory and on the disk.

use std::sync::Arc;

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{
    AppendOptions, BatchBuilder, Error, LeaderEpoch, Log, LogDir, LogDirOptions, Offset, Origin, Timestamp,
};

use crate::common::{self, MODES, plain, small, stored};
use crate::{BATCHES, DIRECTORY, RECORDS, before, check_windows, fill, numbered, open, sim};

/// A batch with so many bytes does not go into a segment behind another, nor another behind it: a gap in front of it is one
/// between segments.
const FILLS_A_SEGMENT: usize = 3900;

#[test]
fn a_log_ends_where_it_was_truncated() {
    for mode in MODES {
        for target in (0..=i64::from(BATCHES * RECORDS)).step_by(2) {
            let disk = sim(mode);
            let (_dir, log) = open(&disk, mode).unwrap();
            let all = fill(&log);
            assert!(log.metrics().segments > 3);
            let went = log.truncate_to(Offset(target)).unwrap();
            assert_eq!(went, target < i64::from(BATCHES * RECORDS));
            let kept = before(&all, target);
            assert_eq!(stored(&log), kept, "{mode:?} to {target}");
            assert_eq!(log.log_end_offset(), Offset(target));
            assert_eq!(log.durable_offset(), Offset(target));
            check_windows(&log, kept.len());
        }
    }
}

#[test]
fn what_was_truncated_is_the_same_when_opened_again() {
    for mode in MODES {
        for close in [true, false] {
            for (target, append) in
                (0..i64::from(BATCHES * RECORDS)).step_by(5).zip([true, false].into_iter().cycle())
            {
                let disk = sim(mode);
                let (dir, log) = open(&disk, mode).unwrap();
                let all = fill(&log);
                log.truncate_to(Offset(target)).unwrap();
                let mut kept = before(&all, target);
                if append {
                    let plain = plain("behind");
                    assert_eq!(log.append(&plain).unwrap().base_offset(), Offset(target));
                    kept.push((target, plain.header().crc));
                }
                if close {
                    dir.close().unwrap();
                }
                drop((dir, log));
                let (_dir, log) = open(&disk, mode).unwrap();
                assert_eq!(stored(&log), kept, "{mode:?} to {target}");
                let end = if append { target + 1 } else { end_of(&kept) };
                assert_eq!(log.log_end_offset(), Offset(end), "{mode:?} to {target}, closed: {close}");
                assert!(log.recovery().cut.is_none(), "{}", log.recovery());
                check_windows(&log, kept.len() - usize::from(append));
            }
        }
    }
}

/// A sealed segment, of which everything is known to be there and shared out of one hold, becomes the active one again without
/// being cut: a truncation ends in the gap behind it.
#[test]
fn a_sealed_segment_that_is_active_again_shows_what_is_appended_to_it() {
    for mode in MODES {
        let disk = sim(mode);
        let (_dir, log) = open(&disk, mode).unwrap();
        let follower = AppendOptions::default().origin(Origin::Replication);
        let at = |offset, text: &[u8]| {
            let batch = BatchBuilder::new().base_offset(Offset(offset)).record("k", text).build().unwrap();
            log.submit(&[batch], follower).unwrap().wait().unwrap();
        };
        (0..10).for_each(|offset| at(offset, b"before the gap"));
        (100..102).for_each(|offset| at(offset, &[b'v'; FILLS_A_SEGMENT]));
        assert_eq!(log.metrics().segments, 3);
        log.sync().unwrap();
        let held = log.read(Offset(0), 1 << 20).unwrap().bytes;
        log.truncate_to(Offset(50)).unwrap();
        for offset in 50..60 {
            assert_eq!(log.append(&plain("in the gap")).unwrap().base_offset(), Offset(offset));
            assert_eq!(stored(&log).len(), offset as usize - 39, "{mode:?}");
            assert_eq!(log.read(Offset(offset), 1).unwrap().batches().count(), 1, "{mode:?}");
        }
        assert!(log.read(Offset(0), 1 << 20).unwrap().bytes.starts_with(&held));
    }
}

/// Of a sealed segment that nobody had looked at since the opening, a truncation into the gap behind it set the end alone: that
/// its timestamps were not known looked like there being none, and no look-up by time found what is in it.
#[test]
fn records_in_front_of_the_gap_that_a_truncation_ends_in_are_found_by_their_time() {
    for mode in MODES {
        let disk = sim(mode);
        let follower = AppendOptions::default().origin(Origin::Replication);
        let at = |log: &Log, offset: i64, size: usize| {
            let batch = BatchBuilder::new().base_offset(Offset(offset)).timestamp(Timestamp(1000 + offset));
            let batch = batch.record("k", vec![b'v'; size]).build().unwrap();
            log.submit(&[batch], follower).unwrap().wait().unwrap();
        };
        let (dir, log) = open(&disk, mode).unwrap();
        (0..10).for_each(|offset| at(&log, offset, 1));
        // Each in a segment that begins with it.
        (100..102).for_each(|offset| at(&log, offset, FILLS_A_SEGMENT));
        dir.close().unwrap();
        drop((dir, log));

        let (_dir, log) = open(&disk, mode).unwrap();
        log.truncate_to(Offset(50)).unwrap();
        let found = |timestamp| log.offset_for_timestamp(Timestamp(timestamp)).unwrap().map(|at| at.offset.0);
        assert_eq!((found(0), found(1007), found(1010)), (Some(0), Some(7), None), "{mode:?}");
        at(&log, 50, 1);
        assert_eq!((found(1009), found(1010)), (Some(9), Some(50)), "{mode:?}");
        // Long ago by the clock.
        log.set_options(small(mode).retention_ms(Some(1000))).unwrap();
        log.apply_retention().unwrap();
        assert_eq!(log.log_start_offset(), Offset(51), "{mode:?}");
    }
}

fn end_of(batches: &[(i64, u32)]) -> i64 {
    batches.last().map_or(0, |(base, _)| base + i64::from(RECORDS))
}

#[test]
fn a_log_starts_over_anywhere() {
    for mode in MODES {
        for close in [None, Some(true), Some(false)] {
            for new_start in [0, 1, 50, 119, 120, 121, 5000] {
                let disk = sim(mode);
                let (dir, log) = open(&disk, mode).unwrap();
                fill(&log);
                log.truncate_fully(Offset(new_start)).unwrap();
                let (dir, log) = match close {
                    None => (dir, log),
                    Some(close) => {
                        if close {
                            dir.close().unwrap();
                        }
                        drop((dir, log));
                        open(&disk, mode).unwrap()
                    }
                };
                let ends = (log.log_start_offset(), log.durable_offset(), log.log_end_offset());
                assert_eq!(ends, (Offset(new_start), Offset(new_start), Offset(new_start)));
                assert!(log.producers().is_empty() && log.leader_epochs().is_empty());
                assert_eq!(log.append(&numbered(0)).unwrap().base_offset(), Offset(new_start));
                drop(dir);
            }
        }
    }
}

#[test]
fn a_log_below_its_first_segment_starts_over() {
    for mode in MODES {
        let disk = sim(mode);
        let (_dir, log) = open(&disk, mode).unwrap();
        log.truncate_fully(Offset(1000)).unwrap();
        log.append(&plain("first")).unwrap();
        assert!(log.truncate_to(Offset(400)).unwrap());
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(400), Offset(400)));
        assert!(log.truncate_to(Offset(300)).unwrap(), "also without a segment");
        assert_eq!(log.append(&plain("again")).unwrap().base_offset(), Offset(300));
        assert!(matches!(log.truncate_to(Offset(-1)), Err(Error::OffsetOutOfRange { .. })));
    }
}

#[test]
fn a_truncation_lowers_what_lies_above_it() {
    for mode in MODES {
        let disk = sim(mode);
        let (_dir, log) = open(&disk, mode).unwrap();
        fill(&log);
        log.set_high_watermark(Offset(100));
        log.delete_records(Offset(90)).unwrap();
        log.truncate_to(Offset(105)).unwrap();
        let axis = |log: &Log| (log.log_start_offset().0, log.high_watermark().0, log.log_end_offset().0);
        assert_eq!(axis(&log), (90, 100, 105));
        log.truncate_to(Offset(60)).unwrap();
        assert_eq!(axis(&log), (60, 60, 60));
        assert!(log.recovery_point() <= Offset(60));
        log.append(&plain("next")).unwrap();
        assert_eq!(axis(&log), (60, 60, 61), "the host says when it rises again");
        log.truncate_fully(Offset(500)).unwrap();
        assert_eq!(axis(&log), (500, 500, 500));
    }
}

#[test]
fn leader_epochs_end_where_the_log_does() {
    for mode in MODES {
        let disk = sim(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        for number in 0..30 {
            log.set_leader_epoch(LeaderEpoch(number / 10));
            log.append(&numbered(number)).unwrap();
        }
        let epochs = |log: &Log| -> Vec<(i32, i64)> {
            log.leader_epochs().iter().map(|(epoch, start)| (epoch.0, start.0)).collect()
        };
        assert_eq!(epochs(&log), [(0, 0), (1, 30), (2, 60)]);
        log.truncate_to(Offset(61)).unwrap();
        assert_eq!(epochs(&log), [(0, 0), (1, 30), (2, 60)]);
        log.truncate_to(Offset(45)).unwrap();
        assert_eq!(epochs(&log), [(0, 0), (1, 30)]);
        log.truncate_to(Offset(30)).unwrap();
        drop((dir, log));
        let (_dir, log) = open(&disk, mode).unwrap();
        assert_eq!(epochs(&log), [(0, 0)]);
    }
}

#[test]
fn the_disk_has_nothing_above_the_target_and_is_sound() {
    for mode in MODES {
        for (target, append) in [(0, false), (30, true), (31, true), (60, false), (81, true), (117, false)] {
            let data = tempfile::tempdir().unwrap();
            let dir = common::open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            fill(&log);
            log.truncate_to(Offset(target)).unwrap();
            for entry in std::fs::read_dir(data.path().join("t-0")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let base = name.split('.').next().and_then(|base| base.parse().ok()).unwrap_or(0);
                assert!(base <= target && !name.ends_with(".tmp"), "{name} is left of {target}");
            }
            let sound = || {
                let options = VerifyOptions::default().allow_gaps(target % 3 != 0);
                let report = verify(data.path(), &options).unwrap();
                assert!(!report.has_errors(), "{mode:?} {target}: {:?}", report.problems);
            };
            if append {
                // Of other lengths than before: an index that was left would point into them.
                (0..9).for_each(|at| {
                    assert!(!log.append(&plain(&"x".repeat(at * 77))).unwrap().is_duplicate());
                });
                log.roll().unwrap();
            }
            drop((dir, log));
            sound();
            let dir = common::open(data.path(), mode);
            dir.close().unwrap();
            drop(dir);
            sound();
        }
    }
}

#[test]
fn what_was_not_durable_and_is_cut_is_truncated_and_what_stays_is_durable() {
    for mode in MODES {
        let disk = sim(mode);
        let (_dir, log) = open(&disk, mode).unwrap();
        let submit = |number| log.submit(&[numbered(number)], AppendOptions::default()).unwrap();
        let (stays, holds, goes) = (submit(0), submit(1), submit(2));
        log.truncate_to(Offset(4)).unwrap();
        let again = log.submit(&[numbered(1)], AppendOptions::default()).unwrap();
        assert!(stays.is_durable());
        assert_eq!(stays.wait().unwrap()[0].base_offset(), Offset(0));
        assert!(matches!(holds.wait(), Err(Error::Truncated)));
        assert!(matches!(goes.wait(), Err(Error::Truncated)));
        assert_eq!(again.wait().unwrap()[0].base_offset(), Offset(4));

        let gone = log.submit(&[numbered(2)], AppendOptions::default()).unwrap();
        log.truncate_fully(Offset(100)).unwrap();
        assert!(matches!(gone.wait(), Err(Error::Truncated)), "although the log is durable up to 100");
    }
}

#[test]
fn a_backlog_that_was_cut_does_not_hold_appends_up() {
    for mode in MODES {
        let disk = sim(mode);
        let log_options = small(mode).max_pending(4);
        let options = LogDirOptions::default().log(log_options).disk(Arc::new(disk));
        let dir = LogDir::open(DIRECTORY, options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        for round in 0..5 {
            for _ in 0..4 {
                drop(common::try_submit(&log, &plain("goes"), AppendOptions::default()).unwrap());
            }
            let full = log.try_submit(&[plain("waits")], AppendOptions::default());
            assert!(matches!(full, Err(Error::WouldBlock { .. })));
            // Nothing is synced when all goes.
            log.truncate_fully(Offset(round)).unwrap();
            drop(common::try_submit(&log, &plain("stays"), AppendOptions::default()).unwrap());
            log.truncate_to(Offset(round)).unwrap();
        }
    }
}

#[test]
fn without_its_directory_a_log_is_not_cut() {
    for mode in MODES {
        let disk = sim(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        let all = fill(&log);
        drop(dir);
        assert!(matches!(log.truncate_to(Offset(50)), Err(Error::Closed)));
        assert!(matches!(log.truncate_fully(Offset(50)), Err(Error::Closed)));
        assert_eq!(stored(&log), all);
        log.close().unwrap();
        assert!(matches!(log.truncate_to(Offset(50)), Err(Error::Closed)));
    }
}

//! Truncation from outside: what stays, what goes, who notices, and what a crash or a failing disk makes of it.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{MODES, batch, plain, small, stored};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use idemlog::sim::{FailedSync, Fault, Operation, SimDisk};
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{
    AppendOptions, Batch, BatchBuilder, Durability, Error, IoMode, LeaderEpoch, Log, LogDir, LogDirOptions,
    LogOptions, Offset, RecordCheck,
};

const DIRECTORY: &str = "/data";
/// Of each batch.
const RECORDS: i32 = 3;
/// Enough for five segments.
const BATCHES: i32 = 40;

fn sim(mode: IoMode) -> SimDisk {
    let disk = SimDisk::new(mode);
    disk.set_sync_range_covers_length(true);
    disk
}

fn open(disk: &SimDisk, mode: IoMode) -> idemlog::Result<(LogDir, Log)> {
    let options = LogDirOptions::default().log(small(mode)).disk(Arc::new(disk.clone())).recovery_threads(1);
    let dir = LogDir::open(Path::new(DIRECTORY), options)?;
    let log = dir.partition("t", 0)?;
    Ok((dir, log))
}

/// The `number`th batch of the test's log, by one of two producers.
fn numbered(number: i32) -> Batch {
    batch(1 + i64::from(number % 2), 0, number / 2 * RECORDS, RECORDS as usize)
}

fn fill(log: &Log) -> Vec<(i64, u32)> {
    for number in 0..BATCHES {
        log.append(&numbered(number)).unwrap();
    }
    stored(log)
}

/// Those that end in front of `target`.
fn before(all: &[(i64, u32)], target: i64) -> Vec<(i64, u32)> {
    all.iter().copied().filter(|(base, _)| base + i64::from(RECORDS) <= target).collect()
}

fn end_of(batches: &[(i64, u32)]) -> i64 {
    batches.last().map_or(0, |(base, _)| base + i64::from(RECORDS))
}

/// Whatever is known of the producers is what the log says.
fn check_windows(log: &Log, kept: usize) {
    for number in kept.saturating_sub(4)..kept {
        let again = log.append(&numbered(number as i32)).unwrap();
        assert!(again.is_duplicate(), "batch {number} of {kept}");
        assert_eq!(again.base_offset().0, number as i64 * i64::from(RECORDS));
    }
    for number in kept..(kept + 3).min(BATCHES as usize) {
        let end = log.log_end_offset();
        let outcome = log.append(&numbered(number as i32)).unwrap();
        assert!(!outcome.is_duplicate(), "batch {number} was cut");
        assert_eq!(outcome.base_offset(), end);
    }
}

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

/// Does `truncate` to a full log, and looks at every disk that a crash on the way leaves: `check` gets the batches before
/// and those that are left.
fn crash_everywhere(
    truncate: impl Fn(&Log),
    check: impl Fn(&Log, &[(i64, u32)], &[(i64, u32)], bool) -> Result<(), String>,
) {
    for mode in MODES {
        for hold in [false, true] {
            let disk = sim(mode);
            let (_dir, log) = open(&disk, mode).unwrap();
            let all = fill(&log);
            let held = hold.then(|| log.read(Offset(40), 1 << 20).unwrap());
            disk.restart_journal();
            truncate(&log);
            disk.mark(1);
            drop(held);
            for point in 0..disk.crash_points() {
                for image in disk.images(point, 8, point as u64).chain([disk.kill(point)]) {
                    let done = !disk.marks(point).is_empty();
                    let checked = open(&image, mode)
                        .map_err(|error| format!("does not open: {error}"))
                        .and_then(|(_dir, log)| check(&log, &all, &stored(&log), done));
                    if let Err(violation) = checked {
                        panic!(
                            "{mode:?} {hold}, behind event {point}, {}: {violation}",
                            disk.describe(point)
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_crash_during_a_truncation_leaves_the_log_whole_up_to_some_batch() {
    for target in [7, 45, 50, 110, 119] {
        crash_everywhere(
            |log| assert!(log.truncate_to(Offset(target)).unwrap()),
            |log, all, left, done| {
                let kept = before(all, target).len();
                if left.len() < kept || left != &all[..left.len()] || (done && left.len() > kept) {
                    return Err(format!("{left:?} is left"));
                }
                check_windows(log, left.len());
                Ok(())
            },
        );
    }
}

#[test]
fn a_crash_while_a_log_is_emptied_leaves_a_part_of_it_or_none() {
    for new_start in [0, 50, 120, 5000] {
        crash_everywhere(
            |log| log.truncate_fully(Offset(new_start)).unwrap(),
            |log, all, left, done| {
                let from = all.iter().position(|batch| Some(batch) == left.first()).unwrap_or(0);
                if left != &all[from..from + left.len()] || (done && !left.is_empty()) {
                    return Err(format!("{left:?} is left"));
                }
                let ends = (log.log_start_offset().0, log.log_end_offset().0);
                if left.is_empty() && ends != (new_start, new_start) {
                    return Err(format!("it is empty at {ends:?}"));
                }
                if from + left.len() < all.len() && !left.is_empty() {
                    check_windows(log, from + left.len());
                }
                Ok(())
            },
        );
    }
}

/// Does `truncate` to a full log while one call of the disk fails, for each call in turn: `check` gets the batches before,
/// how many of them must be left in any case, and what `truncate` answered.
fn fail_everywhere(truncate: impl Fn(&Log) -> Result<(), Error>, kept: usize, must_end: Offset) {
    for mode in MODES {
        for (operation, hold) in Operation::ALL.into_iter().flat_map(|op| [(op, false), (op, true)]) {
            for call in 1.. {
                let disk = sim(mode);
                let (dir, log) = open(&disk, mode).unwrap();
                let all = fill(&log);
                let held = hold.then(|| log.read(Offset(40), 1 << 20).unwrap());
                let copy = held.as_ref().map(|held| held.bytes.to_vec());
                let calls = disk.calls(operation);
                disk.inject(Fault::nth(operation, call).halfway().pages(FailedSync::Reverted));
                let truncated = truncate(&log);
                disk.clear_faults();
                if disk.calls(operation) - calls < call {
                    break;
                }
                let what = format!("{mode:?} {operation:?} {call} {truncated:?}");
                assert_eq!(held.as_ref().map(|held| held.bytes.to_vec()), copy, "{what}");
                check_readable(&log, &all, &what);
                check_append(&log, &truncated, must_end, &what);
                drop((dir, log));
                let (_dir, log) = open(&disk, mode).unwrap();
                check_left(&log, &all, kept, &what);
            }
        }
    }
}

/// What can still be read is right.
fn check_readable(log: &Log, all: &[(i64, u32)], what: &str) {
    for batch in log.reader(log.log_start_offset()).unwrap().map_while(Result::ok) {
        assert!(all.contains(&(batch.header().base_offset.0, batch.header().crc)), "{what}");
    }
}

/// The log is cut, or as it was, or takes nothing more.
fn check_append(log: &Log, truncated: &Result<(), Error>, must_end: Offset, what: &str) {
    let end = if truncated.is_ok() { must_end } else { Offset(i64::from(BATCHES * RECORDS)) };
    match log.append(&plain("behind")) {
        Ok(outcome) => assert_eq!(outcome.base_offset(), end, "{what}"),
        Err(error) => {
            assert!(truncated.is_err() && matches!(error, Error::Poisoned(_)), "{what}: {error}");
        }
    }
}

fn check_left(log: &Log, all: &[(i64, u32)], kept: usize, what: &str) {
    let left = stored(log);
    let ours = left.iter().take_while(|batch| all.contains(batch)).count();
    assert!(ours >= kept && left.len() <= ours + 1, "{what}: {left:?}");
    let first = all.iter().position(|batch| Some(batch) == left.first()).unwrap_or(0);
    assert_eq!(left[..ours], all[first..first + ours], "{what}");
    if first + ours > 0 {
        check_windows(log, first + ours);
    }
}

#[test]
fn a_call_of_the_disk_that_fails_leaves_a_log_that_opens_and_lacks_nothing() {
    for target in [50, 108] {
        let kept = target as usize / RECORDS as usize;
        fail_everywhere(|log| log.truncate_to(Offset(target)).map(drop::<bool>), kept, Offset(target));
    }
}

#[test]
fn a_call_of_the_disk_that_fails_while_a_log_is_emptied_leaves_one_that_opens() {
    for new_start in [50, 5000] {
        fail_everywhere(|log| log.truncate_fully(Offset(new_start)), 0, Offset(new_start));
    }
}

#[test]
fn a_truncation_that_failed_early_can_be_tried_again() {
    for mode in MODES {
        for operation in [Operation::Create, Operation::Write, Operation::Rename] {
            let disk = sim(mode);
            let (_dir, log) = open(&disk, mode).unwrap();
            let all = fill(&log);
            let held = log.read(Offset(40), 1 << 20).unwrap();
            disk.inject(Fault::nth(operation, 3).errno(Fault::ENOSPC));
            assert!(matches!(log.truncate_to(Offset(50)), Err(Error::Io(_))), "{operation:?}");
            assert_eq!(stored(&log), all);
            assert!(log.truncate_to(Offset(50)).unwrap());
            assert_eq!(stored(&log), before(&all, 50));
            drop(held);
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
                drop(log.try_submit(&[plain("goes")], AppendOptions::default()).unwrap());
            }
            let full = log.try_submit(&[plain("waits")], AppendOptions::default());
            assert!(matches!(full, Err(Error::WouldBlock { .. })));
            // Nothing is synced when all goes.
            log.truncate_fully(Offset(round)).unwrap();
            drop(log.try_submit(&[plain("stays")], AppendOptions::default()).unwrap());
            log.truncate_to(Offset(round)).unwrap();
        }
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

#[test]
fn nobody_waits_for_ever_when_all_is_done_at_once() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let options =
            LogDirOptions::default().log(small(mode).retention_bytes(Some(20_000))).background_threads(1);
        let dir = LogDir::open(data.path(), options).unwrap();
        let until = Instant::now() + Duration::from_secs(2);
        let expected = |result: Result<(), Error>| match result {
            Ok(())
            | Err(Error::Gone | Error::Truncated | Error::InDoubt | Error::OffsetOutOfRange { .. }) => {}
            Err(error) => panic!("{error}"),
        };
        let with_log = |work: &(dyn Fn(&Log) -> Result<(), Error> + Sync)| {
            while Instant::now() < until {
                let log = dir.partition("t", 0).unwrap();
                (0..20).for_each(|_| expected(work(&log)));
            }
        };
        let end = |log: &Log| log.log_end_offset().0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                with_log(&|log| log.append(&plain(&"x".repeat(300))).map(drop::<idemlog::AppendOutcome>));
            });
            scope.spawn(|| {
                with_log(&|log| log.truncate_to(Offset(end(log) - end(log).min(3))).map(drop::<bool>));
            });
            scope.spawn(|| with_log(&|log| log.truncate_fully(Offset(end(log)))));
            scope.spawn(|| with_log(&|log| log.delete_records(log.high_watermark()).map(drop::<Offset>)));
            scope.spawn(|| with_log(&|log| log.apply_retention().map(drop::<usize>)));
            scope.spawn(|| with_log(&|log| log.roll()));
            scope.spawn(|| {
                while Instant::now() < until {
                    dir.metrics();
                    dir.delete_partition("t", 0).unwrap();
                    std::thread::sleep(Duration::from_millis(30));
                }
            });
        });
        dir.close().unwrap();
    }
}

/// A batch that says where it was appended, in which round.
fn marked(round: u64, number: u64) -> Batch {
    BatchBuilder::new().record(round.to_string(), format!("{number} {}", "x".repeat(200))).build().unwrap()
}

/// Appends, syncs, reads and truncations at once, over the operating system's own disk.
#[test]
fn readers_and_appenders_go_on_while_the_log_is_truncated() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let options: LogOptions = small(mode).segment_bytes(16 << 10).durability(Durability::Synced);
        let dir =
            LogDir::open(data.path(), LogDirOptions::default().log(options).background_threads(1)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let done = AtomicBool::new(false);
        let until = Instant::now() + Duration::from_secs(4);
        std::thread::scope(|scope| {
            let (log, done) = (&log, &done);
            let going = || !done.load(Ordering::Relaxed);
            for round in 0..2 {
                scope.spawn(move || {
                    for number in 0.. {
                        if !going() {
                            break;
                        }
                        match log.submit(&[marked(round, number)], AppendOptions::default()).unwrap().wait() {
                            Ok(_) | Err(Error::Truncated) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    while going() {
                        read_through(log, &mut held);
                    }
                });
            }
            let mut target = 0;
            while Instant::now() < until {
                let end = log.log_end_offset().0;
                target = if end - target > 400 { end - 300 } else { end - 7.min(end) };
                log.truncate_to(Offset(target)).unwrap();
                if end % 5 == 0 {
                    log.truncate_fully(Offset(end)).unwrap();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            done.store(true, Ordering::Relaxed);
        });
        let before = stored(&log);
        dir.close().unwrap();
        drop((dir, log));
        let dir = common::open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert_eq!(stored(&log), before);
    }
}

/// Reads what is there, checks it, and keeps some of it to look at it again.
fn read_through(log: &Log, held: &mut Vec<(idemlog::UncheckedBatch, u32)>) {
    let reader = match log.reader(log.log_start_offset()) {
        Ok(reader) => reader,
        Err(Error::OffsetOutOfRange { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let mut next = 0;
    for batch in reader {
        let batch = match batch {
            Ok(batch) => batch,
            Err(Error::OffsetOutOfRange { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        // After a truncation another batch may hold the offset where the reader is, and begin before it.
        assert!(batch.header().next_offset().0 > next, "offsets rise");
        next = batch.header().next_offset().0;
        batch.clone().check(RecordCheck::Full, 1 << 20).unwrap();
        if next % 97 == 0 {
            held.push((batch.clone(), batch.header().crc));
        }
    }
    for (batch, crc) in held.iter() {
        assert_eq!(batch.header().crc, *crc);
        batch.clone().check(RecordCheck::Full, 1 << 20).unwrap();
    }
    held.truncate(20);
}

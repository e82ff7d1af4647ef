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
use idemlog::sim::SimDisk;
use idemlog::{Batch, IoMode, Log, LogDir, LogDirOptions, Offset};

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
        for target in 0..=i64::from(BATCHES * RECORDS) {
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
            for (target, append) in (0..i64::from(BATCHES * RECORDS)).zip([true, false].into_iter().cycle()) {
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

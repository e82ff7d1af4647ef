//! A crash, or a call of the disk that fails, anywhere in a truncation.

use std::thread;
use std::time::Duration;

use idemlog::sim::{FailedSync, Fault, Oldest, Operation, SimDisk};
use idemlog::{AppendOptions, Error, Log, LogDir, Offset};

use crate::common::{self, MODES, plain, stored};
use crate::gate::GatedDisk;
use crate::{BATCHES, RECORDS, before, check_windows, fill, numbered, open, sim};

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

/// The disk was full by the time the log was to begin at its new start, and that could not be taken back on it, either. The log
/// went on as before, in blocks that it had; the next opening found all of it below its start, and deleted what had been
/// acknowledged meanwhile.
#[test]
fn what_is_acknowledged_behind_a_truncation_that_failed_is_there_at_the_next_opening() {
    for mode in MODES {
        for (new_start, operation) in
            [50, 5000].into_iter().flat_map(|start| Operation::ALL.map(|operation| (start, operation)))
        {
            for call in 1.. {
                let disk = sim(mode);
                let (dir, log) = open(&disk, mode).unwrap();
                fill(&log);
                let calls = disk.calls(operation);
                disk.inject(Fault::nth(operation, call).errno(Fault::ENOSPC).forever());
                let truncated = log.truncate_fully(Offset(new_start));
                if disk.calls(operation) - calls < call {
                    break;
                }
                let appended = log.append(&plain("behind"));
                drop((dir, log));
                disk.clear_faults();
                let (_dir, log) = open(&disk, mode).unwrap();
                if let Ok(outcome) = appended {
                    let offset = outcome.base_offset();
                    let found = log.read(offset, 1 << 20).map(|found| found.bytes.is_empty());
                    assert_eq!(
                        found.ok(),
                        Some(false),
                        "{mode:?} {operation:?} {call} to {new_start}, {truncated:?}: {offset} is gone"
                    );
                }
            }
        }
    }
}

/// Nobody writes the checkpoints of a directory without a handle, so there is nothing to take back.
#[test]
fn a_log_whose_directory_has_no_handle_is_not_emptied_and_goes_on() {
    for mode in MODES {
        let disk = sim(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        let all = fill(&log);
        drop(dir);
        assert!(matches!(log.truncate_fully(Offset(5000)), Err(Error::Closed)), "{mode:?}");
        log.append(&plain("behind")).unwrap();
        drop(log);
        let (_dir, log) = open(&disk, mode).unwrap();
        assert_eq!(stored(&log)[..all.len()], all);
    }
}

/// A truncation that failed in the middle ended the log at its new start, which lay above, and condemned nothing: whoever waited
/// for what was gone found the durable offset high enough, and took it for stored.
#[test]
fn nothing_that_a_failed_truncation_took_is_acknowledged() {
    for mode in MODES {
        let mut ended = 0;
        for call in 1.. {
            let disk = sim(mode);
            let (_dir, log) = open(&disk, mode).unwrap();
            log.append(&numbered(0)).unwrap();
            let pending = log.submit(&[numbered(1)], AppendOptions::default()).unwrap();
            disk.inject(Fault::nth(Operation::Remove, call));
            if log.truncate_fully(Offset(1000)).is_ok() {
                break;
            }
            let has_ended = log.log_end_offset() == Offset(1000);
            let waited = pending.wait();
            assert_eq!(matches!(waited, Err(Error::Truncated)), has_ended, "{mode:?} {call} {waited:?}");
            ended += i32::from(has_ended);
        }
        assert!(ended > 0, "{mode:?}");
    }
}

/// A truncation to the log's end syncs nothing, as it takes nothing. If an append came in before it could look again, it did, and
/// when that failed, all below its target was called durable: those who waited were told that their batches were on the disk.
#[test]
fn what_a_failed_truncation_was_to_leave_is_acknowledged_only_if_it_is_durable() {
    let mut failed = 0;
    for mode in MODES {
        let disk = sim(mode);
        let gated = GatedDisk::new(&disk);
        let dir = LogDir::open("/data", common::options(mode).disk(gated.clone())).unwrap();
        let log = &dir.partition("t", 0).unwrap();
        let submit = |at| log.submit(&[numbered(at)], AppendOptions::default()).unwrap();
        log.append(&numbered(0)).unwrap();
        let gate = gated.close_before("log-start-offset-checkpoint.tmp");
        let (waiting, end) = thread::scope(|scope| {
            let deletion = scope.spawn(|| log.delete_records(Offset(1)));
            gate.wait();
            let (waiting, end) = (submit(1), log.log_end_offset());
            let truncation = scope.spawn(move || log.truncate_to(end));
            thread::sleep(Duration::from_millis(100));
            drop(submit(2));
            disk.inject(Fault::nth(Operation::SetLen, 1));
            gate.open();
            deletion.join().unwrap().unwrap();
            failed += i32::from(truncation.join().unwrap().is_err());
            (waiting, end)
        });
        let answer = waiting.wait();
        let after_power_cut = disk.crash(disk.crash_points() - 1, &mut Oldest);
        let left = open(&after_power_cut, mode).unwrap().1.log_end_offset();
        assert!(log.durable_offset() <= left, "{mode:?}: {:?} of {left:?}", log.durable_offset());
        assert!(answer.is_err() || left >= end, "{mode:?}: {answer:?}, {left:?}");
    }
    assert!(failed > 0, "no append came in between");
}

/// A follower deletes all records and is cut in the middle of its last batch: on the disk the log ends below its start, and the
/// next opening begins it there, empty. It removed the segments first, and wrote down who had appended to them afterwards: a
/// crash in between, or a disk that failed, made it forget them all.
#[test]
fn an_opening_that_starts_over_writes_down_the_producers_before_their_records_go() {
    for mode in MODES {
        let disk = sim(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        fill(&log);
        let end = log.log_end_offset();
        log.delete_records(end).unwrap();
        log.truncate_to(Offset(end.0 - 1)).unwrap();
        let producers_of = |log: &Log| -> Vec<_> {
            log.producers().into_iter().map(|producer| (producer.producer_id, producer.batches)).collect()
        };
        let known = producers_of(&log);
        drop((dir, log));
        let producers = |disk: &SimDisk| open(disk, mode).map(|(_dir, log)| producers_of(&log));
        let copy = || disk.kill(disk.crash_points() - 1);

        for operation in Operation::ALL {
            for call in 1.. {
                let image = copy();
                image.inject(Fault::nth(operation, call));
                let tried = producers(&image);
                image.clear_faults();
                if image.calls(operation) < call {
                    break;
                }
                let what = format!("{mode:?} {operation:?} {call}");
                assert!(tried.is_err() || tried.unwrap() == known, "{what}");
                assert_eq!(producers(&image).unwrap(), known, "{what}");
            }
        }

        let image = copy();
        image.restart_journal();
        assert_eq!(producers(&image).unwrap(), known, "{mode:?}");
        for point in 0..image.crash_points() {
            for left in image.images(point, 8, point as u64).chain([image.kill(point)]) {
                assert_eq!(producers(&left).unwrap(), known, "{mode:?} {}", image.describe(point));
            }
        }
    }
}

/// A log was to begin at a lower offset, and a crash came before its segments were gone: it was opened as it had been, and the disk
/// went on saying the lower offset. A kill between the next two checkpoint files then left a log that was refused for what had
/// never been there.
#[test]
fn a_log_that_was_almost_begun_at_a_lower_offset_opens_ever_after() {
    for mode in MODES {
        let disk = sim(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        log.truncate_fully(Offset(50)).unwrap();
        log.append(&plain("at 50")).unwrap();
        disk.restart_journal();
        log.truncate_fully(Offset(10)).unwrap();
        drop((dir, log));

        for point in 0..disk.crash_points() {
            let image = disk.kill(point);
            let (dir, log) = open(&image, mode).unwrap();
            let start = log.log_start_offset();
            image.restart_journal();
            log.append(&plain("behind")).unwrap();
            dir.close().unwrap();
            for later in 0..image.crash_points() {
                let opened = open(&image.kill(later), mode).map(|(_dir, log)| log.log_start_offset());
                let what = format!("{mode:?} {} and {}", disk.describe(point), image.describe(later));
                assert_eq!(opened.unwrap_or_else(|error| panic!("{what}: {error}")), start, "{what}");
            }
        }
    }
}

/// Emptying a log that failed before anything was gone left the high watermark that the host had set below the log start.
#[test]
fn a_log_that_was_not_emptied_does_not_start_above_its_high_watermark() {
    for mode in MODES {
        let disk = sim(mode);
        let (_dir, log) = open(&disk, mode).unwrap();
        let all = fill(&log);
        log.set_high_watermark(Offset(90));
        log.delete_records(Offset(60)).unwrap();
        disk.inject(Fault::nth(Operation::Create, 1).errno(Fault::ENOSPC));
        assert!(matches!(log.truncate_fully(Offset(10)), Err(Error::Io(_))), "{mode:?}");
        assert_eq!((log.log_start_offset(), log.high_watermark()), (Offset(60), Offset(60)), "{mode:?}");
        log.set_high_watermark(log.log_end_offset());
        assert_eq!(stored(&log), all[20..], "{mode:?}");
    }
}

//! Truncations while others append, read and delete.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use idemlog::{
    AppendOptions, Batch, BatchBuilder, Durability, Error, Log, LogDir, LogDirOptions, LogOptions, Offset,
    RecordCheck,
};

use crate::common::{self, MODES, plain, small, stored};
use crate::gate::GatedDisk;
use crate::{numbered, sim};

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

/// A reader that had come to the segment that is cut waited for that, and then went on up to the end that it had seen before: it
/// handed out what had been appended in the place of what was cut, and was not durable.
#[test]
fn a_reader_beside_a_truncation_sees_nothing_that_is_not_durable_behind_it() {
    for round in 0..40 {
        let mode = MODES[round % 2];
        let gated = GatedDisk::new(&sim(mode));
        let dir = LogDir::open("/data", common::options(mode).disk(gated.clone())).unwrap();
        let log = dir.partition("t", 0).unwrap();
        (0..4).for_each(|number| assert!(!log.append(&numbered(number)).unwrap().is_duplicate()));
        let mut reader = log.reader(Offset(6)).unwrap();
        let gate = gated.close_before_for("00000000000000000000.index.tmp", Duration::from_secs(60));
        std::thread::scope(|scope| {
            let truncation = scope.spawn(|| log.truncate_to(Offset(6)));
            gate.wait();
            let seen = scope.spawn(|| reader.next());
            let late = scope.spawn(|| log.submit(&[numbered(2)], AppendOptions::default()).unwrap());
            std::thread::sleep(Duration::from_millis(5));
            gate.open();
            assert!(truncation.join().unwrap().unwrap());
            let (seen, late) = (seen.join().unwrap(), late.join().unwrap());
            assert!(!late.is_durable());
            let seen = seen.and_then(Result::ok).map(|batch| batch.header().base_offset);
            assert_eq!(seen, None, "{mode:?}, round {round}");
        });
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

/// An appender opened the last segment again, which a truncation had closed, while a roll began the next one: appends went to
/// the segment in front of the last, or waited for ever for room in it.
#[test]
fn an_append_and_a_roll_right_behind_a_truncation_agree_on_the_last_segment() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = common::open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let (done, all_done) = std::sync::mpsc::channel();
        let rounds = log.clone();
        std::thread::spawn(move || {
            for round in 0..150 {
                (0..3).for_each(|number| drop(rounds.append(&marked(round, number))));
                rounds.truncate_to(rounds.log_end_offset() + -1).unwrap();
                std::thread::scope(|scope| {
                    scope.spawn(|| drop(rounds.append(&marked(round, 3))));
                    scope.spawn(|| rounds.roll().unwrap());
                });
            }
            done.send(()).unwrap();
        });
        all_done.recv_timeout(Duration::from_secs(120)).expect("an append or a roll does not come back");
        assert_eq!(stored(&log).len(), 450, "{mode:?}");
        dir.close().unwrap();
        let report =
            idemlog::verify::verify(data.path(), &idemlog::verify::VerifyOptions::default()).unwrap();
        assert!(!report.has_errors(), "{mode:?}: {:?}", report.problems);
    }
}

/// A truncation below the log start lowered that first, and wrote the checkpoints then: meanwhile, records that had been deleted
/// could be read.
#[test]
fn deleted_records_are_not_read_while_a_truncation_goes_below_them() {
    for mode in MODES {
        let gated = GatedDisk::new(&sim(mode));
        let options = LogDirOptions::default().log(small(mode)).disk(gated.clone());
        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        (0..20).for_each(|number| assert!(log.append(&plain(&number.to_string())).is_ok()));
        log.delete_records(Offset(15)).unwrap();
        let gate = gated.close_before("log-start-offset-checkpoint.tmp");
        std::thread::scope(|scope| {
            let truncation = scope.spawn(|| log.truncate_to(Offset(10)));
            gate.wait();
            let read = log.read(Offset(12), 1 << 20);
            assert!(matches!(read, Err(Error::OffsetOutOfRange { .. })), "{mode:?}: {read:?}");
            gate.open();
            assert!(truncation.join().unwrap().unwrap());
        });
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(10), Offset(10)));
        assert_eq!(log.append(&plain("behind")).unwrap().base_offset(), Offset(10));
        assert_eq!(stored(&log).len(), 1);
    }
}

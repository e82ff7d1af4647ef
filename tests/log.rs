//! A partition from outside: appended, read, closed, killed, opened again. Over both I/O modes.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::slice::from_ref;

use common::{MODES, TestClock, batch, change, open, options, plain, small, stored};
use idemlog::{
    AppendOptions, AppendOutcome, Batch, BatchBuilder, BatchBytes, BatchHeader, ControlRecord, CutReason,
    Error, FirstAppend, IoMode, Log, LogDir, LogDirOptions, Offset, ProducerEpoch, ProducerId,
    ProducerPolicy, RecordBuilder, RejectionReason, Sequence, SequenceRule, Timestamp, TimestampType,
    UncheckedBatch,
};

/// Why the log does not take a batch.
fn refusal(log: &Log, batch: &Batch) -> RejectionReason {
    match log.append(batch) {
        Err(Error::Rejected(rejection)) => rejection.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_sent_again_is_answered_with_the_originals_offsets() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let first: Vec<_> = (0..5).map(|at| log.append(&batch(1, 0, at * 3, 3)).unwrap()).collect();
        for (at, first) in first.iter().enumerate() {
            let again = log.append(&batch(1, 0, at as i32 * 3, 3)).unwrap();
            assert!(again.is_duplicate() && !first.is_duplicate());
            assert_eq!(again.offsets(), first.offsets());
            assert_eq!(again.same_bytes(), Some(true));
        }
        assert_eq!(log.log_end_offset(), Offset(15));
    }
}

/// A batch that is lent is stored, answered and refused like one that holds its bytes, whichever way it comes in.
#[test]
fn what_is_appended_may_be_borrowed() {
    type Append = fn(&Log, &Batch<&[u8]>) -> idemlog::Result<AppendOutcome>;
    let ways: [(&str, Append); 4] = [
        ("append", |log, batch| log.append(batch)),
        ("append_all", |log, batch| Ok(log.append_all(from_ref(batch))?[0])),
        ("submit", |log, batch| Ok(log.submit(from_ref(batch), AppendOptions::default())?.wait()?[0])),
        ("try_submit", |log, batch| Ok(common::try_submit(log, batch, AppendOptions::default())?.wait()?[0])),
    ];
    for mode in MODES {
        for ((name, append), stamps) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            let data = tempfile::tempdir().unwrap();
            let dir = open(data.path(), mode);
            let kind = if stamps { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
            let log = dir.partition("t", 0).unwrap();
            log.set_options((*log.options()).clone().timestamp_type(kind)).unwrap();
            for at in 0..20 {
                let request = batch(1, 0, at * 3, 3).into_bytes().to_vec();
                let lent = Batch::decode_lent(&request).unwrap();
                let outcomes = [append(&log, &lent).unwrap(), append(&log, &lent).unwrap()];
                assert_eq!(outcomes.map(|outcome| outcome.is_duplicate()), [false, true], "{name}");
                assert_eq!(outcomes.map(|outcome| outcome.base_offset().0), [i64::from(at) * 3; 2], "{name}");
                assert_eq!(lent.records_in(&mut Vec::new()).count(), 3);
                let gap = batch(1, 0, 90, 1).into_bytes();
                let refused = append(&log, &Batch::decode_lent(&gap).unwrap()).unwrap_err();
                assert!(
                    matches!(&refused, Error::Rejected(rejection) if rejection.reason == RejectionReason::Gap),
                    "{name}: {refused}"
                );
                let stored = Batch::decode(log.read(Offset(i64::from(at) * 3), 1).unwrap().bytes).unwrap();
                assert_eq!(stored.header().timestamp_type(), kind, "{name}");
                // In front of it stands what the log stamps; the timestamps, and the CRC with them, only if it is told to.
                let same_from = if stamps { BatchHeader::SIZE } else { 16 };
                assert_eq!(stored.bytes()[same_from..], request[same_from..], "{name}");
                assert_eq!(lent.into_owned().into_bytes(), request);
            }
        }
    }
}

#[test]
fn what_was_appended_is_read_back_over_many_segments() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let mut expected = Vec::new();
        for at in 0..100 {
            let batch = batch(1, 0, at * 2, 2);
            let outcome = log.append(&batch).unwrap();
            expected.push((outcome.base_offset().0, batch.header().crc));
        }
        assert!(log.metrics().segments > 3);
        assert_eq!(stored(&log), expected);
        for from in 0..200 {
            let first = log.reader(Offset(from)).unwrap().next().unwrap().unwrap();
            assert!(first.header().offsets().contains(Offset(from)), "{mode:?} from {from}");
            let fetched = log.read(Offset(from), 1).unwrap();
            assert_eq!(fetched.batches().count(), 1, "the first batch comes whole");
        }
        assert!(log.reader(Offset(201)).is_err());
        assert_eq!(log.reader(Offset(200)).unwrap().count(), 0);
    }
}

#[test]
fn what_a_reader_lends_is_what_it_hands_out() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let mut reader = log.reader(Offset(0)).unwrap();
        assert!(reader.lend_next().is_none(), "{mode:?}, of an empty log");
        for at in 0..60 {
            log.append(&batch(1_000, 0, at * 2, 2)).unwrap();
            if at % 3 == 0 {
                let id = dir.new_producer_id().unwrap();
                let transaction =
                    BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).transactional();
                log.append(&transaction.record("k", "v").build().unwrap()).unwrap();
                let [abort, commit] = [
                    ControlRecord::Abort { coordinator_epoch: 0 },
                    ControlRecord::Commit { coordinator_epoch: 0 },
                ];
                log.end_transaction(id, ProducerEpoch(0), if at % 2 == 0 { abort } else { commit }).unwrap();
            }
        }
        assert!(log.metrics().segments > 3);
        for (mut lending, handing_out) in [
            (reader, log.reader(Offset(0)).unwrap()),
            (log.reader(Offset(7)).unwrap().committed(), log.reader(Offset(7)).unwrap().committed()),
        ] {
            for handed_out in handing_out {
                let handed_out = handed_out.unwrap();
                let lent = lending.lend_next().unwrap().unwrap();
                assert_eq!(
                    (lent.header(), *lent.bytes()),
                    (handed_out.header(), &handed_out.bytes()[..]),
                    "{mode:?}"
                );
                let next = lent.header().next_offset();
                assert_eq!(lending.position(), next, "{mode:?}");
            }
            assert!(lending.lend_next().is_none(), "{mode:?}");
        }
        let fetched = log.read(Offset(0), 2000).unwrap();
        let lent = fetched.lent_batches().map(|batch| batch.unwrap().into_owned().into_bytes());
        assert!(lent.eq(fetched.batches().map(|batch| batch.unwrap().into_bytes())), "{mode:?}");
    }
}

/// What a reader's answer tells, whoever holds the batch.
fn seen<B: BatchBytes>(
    answer: Option<idemlog::Result<UncheckedBatch<B>>>,
) -> Option<Result<BatchHeader, String>> {
    answer.map(|batch| batch.map(|batch| *batch.header()).map_err(|error| error.to_string()))
}

/// Both look for the rest where the segment that they were in is cut or deleted.
#[test]
fn a_reader_that_lends_sees_what_left_the_log_as_one_that_hands_out() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        for at in 0..200 {
            log.append(&batch(1, 0, at * 2, 2)).unwrap();
        }
        let (mut lending, mut handing_out) = (log.reader(Offset(0)).unwrap(), log.reader(Offset(0)).unwrap());
        let mut step = |what: &str| {
            let lent = seen(lending.lend_next());
            assert_eq!(lent, seen(handing_out.next()), "{mode:?}, {what}");
            lent
        };
        (0..5).for_each(|_| assert!(matches!(step("whole"), Some(Ok(_)))));
        log.truncate_to(Offset(301)).unwrap();
        (0..100).for_each(|_| assert!(matches!(step("cut"), Some(Ok(_)))));
        log.delete_records(Offset(250)).unwrap();
        log.apply_retention().unwrap();
        assert!(matches!(step("deleted"), Some(Err(_))), "{mode:?}, it stands below the log start offset");
        assert!(matches!(step("deleted"), Some(Err(_))), "{mode:?}");
    }
}

#[test]
fn a_reader_that_lends_goes_on_behind_a_truncation_and_ends_with_the_log() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        for at in 0..60 {
            log.append(&batch(1, 0, at * 2, 2)).unwrap();
        }
        let mut reader = log.reader(Offset(0)).unwrap();
        assert_eq!(reader.lend_next().unwrap().unwrap().header().base_offset, Offset(0));
        log.truncate_to(Offset(2)).unwrap();
        assert!(reader.lend_next().is_none(), "{mode:?}");
        log.append(&batch(2, 0, 0, 1)).unwrap();
        assert_eq!(reader.lend_next().unwrap().unwrap().header().producer_id, ProducerId(2), "{mode:?}");
        drop(log);
        dir.close().unwrap();
        assert!(matches!(reader.lend_next(), Some(Err(Error::Closed))), "{mode:?}");
    }
}

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
fn a_call_with_several_batches_stores_the_new_answers_the_old_and_refuses_as_a_whole() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        let outcomes = log
            .append_all(&[
                batch(1, 0, 0, 1),
                batch(1, 0, 1, 2),
                batch(2, 0, 0, 1),
                batch(1, 0, 1, 2),
                plain("p"),
            ])
            .unwrap();
        let seen: Vec<_> = outcomes.iter().map(|o| (o.is_duplicate(), o.base_offset().0)).collect();
        assert_eq!(seen, [(true, 0), (false, 1), (false, 3), (true, 1), (false, 4)]);
        let end = log.log_end_offset();
        assert!(log.append_all(&[batch(1, 0, 3, 1), batch(2, 0, 9, 1)]).is_err());
        assert_eq!(log.log_end_offset(), end);
        assert!(
            !log.append(&batch(1, 0, 3, 1)).unwrap().is_duplicate(),
            "nothing was kept of the refused call"
        );
    }
}

#[test]
fn a_refusal_or_duplicate_creates_no_file() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let files = || std::fs::read_dir(log.directory()).unwrap().count();
        assert!(
            log.append(&batch(1, 0, 5, 1)).is_err(),
            "an unknown producer begins at 0 in an empty partition"
        );
        assert_eq!(files(), 0);
        while log.log_end_offset() < Offset(17) {
            log.append(&batch(1, 0, log.log_end_offset().0 as i32, 1)).unwrap();
        }
        let before = files();
        for _ in 0..50 {
            assert!(log.append(&batch(1, 0, 16, 1)).unwrap().is_duplicate());
            assert!(log.append(&batch(1, 0, 40, 30)).is_err());
        }
        assert_eq!(files(), before);
    }
}

#[test]
fn an_offset_is_found_by_timestamp() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        (0..100).for_each(|at| {
            log.append(&batch(7, 0, at * 2, 2)).unwrap();
        });
        for at in 0..100 {
            let found = log.offset_for_timestamp(Timestamp(999 + at * 2)).unwrap().unwrap();
            assert_eq!((found.offset, found.timestamp), (Offset(at * 2), Timestamp(1000 + at * 2)), "{at}");
        }
        assert_eq!(log.offset_for_timestamp(Timestamp(5000)).unwrap(), None);
    }
}

/// Timestamps that repeat, rise and fall, in an index that was filled, read from its file, and cut.
#[test]
fn a_timestamp_is_found_where_it_comes_first_in_whatever_order_they_come() {
    let check = |log: &Log, what: &str| {
        let records = log.reader(Offset(0)).unwrap().flat_map(|batch| batch.unwrap().into_records());
        let all: Vec<_> =
            records.map(|record| record.unwrap()).map(|r| (r.offset(), r.timestamp())).collect();
        for wanted in (990..1_040).map(Timestamp) {
            let expected = all.iter().copied().find(|&(_, timestamp)| timestamp >= wanted);
            let found = log.offset_for_timestamp(wanted).unwrap();
            assert_eq!(found.map(|found| (found.offset, found.timestamp)), expected, "{what}, {wanted:?}");
        }
        let first_of_largest = |a: (_, _), b: (_, _)| if b.1 > a.1 { b } else { a };
        let latest = log.offset_of_max_timestamp().unwrap();
        let expected = all.into_iter().reduce(first_of_largest);
        assert_eq!(latest.map(|latest| (latest.offset, latest.timestamp)), expected, "{what}");
    };
    let append = |log: &Log, at: i64| {
        let record = |at| RecordBuilder::new().timestamp(Timestamp(1_000 + at / 8 - at % 4 * 2)).value("v");
        let batch = BatchBuilder::new().push(record(at)).push(record(at + 1));
        log.append(&batch.build().unwrap()).unwrap();
    };
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log_dir = open(data.path(), mode);
        let log = log_dir.partition("t", 0).unwrap();
        check(&log, "empty");
        (0..300).for_each(|at| append(&log, at));
        assert!(log.metrics().segments > 3);
        check(&log, "filled");
        log_dir.close().unwrap();

        let log_dir = open(data.path(), mode);
        let log = log_dir.partition("t", 0).unwrap();
        check(&log, "read");
        for end in [501, 350] {
            log.truncate_to(Offset(end)).unwrap();
            check(&log, "cut");
            (0..60).for_each(|at| append(&log, at + end / 2 - 8));
            check(&log, "cut and filled");
        }
    }
}

/// A map is as large as the segment was to be when it was made: appends that a raised bound let into the segment failed until
/// something rolled it, and an empty segment never took a batch that was larger than its map.
#[test]
fn a_segment_takes_as_much_as_its_bound_says_by_now() {
    let bounds = |log: &Log, segment: u32, batch: u32| {
        let options = (*log.options()).clone().segment_bytes(segment).max_batch_bytes(batch);
        log.set_options(options).unwrap();
    };
    let large = plain(&"a".repeat(9000));
    for (mode, rolls) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let append = |at| log.append(&batch(1, 0, at, 1)).unwrap();
        (0..10).map(append).for_each(|outcome| assert!(!outcome.is_duplicate()));
        if rolls {
            log.roll().unwrap();
        }
        let reader_of_the_old_map = log.read(Offset(0), usize::MAX).unwrap();
        bounds(&log, 20_000, 10_000);
        for at in [10, 11] {
            assert_eq!(log.append(&large).unwrap().base_offset(), Offset(at), "{mode:?}, rolls: {rolls}");
        }
        assert_eq!(log.metrics().segments, if rolls { 2 } else { 1 }, "{mode:?}");
        bounds(&log, 4096, 4096);
        (10..80).map(append).for_each(|outcome| assert!(!outcome.is_duplicate()));
        assert!(append(79).is_duplicate());
        let before = stored(&log);
        assert_eq!(before.len(), 82);
        assert_eq!(
            reader_of_the_old_map.bytes,
            log.read(Offset(0), reader_of_the_old_map.bytes.len()).unwrap().bytes
        );
        drop((dir, log));
        assert_eq!(
            stored(&open(data.path(), mode).partition("t", 0).unwrap()),
            before,
            "{mode:?}, rolls: {rolls}"
        );
    }
}

#[test]
fn many_threads_append_at_once_and_every_record_is_there_once() {
    for mode in MODES {
        for threads in [0, 2] {
            let data = tempfile::tempdir().unwrap();
            let dir = LogDir::open(data.path(), options(mode).background_threads(threads)).unwrap();
            let log = dir.partition("t", 0).unwrap();
            std::thread::scope(|scope| {
                for id in 0..8 {
                    let log = &log;
                    scope.spawn(move || {
                        for at in 0..50 {
                            log.append(&batch(id, 0, at, 1)).unwrap();
                            assert!(log.append(&batch(id, 0, at, 1)).unwrap().is_duplicate());
                        }
                    });
                }
            });
            assert_eq!(stored(&log).len(), 400);
            dir.close().unwrap();
            drop((dir, log));
            let dir = open(data.path(), mode);
            assert_eq!(stored(&dir.partition("t", 0).unwrap()).len(), 400);
        }
    }
}

#[test]
fn a_second_owner_is_refused_and_the_first_stays() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    for _ in 0..2 {
        let Err(Error::Locked { path }) = LogDir::open(data.path(), options(MODES[0])) else { panic!() };
        assert_eq!(path, data.path());
    }
    dir.partition("t", 0).unwrap().append(&batch(1, 0, 0, 1)).unwrap();
    drop(dir);
    open(data.path(), MODES[0]);
}

#[test]
fn the_directory_stays_locked_as_long_as_a_handle_can_write_to_it() {
    // A log outlived its directory, and went on writing beside the next owner.
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        drop(dir);
        log.append(&batch(1, 0, 0, 1)).unwrap();
        assert!(matches!(LogDir::open(data.path(), options(mode)), Err(Error::Locked { .. })));
        drop(log);
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        dir.close().unwrap();
        open(data.path(), mode);
        assert!(matches!(log.append(&batch(1, 0, 1, 1)), Err(Error::Closed)));
    }
}

#[test]
fn slices_of_a_deleted_partition_show_as_pinned_until_they_are_dropped() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    let log = dir.partition("t", 0).unwrap();
    log.append(&batch(1, 0, 0, 1)).unwrap();
    let kept = log.read(Offset(0), 1 << 20).unwrap();
    dir.delete_partition("t", 0).unwrap();
    drop(log);
    assert_eq!(dir.metrics().pinned_bytes, kept.bytes.len() as u64);
    drop(kept);
    assert_eq!(dir.metrics().pinned_bytes, 0);
}

#[test]
fn a_deleted_partition_is_gone_for_its_handles_and_can_come_again() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        let kept = log.read(Offset(0), 1 << 20).unwrap();
        assert!(dir.delete_partition("t", 0).unwrap());
        assert!(!dir.delete_partition("t", 0).unwrap());
        assert!(matches!(log.append(&batch(1, 0, 1, 1)), Err(Error::Gone)));
        assert!(matches!(log.read(Offset(0), 1), Err(Error::Gone)));
        assert_eq!(kept.batches().count(), 1, "slices stay");
        let again = dir.partition("t", 0).unwrap();
        assert_eq!(again.log_end_offset(), Offset(0));
        again.append(&batch(1, 0, 0, 1)).unwrap();
        dir.close().unwrap();
        drop(dir);
        assert_eq!(open(data.path(), mode).partitions().len(), 1);
    }
}

#[test]
fn a_named_producer_fences_the_one_before_it_everywhere_also_after_a_restart() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let (known, unknown) = (dir.partition("t", 0).unwrap(), dir.partition("t", 1).unwrap());
        let first = dir.producer("sensor-7").unwrap();
        first.append(&known, BatchBuilder::new().record("k", "v")).unwrap();
        let second = dir.producer("sensor-7").unwrap();
        assert_eq!((second.id(), second.epoch()), (first.id(), ProducerEpoch(1)));
        let refused = |dir: &LogDir| {
            for partition in [0, 1] {
                let log = dir.partition("t", partition).unwrap();
                for sequence in [1, 0] {
                    let of_the_first = batch(first.id().0, 0, sequence, 1);
                    let refusal = refusal(&log, &of_the_first);
                    assert_eq!(refusal, RejectionReason::Fenced, "{mode:?} {partition} {sequence}");
                }
            }
        };
        refused(&dir);
        assert_eq!(second.last(&known).unwrap().last_sequence, Sequence(0));
        drop((known, unknown, dir));
        let dir = open(data.path(), mode);
        refused(&dir);
        let third = dir.producer("sensor-7").unwrap();
        assert_eq!((third.id(), third.epoch()), (first.id(), ProducerEpoch(2)));
        assert_eq!(third.last(&dir.partition("t", 0).unwrap()).unwrap().offsets.last, Offset(0));
        assert_ne!(dir.new_producer_id().unwrap(), first.id());
    }
}

/// For producers that number by a position in their own source.
fn increasing(mode: IoMode) -> LogDirOptions {
    let policy = ProducerPolicy::default()
        .sequence_rule(SequenceRule::Increasing)
        .first_append(FirstAppend::AcceptAny);
    options(mode).log(small(mode).producers(policy))
}

#[test]
fn the_increasing_rule_takes_gaps_and_knows_what_is_old() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), increasing(mode)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        (0..10).for_each(|at| {
            log.append(&batch(1, 0, at * 10, 1)).unwrap();
        });
        assert!(log.append(&batch(1, 0, 90, 1)).unwrap().is_duplicate());
        let old = log.append(&batch(1, 0, 5, 1)).unwrap();
        assert!(old.is_duplicate() && old.offsets().is_none());
        assert!(log.append(&batch(1, 0, 88, 10)).is_err(), "it covers the highest");
    }
}

#[test]
fn idle_producers_expire_by_the_hosts_clock() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(1_700_000_000_000);
        let policy = ProducerPolicy::default().expiry_ms(60_000).first_append(FirstAppend::RequireZero);
        let options = options(mode).log(small(mode).producers(policy)).clock(clock.clone());
        let dir = LogDir::open(data.path(), options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        clock.advance(50_000);
        log.append(&batch(2, 0, 0, 1)).unwrap();
        clock.advance(20_000);
        log.expire_producers();
        assert_eq!(log.producers().iter().map(|p| p.producer_id).collect::<Vec<_>>(), [ProducerId(2)]);
        assert_eq!(refusal(&log, &batch(1, 0, 1, 1)), RejectionReason::UnknownProducer);
    }
}

/// A snapshot is folded from the one before and the log, and both tell of producers that were forgotten since.
#[test]
fn a_producer_that_expired_between_two_snapshots_does_not_come_back() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(1_700_000_000_000);
        let open = || {
            let policy = ProducerPolicy::default().expiry_ms(60_000);
            let options = options(mode).log(small(mode).producers(policy)).clock(clock.clone());
            LogDir::open(data.path(), options).unwrap()
        };
        let dir = open();
        let log = dir.partition("t", 0).unwrap();
        let known = |log: &Log| log.producers().iter().map(|p| p.producer_id.0).collect::<Vec<_>>();
        for (round, expected) in [&[1, 2][..], &[1, 2], &[1, 2], &[2], &[2]].into_iter().enumerate() {
            if round < 2 {
                log.append(&batch(1, 0, round as i32, 1)).unwrap();
            }
            log.append(&batch(2, 0, round as i32, 1)).unwrap();
            log.expire_producers();
            assert_eq!(known(&log), expected, "round {round}");
            log.roll().unwrap();
            clock.advance(40_000);
        }
        dir.close().unwrap();
        assert_eq!(known(&open().partition("t", 0).unwrap()), [2]);
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

/// Under the increasing rule sequences do not begin again at 0: what came there was taken for a duplicate, and lost.
#[test]
fn a_producer_whose_sequences_are_used_up_says_so_instead_of_beginning_again() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), increasing(mode)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let producer = dir.producer("sensor-7").unwrap();
        log.append(&batch(producer.id().0, producer.epoch().0, i32::MAX, 1)).unwrap();
        let refused = producer.append(&log, BatchBuilder::new().record("k", "v"));
        assert!(matches!(refused, Err(Error::SequencesExhausted)), "{refused:?}");
        assert_eq!(log.log_end_offset(), Offset(1));
    }
}

/// A new producer begins a transaction with a batch of so many records.
fn begin_transaction(dir: &LogDir, log: &Log, records: u8) -> (ProducerId, ProducerEpoch) {
    let (id, epoch) = (dir.new_producer_id().unwrap(), ProducerEpoch(0));
    let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional();
    let batch = (0..records).fold(batch, |batch, at| batch.record([at], "value"));
    log.append(&batch.build().unwrap()).unwrap();
    (id, epoch)
}

/// A reader that began inside of an aborted batch showed it: what was aborted was asked for only from its own beginning on.
/// Then one whose batch began below the log start offset got an error.
#[test]
fn a_reader_of_committed_records_that_begins_inside_an_aborted_batch_leaves_it_out() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let (id, epoch) = begin_transaction(&dir, &log, 3);
        log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch: 0 }).unwrap();
        for from in 0..4 {
            assert_eq!(log.reader(Offset(from)).unwrap().committed().count(), 0, "{mode:?}, from {from}");
        }
        log.delete_records(Offset(1)).unwrap();
        assert_eq!(
            log.reader(Offset(1)).unwrap().committed().count(),
            0,
            "{mode:?}, which begins below the log"
        );
    }
}

/// What was read was looked at again until all below it was decided. From behind the last stable offset that never came.
#[test]
fn a_committed_read_behind_the_last_stable_offset_finds_nothing() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let (id, epoch) = begin_transaction(&dir, &log, 1);
        log.append(&plain("decided")).unwrap();
        for from in 0..=2 {
            assert!(log.read_committed(Offset(from), 1 << 20).unwrap().bytes.is_empty(), "from {from}");
        }
        log.end_transaction(id, epoch, ControlRecord::Commit { coordinator_epoch: 0 }).unwrap();
        assert_eq!(log.read_committed(Offset(0), 1 << 20).unwrap().batches().count(), 3);
    }
}

/// A record that ends nothing was stored in place of a marker, with a good answer, and the transaction stayed open.
#[test]
fn a_transaction_is_ended_by_nothing_but_a_marker() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let (id, epoch) = begin_transaction(&dir, &log, 1);
        for kind in [-1, 0, 1, 2, 6] {
            let refused = log.end_transaction(id, epoch, ControlRecord::Other { kind });
            assert!(matches!(refused, Err(Error::InvalidBatch(_))), "{mode:?}, {kind}: {refused:?}");
        }
        assert_eq!((log.log_end_offset(), log.first_undecided_offset()), (Offset(1), Some(Offset(0))));
        log.end_transaction(id, epoch, ControlRecord::Commit { coordinator_epoch: 0 }).unwrap();
        assert_eq!((log.log_end_offset(), log.first_undecided_offset()), (Offset(2), None));
    }
}
